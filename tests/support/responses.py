"""A scripted provider of the Responses protocol: whole answers and streams of typed events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.answers import Answer, reply_json, sse
from tests.support.provider import Recorded

USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 10,
}


def message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def call(name: str, arguments: str, call_id: str = "call_1") -> dict[str, Any]:
    found = {"type": "function_call", "status": "completed", "call_id": call_id, "name": name, "arguments": arguments}
    return {"id": f"fc_{call_id}", **found}


def reasoning(text: str, encrypted: str = "") -> dict[str, Any]:
    item: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}
    return {**item, "encrypted_content": encrypted} if encrypted else item


def whole(*output: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    body = {"id": "resp_scripted", "object": "response", "created_at": 1700000000, "status": "completed", "error": None}
    return {**body, "model": "scripted", "output": list(output), "usage": USAGE, **fields}


def response_events(*output: Mapping[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """A usual stream of these items, their texts in two pieces."""
    events: list[dict[str, Any]] = [{"type": "response.created", "response": whole(status="in_progress")}]
    for at, item in enumerate(output):
        events.append({"type": "response.output_item.added", "output_index": at, "item": _begun(item)})
        events += [{**event, "output_index": at} for event in _pieces(item)]
        events.append({"type": "response.output_item.done", "output_index": at, "item": item})
    body = whole(*output, **fields)
    events.append({"type": f"response.{body['status']}", "response": body})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _begun(item: Mapping[str, Any]) -> dict[str, Any]:
    empty = {"content": [], "summary": [], "arguments": ""}
    return {**item, **{name: value for name, value in empty.items() if name in item}}


def _pieces(item: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    kinds = {
        "message": "output_text",
        "function_call": "function_call_arguments",
        "reasoning": "reasoning_summary_text",
    }
    texts = {
        "message": lambda: item["content"][0]["text"],
        "function_call": lambda: item["arguments"],
        "reasoning": lambda: item["summary"][0]["text"],
    }
    text = texts[item["type"]]()
    for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
        yield {"type": f"response.{kinds[item['type']]}.delta", "item_id": item["id"], "delta": piece}


def answered(request: Recorded, *output: Mapping[str, Any], **fields: Any) -> Answer:
    """These items, in the way in which the request wants them."""
    if not request.json.get("stream"):
        return reply_json(whole(*output, **fields))
    events = response_events(*output, **fields)
    return sse([b"event: %b\ndata: %b\n\n" % (event["type"].encode(), json.dumps(event).encode()) for event in events])


def capable(request: Recorded) -> Answer:
    """Does what a model would: calls the tool, fits the schema, or talks."""
    body = request.json
    if body.get("tools") and body.get("tool_choice") != "none" and body["input"][-1]["type"] != "function_call_output":
        return answered(request, call("get_weather", '{"city": "Oslo"}'))
    if (body.get("text") or {}).get("format"):
        return answered(request, message('{"name": "Ada", "age": 36}'))
    return answered(request, message("It rains in Oslo."))
