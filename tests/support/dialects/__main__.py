"""Writes the rows of an obliging provider into the database of DATA_DIR: `python -m tests.support.dialects PORT`."""

from __future__ import annotations

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "g4fsite.settings")
django.setup()

from gateway.models import Credential, Provider, ProviderModel  # noqa: E402 - after the settings
from tests.support.dialects import FLAGS, PROTOCOLS, ROWS, SECRET, base_url_of  # noqa: E402


def main(port: int) -> None:
    """A provider for each protocol, with one model named after it."""
    for protocol in PROTOCOLS:
        fields = {"adapter": protocol, **{name: value for name, value in ROWS[protocol].items() if name != "path"}}
        row = Provider.objects.create(
            name=f"The-{protocol}", base_url=base_url_of(port, protocol), allow_private=True, **fields
        )
        credential = Credential(provider=row)
        credential.set_secret(SECRET)
        credential.save()
        ProviderModel.objects.create(provider=row, public_id=protocol, chat=True, **FLAGS.get(protocol, {}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
