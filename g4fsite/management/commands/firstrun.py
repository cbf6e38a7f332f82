"""`manage.py firstrun`: prepares a fresh database; what `make run` calls at every start."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from g4fsite.firstrun import (
    copy_before_migrating,
    ensure_demo,
    first_admin,
    make_first_admin,
    static_files_changed,
    waiting_admin,
)
from g4fsite.setup import make_setup_link
from gateway.models import Provider

RULE = "-" * 72


class Command(BaseCommand):
    help = (
        "Migrate the database and collect static files; on the first run make an admin with a random password, "
        "an API key (both printed once) and the demo provider."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        copy = copy_before_migrating()
        if copy is not None:
            self.stdout.write(f"The database will be migrated; a copy of it is {copy}.")
        call_command("migrate", interactive=False, verbosity=0)
        if static_files_changed():
            call_command("collectstatic", interactive=False, verbosity=0)
        if first_admin() is None and not Provider.objects.exists():
            ensure_demo()
        made = make_first_admin()
        host = settings.PUBLIC_URL or f"http://127.0.0.1:{_port()}"
        if made is None:
            if user := waiting_admin():
                self.stdout.write(f"Nobody has signed in yet. {_offer(host, user)}\n{RULE}")
            return
        self.stdout.write(
            f"{RULE}\n"
            f"First start. {_offer(host, first_admin())}\n\n"
            "These are shown once; write them down:\n\n"
            f"  admin      {host}/admin/   user {made.username}, password {made.password}\n"
            f"  API key    {made.key}\n\n"
            "Or without a browser:\n"
            f"  curl {host}/v1/chat/completions -H 'Authorization: Bearer {made.key}' \\\n"
            "    -H 'Content-Type: application/json' \\\n"
            '    -d \'{"model": "default", "messages": [{"role": "user", "content": "Hello"}]}\'\n'
            f"{RULE}"
        )


def _offer(host: str, user: Any) -> str:
    path = make_setup_link(user)
    return f"Open this link on this machine within 15 minutes; it leads to your first chat:\n\n  {host}{path}"


def _port() -> int:
    from g4fsite.env import env_int

    return env_int("PORT", 1337)
