"""Anthropic's Messages API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.answers import Answer, reply_json, sse
from tests.support.dialects.heard import Wrong, called, new_id, one_of, only
from tests.support.obliging import ANSWER_TOKENS, PROMPT_TOKENS, Asked, Said, oblige
from tests.support.provider import Recorded

FIELDS = (
    "model", "messages", "system", "max_tokens", "stream", "tools", "tool_choice", "temperature", "top_p", "top_k",
    "stop_sequences", "metadata", "service_tier", "thinking", "output_config", "cache_control",
)  # fmt: skip
BLOCKS = {
    "text": ("type", "text", "cache_control", "citations"),
    "image": ("type", "source", "cache_control"),
    "tool_use": ("type", "id", "name", "input", "cache_control"),
    "tool_result": ("type", "tool_use_id", "content", "is_error", "cache_control"),
    "thinking": ("type", "thinking", "signature"),
}
MUST = {"auto": "auto", "any": "required", "none": "none"}


def answer(request: Recorded, path: str) -> Answer:
    if not request.header("anthropic-version"):
        raise Wrong("no anthropic-version")
    body = request.json
    only(body, FIELDS)
    if path == "messages/count_tokens":
        heard(body)
        return reply_json({"input_tokens": PROMPT_TOKENS})
    if path != "messages":
        raise Wrong(f"no such path: {path}")
    if type(body.get("max_tokens")) is not int:
        raise Wrong("max_tokens is missing")
    said = oblige(heard(body))
    return sse(list(_events(body, said))) if body.get("stream") else reply_json(_message(body, said))


def heard(body: Mapping[str, Any]) -> Asked:
    texts: list[str] = []
    calls: set[str] = set()
    pictures, answered, before = 0, False, ""
    for turn in body["messages"]:
        only(turn, ("role", "content"), "a turn")
        one_of(turn["role"], ("user", "assistant"), "role")
        blocks = _blocks(turn["content"])
        kinds = [block["type"] for block in blocks]
        if "tool_result" in kinds[kinds.count("tool_result") :]:
            raise Wrong("results stand first in their turn")
        for block in blocks:
            if block["type"] == "tool_use":
                calls.add(block["id"])
                dict(block["input"])
            elif block["type"] == "tool_result":
                called(calls, block["tool_use_id"])
        pictures += kinds.count("image")
        text = " ".join(block["text"] for block in blocks if block["type"] == "text")
        if turn["role"] == "user":
            texts.append(text)
        before, answered = turn["role"], "tool_result" in kinds
    if before != "user":
        raise Wrong("the last turn is the user's")
    choice = body.get("tool_choice") or {"type": "auto"}
    form = (body.get("output_config") or {}).get("format") or {}
    return Asked(
        texts[-1],
        model=body["model"],
        stream=body.get("stream") is True,
        instructions=" ".join(block["text"] for block in _blocks(body.get("system") or [])),
        tools=_tools(body),
        must=choice["name"] if choice["type"] == "tool" else MUST[choice["type"]],
        answered=answered,
        schema=form.get("schema"),
        stops=body.get("stop_sequences") or (),
        pictures=pictures,
        thinks=(body.get("thinking") or {}).get("type") == "enabled",
    )


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    for block in content:
        one_of(block["type"], BLOCKS, "a block")
        only(block, BLOCKS[block["type"]], f"a block of {block['type']}")
        if block["type"] == "text" and not block["text"]:
            raise Wrong("a text must not be empty")
        if block["type"] == "image":
            one_of(block["source"]["type"], ("base64", "url"), "a picture's source")
    return list(content)


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    for tool in body.get("tools") or ():
        only(tool, ("name", "description", "input_schema", "strict", "type", "cache_control"), "a tool")
        one_of(tool["input_schema"]["type"], ("object",), "the type of an input_schema")
    if body.get("tool_choice") and not body.get("tools"):
        raise Wrong("a choice among no tools")
    return {tool["name"]: tool["input_schema"] for tool in body.get("tools") or ()}


def _content(said: Said) -> list[dict[str, Any]]:
    thought = {"type": "thinking", "thinking": said.thought, "signature": "c2lnbmVk"}
    calls = [{"type": "tool_use", "id": new_id("toolu_"), "name": name, "input": given} for name, given in said.calls]
    text = [{"type": "text", "text": said.text}] if said.text else []
    return [*([thought] if said.thought else []), *text, *calls]


def _message(body: Mapping[str, Any], said: Said) -> dict[str, Any]:
    reason = "tool_use" if said.calls else "stop_sequence" if said.stop else "end_turn"
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": _content(said),
        "stop_reason": reason,
        "stop_sequence": said.stop,
        "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": ANSWER_TOKENS},
    }


def _events(body: Mapping[str, Any], said: Said) -> Iterator[bytes]:
    whole = _message(body, said)
    opening = {"content": [], "stop_reason": None, "stop_sequence": None}
    usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": 1}
    yield _event("message_start", message={**whole, **opening, "usage": usage})
    yield _event("ping")
    for at, block in enumerate(whole["content"]):
        empty = {"text": "", "thinking": "", "signature": "", "input": {}}
        begun = {key: empty.get(key, value) for key, value in block.items()}
        yield _event("content_block_start", index=at, content_block=begun)
        for delta in _deltas(block, said):
            yield _event("content_block_delta", index=at, delta=delta)
        yield _event("content_block_stop", index=at)
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": said.stop}
    yield _event("message_delta", delta=ending, usage={"output_tokens": ANSWER_TOKENS})
    yield _event("message_stop")


def _deltas(block: Mapping[str, Any], said: Said) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        yield from ({"type": "text_delta", "text": word} for word in said.words)
    elif block["type"] == "thinking":
        yield {"type": "thinking_delta", "thinking": said.thought}
        yield {"type": "signature_delta", "signature": block["signature"]}
    else:
        written = json.dumps(block["input"])
        for piece in ("", written[:5], written[5:]):
            yield {"type": "input_json_delta", "partial_json": piece}


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()
