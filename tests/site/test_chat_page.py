"""The chat page's document: who gets it, what it carries, and that every module is in its import map."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.test import Client

from conversations import chat_page

pytestmark = pytest.mark.django_db
STATIC = Path(chat_page.__file__).parent / "static"
IMPORTED = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["`']([^"`'\s]+)["`']""")


def test_strangers_are_led_to_sign_in(client: Client) -> None:
    answer = client.get("/chat/")
    assert answer.status_code == 302
    assert answer["Location"] == "/accounts/login/?next=/chat/"


def test_only_reading_is_allowed(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert client.post("/chat/").status_code == 405
    assert client.get("/chat/not-an-id/").status_code == 404


def test_the_import_map_has_the_nonce_of_the_policy(client: Client, alice: User) -> None:
    client.force_login(alice)
    answer = client.get("/chat/6c1e36a4-6d0c-4a4e-9d3c-1f1d9a2b3c4d/")
    page = answer.content.decode()
    found = re.search(r'<script type="importmap" nonce="([^"]+)">(.*?)</script>', page)
    assert found
    policy = answer["Content-Security-Policy"]
    assert f"'nonce-{found[1]}'" in policy
    assert "unsafe" not in policy
    assert json.loads(found[2]) == chat_page.import_map()
    assert "no-store" in answer["Cache-Control"]


def test_a_name_cannot_leave_the_data_that_it_stands_in(client: Client, alice: User) -> None:
    alice.first_name = "</script><script>alert(1)</script>"
    alice.save()
    client.force_login(alice)
    assert "<script>alert" not in client.get("/chat/").content.decode()


def test_ordinary_users_are_not_led_to_the_admin(client: Client, alice: User, charlie: User) -> None:
    client.force_login(alice)
    assert "/admin/" not in client.get("/chat/").content.decode()
    client.force_login(charlie)
    assert "/admin/" in client.get("/chat/").content.decode()


def test_everything_in_the_map_is_there() -> None:
    for address in [*chat_page.import_map()["imports"].values(), *chat_page.preloaded()]:
        assert finders.find(address.removeprefix("/static/")), address


def test_everything_that_is_imported_is_in_the_map() -> None:
    known = chat_page.import_map()["imports"]
    files = [*(STATIC / chat_page.MODULES).glob("*.js"), *(finders.find(path) for path in chat_page.LIBRARIES.values())]
    for path in map(Path, files):  # type: ignore[arg-type]
        for name in IMPORTED.findall(path.read_text(encoding="utf-8")) if path.name != "katex.js" else ():
            wanted = f"/static/{chat_page.MODULES}/{name[2:]}" if name.startswith("./") else name
            assert wanted in known or name == "highlight/${name}", f"{path.name} imports {name}"


def test_no_style_that_comes_later_meets_one_of_the_same_name() -> None:
    """Layers decide which of two rules holds, not the file that came last: a name may be styled in one sheet alone."""
    sheets = (STATIC / chat_page.MODULES / name for name in ("chat.css", "rare.css"))
    first, later = (set(re.findall(r"^  \.([\w-]+) \{", sheet.read_text(), re.MULTILINE)) for sheet in sheets)
    assert len(later) > 10
    assert first & later == set()
