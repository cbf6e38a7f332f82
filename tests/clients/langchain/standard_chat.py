"""LangChain's published standard tests over `ChatOpenAI`, run in an environment of their own by test_langchain.py.

GATEWAY_URL, GATEWAY_KEY, and GATEWAY_MODELS: names with commas between them, each of which gets all tests. The tests
on pictures, sounds and documents fetch their files from the internet, so they stay off.
"""

from __future__ import annotations

import os
from typing import Any

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class ThroughTheGateway(ChatModelIntegrationTests):
    name = ""
    responses = False

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "base_url": f"{os.environ['GATEWAY_URL']}/v1",
            "api_key": os.environ["GATEWAY_KEY"],
            "max_retries": 0,
            "stream_usage": True,
            # Else all loops share one connection.
            "http_async_client": httpx.AsyncClient(),
            "use_responses_api": self.responses,
        }

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return self.name


def _classes() -> dict[str, type[ThroughTheGateway]]:
    """One for each model; `responses:` before a name asks by the Responses API."""
    found = {}
    for wanted in os.environ["GATEWAY_MODELS"].split(","):
        surface, _, name = wanted.rpartition(":")
        title = f"Test_{surface}_{name}" if surface else f"Test_{name}"
        fields = {"name": name, "responses": surface == "responses", "__module__": __name__}
        found[title] = type(title, (ThroughTheGateway,), fields)
    return found


globals().update(_classes())
