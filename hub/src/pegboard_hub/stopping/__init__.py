"""Stopping and resuming a tool, a server, a surface, a person, a client or a service, for everybody and at once."""
