"""What the operator commands share: subcommands, plain and JSON output, refusals as one sentence."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from gateway.discovery import DiscoveryFailed
from gateway.operations import Refused, sentence
from gateway.portable import is_secret_name
from gateway.presets import PresetError

Options = dict[str, Any]
Run = Callable[[Options], None]


class Error(CommandError):
    """Printed as `Error: sentence`, exit status 1."""


def printable(text: Any) -> str:
    """One line without control characters, so that no name can move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return printable(", ".join(str(item) for item in value)) or "-"
    return printable(value) if value not in (None, "") else "-"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns as wide as their longest cell."""
    lines = [[name.upper() for name in columns], *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def facts(pairs: Sequence[tuple[str, Any]]) -> str:
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name + ':':<{width + 1}} {cell(value)}" for name, value in pairs)


def masked_map(values: dict[str, str]) -> dict[str, str]:
    return {name: "***" if is_secret_name(name) else value for name, value in values.items()}


def masked_url(url: str) -> str:
    """A proxy's URL without the password in it."""
    parts = urlsplit(url)
    return url.replace(f"{parts.netloc.rpartition('@')[0]}@", "***@", 1) if "@" in parts.netloc else url


def pair(text: str) -> tuple[str, str]:
    """`NAME=VALUE`; raises ValueError, which argparse turns into a usage error."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(text)
    return name, value


pair.__name__ = "NAME=VALUE"


class OperatorCommand(BaseCommand):
    """A command of subcommands. Each returns nothing and raises when it refuses; nothing is ever asked back."""

    requires_system_checks: list[str] = []
    suppressed_base_arguments = {
        "--version",
        "--verbosity",
        "--settings",
        "--pythonpath",
        "--traceback",
        "--no-color",
        "--force-color",
        "--skip-checks",
    }

    def actions(self, parser: ArgumentParser) -> _SubParsersAction[Any]:
        return parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")

    def action(self, actions: _SubParsersAction[Any], name: str, run: Run, text: str) -> ArgumentParser:
        parser: ArgumentParser = actions.add_parser(name, help=text, description=text)
        parser.set_defaults(run=run)
        parser.add_argument("--json", action="store_true", help="print JSON instead of text")
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            options["run"](options)
        except ValidationError as error:
            raise Error(printable(sentence(error))) from None
        except (Refused, DiscoveryFailed, PresetError) as error:
            raise Error(printable(error)) from None
        except DatabaseError as error:
            reason = str(error).strip().partition("\n")[0]
            raise Error(f"The database refused: {reason}. Were the migrations run (manage.py migrate)?") from None

    def say(self, options: Options, data: Any, text: str) -> None:
        """The result, on standard output: `data` as JSON or `text`."""
        self.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=str) if options["json"] else text)

    def note(self, text: str) -> None:
        """What a person should know and a script need not, on standard error."""
        self.stderr.write(printable(text), lambda line: line)

    def fail(self) -> None:
        """Exit status 1 after a result was printed."""
        sys.exit(1)


def secret_on_stdin() -> str:
    """The first line of standard input."""
    value = sys.stdin.readline().strip()
    if not value:
        raise Refused("Standard input holds no credential.")
    return value
