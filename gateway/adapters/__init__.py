"""One file per wire protocol; a company is a row in the database that names one of these."""

from gateway.adapters.base import Adapter
from gateway.adapters.demo import DemoAdapter
from gateway.adapters.ollama import OllamaAdapter
from gateway.adapters.openai_chat import OpenAIChatAdapter

ADAPTERS: dict[str, Adapter] = {
    "openai_chat": OpenAIChatAdapter(),
    "ollama": OllamaAdapter(),
    "demo": DemoAdapter(),
}

__all__ = ["ADAPTERS", "Adapter"]
