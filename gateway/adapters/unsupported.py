"""What a protocol has no word for: a 400 that names the parameter, unless the value changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.chat import ChatRequest, Message, ReasoningPart
from gateway.errors import UnsupportedParameter
from gateway.targets import Target

# Values that ask for nothing: clients send them because their forms have these defaults.
NEUTRAL: Mapping[str, Any] = {
    "n": 1,
    "modalities": ["text"],
    "response_format": {"type": "text"},
    "tool_choice": "auto",
    "parallel_tool_calls": True,
}


def is_asked(chat: ChatRequest, name: str) -> bool:
    """Whether the field asks for anything."""
    value = chat.body.get(name)
    return bool(value or (value is False and name in NEUTRAL)) and value != NEUTRAL.get(name)


def refuse(target: Target, chat: ChatRequest, names: Iterable[str]) -> None:
    """Raises UnsupportedParameter for the first of these fields that asks for something."""
    for name in names:
        if is_asked(chat, name):
            raise UnsupportedParameter(target.provider, name)


def content_path(number: int, message: Message, position: int) -> str:
    """How the caller knows a part: messages[2].content[1]; reasoning stands apart from the content."""
    apart = sum(isinstance(part, ReasoningPart) for part in message.parts[:position])
    return f"messages[{number}].content[{position - apart}]"


def number_of(target: Target, chat: ChatRequest, name: str) -> int | float | None:
    """A field that our parser leaves unchecked. Raises UnsupportedParameter unless it is a number."""
    value = chat.body.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise UnsupportedParameter(target.provider, name, "expected a number.")


def switch_of(target: Target, chat: ChatRequest, name: str) -> bool | None:
    """The same, for yes and no."""
    value = chat.body.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise UnsupportedParameter(target.provider, name, "expected true or false.")


def effort_of(target: Target, chat: ChatRequest) -> str | bool | None:
    """How much the model is to reason: an effort, just yes or no, or None when nothing was said.

    `reasoning` is OpenRouter's form and wins over OpenAI's `reasoning_effort`.
    """
    reasoning = chat.body.get("reasoning")
    if reasoning is None:
        effort = chat.body.get("reasoning_effort")
    elif not isinstance(reasoning, dict):
        raise UnsupportedParameter(target.provider, "reasoning", "expected an object.")
    elif reasoning.get("enabled") is False:
        return False
    else:
        effort = reasoning.get("effort")
        if effort is None:
            return True if reasoning.get("max_tokens") or reasoning.get("enabled") else None
    if effort is not None and not isinstance(effort, str):
        raise UnsupportedParameter(target.provider, "reasoning.effort", "expected a string.")
    return effort or None
