"""One file per wire protocol; a company is a row in the database that names one of these."""

from gateway.adapters.base import Adapter
from gateway.adapters.demo import DemoAdapter
from gateway.adapters.gemini import GeminiAdapter
from gateway.adapters.openai_chat import OpenAIChatAdapter

ADAPTERS: dict[str, Adapter] = {
    "openai_chat": OpenAIChatAdapter(),
    "gemini": GeminiAdapter(),
    "demo": DemoAdapter(),
}

__all__ = ["ADAPTERS", "Adapter"]
