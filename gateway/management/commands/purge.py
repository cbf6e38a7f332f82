"""`purge`: deletes what is kept longer than the retention settings allow."""

from __future__ import annotations

from argparse import ArgumentParser

from gateway.management.output import OperatorCommand, Options
from gateway.retention import purge_all
from media.sweep import sweep


class Command(OperatorCommand):
    help = (
        "Deletes stored responses older than RESPONSES_RETENTION_DAYS, conversations that were in the bin for "
        "CONVERSATIONS_BIN_DAYS, answers to idempotency keys older than a day, sessions that are over, and what "
        "uploads that broke off have left. The server does so itself."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON instead of text")
        parser.set_defaults(run=self.purge)

    def purge(self, options: Options) -> None:
        counts, left = purge_all(), sweep()
        lines = [f"{count} {name if count != 1 else name.removesuffix('s')} deleted." for name, count in counts.items()]
        lines += [f"{left} left by uploads deleted."] if left else []
        self.say(
            options,
            {"responses": counts["stored responses"], **_others(counts), "leftovers": left},
            "\n".join(lines),
        )


def _others(counts: dict[str, int]) -> dict[str, int]:
    return {name.replace(" ", "_"): count for name, count in counts.items() if name != "stored responses"}
