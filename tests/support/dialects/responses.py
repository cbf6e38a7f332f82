"""OpenAI's Responses protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support import responses
from tests.support.answers import Answer
from tests.support.dialects.heard import Wrong, called, is_data_url, new_id, one_of, only
from tests.support.obliging import Asked, oblige
from tests.support.provider import Recorded

FIELDS = (
    "model", "input", "instructions", "stream", "store", "tools", "tool_choice", "parallel_tool_calls", "text",
    "reasoning", "include", "max_output_tokens", "temperature", "top_p", "metadata", "truncation", "user",
    "service_tier", "safety_identifier", "prompt_cache_key",
)  # fmt: skip
ITEMS = {
    "message": ("type", "role", "content"),
    "function_call": ("type", "call_id", "name", "arguments"),
    "function_call_output": ("type", "call_id", "output"),
    "reasoning": ("type", "summary", "encrypted_content"),
}
PARTS = {
    "input_text": ("type", "text"),
    "input_image": ("type", "image_url", "detail"),
    "output_text": ("type", "text"),
    "refusal": ("type", "refusal"),
}


def answer(request: Recorded, path: str) -> Answer:
    if path != "responses":
        raise Wrong(f"no such path: {path}")
    body = request.json
    only(body, FIELDS)
    if body.get("store") is not False:
        raise Wrong("nothing is to be kept here")
    said = oblige(heard(body))
    output: list[dict[str, Any]] = [responses.reasoning(said.thought)] if said.thought else []
    if said.text:
        output.append(responses.message(said.text))
    output += [responses.call(name, json.dumps(given), new_id("call_")) for name, given in said.calls]
    return responses.answered(request, *output, model=body["model"])


def heard(body: Mapping[str, Any]) -> Asked:
    texts: list[str] = []
    system: list[str] = []
    calls: set[str] = set()
    pictures = 0
    for item in body["input"]:
        one_of(item["type"], ITEMS, "an item")
        only(item, ITEMS[item["type"]], f"an item of {item['type']}")
        if item["type"] == "function_call":
            json.loads(item["arguments"])
            calls.add(item["call_id"])
        elif item["type"] == "function_call_output":
            called(calls, item["call_id"])
        elif item["type"] == "message":
            text, seen = _content(item["content"])
            pictures += seen
            if item["role"] != "assistant":
                (texts if item["role"] == "user" else system).append(text)
    choice = body.get("tool_choice") or "auto"
    form = (body.get("text") or {}).get("format") or {}
    return Asked(
        texts[-1] if texts else "",
        model=body["model"],
        stream=body.get("stream") is True,
        instructions="\n".join(system),
        tools=_tools(body),
        must=choice if isinstance(choice, str) else choice["name"],
        answered=body["input"][-1]["type"] == "function_call_output",
        schema=form["schema"] if form.get("type") == "json_schema" else None,
        as_json=form.get("type") == "json_object",
        pictures=pictures,
        thinks=bool((body.get("reasoning") or {}).get("effort")),
    )


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    for tool in body.get("tools") or ():
        only(tool, ("type", "name", "description", "parameters", "strict"), "a tool")
    return {tool["name"]: tool["parameters"] for tool in body.get("tools") or ()}


def _content(content: Any) -> tuple[str, int]:
    if isinstance(content, str):
        return content, 0
    for part in content:
        one_of(part["type"], PARTS, "a part")
        only(part, PARTS[part["type"]], f"a part of {part['type']}")
        if part["type"] == "input_image" and not is_data_url(part["image_url"]):
            raise Wrong("a picture is a URL")
    pictures = sum(part["type"] == "input_image" for part in content)
    return " ".join(part.get("text", "") for part in content), pictures
