"""`provider sync` and `provider test` on a server that lists its models as Anthropic does: in pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from gateway.models import Provider, ProviderModel
from tests.support.anthropic_answers import recorded
from tests.support.commands import run
from tests.support.listing import ListingServer

pytestmark = pytest.mark.django_db
OPUS, HAIKU = "claude-opus-4-1-20250805", "claude-haiku-4-5-20251001"


def pages(handler: BaseHTTPRequestHandler) -> None:
    body = json.dumps(recorded("models-2" if f"after_id={OPUS}" in handler.path else "models-1")).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ListingServer]:
    monkeypatch.setenv("KEY_OF_TEST", "sk-ant-0123456789")
    with ListingServer() as listing:
        listing.does("/v1/models", pages)
        yield listing


def test_every_page_is_read_with_what_the_provider_says_of_its_models(server: ListingServer) -> None:
    ran = run(
        "provider", "add", "--preset", "anthropic", "--base-url", server.base_url,
        "--api-key-env", "KEY_OF_TEST", "--sync",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = {model.public_id: model for model in ProviderModel.objects.all()}
    assert set(found) >= {OPUS, HAIKU}
    assert found[OPUS].context_length == 200000
    assert {name: getattr(found[OPUS], name) for name in ("vision", "json", "reasoning")} == {
        "vision": True,
        "json": True,
        "reasoning": True,
    }
    seen = server.seen[0]
    assert seen.headers["x-api-key"] == "sk-ant-0123456789"
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert run("provider", "test", "Anthropic").code == 0


def test_the_version_is_sent_though_the_row_names_none(server: ListingServer) -> None:
    run(
        "provider", "add", "Mine", "--adapter", "anthropic", "--base-url", server.base_url, "--auth-style", "header",
        "--auth-name", "x-api-key", "--api-key-env", "KEY_OF_TEST", "--sync",
    )  # fmt: skip
    assert Provider.objects.get().headers == {}
    assert server.seen[0].headers["anthropic-version"] == "2023-06-01"


def test_a_list_that_never_ends_is_left(server: ListingServer) -> None:
    body = {**recorded("models-1"), "last_id": "same"}
    server.says("/v1/models", body)
    ran = run(
        "provider", "add", "--preset", "anthropic", "--base-url", server.base_url,
        "--api-key-env", "KEY_OF_TEST", "--sync",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert len(server.seen) == 2
