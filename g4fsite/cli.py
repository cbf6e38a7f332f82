"""The command line: `manage.py`, `python -m g4fsite` and the console script `g4fsite` are one thing."""

from __future__ import annotations

import os
import sys

from django.core.exceptions import ImproperlyConfigured

from g4fsite import __version__
from g4fsite.bootstrap import data_dir, make_secrets

# Flags of `api` that settings must know before they are read.
API_VARIABLES = {
    "--debug": ("G4F_DEBUG", None),
    "-d": ("G4F_DEBUG", None),
    "--g4f-api-key": ("G4F_API_KEY", str),
    "--provider": ("G4F_PROVIDER", str),
    "--model": ("G4F_MODEL", str),
    "--proxy": ("G4F_PROXY", str),
    "--timeout": ("G4F_TIMEOUT", str),
    "--stream-timeout": ("STREAM_GAP_SECONDS", str),
    "--ignored-providers": ("G4F_IGNORED_PROVIDERS", list),
    "--gui": ("G4F_GUI", "1"),
    "-g": ("G4F_GUI", "1"),
    "--no-gui": ("G4F_GUI", "0"),
    "-ng": ("G4F_GUI", "0"),
}


def api_environment(arguments: list[str]) -> dict[str, str]:
    """The environment that the flags of `api` stand for, so that every worker process inherits them.

    An environment variable that is set wins over the flag for the key, as existing installations expect.
    """
    found: dict[str, str] = {}
    position = 0
    while position < len(arguments):
        flag, _, inline = arguments[position].partition("=")
        position += 1
        if flag not in API_VARIABLES:
            continue
        name, kind = API_VARIABLES[flag]
        if kind is None:
            found[name] = "1"
        elif isinstance(kind, str):
            found[name] = kind
        elif kind is list:
            values = [inline] if inline else []
            while position < len(arguments) and not arguments[position].startswith("-"):
                values.append(arguments[position])
                position += 1
            found[name] = ",".join(values)
        elif inline:
            found[name] = inline
        elif position < len(arguments):
            found[name] = arguments[position]
            position += 1
    if os.environ.get("G4F_API_KEY"):
        found.pop("G4F_API_KEY", None)
    return found


def init() -> None:
    """Makes the data folder and its secrets; the only command that works before settings can be read."""
    folder = data_dir()
    made = make_secrets(folder)
    print(f"{folder}: " + (f"made {', '.join(path.name for path in made)}" if made else "secrets are there"))


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; a start-up mistake is one sentence and exit status 1, not a stack trace."""
    argv = list(sys.argv if arguments is None else ["g4fsite", *arguments])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "g4fsite.settings")
    if argv[1:] in (["--version"], ["version"]):
        print(__version__)
        return
    if argv[1:2] == ["init"]:
        init()
        return
    if argv[1:2] == ["api"]:
        os.environ.update(api_environment(argv[2:]))
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    try:
        from django.conf import settings

        settings.VERSION  # noqa: B018 - reads the settings, so that a bad one speaks before any command
        execute_from_command_line(argv)
    except ImproperlyConfigured as error:
        sys.exit(f"g4fsite: {error}")
    except OperationalError as error:
        sys.exit(f"g4fsite: the database cannot be used: {str(error).strip().splitlines()[0]}.")
