"""What exists, whose it is, what it asked for and what it was granted."""
