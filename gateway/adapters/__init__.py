"""One file per wire protocol; a company is a row in the database that names one of these."""

from collections.abc import Mapping

from gateway.adapters.anthropic import AnthropicAdapter
from gateway.adapters.base import Adapter
from gateway.adapters.copilot import CopilotAdapter
from gateway.adapters.demo import DemoAdapter
from gateway.adapters.gemini import GeminiAdapter
from gateway.adapters.local import LocalAdapter
from gateway.adapters.ollama import OllamaAdapter
from gateway.adapters.openai_chat import OpenAIChatAdapter
from gateway.adapters.openai_responses import OpenAIResponsesAdapter
from gateway.adapters.pollinations import PollinationsAdapter

ADAPTERS: dict[str, Adapter] = {
    "openai_chat": OpenAIChatAdapter(),
    "ollama": OllamaAdapter(),
    "pollinations": PollinationsAdapter(),
    "copilot": CopilotAdapter(),
    "anthropic": AnthropicAdapter(),
    "gemini": GeminiAdapter(),
    "openai_responses": OpenAIResponsesAdapter(),
    "local": LocalAdapter(),
    "demo": DemoAdapter(),
}


def usual_headers(adapter: str) -> Mapping[str, str]:
    """What the protocol wants with each request; a provider's row may say otherwise."""
    return getattr(ADAPTERS.get(adapter), "headers", {})


__all__ = ["ADAPTERS", "Adapter", "usual_headers"]
