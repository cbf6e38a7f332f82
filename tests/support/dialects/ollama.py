"""Ollama's chat, in lines of JSON, and its embeddings."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from tests.support.answers import Answer, reply_json
from tests.support.dialects.heard import Wrong, new_id, one_of, only
from tests.support.dialects.openai import vector_of
from tests.support.obliging import ANSWER_TOKENS, PROMPT_TOKENS, Asked, oblige
from tests.support.protocols import lines, over, said
from tests.support.provider import Recorded

FIELDS = ("model", "messages", "stream", "tools", "format", "think", "options", "keep_alive")
OPTIONS = (
    "temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty", "repeat_penalty",
    "num_predict", "stop", "num_ctx",
)  # fmt: skip
MESSAGE = ("role", "content", "images", "thinking", "tool_calls", "tool_name", "tool_call_id")


def answer(request: Recorded, path: str) -> Answer:
    body = request.json
    if path == "api/embed":
        return _embedded(body)
    if path != "api/chat":
        raise Wrong(f"no such path: {path}")
    only(body, FIELDS)
    told = oblige(heard(body))
    calls = [
        {"id": new_id("call_"), "function": {"index": at, "name": name, "arguments": given}}
        for at, (name, given) in enumerate(told.calls)
    ]
    message: dict[str, Any] = {"tool_calls": calls} if calls else {}
    used = {"prompt_eval_count": PROMPT_TOKENS, "eval_count": ANSWER_TOKENS}
    if body["stream"] is False:
        thought = {"thinking": told.thought} if told.thought else {}
        return reply_json({**over(**used), "message": said(told.text, **message, **thought)["message"]})
    spoken = [said(word) for word in told.words] + ([said(**message)] if calls else [])
    return lines(*([said(thinking=told.thought)] if told.thought else []), *spoken, over(**used))


def heard(body: Mapping[str, Any]) -> Asked:
    texts: list[str] = []
    system: list[str] = []
    names: set[str] = set()
    pictures = 0
    for message in body["messages"]:
        only(message, MESSAGE, "a message")
        one_of(message["role"], ("system", "user", "assistant", "tool"), "role")
        if not isinstance(message["content"], str):
            raise Wrong("content is a text")
        for call in message.get("tool_calls") or ():
            names.add(call["function"]["name"])
            dict(call["function"]["arguments"])
        if message["role"] == "tool" and message.get("tool_name") not in names:
            raise Wrong("a result without its tool")
        for image in message.get("images") or ():
            base64.b64decode(image, validate=True)
            pictures += 1
        if message["role"] == "user":
            texts.append(message["content"])
        elif message["role"] == "system":
            system.append(message["content"])
    options, form = body.get("options") or {}, body.get("format")
    only(options, OPTIONS, "options")
    return Asked(
        texts[-1] if texts else "",
        model=body["model"],
        stream=body["stream"],
        instructions="\n".join(system),
        tools={tool["function"]["name"]: tool["function"]["parameters"] for tool in body.get("tools") or ()},
        answered=body["messages"][-1]["role"] == "tool",
        schema=form if isinstance(form, dict) else None,
        as_json=form == "json",
        stops=options.get("stop") or (),
        pictures=pictures,
        thinks=bool(body.get("think")),
    )


def _embedded(body: Mapping[str, Any]) -> Answer:
    only(body, ("model", "input", "dimensions", "truncate", "options", "keep_alive"))
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    if not all(isinstance(text, str) for text in inputs):
        raise Wrong("input is text")
    found = [vector_of(text, body.get("dimensions") or 4) for text in inputs]
    return reply_json({"model": body["model"], "embeddings": found, "prompt_eval_count": PROMPT_TOKENS})
