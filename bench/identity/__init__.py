"""Rivals of the sign-in bench."""
