"""`python -m stillpoint`: the command line without its script."""

from stillpoint.cli import main

main()
