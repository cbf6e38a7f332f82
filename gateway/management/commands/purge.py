"""`purge`: deletes what is kept longer than the retention settings allow."""

from __future__ import annotations

from argparse import ArgumentParser

from gateway.management.output import OperatorCommand, Options
from gateway.retention import purge_responses
from media.sweep import sweep


class Command(OperatorCommand):
    help = (
        "Deletes stored responses older than RESPONSES_RETENTION_DAYS, and what uploads that broke off have left. "
        "The server does so itself."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON instead of text")
        parser.set_defaults(run=self.purge)

    def purge(self, options: Options) -> None:
        count, left = purge_responses(), sweep()
        text = f"{count} stored response{'' if count == 1 else 's'} deleted."
        self.say(
            options,
            {"responses": count, "leftovers": left},
            f"{text}\n{left} left by uploads deleted." if left else text,
        )
