"""`python -m g4fsite COMMAND`."""

from g4fsite.cli import main

main()
