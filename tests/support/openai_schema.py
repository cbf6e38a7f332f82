"""Validates what the gateway answers against OpenAI's own API description (tests/fixtures/openai)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).resolve().parents[1] / "fixtures/openai/schemas.json"


def _modern(schema: Any) -> Any:
    """Reads `nullable` as JSON Schema says it, and lets objects have keys of ours."""
    if isinstance(schema, list):
        return [_modern(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _modern(value) for key, value in schema.items() if (key, value) != ("additionalProperties", False)}
    if "oneOf" in kept:
        # The document's alternatives overlap: a message of the user fits two of them.
        kept.setdefault("anyOf", kept.pop("oneOf"))
    if kept.pop("nullable", None) is True:
        return {"anyOf": [kept, {"type": "null"}]}
    return kept


@cache
def _validator(name: str) -> Draft202012Validator:
    document = _modern(json.loads(SCHEMAS.read_text(encoding="utf-8")))
    return Draft202012Validator({**document, "$ref": f"#/components/schemas/{name}"})


def check(name: str, body: Any) -> None:
    """Raises AssertionError that names every place where the body departs from the schema."""
    faults = [f"{error.json_path}: {error.message}" for error in _validator(name).iter_errors(body)]
    assert not faults, f"not a {name}: " + "; ".join(faults) + f"\n{json.dumps(body)[:2000]}"


def check_completion(body: Any) -> None:
    check("CreateChatCompletionResponse", body)
    for choice in body["choices"]:
        # The SDKs' types say that these are there, also when there is nothing to tell.
        assert {"content", "refusal"} <= choice["message"].keys()
        assert {"logprobs", "finish_reason"} <= choice.keys()


def check_error(body: Any) -> dict[str, Any]:
    """Returns the inner object, which holds all four keys."""
    check("ErrorResponse", body)
    error: dict[str, Any] = body["error"]
    assert {"message", "type", "param", "code"} <= error.keys()
    assert error["message"]
    return error


def check_models(body: Any) -> None:
    check("ListModelsResponse", body)


def check_model(body: Any) -> None:
    check("Model", body)


def check_stream(chunks: Sequence[Any], *, include_usage: bool) -> None:
    """The chunks of one answer, each by itself and in their order; `[DONE]` is not among them."""
    for chunk in chunks:
        check("CreateChatCompletionStreamResponse", chunk)
    assert len({chunk["id"] for chunk in chunks}) == 1
    first, *later = (choice["delta"] for chunk in chunks for choice in chunk["choices"] if choice["index"] == 0)
    assert first.get("role") == "assistant"
    assert not any(delta.get("role") for delta in later), "the role belongs to the first chunk only"
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["index"] == 0]
    assert reasons[-1] is not None
    assert not any(reasons[:-1]), "nothing follows the finishing chunk"
    _check_usage(chunks, include_usage)


def _check_usage(chunks: Sequence[Any], include_usage: bool) -> None:
    *before, last = chunks
    assert last.get("usage"), "the last chunk carries usage"
    assert not any(chunk.get("usage") for chunk in before)
    # Asked for, usage comes alone; otherwise it rides on the finishing chunk.
    assert (last["choices"] == []) is include_usage


def sse_payloads(data: bytes) -> list[Any]:
    """What the `data:` lines of a whole stream decode to; `[DONE]` stays text."""
    events = [event for event in data.decode().split("\n\n") if event and not event.startswith(":")]
    assert all(event.startswith("data: ") for event in events), events
    texts = [event.removeprefix("data: ") for event in events]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def check_response(body: Any) -> None:
    check("Response", body)


def check_items(body: Any) -> None:
    check("ResponseItemList", body)


@cache
def _event_schemas() -> dict[str, str]:
    """The schema of each typed event by the event's type."""
    schemas = json.loads(SCHEMAS.read_text(encoding="utf-8"))["components"]["schemas"]
    named = [item["$ref"].rsplit("/", 1)[1] for item in schemas["ResponseStreamEvent"]["anyOf"]]
    return {schemas[name]["properties"]["type"]["enum"][0]: name for name in named}


def check_event(event: Any) -> None:
    check(_event_schemas()[event["type"]], event)


def check_events(events: Sequence[Any], last: str = "response.completed") -> None:
    """The typed events of one response: each by itself, numbered, and whatever opens also closes."""
    for event in events:
        check_event(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == last
    opened = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    closed = [event["output_index"] for event in events if event["type"] == "response.output_item.done"]
    assert opened == list(range(len(opened))), "items begin in the order of the output"
    assert sorted(closed) == opened


def typed_events(data: bytes) -> list[Any]:
    """What a whole stream of typed events decodes to; each is named as its `type` says."""
    frames = [frame for frame in data.decode().split("\n\n") if frame and not frame.startswith(":")]
    events = []
    for frame in frames:
        name, _, payload = frame.partition("\n")
        event = json.loads(payload.removeprefix("data: "))
        assert name == f"event: {event['type']}", frame
        events.append(event)
    return events
