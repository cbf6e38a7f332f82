"""Run by `make_template`: makes secrets, migrates, and gives a first admin a key, written to DATA_DIR/key."""

import os
from pathlib import Path

import django

from g4fsite.bootstrap import data_dir, make_secrets


def main() -> None:
    folder: Path = data_dir()
    make_secrets(folder)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "g4fsite.settings")
    django.setup()
    from django.core.management import call_command

    from gateway.models import ApiKey
    from tests.people import charlie

    call_command("migrate", verbosity=0)
    _, plain = ApiKey.make(charlie(), "first")
    (folder / "key").write_text(plain, encoding="utf-8")


if __name__ == "__main__":
    main()
