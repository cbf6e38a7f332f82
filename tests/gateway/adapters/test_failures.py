"""A provider's refusals: what the caller is told, and what it must never see."""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
from urllib.parse import quote, quote_plus

import pytest

from gateway.adapters.failures import from_reply, masked, seconds, waiting
from gateway.errors import UpstreamBroken, UpstreamLimited, UpstreamRefused, UpstreamRejected, UpstreamTimeout
from gateway.targets import Endpoint, Target
from gateway.upstream import Reply

KEY = "sk-upstream-0123456789abcdef"
TARGET = Target("openai_chat", 1, "Acme", 1, "m", "m", Endpoint("Acme", "https://acme.test/v1"), credential=KEY)


def error(status: int, body: bytes = b"", **headers: str) -> object:
    said = tuple((name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items())
    return from_reply(TARGET, Reply(status, said, body))


@pytest.mark.parametrize("status", [401, 402, 403])
def test_our_refused_credential_is_never_the_callers_401(status: int) -> None:
    found = error(status, b'{"error": {"message": "Incorrect API key sk-upstream-0123456789abcdef"}}')
    assert isinstance(found, UpstreamRefused)
    assert (found.status, found.should_retry) == (502, False)
    assert "sk-" not in found.message


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422])
def test_a_rejected_request_keeps_the_providers_words_code_and_param(status: int) -> None:
    found = error(
        status, b'{"error": {"message": "too\\nlong", "code": "context_length_exceeded", "param": "messages"}}'
    )
    assert isinstance(found, UpstreamRejected)
    assert (found.status, found.message, found.code, found.param) == (
        status,
        "too long",
        "context_length_exceeded",
        "messages",
    )


def test_a_limit_says_when_to_come_back() -> None:
    found = error(429, b'{"error": {"message": "slow down"}}', Retry_After="7")
    assert isinstance(found, UpstreamLimited)
    assert (found.status, found.retry_after, found.message) == (429, 7, "slow down")


@pytest.mark.parametrize("status", [500, 502, 503, 529])
def test_a_server_error_becomes_our_own_text(status: int) -> None:
    found = error(status, b'{"error": {"message": "stack trace at /srv/app.py"}}')
    assert isinstance(found, UpstreamBroken)
    assert found.message == f"Acme failed with status {status}."


def test_timeouts_and_redirects() -> None:
    assert isinstance(error(408), UpstreamTimeout)
    assert isinstance(error(504), UpstreamTimeout)
    assert "redirect" in str(error(302, Location="http://evil.test/"))


@pytest.mark.parametrize(
    "body", [b"<html><h1>Nope</h1></html>", b"", b"[]", b'"text"', b'{"error": 5}', b'{"detail": ["x"]}']
)
def test_html_and_oddities_are_no_text_for_the_caller(body: bytes) -> None:
    found = error(400, body)
    assert isinstance(found, UpstreamRejected)
    assert "<" not in found.message


def test_it_reads_lists_details_and_strings() -> None:
    assert str(error(400, b'[{"error": {"message": "from a list"}}]')) == "from a list"
    assert str(error(400, b'{"detail": "from FastAPI"}')) == "from FastAPI"
    assert str(error(400, b'{"error": "from Ollama"}')) == "from Ollama"


def test_every_part_of_the_credential_is_masked() -> None:
    for start in range(len(KEY) - 8):
        shown = masked(f"key {KEY[start : start + 10]} end", KEY)
        assert KEY[start : start + 8] not in shown
        assert shown.endswith(" end")
    assert masked(f"{KEY} and {KEY}", KEY) == "*** and ***"
    assert masked("sk-upst is short", KEY) == "sk-upst is short"


def test_a_credential_is_masked_in_whatever_way_it_is_written() -> None:
    key = "sk/up+stream 0123=ä~456789"
    raw = key.encode()
    forms = [quote(key, safe=""), quote(key, safe="").lower(), quote_plus(key), raw.hex(), raw.hex().upper()]
    for before in (b"", b":", b"me:", b"name:"):
        forms += [base64.b64encode(before + raw + b"\n").decode(), base64.urlsafe_b64encode(before + raw).decode()]
    for form in forms:
        shown = masked(f"Basic {form} is wrong", key)
        # Of other bytes beside it a character or two may stay.
        assert all(form[at : at + 8] not in shown for at in range(6, len(form) - 12)), (form, shown)
        assert shown.startswith("Basic ")
        assert shown.endswith(" is wrong")
    assert masked("what has nothing of it stays as it is: 0123456789abcdef", key).endswith("abcdef")


def test_a_message_is_one_line_of_a_kilobyte_without_tricks() -> None:
    assert masked("a\r\nb\x00c\u202ed", "") == "a b c d"
    assert len(masked("x" * 5000, "")) == 1024


def test_retry_after_is_a_number_or_a_date() -> None:
    soon = email.utils.format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30), usegmt=True)
    found = seconds(soon)
    assert found is not None
    assert 25 < found <= 30
    assert seconds("1.5") == 1.5
    assert seconds("-3") == 0
    assert seconds("soon") is None
    assert seconds(None) is None


def test_milliseconds_are_more_exact_than_seconds() -> None:
    assert waiting("9", "1500") == 1.5
    assert waiting("9", "soon") == 9
    assert waiting(None, "-4") == 0
    assert waiting(None, "120000") == 120
    assert waiting(None, "inf") is None
    assert waiting(None, None) is None
