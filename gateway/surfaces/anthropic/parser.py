"""Checks the body of a message request once, at the edge (Anthropic API reference, "Messages").

Every fault of a body is 400 here. The canonical request is OpenAI's (`translate.py`); the body itself stays with it,
for providers of this protocol.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from gateway.chat import ChatRequest, Native, has_media
from gateway.errors import BadRequest
from gateway.surfaces.anthropic.translate import chat_body
from gateway.surfaces.openai.parser import (
    CONSUMED,
    MAX_PARTS,
    MAX_TOOLS,
    asks_cost,
    decode,
    emulation,
    ill_typed,
    merged,
    missing,
    model_of,
    steered,
)

MAX_MESSAGES = 10_000
MAX_STOPS = 100
MAX_BETAS = 32
BETA = re.compile(r"[A-Za-z0-9._:-]{1,100}\Z")
MAX_INTEGER = 2**31
ROLES = ("user", "assistant", "system")
CHOICES = ("auto", "any", "tool", "none")
THINKING = ("enabled", "disabled", "adaptive")
# What steers the gateway reaches no provider; `stream` is a word of both.
STEERING = CONSUMED - {"stream"}


def parse_messages(
    raw: bytes, path_provider: str | None = None, betas: bytes = b"", *, counting: bool = False
) -> ChatRequest:
    """Raises BadRequest with the parameter's path. `counting`: for the route that only counts, so without a limit."""
    body = merged(decode(raw))
    model = model_of({name: value for name, value in body.items() if name != "model" or value is not None})
    if not counting and body.get("max_tokens") is None:
        raise missing("max_tokens")
    _check_messages(body)
    _check_system(body.get("system"))
    _check_tools(body)
    for name, check in CHECKS.items():
        if body.get(name) is not None:
            check(name, body[name])
    translated, emulate = chat_body(body), emulation(body)
    return ChatRequest(
        model=model,
        stream=not counting and body.get("stream") is True,
        include_usage=False,
        body=translated,
        raw=False,
        plain=not has_media(translated["messages"]) and emulate is None,
        emulate_tools=emulate,
        native=Native("anthropic", {name: body[name] for name in body if name not in STEERING}, _betas(betas)),
        include_cost=asks_cost(body),
        **steered(body, path_provider),
    )


def _betas(said: bytes) -> tuple[str, ...]:
    """The names of the header `anthropic-beta`, each once."""
    names = tuple(dict.fromkeys(name for item in said.decode("latin-1").split(",") if (name := item.strip())))
    if len(names) > MAX_BETAS or not all(map(BETA.match, names)):
        raise BadRequest(f"'anthropic-beta' must list at most {MAX_BETAS} names, separated by commas.")
    return names


def _list(value: Any, at: str, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise ill_typed(at, "an array")
    if len(value) > most:
        raise BadRequest(f"'{at}' has more than {most} items.", code="array_above_max_length", param=at)
    return value


def _text(holder: dict[str, Any], name: str, at: str, *, needed: bool = True) -> None:
    value = holder.get(name)
    if value is None and needed:
        raise missing(f"{at}.{name}")
    if value is not None and not isinstance(value, str):
        raise ill_typed(f"{at}.{name}", "a string")


def _object(holder: dict[str, Any], name: str, at: str) -> dict[str, Any]:
    value = holder.get(name)
    if value is None:
        raise missing(f"{at}.{name}")
    if not isinstance(value, dict):
        raise ill_typed(f"{at}.{name}", "an object")
    return value


def _check_messages(body: dict[str, Any]) -> None:
    if body.get("messages") is None:
        raise missing("messages")
    messages = _list(body["messages"], "messages", MAX_MESSAGES)
    if not messages:
        raise BadRequest("'messages' must not be empty.", code="empty_array", param="messages")
    for index, message in enumerate(messages):
        at = f"messages[{index}]"
        if not isinstance(message, dict):
            raise ill_typed(at, "an object")
        _text(message, "role", at)
        if message["role"] not in ROLES:
            raise BadRequest(f"Invalid value for '{at}.role': expected user or assistant.", param=f"{at}.role")
        if message.get("content") is None:
            raise missing(f"{at}.content")
        _check_content(message["content"], f"{at}.content")


def _check_content(content: Any, at: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise ill_typed(at, "a string or an array of blocks")
    for index, block in enumerate(_list(content, at, MAX_PARTS)):
        place = f"{at}[{index}]"
        if not isinstance(block, dict):
            raise ill_typed(place, "an object")
        _text(block, "type", place)
        check = BLOCKS.get(block["type"])
        if check is not None:
            check(block, place)


def _check_text(block: dict[str, Any], at: str) -> None:
    _text(block, "text", at)


def _check_image(block: dict[str, Any], at: str) -> None:
    _check_source(_object(block, "source", at), f"{at}.source")


def _check_document(block: dict[str, Any], at: str) -> None:
    source = _object(block, "source", at)
    _text(block, "title", at, needed=False)
    if source.get("type") == "content":
        _check_content(source.get("content") or [], f"{at}.source.content")
    else:
        _check_source(source, f"{at}.source")


def _check_source(source: dict[str, Any], at: str) -> None:
    _text(source, "type", at)
    needed = {"base64": ("media_type", "data"), "text": ("data",), "url": ("url",), "file": ("file_id",)}
    for name in needed.get(source["type"], ()):
        _text(source, name, at)


def _check_use(block: dict[str, Any], at: str) -> None:
    _text(block, "id", at)
    _text(block, "name", at)
    _object(block, "input", at)


def _check_result(block: dict[str, Any], at: str) -> None:
    _text(block, "tool_use_id", at)
    if block.get("content") is not None:
        _check_content(block["content"], f"{at}.content")
    if not isinstance(block.get("is_error") or False, bool):
        raise ill_typed(f"{at}.is_error", "a boolean")


def _check_search_result(block: dict[str, Any], at: str) -> None:
    _text(block, "source", at)
    _text(block, "title", at)
    _check_content(block.get("content") or [], f"{at}.content")


def _check_thinking(block: dict[str, Any], at: str) -> None:
    _text(block, "thinking", at)
    _text(block, "signature", at, needed=False)


def _check_redacted(block: dict[str, Any], at: str) -> None:
    _text(block, "data", at)


BLOCKS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "text": _check_text,
    "image": _check_image,
    "document": _check_document,
    "search_result": _check_search_result,
    "tool_use": _check_use,
    "tool_result": _check_result,
    "thinking": _check_thinking,
    "redacted_thinking": _check_redacted,
}


def _check_system(system: Any) -> None:
    if system is None or isinstance(system, str):
        return
    _check_content(system, "system")
    if any(block["type"] != "text" for block in system):
        raise BadRequest("'system' takes blocks of text alone.", param="system")


def _check_tools(body: dict[str, Any]) -> None:
    for index, tool in enumerate(_list(body["tools"], "tools", MAX_TOOLS) if body.get("tools") is not None else ()):
        at = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise ill_typed(at, "an object")
        _text(tool, "type", at, needed=False)
        if tool.get("type") == "function":
            raise BadRequest(f"Invalid value for '{at}.type': Anthropic has no such tool.", param=f"{at}.type")
        # The provider's own tools are known by their type alone.
        own = tool.get("type") not in (None, "custom")
        _text(tool, "name", at, needed=not own)
        _text(tool, "description", at, needed=False)
        if not own:
            _object(tool, "input_schema", at)
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not isinstance(choice, dict):
        raise ill_typed("tool_choice", "an object")
    kind = choice.get("type")
    if kind not in CHOICES:
        expected = ", ".join(CHOICES)
        raise BadRequest(f"Invalid value for 'tool_choice.type': expected one of {expected}.", param="tool_choice.type")
    if kind == "tool":
        _text(choice, "name", "tool_choice")
    if not isinstance(choice.get("disable_parallel_tool_use") or False, bool):
        raise ill_typed("tool_choice.disable_parallel_tool_use", "a boolean")


def _number(low: float, high: float, *, whole: bool = False) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not math.isfinite(value):
            raise ill_typed(name, "an integer" if whole else "a number")
        if not low <= value <= high:
            raise BadRequest(f"Invalid value for '{name}': expected {low:g} to {high:g}.", param=name)

    return check


def _boolean(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ill_typed(name, "a boolean")


def _stops(name: str, value: Any) -> None:
    if not all(isinstance(item, str) for item in _list(value, name, MAX_STOPS)):
        raise ill_typed(name, "an array of strings")


def _metadata(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ill_typed(name, "an object")
    _text(value, "user_id", name, needed=False)


def _thinking(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ill_typed(name, "an object")
    if value.get("type") not in THINKING:
        expected = ", ".join(THINKING)
        raise BadRequest(f"Invalid value for 'thinking.type': expected one of {expected}.", param="thinking.type")
    if value["type"] == "enabled":
        if value.get("budget_tokens") is None:
            raise missing("thinking.budget_tokens")
        _number(1024, MAX_INTEGER, whole=True)("thinking.budget_tokens", value["budget_tokens"])


def _output(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ill_typed(name, "an object")
    _text(value, "effort", name, needed=False)
    if value.get("format") is not None:
        _format(f"{name}.format", value["format"])


def _format(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ill_typed(name, "an object")
    if value.get("type") == "json_schema":
        _object(value, "schema", name)


CHECKS: dict[str, Callable[[str, Any], None]] = {
    "max_tokens": _number(0, MAX_INTEGER, whole=True),
    "temperature": _number(0, 1),
    "top_p": _number(0, 1),
    "top_k": _number(0, MAX_INTEGER, whole=True),
    "stream": _boolean,
    "stop_sequences": _stops,
    "metadata": _metadata,
    "thinking": _thinking,
    "output_config": _output,
    "output_format": _format,
}
