"""Pages of reviews, and of asking for the access that they decide on."""
