"""The start page, the error pages, and that no template carries what the CSP forbids."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connection
from django.template import loader
from django.test import Client, RequestFactory

from g4fsite import pages
from gateway.models import ModelAlias, Provider, ProviderModel
from gateway.snapshot import store
from tests.people import PASSWORD

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).parents[2]
TEMPLATES = sorted(
    path for app in ("g4fsite", "gateway", "conversations") for path in (ROOT / app).rglob("templates/**/*.html")
)


@pytest.fixture(autouse=True)
def _own_snapshot() -> None:
    store.loaded_at = 0.0


def add(name: str, adapter: str, *models: str) -> Provider:
    row = Provider.objects.create(name=name, adapter=adapter, base_url="https://a.example/v1", auth_style="none")
    for model in models:
        ProviderModel.objects.create(provider=row, public_id=model, chat=True)
    return row


def test_a_visitor_is_told_what_this_is(client: Client) -> None:
    page = client.get("/").content.decode()
    assert "/accounts/login/" in page
    assert "/admin/" not in page


def test_the_start_page_says_how_to_connect(client: Client, alice: User) -> None:
    row = add("One", "openai_chat", "org/model", "b")
    ModelAlias.objects.create(name="default").targets.create(model=row.models.get(public_id="b"))
    client.force_login(alice)
    page = client.get("/").content.decode()
    assert "http://testserver/v1/chat/completions" in page
    assert "&quot;default&quot;" not in page
    assert '"model": "default"' in page
    assert "org/model" in page
    assert "/docs/" in page
    assert "/admin/" not in page
    assert "no-store" in client.get("/")["Cache-Control"]


def test_staff_are_led_to_the_admin(client: Client, charlie: User) -> None:
    client.force_login(charlie)
    page = client.get("/").content.decode()
    assert "/admin/gateway/provider/add/" in page
    assert "No model is connected yet." in page


def test_the_demo_is_called_a_demo(client: Client, alice: User) -> None:
    add("Demo", "demo", "demo")
    client.force_login(alice)
    page = client.get("/").content.decode()
    assert "Only the demo answers." in page
    assert '<span class="tagl warn">demo</span>' in page


def test_the_public_url_wins(client: Client, alice: User, settings: object) -> None:
    settings.PUBLIC_URL = "https://ai.example.org"  # type: ignore[attr-defined]
    client.force_login(alice)
    assert "https://ai.example.org/v1" in client.get("/").content.decode()


def test_many_models_are_counted_not_listed(client: Client, alice: User) -> None:
    add("One", "openai_chat", *(f"model-{number}" for number in range(70)))
    client.force_login(alice)
    page = client.get("/").content.decode()
    assert "And 10 more" in page
    assert page.count("<tr>") == 61


def test_only_reading_is_allowed(client: Client) -> None:
    assert client.post("/").status_code == 405


def test_a_missing_page_has_our_look(client: Client) -> None:
    page = client.get("/nope")
    assert (page.status_code, "There is nothing here" in page.content.decode()) == (404, True)


def test_a_forbidden_page_has_our_look(client: Client, alice: User) -> None:
    client.force_login(alice)
    page = client.get("/admin/", follow=True)
    assert (page.status_code, "This is not open to you" in page.content.decode()) == (403, True)


def test_a_failed_csrf_check_has_our_look() -> None:
    page = Client(enforce_csrf_checks=True).post("/accounts/login/", {"login": "a", "password": "b"})
    assert (page.status_code, "This form is too old" in page.content.decode()) == (403, True)


@pytest.mark.parametrize("name", ["400.html", "403.html", "404.html", "429.html", "500.html", "503.html"])
def test_error_pages_render_without_anything(name: str) -> None:
    assert "<h1>" in loader.get_template(name).render()


def test_a_strict_policy_is_sent(client: Client) -> None:
    policy = client.get("/accounts/login/")["Content-Security-Policy"]
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_inline_style_or_handler(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name == "preview.html":
        # A document without an origin, for others' scripts, with a policy of its own (tests/browser/test_shown.py).
        return
    assert not re.search(r"\sstyle\s*=|<style|\son[a-z]+\s*=|javascript:", text)
    assert not re.search(r'<script(?! nonce="{{ request\.csp_nonce }}")(?![^>]*\bsrc=)', text)
    assert "|safe" not in text or path.name == "fields.html"


def test_colours_stand_in_one_file() -> None:
    for name in ("admin.css", "site.css"):
        text = (ROOT / "g4fsite/static/g4fsite" / name).read_text(encoding="utf-8")
        assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?=[;\s,)])", text)


def test_programs_get_json(client: Client) -> None:
    request = RequestFactory().get("/v1/x")
    answers = [pages.bad_request(request), pages.permission_denied(request), pages.csrf_failure(request)]
    answers += [pages.not_found(request), pages.server_error(request)]
    assert [answer.status_code for answer in answers] == [400, 403, 403, 404, 500]
    assert all(set(json.loads(answer.content)["error"]) == {"message", "type", "param", "code"} for answer in answers)
    assert client.get("/metrics").json()["error"]["code"] == "permission_denied"


def test_names_that_hide_or_reverse_text_are_shown_harmless(client: Client, alice: User) -> None:
    row = add("One", "openai_chat", "gpt\u202eevil\u2066")
    Provider.objects.filter(pk=row.pk).update(label="Ac\u202eme\x07")
    client.force_login(alice)
    page = client.get("/").content.decode()
    assert not re.search(r"[\x00-\x08\u202a-\u202e\u2066-\u2069]", page)
    assert "<bdi>gpt\ufffdevil\ufffd</bdi>" in page
    assert "<bdi>Ac\ufffdme\ufffd</bdi>" in page


@pytest.mark.django_db(transaction=True)
def test_a_locked_database_is_a_503_of_its_own(alice: User, caplog: pytest.LogCaptureFixture) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite locks the whole database")
    client = Client(raise_request_exception=False)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        page = client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    finally:
        other.close()
        connection.close()
    assert (page.status_code, page["Retry-After"]) == (503, "5")
    assert "Try again in a moment" in page.content.decode()
    assert "database is locked" in caplog.text
    assert client.post("/accounts/login/", {"login": "alice", "password": PASSWORD}).status_code == 302


def test_programs_are_told_when_the_database_is_away() -> None:
    try:
        raise OperationalError("the connection is lost")
    except OperationalError:
        answer = pages.server_error(RequestFactory().get("/v1/x"))
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert json.loads(answer.content)["error"]["code"] == "service_unavailable"


def test_a_wrong_query_is_a_mistake_of_ours_not_an_outage() -> None:
    with pytest.raises(OperationalError) as caught, sqlite3.connect(":memory:") as database:
        try:
            database.execute("SELECT * FROM nothing")
        except sqlite3.OperationalError as error:
            raise OperationalError(str(error)) from error
    assert not pages.database_away(caught.value)
    assert not pages.database_away(None)
    assert pages.database_away(InterfaceError("connection already closed"))


def test_people_get_pages() -> None:
    request = RequestFactory().get("/x")
    assert b"cannot be read" in pages.bad_request(request).content
    assert b"Something broke" in pages.server_error(request).content
