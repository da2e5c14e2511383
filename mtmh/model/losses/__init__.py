"""The two losses, one a file, and their sum per head (paper section 3)."""
