"""Asking providers of other protocols what they have: lists, details, connection tests, servers on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from gateway import discovery, operations
from gateway.catalogue import UpstreamModel, read_ollama_tags, with_ollama_details
from gateway.discovery import DiscoveryFailed, find_local_servers, list_models
from gateway.models import Provider, ProviderModel
from gateway.targets import Endpoint
from tests.support.listing import ListingServer
from tests.support.protocols import fixture

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server() -> Iterator[ListingServer]:
    with ListingServer() as running:
        yield running


def endpoint(server: ListingServer) -> Endpoint:
    return Endpoint(name="Local", base_url=f"http://127.0.0.1:{server.port}", allow_private=True)


def shows(server: ListingServer, details: dict[str, Any]) -> None:
    """Answers /api/show for these models and 404 for others."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        found = details.get(server.seen[-1].json["model"])
        body = json.dumps(found or {"error": "model not found"}).encode()
        handler.send_response(200 if found else 404)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.does("/api/show", act)


class TestOllama:
    def test_tags_and_details_become_models(self, server: ListingServer) -> None:
        server.says("/api/tags", fixture("ollama/tags.json"))
        shows(server, fixture("ollama/show.json"))
        found = list_models(endpoint(server), adapter="ollama")
        assert [model.public_id for model in found] == ["gemma3", "deepseek-r1:8b", "nomic-embed-text"]
        gemma, deepseek, nomic = found
        assert gemma.flags == {
            "chat": True, "vision": True, "audio": False, "tools": False, "reasoning": False, "embeddings": False,
            "image": False,
        }  # fmt: skip
        assert deepseek.flags["reasoning"]
        assert deepseek.flags["tools"]
        assert (gemma.context_length, deepseek.context_length) == (None, 16384)
        # Its details could not be had.
        assert nomic == UpstreamModel("nomic-embed-text:latest", "nomic-embed-text")

    @pytest.mark.parametrize(
        "sent", [[], {"models": 3}, "x", {"models": "x"}], ids=["list", "number", "text", "models as text"]
    )
    def test_what_is_no_list_is_said(self, server: ListingServer, sent: Any) -> None:
        server.says("/api/tags", sent)
        with pytest.raises(DiscoveryFailed, match="not a list of models"):
            list_models(endpoint(server), adapter="ollama")

    @pytest.mark.parametrize("sent", [{}, {"models": None}, {"models": [3, {}, {"name": 4}, {"name": ""}]}])
    def test_entries_without_a_name_are_passed_over(self, sent: Any) -> None:
        assert read_ollama_tags(sent) == []

    @pytest.mark.parametrize(
        "sent",
        [None, [], {"capabilities": "vision"}, {"capabilities": []}, {"parameters": 3}, {"parameters": "num_ctx 0"}],
    )
    def test_details_of_another_shape_leave_all_unknown(self, sent: Any) -> None:
        assert with_ollama_details(UpstreamModel("m", "m"), sent) == UpstreamModel("m", "m")

    def test_a_connection_is_tested_by_the_list_alone(self, server: ListingServer) -> None:
        server.says("/api/tags", fixture("ollama/tags.json"))
        found = discovery.test_connection(endpoint(server), "", default_model="", models_url="", adapter="ollama")
        assert found.models == 3
        assert [seen.path for seen in server.seen] == ["/api/tags"]

    def test_without_a_list_a_model_is_greeted(self, server: ListingServer) -> None:
        server.says("/api/chat", {"message": {"role": "assistant", "content": "Hello"}, "done": True})
        found = discovery.test_connection(endpoint(server), "", default_model="m", models_url="", adapter="ollama")
        assert found.answered == "m"
        assert server.seen[-1].json["options"] == {"num_predict": 1}

    def test_it_is_found_on_this_machine(self, server: ListingServer) -> None:
        base_url = f"http://127.0.0.1:{server.port}"
        server.says("/api/tags", fixture("ollama/tags.json"))
        (found,) = find_local_servers([("ollama", base_url), ("vllm", base_url)])
        assert (found.preset, found.models) == ("ollama", 3)
        assert found.command == f"provider add --preset ollama --base-url {base_url} --sync"

    @pytest.mark.django_db
    def test_a_row_is_synchronised_in_its_own_protocol(self, server: ListingServer) -> None:
        server.says("/api/tags", fixture("ollama/tags.json"))
        shows(server, fixture("ollama/show.json"))
        row = Provider.objects.create(
            name="Ollama", adapter="ollama", base_url=endpoint(server).base_url, allow_private=True, auth_style="none"
        )
        assert operations.sync_models(row).added == ["gemma3", "deepseek-r1:8b", "nomic-embed-text"]
        assert ProviderModel.objects.get(public_id="deepseek-r1:8b").reasoning
        assert operations.test_provider(row)[0].connection

    @pytest.mark.django_db
    def test_a_row_that_speaks_openais_protocol_goes_on_so(self, server: ListingServer) -> None:
        server.lists("gemma3:latest")
        row = Provider.objects.create(
            name="Ollama", preset="ollama", adapter="openai_chat", base_url=server.base_url, allow_private=True,
            auth_style="none",
        )  # fmt: skip
        assert operations.sync_models(row).added == ["gemma3"]
        assert [seen.path for seen in server.seen] == ["/v1/models"]
