"""A model that does as it is told: calls the tool that it must, fills in the schema, stops where it should.

`oblige` decides; a scripted provider of any protocol can say it in its own words. `openai` is that of OpenAI's chat.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.adapters.samples import sample_of
from tests.support.answers import Answer, completion, events_of, reply_json, sse
from tests.support.provider import Recorded

QUOTED = re.compile(r"['\"`]([^'\"`\s]+)['\"`]")


@dataclass(frozen=True)
class Said:
    text: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()


def oblige(
    question: str,
    *,
    tools: Mapping[str, Mapping[str, Any]],
    must: str = "auto",
    answered: bool = False,
    schema: Mapping[str, Any] | None = None,
    as_json: bool = False,
) -> Said:
    """`tools`: schemas by name. `must`: auto, none, required or a tool. `answered`: a tool's result came last."""
    quoted = QUOTED.findall(question)
    if must in tools or (tools and must != "none" and not answered):
        name = must if must in tools else next(iter(tools))
        return Said(calls=((name, _filled(tools[name], question, quoted)),))
    if schema is not None:
        return Said(json.dumps(_filled(schema, question, quoted)))
    if as_json:
        return Said(json.dumps(dict.fromkeys(quoted or ["answer"], "as you like")))
    return Said("It is as you say, and so on. Goodbye.")


def _filled(schema: Mapping[str, Any], question: str, quoted: Sequence[str]) -> dict[str, Any]:
    found = sample_of(schema, question)
    names = [word for word in quoted if not word.isascii()]
    return {key: names[0] if names and isinstance(value, str) else value for key, value in found.items()}


def openai(request: Recorded) -> Answer:
    """The programme of a scripted provider of OpenAI's chat protocol."""
    body = request.json
    said = oblige_chat(body)
    calls = [
        {
            "index": at,
            "id": f"call_{at}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(given)},
        }
        for at, (name, given) in enumerate(said.calls)
    ]
    finish = "tool_calls" if calls else "stop"
    if body.get("stream"):
        words = re.findall(r"\S+\s*", said.text)
        deltas = [{"tool_calls": calls}] if calls else [{"content": word} for word in words]
        return sse(events_of(deltas, finish=finish, model=body["model"]))
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
    if calls:
        message["tool_calls"] = calls
    return reply_json(completion(message=message, finish_reason=finish, model=body["model"]))


def oblige_chat(body: Mapping[str, Any]) -> Said:
    """What to say to OpenAI's chat body."""
    messages = body["messages"]
    asked = next((item["content"] for item in reversed(messages) if item["role"] == "user"), "")
    if not isinstance(asked, str):
        asked = " ".join(part.get("text", "") for part in asked)
    choice = body.get("tool_choice") or "auto"
    wanted = body.get("response_format") or {}
    said = oblige(
        asked,
        tools={tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in body.get("tools") or ()},
        must=choice if isinstance(choice, str) else choice["function"]["name"],
        answered=messages[-1]["role"] == "tool",
        schema=wanted["json_schema"]["schema"] if wanted.get("type") == "json_schema" else None,
        as_json=wanted.get("type") == "json_object",
    )
    stops = body.get("stop") or []
    ends = [said.text.find(stop) for stop in ([stops] if isinstance(stops, str) else stops) if stop in said.text]
    return Said(said.text[: min(ends)], said.calls) if ends else said
