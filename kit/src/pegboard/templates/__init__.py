"""What `pegboard new` makes projects of. Files end in `.in` and are filled in by `pegboard.cli.author.scaffold`."""
