"""Checks the body of a request for a response once, at the edge (OpenAI API reference, "Create a response"),
and says it in the canonical form, which is OpenAI's chat.

Ill-typed or missing: 400. Well-typed and out of range: 422. What is not done here: 400 naming it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.chat import ChatRequest, has_media
from gateway.errors import BadRequest
from gateway.surfaces.openai.parser import (
    CHECKS,
    CONSUMED,
    MAX_TOOLS,
    addressed,
    decode,
    emulation,
    ill_typed,
    merged,
    missing,
)
from gateway.surfaces.responses.items import Item, messages_of, read_items, text_of, unsupported

# What is not done here, and why. Null and empty values ask for nothing.
REFUSED = {
    "conversation": "go on with previous_response_id.",
    "prompt": "stored prompts are not kept; send instructions and input.",
    "context_management": "nothing is compacted; send fewer items.",
    "moderation": "ask for it apart.",
    "top_logprobs": "probabilities of tokens are not given.",
}
# Words of ours that become words of the chat, and those that are only given back.
TRANSLATED = (
    "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning", "max_output_tokens",
    "metadata", "truncation", "include", "store", "background", "previous_response_id", "stream_options",
    "max_tool_calls",
)  # fmt: skip
PASSED = ("temperature", "top_p", "user", "service_tier", "safety_identifier", "prompt_cache_key")
# Chat's own words for what has another name here: they would contradict it.
CHAT_WORDS = (
    "messages", "n", "max_tokens", "max_completion_tokens", "response_format", "reasoning_effort", "verbosity",
    "functions", "function_call", "logprobs",
)  # fmt: skip
TAKEN = {*CONSUMED, *REFUSED, *TRANSLATED, *CHAT_WORDS}
# Every field of the chat that passes, as chat checks it: adapters read them. The others have checks of their own here.
CHECKED = {
    name: check
    for name, check in CHECKS.items()
    if name not in TAKEN or name in ("parallel_tool_calls", "metadata", "stream_options")
}
ENCRYPTED = "reasoning.encrypted_content"
MAX_METADATA = 16
TRUNCATIONS = ("auto", "disabled")
FORMATS = ("text", "json_object", "json_schema")
CHOICES = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class Asked:
    """What belongs to the response and not to the chat. `token` is the part that its ids share."""

    token: str
    created_at: int
    items: tuple[Item, ...]
    instructions: str | None
    previous_id: str
    store: bool
    background: bool
    encrypted: bool
    echo: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        return f"resp_{self.token}"

    def kept(self, store: bool) -> Asked:
        return replace(self, store=store)


@dataclass(slots=True)
class ResponsesRequest(ChatRequest):
    asked: Asked = field(kw_only=True)
    hints: Mapping[str, Any] = field(kw_only=True, default_factory=dict)

    def hint(self, name: str) -> Any:
        return self.hints.get(name)

    def say(self, earlier: Sequence[Item], items: Sequence[Item]) -> None:
        """Puts the whole conversation into the chat. Instructions are this request's alone."""
        self.asked = replace(self.asked, items=tuple(items))
        messages = messages_of(self.asked.instructions, [*earlier, *items])
        self.body = {**self.body, "messages": messages}
        self.plain = not has_media(messages) and self.emulate_tools is None


def parse_response(raw: bytes, path_provider: str | None = None) -> ResponsesRequest:
    """Raises BadRequest with the parameter's path."""
    body = merged(decode(raw))
    for name, why in REFUSED.items():
        if body.get(name):
            raise unsupported(name, why)
    for name, check in CHECKED.items():
        if body.get(name) is not None:
            check(name, body[name])
    address = addressed(body, path_provider)
    asked = _asked(body)
    said: dict[str, Any] = {
        "stream": _boolean(body, "stream", False),
        "body": _chat_body(body),
        "warnings": (*address["warnings"], *_ignored(body, asked.items)),
        "emulate_tools": emulation(body),
    }
    chat = ResponsesRequest(**(address | said), raw=False, asked=asked, hints=_hints(body))
    chat.say((), asked.items)
    return chat


def _ignored(body: dict[str, Any], items: Sequence[Item]) -> tuple[str, ...]:
    named = tuple(name for name in CHAT_WORDS if body.get(name))
    # No chat takes back a picture that a model has made.
    drawn = any(item["type"] == "image_generation_call" for item in items)
    return (*named, "input.image_generation_call") if drawn else named


def _boolean(body: dict[str, Any], name: str, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ill_typed(name, "a boolean")
    return value


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ill_typed(name, "an object")
    return value


def _asked(body: dict[str, Any]) -> Asked:
    items = read_items(body.get("input"))
    previous_id = text_of(body, "previous_response_id", "", "")
    if not items and not previous_id:
        raise BadRequest("'input' must not be empty.", code="empty_array", param="input")
    return Asked(
        token=os.urandom(24).hex(),
        created_at=int(time.time()),
        items=tuple(items),
        instructions=_instructions(body),
        previous_id=previous_id,
        store=_boolean(body, "store", True),
        background=_boolean(body, "background", False),
        encrypted=ENCRYPTED in _include(body),
        echo=_echo(body),
    )


def _instructions(body: dict[str, Any]) -> str | None:
    value = body.get("instructions")
    if value is not None and not isinstance(value, str):
        raise ill_typed("instructions", "a string")
    return value


def _include(body: dict[str, Any]) -> list[str]:
    value = body.get("include")
    if value is None:
        return []
    if not isinstance(value, list):
        raise ill_typed("include", "an array of strings")
    for index, name in enumerate(value):
        if not isinstance(name, str):
            raise ill_typed(f"include[{index}]", "a string")
        if name != ENCRYPTED:
            raise unsupported(f"include[{index}]", f"only {ENCRYPTED} can be included.")
    return value


def _integer(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ill_typed(name, "an integer")
    if not 1 <= value <= 2**31:
        code = "decimal_below_min_value" if value < 1 else "decimal_above_max_value"
        raise BadRequest(f"Invalid value for '{name}': expected 1 to {2**31}.", status=422, code=code, param=name)
    return value


def _choice(body: dict[str, Any], name: str, at: str, allowed: tuple[str, ...]) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ill_typed(at, "a string")
    if value not in allowed:
        raise BadRequest(f"Invalid value for '{at}': expected one of {', '.join(allowed)}.", param=at)
    return value


def _echo(body: dict[str, Any]) -> dict[str, Any]:
    """What a response repeats of its request, in OpenAI's order of words and with OpenAI's defaults."""
    reasoning, text = _object(body, "reasoning"), _object(body, "text")
    repeated = {
        "background": _boolean(body, "background", False),
        "instructions": _instructions(body),
        "max_output_tokens": _integer(body, "max_output_tokens"),
        "max_tool_calls": _integer(body, "max_tool_calls"),
        "metadata": _metadata(body),
        "parallel_tool_calls": _boolean(body, "parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id") or None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": _summary(reasoning)},
        "temperature": 1.0 if body.get("temperature") is None else body["temperature"],
        "text": {"format": _format(text), "verbosity": _verbosity(text) or "medium"},
        "tool_choice": "auto" if body.get("tool_choice") is None else body["tool_choice"],
        "tools": [_echoed(tool) for tool in _tools(body)],
        "top_logprobs": 0,
        "top_p": 1.0 if body.get("top_p") is None else body["top_p"],
        "truncation": _choice(body, "truncation", "truncation", TRUNCATIONS) or "disabled",
    }
    given = {name: body[name] for name in PASSED if body.get(name) is not None}
    return repeated | given


def _metadata(body: dict[str, Any]) -> dict[str, str]:
    found = _object(body, "metadata")
    if len(found) > MAX_METADATA:
        raise BadRequest(f"'metadata' has more than {MAX_METADATA} entries.", param="metadata")
    for name, value in found.items():
        if not isinstance(value, str):
            raise ill_typed(f"metadata.{name[:64]}", "a string")
    return found


def _summary(reasoning: dict[str, Any]) -> str | None:
    name = "summary" if reasoning.get("summary") is not None else "generate_summary"
    return _choice(reasoning, name, f"reasoning.{name}", ("auto", "concise", "detailed"))


def _verbosity(text: dict[str, Any]) -> str | None:
    return _choice(text, "verbosity", "text.verbosity", ("low", "medium", "high"))


def _format(text: dict[str, Any]) -> dict[str, Any]:
    found = text.get("format")
    if found is None:
        return {"type": "text"}
    if not isinstance(found, dict):
        raise ill_typed("text.format", "an object")
    if _choice(found, "type", "text.format.type", FORMATS) is None:
        raise missing("text.format.type")
    if found["type"] == "json_schema":
        text_of(found, "name", "text.format")
        if not isinstance(found.get("schema"), dict):
            raise ill_typed("text.format.schema", "an object")
    return found


def _tools(body: dict[str, Any]) -> list[dict[str, Any]]:
    tools = body.get("tools")
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise ill_typed("tools", "an array")
    if len(tools) > MAX_TOOLS:
        raise BadRequest(f"'tools' has more than {MAX_TOOLS} items.", code="array_above_max_length", param="tools")
    for index, tool in enumerate(tools):
        _check_tool(tool, f"tools[{index}]")
    return tools


def _check_tool(tool: Any, at: str) -> None:
    if not isinstance(tool, dict):
        raise ill_typed(at, "an object")
    kind = text_of(tool, "type", at)
    if kind != "function":
        raise unsupported(f"{at}.type", f"tools of the type {kind[:60]!r} are not run here; functions are.")
    text_of(tool, "name", at)
    text_of(tool, "description", at, "")
    if not isinstance(tool.get("parameters") or {}, dict):
        raise ill_typed(f"{at}.parameters", "an object")
    if not isinstance(tool.get("strict"), (bool, type(None))):
        raise ill_typed(f"{at}.strict", "a boolean")


def _echoed(tool: dict[str, Any]) -> dict[str, Any]:
    return {**tool, "strict": tool.get("strict"), "parameters": tool.get("parameters")}


def _chat_body(body: dict[str, Any]) -> dict[str, Any]:
    """The canonical form, but for the messages. Fields that nobody here knows pass on."""
    text, reasoning = _object(body, "text"), _object(body, "reasoning")
    chat = {name: value for name, value in body.items() if name not in TAKEN and value is not None}
    said = {
        "max_completion_tokens": body.get("max_output_tokens"),
        "reasoning_effort": text_of(reasoning, "effort", "reasoning", "") or None,
        "response_format": _chat_format(_format(text)),
        "verbosity": _verbosity(text),
        **_chat_tools(body),
    }
    return chat | {name: value for name, value in said.items() if value is not None}


def _chat_format(found: dict[str, Any]) -> dict[str, Any] | None:
    if found["type"] == "text":
        return None
    if found["type"] == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {key: value for key, value in found.items() if key != "type"}}


def _chat_tools(body: dict[str, Any]) -> dict[str, Any]:
    """Without tools nothing is said of choosing or of calling several: providers refuse that."""
    tools, choice = _tools(body), body.get("tool_choice")
    names = {tool["name"] for tool in tools}
    if isinstance(choice, dict):
        if choice.get("type") == "allowed_tools":
            allowed = _allowed(choice, names)
            tools = [tool for tool in tools if tool["name"] in allowed]
            choice = _choice(choice, "mode", "tool_choice.mode", ("auto", "required"))
        else:
            choice = _forced(choice, names)
    elif choice is not None and choice not in CHOICES:
        if not isinstance(choice, str):
            raise ill_typed("tool_choice", "a string or an object")
        raise BadRequest(f"Invalid value for 'tool_choice': expected one of {', '.join(CHOICES)}.", param="tool_choice")
    if not tools:
        return {}
    parallel = body.get("parallel_tool_calls")
    return {"tools": [_chat_tool(tool) for tool in tools], "tool_choice": choice, "parallel_tool_calls": parallel}


def _chat_tool(tool: dict[str, Any]) -> dict[str, Any]:
    known = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in known if tool.get(name) is not None}}


def _forced(choice: dict[str, Any], names: set[str]) -> dict[str, Any]:
    kind = text_of(choice, "type", "tool_choice")
    if kind != "function":
        raise unsupported("tool_choice.type", f"tools of the type {kind[:60]!r} are not run here; functions are.")
    name = text_of(choice, "name", "tool_choice")
    if name not in names:
        raise BadRequest(f"Tool choice {name[:100]!r} is not among 'tools'.", param="tool_choice")
    return {"type": "function", "function": {"name": name}}


def _allowed(choice: dict[str, Any], names: set[str]) -> set[str]:
    tools = choice.get("tools")
    if not isinstance(tools, list):
        raise ill_typed("tool_choice.tools", "an array")
    found = set()
    for index, tool in enumerate(tools):
        name = tool.get("name") if isinstance(tool, dict) else None
        if not isinstance(name, str) or name not in names:
            raise BadRequest("An allowed tool is not among 'tools'.", param=f"tool_choice.tools[{index}]")
        found.add(name)
    return found


def _hints(body: dict[str, Any]) -> dict[str, Any]:
    """For adapters of providers that speak this protocol themselves."""
    hints = {
        "reasoning_summary": _summary(_object(body, "reasoning")),
        "encrypted_reasoning": ENCRYPTED in _include(body) or None,
        "truncation": body.get("truncation"),
    }
    return {name: value for name, value in hints.items() if value is not None}
