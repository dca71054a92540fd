"""What happened: every call, once."""
