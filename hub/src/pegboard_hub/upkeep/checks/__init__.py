"""The checks of `pegboard doctor`, by what they look at. None of them changes anything."""
