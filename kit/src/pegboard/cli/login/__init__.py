"""Signing in from the terminal: through a browser or a code to type, where the login is kept, how it is renewed."""
