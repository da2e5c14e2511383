"""What measures the code itself: its texture, its words and its arrows."""
