"""People, tokens and keys."""
