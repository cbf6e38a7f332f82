"""Stored secrets: unreadable at rest, rotatable, and nowhere to be found but where they are needed."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings

from g4fsite import logs
from gateway.models import Credential, Provider
from gateway.secrets import Secret, SecretUnreadable, decrypt, encrypt, rotate
from gateway.snapshot import load, store
from tests.people import PASSWORD
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

PLAIN = "sk-upstream-marked-5f1c9e77aa"


def keys(count: int) -> list[str]:
    return [Fernet.generate_key().decode() for _ in range(count)]


def test_keys_rotate_without_losing_a_secret(settings: Settings) -> None:
    old, new = keys(2)
    settings.ENCRYPTION_KEYS = [old]
    token = encrypt(PLAIN)
    assert token.startswith("gAAAA")
    assert PLAIN not in token
    settings.ENCRYPTION_KEYS = [new, old]
    assert decrypt(token) == PLAIN
    moved = rotate(token)
    settings.ENCRYPTION_KEYS = [new]
    assert decrypt(moved) == PLAIN
    assert decrypt(rotate(moved)) == PLAIN
    with pytest.raises(SecretUnreadable):
        decrypt(token)
    with pytest.raises(SecretUnreadable):
        rotate(token)


def test_a_secret_shows_nothing_of_itself() -> None:
    secret = Secret(encrypt(PLAIN))
    assert PLAIN not in f"{secret} {secret!r} {secret.token}"
    assert secret.reveal() == PLAIN
    assert secret == Secret(secret.token)
    assert len({secret, Secret(secret.token)}) == 1
    assert not Secret("")


@pytest.mark.parametrize("plain", ["", "a\nb", "a\rb", "a\x00b", "schlüssel"])
def test_a_credential_can_stand_in_a_header(plain: str) -> None:
    with pytest.raises(ValidationError):
        Credential().set_secret(plain)


def test_a_short_secret_shows_no_tail() -> None:
    row = Credential()
    row.set_secret("short-one")
    assert row.tail == ""
    row.set_secret(PLAIN)
    assert row.tail == PLAIN[-4:]


@pytest.mark.django_db
def test_an_unreadable_credential_is_left_out_not_fatal(settings: Settings) -> None:
    row = Provider.objects.create(name="Acme", adapter="openai_chat", base_url="https://a.test/v1")
    for _ in range(2):
        credential = Credential(provider=row)
        credential.set_secret(PLAIN)
        credential.save()
    settings.ENCRYPTION_KEYS = keys(1)
    credential = Credential(provider=row)
    credential.set_secret("another-credential-1")
    credential.save()
    policy = load().by_name["acme"]
    assert [plain for _, plain in policy.credentials] == ["another-credential-1"]
    assert policy.unreadable == 2
    assert PLAIN not in repr(policy)


def test_planted_secrets_are_nowhere(
    gateway: LiveGateway,
    provider: ScriptedProvider,
    charlie: User,
    caplog: pytest.LogCaptureFixture,
    settings: Settings,
) -> None:
    """dumpdata, config export, admin pages and history, errors, metrics, readiness and the log."""
    caplog.set_level(logging.DEBUG)
    key = gateway.make_key(charlie)
    gateway.add_provider(provider, credentials=[PLAIN])
    marks = [PLAIN, key, PASSWORD, settings.SECRET_KEY, settings.KEY_PEPPER, *settings.ENCRYPTION_KEYS]
    leaked = {"error": {"message": f"bad key {PLAIN} here", "code": PLAIN, "param": PLAIN}}
    provider.enqueue(answers.reply_json(leaked, status=400), answers.reply_json(leaked, status=401))
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
    shown = [gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth(key)).text for _ in range(3)]
    paths = ("/v1/models", "/v1/providers", "/v1/providers/Scripted", "/api/Scripted/models", "/metrics", "/schema/")
    shown += [gateway.http.get(path, headers=gateway.auth(key)).text for path in paths]
    browser = Client()
    assert browser.login(username="charlie", password=PASSWORD)
    row = Provider.objects.get()
    for path in (
        "/", "/admin/", "/admin/gateway/provider/", f"/admin/gateway/provider/{row.pk}/change/",
        f"/admin/gateway/provider/{row.pk}/history/", "/admin/gateway/apikey/", "/admin/gateway/usageevent/",
    ):  # fmt: skip
        page = browser.get(path)
        assert page.status_code == 200
        shown.append(page.content.decode())
    out = io.StringIO()
    call_command("dumpdata", stdout=out)
    call_command("config", "export", stdout=out)
    call_command("provider", "show", "Scripted", "--json", stdout=out)
    call_command("apikey", "list", "--json", stdout=out)
    shown += [out.getvalue(), repr(store.current), repr(store.current.providers), caplog.text]
    shown += [json.dumps(list(LogEntry.objects.values("change_message", "object_repr")))]
    for text in shown:
        for mark in marks:
            assert mark not in text


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer sk-gw-12345678-abcdefghijklmnop",
        "{'authorization': 'Bearer abcdefghijklmnop'}",
        "x-api-key=abcdefghijklmnop",
        "Cookie: sessionid=abcdefghijklmnop",
        "sk-proj-abcdefghijklmnop",
        "GET /setup/abcdefghijklmnop/",
        "GET /media/1_a_0f.png?expires=1&signature=abcdefghijklmnop",
        "gAAAAABm" + "abcdefghijklmnop" * 4,
    ],
)
def test_the_log_strikes_out_credentials(text: str) -> None:
    assert "abcdefghijklmnop" not in logs.mask(f"before {text} after")


def line(formatter: logging.Formatter, message: str, **extra: Any) -> str:
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, message, (), None)
    vars(record).update(extra)
    assert logs.MaskSecrets().filter(record)
    return formatter.format(record)


@pytest.mark.parametrize("formatter", [logs.JsonFormatter(), logs.PlainFormatter()])
def test_one_event_is_one_line_without_tricks(formatter: logging.Formatter) -> None:
    found = line(formatter, "user \n\x1b[31m\u202e\r\x00 did", request_id="req_1", path="/x\ny")
    assert not any(mark in found for mark in "\n\r\x1b\x00\u202e")
    assert "req_1" in found


def test_a_trace_is_masked_too() -> None:
    try:
        raise ValueError(f"key {PLAIN}")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    for formatter in (logs.JsonFormatter(), logs.PlainFormatter()):
        found = line(formatter, "failed", exc_info=info)
        assert PLAIN not in found
        assert "ValueError" in found


def test_the_debug_pages_hide_our_settings_too(settings: Settings) -> None:
    settings.REDIS_URL = f"redis://:{PLAIN}@127.0.0.1:6379/0"
    settings.CHANNEL_LAYERS = {"default": {"CONFIG": {"hosts": [settings.REDIS_URL]}}}
    settings.UPSTREAM_PROXY = f"http://user:{PLAIN}@proxy:3128"
    shown = repr(logs.ReporterFilter().get_safe_settings())
    for mark in (PLAIN, settings.SECRET_KEY, settings.KEY_PEPPER, *settings.ENCRYPTION_KEYS):
        assert mark not in shown
