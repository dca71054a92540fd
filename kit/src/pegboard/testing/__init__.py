"""An in-memory hub for authors' own tests: real tokens, real policies, no network."""
