"""Servers that somebody else wrote, for tests of the proxy before them."""
