"""`python -m pegboard.cli` is the `pegboard` command."""

from pegboard.cli.main import main

main()
