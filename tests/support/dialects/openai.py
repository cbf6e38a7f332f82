"""OpenAI's chat and embeddings, and the two that are nearly so: Azure's dated paths, and Pollinations."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.answers import Answer, completion, events_of, reply_json, sse
from tests.support.dialects.heard import Wrong, called, is_data_url, new_id, one_of, only
from tests.support.obliging import Asked, Said, oblige
from tests.support.provider import Recorded

FIELDS = (
    "model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "response_format",
    "stop", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "seed", "user", "presence_penalty",
    "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "reasoning_effort", "metadata", "store",
    "service_tier", "verbosity", "prompt_cache_key", "safety_identifier", "modalities", "audio", "prediction",
)  # fmt: skip
MESSAGE = {
    "system": ("role", "content", "name"),
    "developer": ("role", "content", "name"),
    "user": ("role", "content", "name"),
    "assistant": ("role", "content", "name", "tool_calls", "refusal", "audio"),
    "tool": ("role", "content", "tool_call_id"),
}
POLLINATIONS = (*FIELDS, "private", "thinking_budget")


def answer(request: Recorded, path: str, fields: Iterable[str] = FIELDS) -> Answer:
    if path == "embeddings":
        return embedded(request.json)
    if path != "chat/completions":
        raise Wrong(f"no such path: {path}")
    body = request.json
    only(body, fields)
    return _said(body, oblige(heard(body)))


def answer_azure(request: Recorded, path: str) -> Answer:
    step, _, query = path.partition("?")
    if query != "api-version=2024-10-21":
        raise Wrong(f"Azure wants its version: {query!r}")
    return answer(request, step)


def answer_pollinations(request: Recorded, path: str) -> Answer:
    if request.json.get("private") is not True:
        raise Wrong("what is not private is shown to everybody")
    return answer(request, path.removeprefix("v1/"), POLLINATIONS)


def heard(body: Mapping[str, Any]) -> Asked:
    calls: set[str] = set()
    texts: list[str] = []
    system: list[str] = []
    pictures = 0
    for message in body["messages"]:
        role = message["role"]
        one_of(role, MESSAGE, "role")
        only(message, MESSAGE[role], f"a message of {role}")
        text, seen = _content(message.get("content"), role)
        pictures += seen
        if role == "user":
            texts.append(text)
        elif role in ("system", "developer"):
            system.append(text)
        elif role == "tool":
            called(calls, message["tool_call_id"])
        for call in message.get("tool_calls") or ():
            only(call, ("id", "type", "function"), "a call")
            json.loads(call["function"]["arguments"])
            calls.add(call["id"])
    choice = body.get("tool_choice") or "auto"
    wanted = body.get("response_format") or {}
    stops = body.get("stop") or []
    return Asked(
        texts[-1] if texts else "",
        model=body["model"],
        stream=body.get("stream") is True,
        instructions="\n".join(system),
        tools=_tools(body),
        must=choice if isinstance(choice, str) else choice["function"]["name"],
        answered=body["messages"][-1]["role"] == "tool",
        schema=wanted["json_schema"]["schema"] if wanted.get("type") == "json_schema" else None,
        as_json=wanted.get("type") == "json_object",
        stops=[stops] if isinstance(stops, str) else stops,
        pictures=pictures,
        thinks=bool(body.get("reasoning_effort")),
    )


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    for tool in body.get("tools") or ():
        only(tool, ("type", "function"), "a tool")
        only(tool["function"], ("name", "description", "parameters", "strict"), "a function")
    if not body.get("tools") and body.get("tool_choice") not in (None, "none", "auto"):
        raise Wrong("a choice among no tools")
    return {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in body.get("tools") or ()}


def _content(content: Any, role: str) -> tuple[str, int]:
    """The text, and how many pictures stand beside it."""
    if content is None or isinstance(content, str):
        return content or "", 0
    kinds = ("text", "image_url") if role == "user" else ("text", "refusal")
    for part in content:
        one_of(part["type"], kinds, f"a part of {role}")
        if part["type"] == "image_url" and not is_data_url(part["image_url"]["url"]):
            raise Wrong("a picture is a URL")
    pictures = sum(part["type"] == "image_url" for part in content)
    return " ".join(part.get("text", "") for part in content), pictures


def _said(body: Mapping[str, Any], said: Said) -> Answer:
    calls = [
        {
            "index": at,
            "id": new_id("call_"),
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(given)},
        }
        for at, (name, given) in enumerate(said.calls)
    ]
    finish = "tool_calls" if calls else "stop"
    if body.get("stream"):
        asked = (body.get("stream_options") or {}).get("include_usage")
        deltas: list[dict[str, Any]] = [{"reasoning_content": said.thought}] if said.thought else []
        deltas += [delta for call in calls for delta in _pieces(call)] or [{"content": word} for word in said.words]
        return sse(events_of(deltas, finish=finish, usage="own" if asked else None, model=body["model"]))
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
    if said.thought:
        message["reasoning_content"] = said.thought
    if calls:
        message["tool_calls"] = [{key: value for key, value in call.items() if key != "index"} for call in calls]
    return reply_json(completion(message=message, finish_reason=finish, model=body["model"]))


def _pieces(call: dict[str, Any]) -> list[dict[str, Any]]:
    """Its name first, its arguments in two pieces after it."""
    function, written = call["function"], call["function"]["arguments"]
    begun = {**call, "function": {**function, "arguments": ""}}
    half = len(written) // 2
    later = [{"index": call["index"], "function": {"arguments": text}} for text in (written[:half], written[half:])]
    return [{"tool_calls": [piece]} for piece in (begun, *later)]


def vector_of(text: Any, size: int = 4) -> list[float]:
    """The same for the same text; its numbers are whole, so that 32 bits hold them."""
    return [float((len(str(text)) * (at + 1)) % 17) for at in range(size)]


def embedded(body: Mapping[str, Any]) -> Answer:
    only(body, ("model", "input", "encoding_format", "dimensions", "user"))
    given = body["input"]
    inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    size = body.get("dimensions") or 4
    data = [
        {"object": "embedding", "index": at, "embedding": _form(vector_of(text, size), body.get("encoding_format"))}
        for at, text in enumerate(inputs)
    ]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return reply_json({"object": "list", "data": data, "model": body["model"], "usage": usage})


def _form(vector: list[float], form: str | None) -> Any:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if form == "base64" else vector
