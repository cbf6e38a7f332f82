"""A chat request that uses what there is to use, and every way to spoil one place of it."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

Place = tuple[str | int, ...]

WHOLE: dict[str, Any] = {
    "model": "scripted",
    "stream": False,
    "stream_options": {"include_usage": True},
    "n": 1,
    "temperature": 0.5,
    "max_tokens": 16,
    "seed": 1,
    "stop": ["end", "stop"],
    "user": "someone",
    "reasoning_effort": "low",
    "metadata": {"team": "blue"},
    "logit_bias": {"50256": -100},
    "modalities": ["text"],
    "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "tools": [
        {
            "type": "function",
            "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}},
        }
    ],
    "provider": {"order": ["somebody"]},
    "extra_body": {"top_k": 4, "custom": {"deep": ["x"]}},
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "name": "someone",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZFZm10IA==", "format": "wav"}},
                {"text": "without a type"},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "nothing there"},
        {"role": "user", "content": "And now?"},
    ],
}


def places(body: Any, above: Place = ()) -> Iterator[Place]:
    """The way to every value, containers first."""
    inner = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for step, value in inner:
        yield (*above, step)
        yield from places(value, (*above, step))


def value_at(body: Any, place: Place) -> Any:
    for step in place:
        body = body[step]
    return body


def replaced(body: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """A copy; a place that an earlier replacement took away stays away."""
    made = deepcopy(body)
    holder = made
    try:
        for step in place[:-1]:
            holder = holder[step]  # type: ignore[index]
        holder[place[-1]] = value  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        pass
    return made


def renamed(body: dict[str, Any], place: Place, name: str) -> dict[str, Any]:
    """A copy in which the key at the end of `place` has another name, in its old order."""
    made = deepcopy(body)
    holder = value_at(made, place[:-1])
    items = [(name if key == place[-1] else key, value) for key, value in holder.items()]
    holder.clear()
    holder.update(items)
    return made
