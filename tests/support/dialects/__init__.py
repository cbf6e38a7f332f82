"""One server that speaks every wire protocol of providers, strictly, with the obliging model behind each.

Each protocol has a path of its own (`base_url_of`). What its real server would refuse, such as a field of another
protocol, a wrong credential or the result of a call that nobody made, is refused here as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.adapters import ADAPTERS
from tests.support import answers
from tests.support.answers import Answer
from tests.support.dialects import anthropic, copilot, gemini, ollama, openai, responses
from tests.support.dialects.heard import Wrong
from tests.support.provider import Recorded, ScriptedProvider

SECRET = "sk-obliging-0123456789"
HEARERS = {
    "openai_chat": openai.answer,
    "azure": openai.answer_azure,
    "pollinations": openai.answer_pollinations,
    "openai_responses": responses.answer,
    "anthropic": anthropic.answer,
    "gemini": gemini.answer,
    "ollama": ollama.answer,
    "copilot": copilot.answer,
}
# Fields of the provider's row, and of its model's.
ROWS: Mapping[str, dict[str, Any]] = {
    "openai_chat": {"path": "/v1"},
    "azure": {
        "path": "/openai/deployments/gpt", "adapter": "openai_chat", "auth_style": "header", "auth_name": "api-key",
        "query": {"api-version": "2024-10-21"},
    },
    "pollinations": {"path": ""},
    "openai_responses": {"path": "/v1"},
    "anthropic": {"path": "/v1", "auth_style": "header", "auth_name": "x-api-key"},
    "gemini": {"path": "/v1beta", "auth_style": "header", "auth_name": "x-goog-api-key"},
    "ollama": {"path": ""},
    "copilot": {"path": "/beta/copilot"},
}  # fmt: skip
FLAGS: Mapping[str, dict[str, Any]] = {
    "copilot": {"tools": False, "emulate_tools": True, "json": False, "emulate_json": True},
    # Its models can call tools, and cannot be made to: that is what is emulated.
    "ollama": {"tools": True, "emulate_tools": True},
}
PROTOCOLS = tuple(HEARERS)


def embeds(protocol: str) -> bool:
    """Whether the gateway can ask for embeddings in it; elsewhere it says `unsupported_operation`."""
    adapter = ADAPTERS[str(ROWS[protocol].get("adapter", protocol))]
    return hasattr(adapter, "call") or hasattr(adapter, "embed")


def base_url_of(port: int, protocol: str) -> str:
    return f"http://127.0.0.1:{port}/{protocol}{ROWS[protocol]['path']}"


class ObligingProvider(ScriptedProvider):
    """Speaks the protocol that the first step of a path names."""

    def asked(self, protocol: str) -> list[Recorded]:
        return [request for request in self.requests if request.path.startswith(f"/{protocol}/")]

    def _programme(self, request: Recorded) -> Answer:
        protocol, _, path = request.path.removeprefix("/").partition("/")
        if protocol not in HEARERS:
            return super()._programme(request)
        path = path.removeprefix(str(ROWS[protocol]["path"]).removeprefix("/")).removeprefix("/")
        try:
            _check_credential(protocol, request)
            return HEARERS[protocol](request, path)
        except Wrong as fault:
            return _refused(protocol, str(fault))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as fault:
            return _refused(protocol, f"unreadable, {type(fault).__name__}: {fault}: {request.body[:600]!r}")


def _check_credential(protocol: str, request: Recorded) -> None:
    row = ROWS[protocol]
    name = row.get("auth_name", "authorization")
    if request.header(name) != (SECRET if "auth_name" in row else f"Bearer {SECRET}"):
        raise Wrong(f"no credential in {name}")


def _refused(protocol: str, message: str) -> Answer:
    error: Any = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    if protocol == "gemini":
        error = {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}
    if protocol == "ollama":
        error = message
    return answers.raw(json.dumps({"type": "error", "error": error}).encode(), status=400)
