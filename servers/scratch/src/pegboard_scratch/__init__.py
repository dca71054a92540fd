"""The server `dev/scratch`: a place to try Pegboard."""
