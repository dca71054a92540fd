"""Servers that somebody else wrote: a proxy beside the backend, which gives it all that a kit's own server has."""
