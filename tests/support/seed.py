"""Run by `make_template`: secrets, tables, static files, and a first admin whose key is written to DATA_DIR/key."""

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
    # Once here, rather than in each server that starts on a copy.
    call_command("collectstatic", interactive=False, verbosity=0)
    _, plain = ApiKey.make(charlie(), "first")
    (folder / "key").write_text(plain, encoding="utf-8")


if __name__ == "__main__":
    main()
