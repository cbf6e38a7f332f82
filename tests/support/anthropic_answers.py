"""Answers of a scripted provider that speaks Anthropic's Messages API; the recorded ones are files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.answers import Answer, Step, reply_json, sse
from tests.support.provider import Recorded

FIXTURES = Path(__file__).parent.parent / "fixtures" / "anthropic"


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))


def recorded_events(name: str) -> list[bytes]:
    """Each event with its blank line."""
    text = (FIXTURES / f"{name}.sse").read_bytes()
    return [event + b"\n\n" for event in text.split(b"\n\n") if event.strip()]


def played(name: str, *then: Step) -> Answer:
    return sse([*recorded_events(name), *then])


def said(name: str) -> Answer:
    return reply_json(recorded(name))


def refused(status: int, kind: str, message: str = "scripted failure", **headers: str) -> Answer:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_upstream"}
    return reply_json(body, status=status, headers=headers)


def capable(request: Recorded) -> Answer:
    """What a model would do: count, call the tool that is offered, or talk."""
    body = request.json
    if request.path.endswith("/count_tokens"):
        return reply_json({"input_tokens": 42})
    offered = (
        body.get("tools") and body["messages"][-1]["role"] == "user" and "tool_result" not in str(body["messages"])
    )
    name = "tools" if offered or body.get("thinking") else "text"
    return played(name) if body.get("stream") else said(name)
