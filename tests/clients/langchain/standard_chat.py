"""LangChain's published standard tests over `ChatOpenAI`, run in an environment of their own by test_langchain.py.

GATEWAY_URL, GATEWAY_KEY, GATEWAY_MODEL. The tests on pictures, sounds and documents fetch their files from the
internet, so they stay off.
"""

from __future__ import annotations

import os
from typing import Any

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestThroughTheGateway(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": os.environ["GATEWAY_MODEL"],
            "base_url": f"{os.environ['GATEWAY_URL']}/v1",
            "api_key": os.environ["GATEWAY_KEY"],
            "max_retries": 0,
            "stream_usage": True,
            # Else all loops share one connection.
            "http_async_client": httpx.AsyncClient(),
            "use_responses_api": os.environ.get("GATEWAY_RESPONSES") == "1",
        }

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return os.environ["GATEWAY_MODEL"]
