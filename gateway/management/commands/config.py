"""`config`: providers, models, aliases and prices as one file, out and in again."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from gateway.applying import apply
from gateway.management.output import OperatorCommand, Options, printable
from gateway.operations import Refused
from gateway.portable import BadFile, dump, export, read

MAX_BYTES = 8 * 1024 * 1024


class Command(OperatorCommand):
    help = "The configuration as a YAML file that holds no secrets."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = self.actions(parser)
        out = self.action(actions, "export", self.export, "Write providers, models, aliases and prices as YAML.")
        out.add_argument("file", nargs="?", default="-", help="standard output unless given")
        out.add_argument(
            "--secrets",
            choices=("keep", "env"),
            default="keep",
            help="credentials refer to what is stored (keep) or to environment variables (env)",
        )
        put = self.action(
            actions, "apply", self.apply, "Make the configuration what the file says; all of it or nothing."
        )
        put.add_argument("file", help="- for standard input")
        put.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
        put.add_argument("--prune", action="store_true", help="remove what the file does not name")

    def export(self, options: Options) -> None:
        data = export(by_environment=options["secrets"] == "env")
        if options["file"] == "-":
            self.say(options, data, dump(data))
            return
        path = Path(options["file"])
        try:
            # Replaced in one step, so that a full disk leaves the old file.
            fresh = path.with_name(path.name + ".new")
            fresh.write_text(dump(data), encoding="utf-8")
            fresh.replace(path)
        except OSError as error:
            raise Refused(f"{path} cannot be written: {error.strerror}.") from None
        counts = {"providers": len(data["providers"]), "aliases": len(data["aliases"])}
        text = f"Wrote {counts['providers']} providers and {counts['aliases']} aliases to {path}."
        self.say(options, counts | {"file": str(path)}, text)

    def apply(self, options: Options) -> None:
        try:
            changes = apply(read(self._text(options["file"])), prune=options["prune"], dry_run=options["dry_run"])
        except BadFile as error:
            raise Refused(f"{options['file']}: {error}") from None
        lines = [printable(line) for line in changes] or ["Nothing to change."]
        if changes:
            lines.append(f"{len(changes)} changes{' would be made' if options['dry_run'] else ' made'}.")
        self.say(options, {"changes": changes, "applied": not options["dry_run"]}, "\n".join(lines))

    def _text(self, name: str) -> str:
        try:
            if name == "-":
                return sys.stdin.read(MAX_BYTES)
            path = Path(name)
            if path.stat().st_size > MAX_BYTES:
                raise Refused(f"{name} is larger than 8 MB.")
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise Refused(f"{name} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise Refused(f"{name} is not UTF-8 text.") from None
