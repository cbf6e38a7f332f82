#!/usr/bin/env python3
"""Django's command line for this project; finds the virtual environment that `make` made by itself."""

import importlib.util
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    interpreter = Path(__file__).resolve().parent / ".venv/bin/python"
    if importlib.util.find_spec("django") is None and interpreter.exists():
        os.execv(interpreter, [str(interpreter), *sys.argv])  # noqa: S606 - the same program, there

    from g4fsite.cli import main

    main()
