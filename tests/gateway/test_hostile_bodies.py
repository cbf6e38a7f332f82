"""A good request with every one of its places spoiled in turn: the wrong type everywhere, and NUL everywhere.

PostgreSQL takes no NUL in text, and SQLite does: callers must see no difference, and no usage row may be lost by one.
"""

from __future__ import annotations

import socket
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.contrib.auth.models import User

from gateway.models import UsageEvent
from gateway.usage import writer
from tests.support import answers
from tests.support.bodies import WHOLE, Place, places, renamed, replaced, value_at
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_error
from tests.support.provider import ScriptedProvider

KINDS: list[Any] = [None, True, 0, -1, 7, 1.5, 2**70, "", "x", [], [None], [7], ["x"], [{}], {}, {"x": 7}, {"x": None}]
NUL = "a\x00b"
TEXTS = [place for place in places(WHOLE) if isinstance(value_at(WHOLE, place), str)]
KEYS = [place for place in places(WHOLE) if isinstance(place[-1], str)]


def ask(gateway: LiveGateway, body: Any, key: str = "") -> httpx.Response:
    return gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth(key or None))


def check_rows(answered: list[httpx.Response], status: str = "ok") -> None:
    """One with this status for each of these answers, and no other."""
    wanted = {response.headers["x-request-id"] for response in answered}
    rows = UsageEvent.objects.filter(status=status)
    deadline = time.monotonic() + 10
    while rows.count() < len(wanted) and time.monotonic() < deadline:
        writer.flush()
        time.sleep(0.05)
    assert set(rows.values_list("request_id", flat=True)) == wanted


def refused_head(gateway: LiveGateway, line: str) -> bytes:
    """What is said, before the end of the connection, to a request with this line; no client would send it."""
    address = (urlsplit(gateway.url).hostname, urlsplit(gateway.url).port)
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{line}\r\n".encode())
        connection.sendall(b"Content-Length: 2\r\n\r\n{}")
        data = b""
        while piece := connection.recv(65536):
            data += piece
    return data


def shown(place: Place) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)


@pytest.mark.parametrize("model", ["scripted", "demo"])
def test_the_wrong_type_in_any_place_is_the_callers_fault(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """For an adapter that passes a request on, and for one that reads all of it."""
    monkeypatch.setattr("gateway.adapters.demo.PACE_SECONDS", 0)
    gateway.add_provider(provider)
    gateway.add_demo()
    # A limit of tokens has the messages read before a provider is asked.
    key = gateway.make_key(alice, tokens_per_minute=2_000_000_000)
    whole, answered = {**WHOLE, "model": model}, []
    for place in places(whole):
        for kind in KINDS:
            response = ask(gateway, replaced(whole, place, kind), key)
            assert response.status_code in {200, 400, 404, 422, 429}, (shown(place), kind, response.text)
            if response.status_code == 200:
                answered.append(response)
            else:
                check_error(response.json())
    assert len(answered) > 300
    check_rows(answered)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_nul_is_refused_where_we_read_and_passed_on_where_we_do_not(
    gateway: LiveGateway, provider: ScriptedProvider, stream: bool
) -> None:
    gateway.add_provider(provider)
    whole = {**WHOLE, "stream": stream}
    answered = []
    for place in TEXTS:
        response = ask(gateway, replaced(whole, place, NUL))
        # Names of models and providers, roles, and a sound that is to be base64.
        ours = place[0] == "messages" and (place[-1] == "role" or place[-2:] == ("input_audio", "data"))
        if ours or place[0] in {"model", "provider"}:
            assert (response.status_code, check_error(response.json())["param"]) == (400, shown(place)[1:])
            continue
        assert response.status_code == 200, (shown(place), response.text)
        answered.append(response)
        if place[0] == "extra_body":
            assert value_at(provider.chats[-1].json, place[1:]) == NUL
        else:
            assert value_at(provider.chats[-1].json, place) == NUL
    for place in KEYS:
        response = ask(gateway, renamed(whole, place, NUL))
        assert response.status_code in {200, 400}, (shown(place), response.text)
        if response.status_code == 200:
            answered.append(response)
    assert len(provider.chats) == len(answered) > 60
    check_rows(answered)


@pytest.mark.parametrize("field", ["model", "provider"])
def test_nul_in_what_names_a_target_is_400(gateway: LiveGateway, provider: ScriptedProvider, field: str) -> None:
    """Also where something precedes it that is known."""
    gateway.add_provider(provider)
    for value in ("\x00", f"{'scripted' if field == 'model' else 'Scripted'}\x00", "Scripted/scripted\x00"):
        for body in ({**WHOLE, field: value}, {**WHOLE, "extra_body": {field: value}, field: value}):
            response = ask(gateway, body)
            assert response.status_code == 400
            assert check_error(response.json())["param"] == field
            assert "\x00" not in response.text
    assert not provider.chats


def test_nul_in_paths_headers_and_queries_is_4xx(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider)
    auth = gateway.auth()
    for path in ("/v1/models/a%00b", "/v1/providers/a%00b", "/api/a%00b/models", "/v1/models%00", "/%00"):
        response = gateway.http.get(path, headers=auth)
        assert response.status_code == 404
        check_error(response.json())
    response = gateway.http.post("/api/Scripted%00/chat/completions", json=WHOLE, headers=auth)
    assert response.status_code == 404
    for query in ("?limit=%00", "?%00=1", "?after=a%00b&order=%00"):
        assert gateway.http.get(f"/v1/models{query}", headers=auth).status_code < 500
        assert gateway.http.post(f"/v1/chat/completions{query}", json=WHOLE, headers=auth).status_code == 200
    for name in ("authorization", "x-api-key", "cookie", "user-agent", "origin", "content-type", "a\x00b"):
        assert refused_head(gateway, f"{name}: Bearer a\x00b").startswith(b"HTTP/1.1 400 ")
    assert ask(gateway, WHOLE).status_code == 200


ODD = {"code": f"c{NUL}", "param": f"p{NUL}", "type": f"t{NUL}", "message": f"m{NUL}"}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("status", [400, 404, 429, 401, 500])
def test_nul_in_a_providers_refusal_loses_no_row(
    gateway: LiveGateway, provider: ScriptedProvider, stream: bool, status: int
) -> None:
    """Its code is kept with the row, in a column of text and within JSON."""
    provider.on("scripted", answers.error(status, **ODD))
    gateway.add_provider(provider)
    response = ask(gateway, {**WHOLE, "stream": stream})
    assert response.status_code == {401: 502, 500: 502}.get(status, status)
    assert "\\u0000" not in response.text
    check_rows([response], "error")


def test_nul_in_a_providers_answer_loses_no_row(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    odd: dict[str, Any] = {"id": NUL, "model": NUL, "object": NUL, "system_fingerprint": NUL, NUL: NUL}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, NUL: NUL}
    message = {"role": NUL, "content": NUL, "refusal": None, NUL: NUL}
    provider.enqueue(
        answers.reply(message=message, finish_reason=NUL, **odd, usage=usage),
        answers.sse([answers.chunk({"role": NUL, "content": NUL}, NUL, **odd, usage=usage), answers.DONE]),
        answers.sse([answers.chunk({"content": "x"}), {"error": ODD}]),
    )
    gateway.add_provider(provider)
    said = [ask(gateway, {**WHOLE, "stream": stream}) for stream in (False, True)]
    assert all(response.status_code == 200 and "\\u0000" in response.text for response in said)
    check_rows(said)
    failed = ask(gateway, {**WHOLE, "stream": True})
    assert '"error"' in failed.text
    writer.flush()
    row = UsageEvent.objects.get(request_id=failed.headers["x-request-id"])
    assert (row.status, row.error_code) == ("error", "provider_not_working")
