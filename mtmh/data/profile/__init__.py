"""What a data set holds, and what it lacks for this method."""
