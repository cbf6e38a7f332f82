"""`rotate_secrets`: brings every stored credential under the first of ENCRYPTION_KEYS."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings

from gateway.management.output import OperatorCommand, Options
from gateway.models import ConfigVersion, Credential
from gateway.secrets import Secret, SecretUnreadable, rotate

BATCH = 100


def is_current(token: str) -> bool:
    """Whether the first key reads it already."""
    try:
        Fernet(settings.ENCRYPTION_KEYS[0]).decrypt(token.encode())
    except InvalidToken:
        return False
    return True


class Command(OperatorCommand):
    help = (
        "Encrypts every credential anew with the first of ENCRYPTION_KEYS. It may be interrupted and run again; "
        "once it says that nothing is left, the older keys can be taken away."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON instead of text")
        parser.set_defaults(run=self.rotate)

    def rotate(self, options: Options) -> None:
        counts = {"rotated": 0, "current": 0}
        unreadable: list[str] = []
        last = 0
        while batch := list(Credential.objects.select_related("provider").filter(pk__gt=last).order_by("pk")[:BATCH]):
            for row in batch:
                self._one(row, counts, unreadable)
            last = batch[-1].pk
        if counts["rotated"]:
            ConfigVersion.bump()
        data: dict[str, Any] = {**counts, "unreadable": sorted(set(unreadable))}
        self.say(options, data, f"{counts['rotated']} rotated, {counts['current']} were under the first key already.")
        if unreadable:
            self.note(f"No configured key decrypts a credential of: {', '.join(data['unreadable'])}.")
            self.fail()

    def _one(self, row: Credential, counts: dict[str, int], unreadable: list[str]) -> None:
        if is_current(row.secret.token):
            counts["current"] += 1
            return
        try:
            token = rotate(row.secret.token)
        except SecretUnreadable:
            unreadable.append(row.provider.name)
            return
        # Only if nobody put another secret there meanwhile.
        Credential.objects.filter(pk=row.pk, secret=row.secret).update(secret=Secret(token))
        counts["rotated"] += 1
