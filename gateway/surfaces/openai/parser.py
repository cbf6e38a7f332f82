"""Checks the body of a chat request once, at the edge (OpenAI API reference, "Create chat completion").

Ill-typed or missing: 400. Well-typed and out of range: 422. What we do not know is passed on untouched;
what steers the gateway is taken out and never passed on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from django.conf import settings

from gateway.chat import ChatRequest, has_media, has_too_many_values
from gateway.errors import BadRequest
from gateway.surfaces.openai import steering
from gateway.surfaces.openai.conversing import named
from gateway.websearch.search import query_of

MAX_DEPTH = 64
MAX_MESSAGES = 2000
MAX_PARTS = 2000
MAX_TOOLS = 512
MAX_CHOICES = 8
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
PLAIN_ROLES = ("user", "assistant", "system", "developer")

# Fields that speak to the gateway (docs/fields.md). Those in IGNORED have no effect here and say so in a
# `warning` header when a caller sends one that is not empty.
IGNORED = (
    "proxy",
    "api_key",
    "api_base",
    "base_url",
    "headers",
    "extra_headers",
    "cookies",
    "timeout",
    "stream_timeout",
    "images",
    "media",
    "image",
    "image_name",
    "raw",
    "tool_calls",
)
# They have an effect where somebody keeps conversations, for chats, and searches the web.
SOMEWHERE = ("conversation_id", "conversation", "web_search")
CONSUMED = frozenset(
    (
        *(*IGNORED, "model", "models", "provider", "stream", "extra_body", "usage", "tool_emulation"),
        *(*SOMEWHERE, "download_media", "cache"),
    )
)
STEERING = frozenset((*IGNORED, *SOMEWHERE, "provider", "models", "download_media", "cache"))

NUMBERS: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
INTEGERS: dict[str, tuple[int, int]] = {
    "n": (1, MAX_CHOICES),
    "max_tokens": (1, 2**31),
    "max_completion_tokens": (1, 2**31),
    "top_logprobs": (0, 20),
    "seed": (-(2**63), 2**64),
}
STRINGS = ("user", "reasoning_effort", "service_tier", "prompt_cache_key", "safety_identifier", "verbosity")
BOOLEANS = ("logprobs", "parallel_tool_calls", "store")
OBJECTS = ("logit_bias", "metadata", "response_format", "stream_options", "audio", "prediction")


def ill_typed(param: str, wanted: str) -> BadRequest:
    return BadRequest(f"Invalid type for '{param}': expected {wanted}.", code="invalid_type", param=param)


def missing(param: str) -> BadRequest:
    return BadRequest(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)


def decode(raw: bytes) -> dict[str, Any]:
    """The body as an object. Raises BadRequest."""
    if has_too_many_values(raw):
        raise BadRequest("The body holds too many values.", code="invalid_value")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error.msg} (at {error.pos}).", code="invalid_json") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.", code="invalid_type")
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _check_depth(body)
    return body


def _check_depth(body: Any) -> None:
    level, depth = [body], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise BadRequest(f"The body is nested more than {MAX_DEPTH} levels deep.", code="invalid_value")
        level = [
            item
            for holder in level
            for item in (holder.values() if type(holder) is dict else holder)
            if type(item) is dict or type(item) is list
        ]


def merged(body: dict[str, Any]) -> dict[str, Any]:
    """The body with what its `extra_body` adds. Raises BadRequest."""
    extra = body.get("extra_body")
    if extra is None:
        return body
    if not isinstance(extra, dict):
        raise ill_typed("extra_body", "an object")
    return {**extra, **{key: value for key, value in body.items() if key != "extra_body"}}


def addressed(body: dict[str, Any], path_provider: str | None = None) -> dict[str, Any]:
    """What every request says in the same way, as arguments of a ChatRequest; never a stream. Raises BadRequest."""
    return {
        "model": model_of(body),
        "stream": False,
        "include_usage": False,
        "body": {key: value for key, value in body.items() if key not in CONSUMED},
        "include_cost": asks_cost(body),
        **steered(body, path_provider),
    }


def without_tools(fields: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """The same for routes that know no tools: what is said about them has no effect there. Raises BadRequest."""
    if emulation(body) is None:
        return fields
    return {**fields, "warnings": (*fields["warnings"], "tool_emulation")}


def emulation(body: dict[str, Any]) -> bool | None:
    """Whether the caller wants tools by prompt; None where nothing was said. Raises BadRequest."""
    return _boolean(body, "tool_emulation") if body.get("tool_emulation") is not None else None


def asks_cost(body: dict[str, Any]) -> bool:
    """OpenRouter's `usage: {"include": true}`."""
    asked = body.get("usage")
    return isinstance(asked, dict) and asked.get("include") is True


def parse_chat(raw: bytes, path_provider: str | None = None) -> ChatRequest:
    """Raises BadRequest with the parameter's path."""
    return chat_of(decode(raw), path_provider)


def chat_of(body: dict[str, Any], path_provider: str | None = None) -> ChatRequest:
    """The same for a body that `decode` gave. Raises BadRequest."""
    body = merged(body)
    model = model_of(body)
    simple, attached = _check_messages(body)
    if "tools" in body or "tool_choice" in body:
        _check_tools(body)
    _check_plain_fields(body)
    stream = _boolean(body, "stream")
    options = body.get("stream_options") or {}
    emulate = emulation(body) if "tool_emulation" in body else None
    chat = ChatRequest(
        model=model,
        provider=path_provider,
        stream=stream,
        include_usage=stream and options.get("include_usage") is True,
        body={key: value for key, value in body.items() if key not in CONSUMED},
        plain=simple and emulate is None,
        emulate_tools=emulate,
        include_cost="usage" in body and asks_cost(body),
    )
    if not STEERING.isdisjoint(body):
        for name, value in steered(body, path_provider).items():
            setattr(chat, name, value)
        chat.conversation = named(body.get("conversation_id"), body.get("conversation"))
    if attached:
        chat.attached = True
    if settings.WEB_SEARCH and body.get("web_search"):
        _searched(chat, body["web_search"])
    return chat


def say(chat: ChatRequest, messages: list[dict[str, Any]]) -> None:
    """Puts other messages into a request, and looks at them as at those that came with it. Raises BadRequest."""
    body = {**chat.body, "messages": messages}
    simple, attached = _check_messages(body)
    chat.body = body
    chat.plain = simple and chat.emulate_tools is None
    chat.attached = chat.attached or attached


def _searched(chat: ChatRequest, wanted: Any) -> None:
    """Raises BadRequest. What is found is cited by events, so the provider's bytes cannot pass as they are."""
    if not isinstance(wanted, (bool, str)):
        raise ill_typed("web_search", "a boolean or a string")
    chat.search = query_of(wanted, chat.body["messages"])
    chat.warnings = tuple(name for name in chat.warnings if name != "web_search")
    if chat.search:
        chat.attached = True
        chat.raw = False


def steered(body: dict[str, Any], path_provider: str | None) -> dict[str, Any]:
    """What the caller says about who should answer, and the names of what has no effect."""
    provider = body.get("provider")
    preferences, unheard = steering.preferences(provider) if isinstance(provider, dict) else (None, ())
    named = None if isinstance(provider, dict) else steering.provider(provider)
    refused, unread = steering.caching(body.get("cache"))
    return {
        "provider": path_provider or named,
        "preferences": preferences,
        "fallbacks": steering.fallbacks(body),
        "keep_media": body.get("download_media") is not False,
        "warnings": (*(name for name in (*IGNORED, *SOMEWHERE) if body.get(name)), *unheard, *unread),
        "cache_refused": refused,
    }


def model_of(body: dict[str, Any]) -> str:
    """Raises BadRequest unless `model` names one, or `models` does."""
    if "model" in body:
        return steering.named(body["model"], "model")
    models = steering.fallbacks(body)
    if not models:
        raise missing("model")
    return models[0]


def _boolean(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise ill_typed(name, "a boolean")
    return value


def _check_messages(body: dict[str, Any]) -> tuple[bool, bool]:
    """Whether there are no pictures or sounds among them; whether parts without a type: texts of g4f's clients, and
    names of buckets."""
    if "messages" not in body:
        raise missing("messages")
    messages = body["messages"]
    if not isinstance(messages, list):
        raise ill_typed("messages", "an array")
    if not messages:
        raise BadRequest("'messages' must not be empty.", code="empty_array", param="messages")
    if len(messages) > MAX_MESSAGES:
        raise BadRequest(
            f"'messages' has more than {MAX_MESSAGES} items.", code="array_above_max_length", param="messages"
        )
    simple, attached = True, False
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            raise ill_typed(f"messages[{index}]", "an object")
        if not _is_plain(message):
            attached = _check_message(message, f"messages[{index}]") or attached
            simple = simple and not has_media((message,))
    return simple, attached


def _is_plain(message: dict[str, Any]) -> bool:
    """Most messages: a text by someone, and nothing that needs a closer look."""
    return (
        type(message.get("content")) is str
        and message.get("role") in PLAIN_ROLES
        and (len(message) == 2 or ("tool_calls" not in message and "tool_call_id" not in message))
    )


def _check_message(message: dict[str, Any], at: str) -> bool:
    role = message.get("role")
    if role is None:
        raise missing(f"{at}.role")
    if not isinstance(role, str):
        raise ill_typed(f"{at}.role", "a string")
    if role not in ROLES:
        raise BadRequest(f"Invalid value for '{at}.role': expected one of {', '.join(ROLES)}.", param=f"{at}.role")
    attached = _check_content(message.get("content"), role, f"{at}.content")
    if message.get("tool_call_id") is None:
        if role == "tool":
            raise missing(f"{at}.tool_call_id")
    elif not isinstance(message["tool_call_id"], str):
        raise ill_typed(f"{at}.tool_call_id", "a string")
    if message.get("tool_calls") is not None:
        _check_tool_calls(message["tool_calls"], f"{at}.tool_calls")
    return attached


def _check_content(content: Any, role: str, at: str) -> bool:
    attached = False
    if isinstance(content, list):
        if len(content) > MAX_PARTS:
            raise BadRequest(f"'{at}' has more than {MAX_PARTS} parts.", code="array_above_max_length", param=at)
        for index, part in enumerate(content):
            if _check_part(part, f"{at}[{index}]"):
                attached = True
    elif content is None:
        if role not in ("assistant", "function"):
            raise missing(at)
    elif not isinstance(content, str):
        raise ill_typed(at, "a string or an array of parts")
    return attached


def _check_part(part: Any, at: str) -> bool:
    if not isinstance(part, dict):
        raise ill_typed(at, "an object")
    kind = part.get("type")
    if kind is not None and not isinstance(kind, str):
        raise ill_typed(f"{at}.type", "a string")
    # g4f's clients send parts without a type: {"text": ...} or {"bucket_id": ...}.
    if kind is None and "text" not in part and "bucket_id" not in part:
        raise missing(f"{at}.type")
    if (kind == "text" or (not kind and "text" in part)) and not isinstance(part.get("text"), str):
        raise ill_typed(f"{at}.text", "a string")
    if kind == "image_url":
        image = part.get("image_url")
        if not isinstance(image, dict) or not isinstance(image.get("url"), str):
            raise ill_typed(f"{at}.image_url.url", "a string")
        if not isinstance(image.get("detail") or "", str):
            raise ill_typed(f"{at}.image_url.detail", "a string")
    if kind is not None:
        return False
    for name in ("bucket_id", "name"):
        if not isinstance(part.get(name, ""), str):
            raise ill_typed(f"{at}.{name}", "a string")
    return True


def _check_tool_calls(calls: Any, at: str) -> None:
    if not isinstance(calls, list):
        raise ill_typed(at, "an array")
    for index, call in enumerate(calls):
        if not isinstance(call, dict):
            raise ill_typed(f"{at}[{index}]", "an object")
        if not isinstance(call.get("id") or "", str):
            raise ill_typed(f"{at}[{index}].id", "a string")
        function = call.get("function")
        if function is None:
            continue
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ill_typed(f"{at}[{index}].function.name", "a string")
        if not isinstance(function.get("arguments", ""), str):
            raise ill_typed(f"{at}[{index}].function.arguments", "a string")


def _check_tools(body: dict[str, Any]) -> None:
    tools = body.get("tools")
    if tools is not None:
        if not isinstance(tools, list):
            raise ill_typed("tools", "an array")
        if len(tools) > MAX_TOOLS:
            raise BadRequest(f"'tools' has more than {MAX_TOOLS} items.", code="array_above_max_length", param="tools")
        for index, tool in enumerate(tools):
            _check_tool(tool, f"tools[{index}]")
    choice = body.get("tool_choice")
    if choice is not None and not isinstance(choice, (str, dict)):
        raise ill_typed("tool_choice", "a string or an object")
    if isinstance(choice, dict) and not isinstance(choice.get("function", {}), dict):
        raise ill_typed("tool_choice.function", "an object")


def _check_tool(tool: Any, at: str) -> None:
    if not isinstance(tool, dict):
        raise ill_typed(at, "an object")
    if tool.get("type", "function") != "function":
        return
    function = tool.get("function")
    if not isinstance(function, dict):
        raise missing(f"{at}.function")
    if not isinstance(function.get("name"), str):
        raise ill_typed(f"{at}.function.name", "a string")
    if not isinstance(function.get("parameters") or {}, dict):
        raise ill_typed(f"{at}.function.parameters", "an object")
    if not isinstance(function.get("description") or "", str):
        raise ill_typed(f"{at}.function.description", "a string")


def _check_plain_fields(body: dict[str, Any]) -> None:
    for name, value in body.items():
        check = CHECKS.get(name)
        if check is not None and value is not None:
            check(name, value)


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ill_typed(name, "a number")
    _check_range(name, value, *NUMBERS[name])


def _check_integer(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ill_typed(name, "an integer")
    _check_range(name, value, *INTEGERS[name])


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        code = "decimal_below_min_value" if value < low else "decimal_above_max_value"
        raise BadRequest(
            f"Invalid value for '{name}': expected {low:g} to {high:g}.", status=422, code=code, param=name
        )


def _check_instance(kind: type | tuple[type, ...], wanted: str) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise ill_typed(name, wanted)

    return check


def _check_stop(name: str, value: Any) -> None:
    if isinstance(value, list):
        if not all(isinstance(item, str) for item in value):
            raise ill_typed(name, "a string or an array of strings")
        if len(value) > 16:
            raise BadRequest("'stop' has more than 16 items.", code="array_above_max_length", param=name)
    elif not isinstance(value, str):
        raise ill_typed(name, "a string or an array of strings")


def _check_format(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ill_typed(name, "an object")
    if not isinstance(value.get("type"), str):
        raise missing(f"{name}.type")
    if value["type"] == "json_schema":
        described = value.get("json_schema")
        if not isinstance(described, dict):
            raise missing(f"{name}.json_schema")
        if not isinstance(described.get("schema") or {}, dict):
            raise ill_typed(f"{name}.json_schema.schema", "an object")


CHECKS: dict[str, Callable[[str, Any], None]] = {
    **dict.fromkeys(NUMBERS, _check_number),
    **dict.fromkeys(INTEGERS, _check_integer),
    **dict.fromkeys(STRINGS, _check_instance(str, "a string")),
    **dict.fromkeys(BOOLEANS, _check_instance(bool, "a boolean")),
    **dict.fromkeys(OBJECTS, _check_instance(dict, "an object")),
    "modalities": _check_instance(list, "an array"),
    "stop": _check_stop,
    "response_format": _check_format,
}
