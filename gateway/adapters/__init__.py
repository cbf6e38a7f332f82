"""One file per wire protocol; a company is a row in the database that names one of these."""

from gateway.adapters.base import Adapter
from gateway.adapters.copilot import CopilotAdapter
from gateway.adapters.demo import DemoAdapter
from gateway.adapters.ollama import OllamaAdapter
from gateway.adapters.openai_chat import OpenAIChatAdapter
from gateway.adapters.pollinations import PollinationsAdapter

ADAPTERS: dict[str, Adapter] = {
    "openai_chat": OpenAIChatAdapter(),
    "ollama": OllamaAdapter(),
    "pollinations": PollinationsAdapter(),
    "copilot": CopilotAdapter(),
    "demo": DemoAdapter(),
}

__all__ = ["ADAPTERS", "Adapter"]
