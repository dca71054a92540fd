"""Keeping an instance: is it well, what of it cannot be made again, and how it comes back."""
