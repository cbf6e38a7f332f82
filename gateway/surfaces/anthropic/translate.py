"""A checked body of Anthropic's as OpenAI's chat body. Only what OpenAI has words for: the rest stays in `native`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

Block = Mapping[str, Any]
Body = dict[str, Any]

EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_body(body: Body) -> Body:
    """OpenAI's form of a request that was checked."""
    found: Body = {"messages": [*_system(body.get("system")), *_messages(body["messages"])]}
    for name, ours in (("max_tokens", "max_tokens"), ("stop_sequences", "stop")):
        if body.get(name):
            found[ours] = body[name]
    for name in ("temperature", "top_p", "top_k"):
        if body.get(name) is not None:
            found[name] = body[name]
    user = (body.get("metadata") or {}).get("user_id")
    if user:
        found["user"] = user
    return {**found, **_tools(body), **_reasoning(body), **_format(body)}


def _system(system: Any) -> Iterator[Body]:
    if isinstance(system, str) and system:
        yield {"role": "system", "content": system}
    elif system:
        yield {"role": "system", "content": "\n\n".join(block["text"] for block in system)}


def _messages(messages: list[Block]) -> Iterator[Body]:
    for message in messages:
        role, content = message["role"], message["content"]
        if isinstance(content, str):
            yield {"role": role, "content": content}
        elif role == "assistant":
            yield _assistant(content)
        else:
            yield from _user(role, content)


def _assistant(blocks: list[Block]) -> Body:
    """Blocks of the provider's own tools are left out: no other one could read them."""
    message: Body = {"role": "assistant", "content": _joined(blocks)}
    calls = [_call(block) for block in blocks if block["type"] == "tool_use"]
    details = [detail for block in blocks for detail in _thought(block)]
    if calls:
        message["tool_calls"] = calls
        message["content"] = message["content"] or None
    if details:
        message["reasoning_details"] = details
    return message


def _joined(blocks: list[Block]) -> str:
    return "".join(block["text"] for block in blocks if block["type"] == "text")


def _call(block: Block) -> Body:
    function = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
    return {"id": block["id"], "type": "function", "function": function}


def _thought(block: Block) -> Iterator[Body]:
    if block["type"] == "thinking":
        yield {"type": "reasoning.text", "text": block["thinking"], "signature": block.get("signature") or ""}
    elif block["type"] == "redacted_thinking":
        yield {"type": "reasoning.encrypted", "data": block["data"]}


def _user(role: str, blocks: list[Block]) -> Iterator[Body]:
    """Results of tools are messages of their own, before what else was said. Their pictures follow, for a result
    is text to nearly every provider."""
    parts: list[Body] = []
    for block in blocks:
        if block["type"] == "tool_result":
            yield _result(block)
            parts.extend(_pictures(block))
        else:
            parts.extend(_parts(block))
    if parts:
        yield {"role": role, "content": parts}
    elif not any(block["type"] == "tool_result" for block in blocks):
        yield {"role": role, "content": ""}


def _result(block: Block) -> Body:
    content = block.get("content") or ""
    text = content if isinstance(content, str) else "\n".join(_texts(content))
    message: Body = {"role": "tool", "tool_call_id": block["tool_use_id"], "content": text}
    return {**message, "is_error": True} if block.get("is_error") else message


def _texts(blocks: list[Block]) -> Iterator[str]:
    for block in blocks:
        yield from (part["text"] for part in _parts(block) if part["type"] == "text")


def _pictures(block: Block) -> Iterator[Body]:
    content = block.get("content")
    found = [part for item in (content if isinstance(content, list) else ()) for part in _parts(item)]
    pictures = [part for part in found if part["type"] != "text"]
    if pictures:
        yield {"type": "text", "text": f"What the call {block['tool_use_id']} gave beside its text:"}
        yield from pictures


def _parts(block: Block) -> Iterator[Body]:
    kind = block["type"]
    if kind == "text":
        yield {"type": "text", "text": block["text"]}
    elif kind == "image":
        yield _image(block["source"])
    elif kind == "document":
        yield from _document(block)
    elif kind == "search_result":
        yield {"type": "text", "text": f"{block['title']}\n{block['source']}"}
        yield from _inner(block.get("content"))


def _inner(content: Any) -> Iterator[Body]:
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    else:
        for block in content or ():
            yield from _parts(block)


def _image(source: Block) -> Body:
    if source["type"] == "file":
        return {"type": "file", "file": {"file_id": source["file_id"]}}
    return {"type": "image_url", "image_url": {"url": _url(source)}}


def _url(source: Block) -> str:
    if source["type"] == "base64":
        return f"data:{source['media_type']};base64,{source['data']}"
    return str(source.get("url") or "")


def _document(block: Block) -> Iterator[Body]:
    source, title = block["source"], block.get("title") or ""
    kind = source.get("type")
    if kind == "text":
        yield {"type": "text", "text": f"{title}\n{source['data']}" if title else source["data"]}
    elif kind == "content":
        yield from _inner(source.get("content"))
    elif kind == "file":
        yield {"type": "file", "file": {"file_id": source["file_id"]}}
    else:
        yield {"type": "file", "file": {"filename": title or "document.pdf", "file_data": _url(source)}}


def _tools(body: Body) -> Body:
    tools = [_tool(tool) for tool in body.get("tools") or ()]
    if not tools:
        return {}
    found: Body = {"tools": tools}
    choice = body.get("tool_choice") or {}
    if choice.get("type") == "tool":
        found["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    elif choice:
        found["tool_choice"] = CHOICES[choice["type"]]
    if choice.get("disable_parallel_tool_use"):
        found["parallel_tool_calls"] = False
    return found


def _tool(tool: Block) -> Body:
    if tool.get("type") not in (None, "custom"):
        return dict(tool)
    function = {"name": tool["name"], "description": tool.get("description") or "", "parameters": tool["input_schema"]}
    if tool.get("strict") is True:
        function["strict"] = True
    return {"type": "function", "function": function}


def _reasoning(body: Body) -> Body:
    """Effort is OpenAI's word; a budget is OpenRouter's. `adaptive` leaves it to the model, as saying nothing does."""
    thinking = body.get("thinking") or {}
    if thinking.get("type") == "enabled":
        return {"reasoning": {"max_tokens": thinking["budget_tokens"]}}
    effort = EFFORTS.get((body.get("output_config") or {}).get("effort") or "")
    return {"reasoning_effort": effort} if effort else {}


def _format(body: Body) -> Body:
    asked = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    if asked.get("type") != "json_schema":
        return {}
    schema = {"name": "answer", "schema": asked["schema"], "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
