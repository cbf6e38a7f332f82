#!/usr/bin/env python
"""Django's command line for this project."""

from g4fsite.cli import main

if __name__ == "__main__":
    main()
