"""Small things several subjects of the hub share."""
