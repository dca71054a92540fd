"""A large registry to measure: how it is filled, and who asks it."""
