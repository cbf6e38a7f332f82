"""One file per wire protocol; a company is a row in the database that names one of these."""

from gateway.adapters.base import Adapter
from gateway.adapters.demo import DemoAdapter
from gateway.adapters.openai_chat import OpenAIChatAdapter
from gateway.adapters.openai_responses import OpenAIResponsesAdapter

ADAPTERS: dict[str, Adapter] = {
    "openai_chat": OpenAIChatAdapter(),
    "openai_responses": OpenAIResponsesAdapter(),
    "demo": DemoAdapter(),
}

__all__ = ["ADAPTERS", "Adapter"]
