"""What goes to a provider beside JSON: forms, and files that it offers on its own server."""

from __future__ import annotations

import pytest

from gateway.targets import Endpoint
from gateway.upstream import Upstream
from gateway.upstream.request import is_own
from tests.support import answers
from tests.support.calls import Run, target
from tests.support.provider import ScriptedProvider

PNG = b"\x89PNG\r\n\x1a\n" + bytes(200_000)


def test_a_form_goes_out_with_its_own_type_and_the_connection_serves_again(
    run: Run, provider: ScriptedProvider
) -> None:
    async def scenario(client: Upstream) -> None:
        found = target(provider.base_url, headers=(("Content-Type", "application/x-odd"), ("X-Own", "yes")))
        kind = "multipart/form-data; boundary=abc"
        assert (await client.call(found, "/images/edits", b"--abc--\r\n", kind)).status == 200
        stream = await client.open_stream(found, "/images/edits", b"--abc--\r\n", kind)
        await stream.read()  # type: ignore[union-attr]
        stream.close()  # type: ignore[union-attr]
        assert (await client.call(found, "/chat/completions", b"{}")).status == 200

    provider.enqueue(answers.raw(b"{}"), answers.raw(b"{}"), answers.raw(b"{}"))
    run(scenario)
    sent = provider.requests
    assert [request.header("content-type") for request in sent] == [
        "multipart/form-data; boundary=abc", "multipart/form-data; boundary=abc", "application/x-odd",
    ]  # fmt: skip
    assert {request.header("x-own") for request in sent} == {"yes"}
    assert sent[0].body == b"--abc--\r\n"
    assert sent[1].header("accept") == "text/event-stream"


def test_a_file_is_got_below_the_base_url_or_anywhere_on_the_same_server(run: Run, provider: ScriptedProvider) -> None:
    host = provider.base_url.removesuffix("/v1")

    async def scenario(client: Upstream) -> None:
        found = target(provider.base_url)
        assert (await client.get(found, "/files/a.png?x=1")).body == PNG
        own = await client.get_own(found, f"{host}/elsewhere/b.png?y=2#part")
        assert own is not None
        assert own.body == PNG
        assert await client.get_own(found, "https://files.example/c.png") is None
        assert await client.get_own(found, f"{host}9/c.png") is None

    provider.enqueue(answers.raw(PNG, content_type="image/png"), answers.raw(PNG, content_type="image/png"))
    run(scenario)
    first, second = provider.requests
    assert (first.method, first.path) == ("GET", "/v1/files/a.png?x=1")
    assert (second.method, second.path) == ("GET", "/elsewhere/b.png?y=2")
    assert first.header("authorization") == second.header("authorization") != None  # noqa: E711 - and there is one
    assert first.header("content-type") is None


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://api.acme.test/files/1.png", True),
        ("https://API.acme.test:443/files/1.png", True),
        ("http://api.acme.test/files/1.png", False),
        ("https://api.acme.test:444/1.png", False),
        ("https://cdn.acme.test/1.png", False),
        ("https://api.acme.test.evil.test/1.png", False),
        ("https://me@api.acme.test/1.png", False),
        ("https://api.acme.test@evil.test/1.png", False),
        ("ftp://api.acme.test/1.png", False),
        ("https://api.acme.test:x/1.png", False),
        ("https://[::1/1.png", False),
        ("data:image/png;base64,AAAA", False),
        ("/files/1.png", False),
        ("", False),
    ],
)
def test_only_the_same_scheme_host_and_port_are_the_providers_own(url: str, own: bool) -> None:
    assert is_own(Endpoint("Acme", "https://api.acme.test/v1"), url) is own
