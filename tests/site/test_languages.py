"""Pages in the reader's language: catalogues are whole and compiled, and programs always get English."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import polib
import pytest
from django.contrib.auth.models import User
from django.test import Client

from conversations.languages import script_words

ROOT = Path(__file__).parents[2]
LOCALES = ("de", "es", "fr", "zh_Hans")
CATALOGUES = sorted(ROOT.glob("*/locale/*/LC_MESSAGES/*.po"))
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|\{\w+\}")


def test_every_language_has_every_catalogue() -> None:
    names = {path.relative_to(ROOT).parts[0] + "/" + path.name for path in CATALOGUES}
    assert {"g4fsite/django.po", "conversations/django.po", "conversations/djangojs.po"} <= names
    assert len(CATALOGUES) == len(names) * len(LOCALES)


@pytest.mark.parametrize(
    "path", CATALOGUES, ids=lambda path: "-".join(path.relative_to(ROOT).parts[0::2][:2]) + path.stem
)
def test_catalogues_are_whole_and_compiled(path: Path) -> None:
    catalogue = polib.pofile(str(path))
    assert not [entry.msgid for entry in catalogue.untranslated_entries() + catalogue.fuzzy_entries()]
    for entry in catalogue:
        wanted = set(PLACEHOLDER.findall(entry.msgid + entry.msgid_plural))
        for text in [entry.msgstr] if not entry.msgid_plural else entry.msgstr_plural.values():
            assert set(PLACEHOLDER.findall(text)) <= wanted, entry.msgid
            assert entry.msgid_plural or set(PLACEHOLDER.findall(text)) == wanted, entry.msgid
    compiled = {entry.msgid: entry for entry in polib.mofile(str(path.with_suffix(".mo")))}
    assert compiled.keys() == {entry.msgid for entry in catalogue if not entry.obsolete}
    assert all(compiled[entry.msgid].msgstr == entry.msgstr for entry in catalogue if not entry.obsolete)


@pytest.mark.skipif(not shutil.which("xgettext"), reason="xgettext is not installed")
@pytest.mark.parametrize(
    ("app", "domain"), [("g4fsite", "django"), ("conversations", "django"), ("conversations", "djangojs")]
)
def test_no_text_of_the_code_is_missing(app: str, domain: str, tmp_path: Path) -> None:
    """What `make messages` would collect is what the catalogues have."""
    copy = tmp_path / app
    shutil.copytree(ROOT / app, copy, ignore=shutil.ignore_patterns("__pycache__", "vendor", "*.mo"))
    subprocess.run(
        [ROOT / ".venv/bin/python", ROOT / "manage.py", "makemessages", "-d", domain, "-l", "de", "--no-obsolete"],
        cwd=copy,
        check=True,
        capture_output=True,
    )
    collected = {entry.msgid for entry in polib.pofile(str(copy / f"locale/de/LC_MESSAGES/{domain}.po"))}
    kept = {entry.msgid for entry in polib.pofile(str(ROOT / app / f"locale/de/LC_MESSAGES/{domain}.po"))}
    assert collected == kept


@pytest.mark.django_db
def test_pages_follow_the_browser_and_then_the_choice(client: Client) -> None:
    german = client.get("/accounts/login/", headers={"accept-language": "de-AT,de;q=0.9"})
    assert '<html lang="de">' in german.content.decode()
    assert "Anmelden" in german.content.decode()
    assert "Accept-Language" in german["Vary"]
    client.post("/language/", {"language": "zh-hans", "next": "/accounts/login/"})
    assert "登录" in client.get("/accounts/login/", headers={"accept-language": "de"}).content.decode()
    away = client.post("/language/", {"language": "fr", "next": "https://evil.example/"})
    assert away["Location"] == "/"


@pytest.mark.django_db
def test_programs_are_answered_in_english(client: Client) -> None:
    german = {"accept-language": "de"}
    assert client.get("/v1/models", headers=german).content == client.get("/v1/models").content
    answer = client.post("/v1/models", headers=german)
    assert answer.content == client.post("/v1/models").content
    assert "Content-Language" not in answer


@pytest.mark.django_db
def test_the_chat_page_brings_its_words(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert 'id="words"' not in client.get("/chat/").content.decode()
    german = client.get("/chat/", headers={"accept-language": "de"}).content.decode()
    assert '<html lang="de">' in german
    assert 'id="words"' in german
    assert script_words("de")["Send"] == "Senden"
