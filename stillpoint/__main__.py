"""How is the command line run without its script? `python -m stillpoint`."""

from stillpoint.cli import main

main()
