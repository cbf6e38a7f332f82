"""OpenAI's messages as Anthropic's turns: roles, blocks of content, calls of tools and their results."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from gateway.adapters.inputs import MAX_QUOTED
from gateway.chat import (
    AudioPart,
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    OtherPart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
)
from gateway.errors import UnsupportedParameter, UpstreamRejected
from gateway.nested import object_of
from gateway.targets import Target

Block = dict[str, Any]
SYSTEM = ("system", "developer")
UNSUITABLE_ID = re.compile(r"[^A-Za-z0-9_-]")
# The provider refuses a picture whose type is not what was said; callers often guess it.
SIGNATURES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}
# Anthropic's own blocks, which callers of OpenAI's protocol may put among their parts.
OWN_BLOCKS = ("image", "document", "search_result", "container_upload")


def turns(target: Target, chat: ChatRequest) -> tuple[list[Block], list[Block]]:
    """The system prompt's blocks and the turns, those of one role in a row made one. Raises UpstreamRejected."""
    system: list[Block] = []
    found: list[Block] = []
    for item, message in zip(chat.body["messages"], chat.messages(), strict=True):
        blocks = _blocks(target, item, message)
        if message.role in SYSTEM:
            system.extend(blocks)
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if found and found[-1]["role"] == role:
            found[-1]["content"].extend(blocks)
        elif blocks:
            found.append({"role": role, "content": blocks})
    if not found:
        # There must be a turn; a prompt of instructions alone is one.
        return [], [{"role": "user", "content": system}]
    _trim_end(found[-1])
    return system, found


def _trim_end(turn: Block) -> None:
    """A beginning of the answer may not end in blanks."""
    last = turn["content"][-1]
    if turn["role"] == "assistant" and last["type"] == "text":
        last["text"] = last["text"].rstrip()


def _blocks(target: Target, item: Mapping[str, Any], message: Message) -> list[Block]:
    parts = _parts(target, item, message)
    if message.role == "tool":
        parts = [_result(message, parts)]
    parts.extend(_call(call) for call in message.tool_calls)
    mark = item.get("cache_control")
    if mark and parts:
        parts[-1].setdefault("cache_control", mark)
    return parts


def _parts(target: Target, item: Mapping[str, Any], message: Message) -> list[Block]:
    content = item.get("content")
    sources: list[Any] = content if isinstance(content, list) else [content] * isinstance(content, str)
    # Reasoning comes first among the parts and is not among the sources.
    reasoning = message.parts[: len(message.parts) - len(sources)]
    found = [block for part in reasoning if (block := _thought(part)) is not None]
    for part, source in zip(message.parts[len(reasoning) :], sources, strict=True):
        block = _block(target, part)
        if block is None:
            continue
        if isinstance(source, dict) and source.get("cache_control"):
            block = {**block, "cache_control": source["cache_control"]}
        found.append(block)
    return found


def _thought(part: Part) -> Block | None:
    """Reasoning without its provider's signature would be refused."""
    if not isinstance(part, ReasoningPart) or not part.signature:
        return None
    if part.redacted:
        return {"type": "redacted_thinking", "data": part.signature}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _block(target: Target, part: Part) -> Block | None:
    """None for a text of blanks alone, which is refused there."""
    match part:
        case TextPart(text):
            return {"type": "text", "text": text} if text.strip() else None
        case ImagePart(url):
            return {"type": "image", "source": _image(url)}
        case FilePart():
            return _document(target, part)
        case AudioPart():
            raise UnsupportedParameter(target.provider, "messages", "it takes no audio.")
        case OtherPart(kind, body) if kind in OWN_BLOCKS:
            return {**body}
        case OtherPart(kind):
            raise UnsupportedParameter(target.provider, "messages", f"it takes no part of the type {kind[:40]!r}.")
        case ReasoningPart():
            return _thought(part)


def _image(url: str) -> Block:
    if url.startswith(("http://", "https://")):
        return {"type": "url", "url": url}
    kind, data = _data_url(url)
    return {"type": "base64", "media_type": _image_type(kind, data), "data": data}


def _image_type(said: str, data: str) -> str:
    try:
        beginning = base64.b64decode(data[:16])
    except (binascii.Error, ValueError):
        return said
    return next((kind for mark, kind in SIGNATURES.items() if beginning.startswith(mark)), said)


def _data_url(url: str) -> tuple[str, str]:
    """The media type and the data in base64. Raises UpstreamRejected."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:"):
        raise UpstreamRejected("A picture or a file must be a data: URL or an http(s) URL.", param="messages")
    kind, *parameters = head.removeprefix("data:").split(";")
    if "base64" not in parameters:
        if len(data) > MAX_QUOTED:
            raise UpstreamRejected(f"More than {MAX_QUOTED} characters of data must be base64.", param="messages")
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return kind.strip().lower() or "text/plain", data


def _document(target: Target, part: FilePart) -> Block:
    """PDF and text; a picture among the files is a picture."""
    if part.id:
        return {"type": "document", "source": {"type": "file", "file_id": part.id}}
    if part.data.startswith(("http://", "https://")):
        return _titled({"type": "url", "url": part.data}, part)
    # OpenAI's form is a data: URL, but bare base64 of a PDF is seen too.
    kind, data = _data_url(part.data) if part.data.startswith("data:") else ("application/pdf", part.data)
    if kind.startswith("image/"):
        return {"type": "image", "source": {"type": "base64", "media_type": _image_type(kind, data), "data": data}}
    if kind == "application/pdf":
        return _titled({"type": "base64", "media_type": kind, "data": data}, part)
    if kind.startswith("text/") or kind in ("application/json", "application/xml"):
        return _titled({"type": "text", "media_type": "text/plain", "data": _decoded(data)}, part)
    raise UnsupportedParameter(target.provider, "messages", "of files it takes PDF, text and pictures.")


def _titled(source: Block, part: FilePart) -> Block:
    return {"type": "document", "source": source, **({"title": part.name} if part.name else {})}


def _decoded(data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        raise UpstreamRejected("A file's data is not base64.", param="messages") from None


def _result(message: Message, parts: list[Block]) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": call_id(message.tool_call_id or "")}
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        block["content"] = parts[0]["text"]
    elif parts:
        block["content"] = parts
    return {**block, "is_error": True} if message.is_error else block


def _call(call: ToolCall) -> Block:
    return {"type": "tool_use", "id": call_id(call.id), "name": call.name, "input": _input(call.arguments)}


def call_id(text: str) -> str:
    """Ids of other providers' calls hold characters that are refused here; a call and its result change alike."""
    return UNSUITABLE_ID.sub("_", text) or "call"


def _input(arguments: str) -> dict[str, Any]:
    """Calls that a model wrote badly stay in the conversation, so they must still be an object."""
    found = object_of(arguments)
    return {"arguments": arguments} if found is None else found


def has_unsigned_calls(found: Iterable[Block]) -> bool:
    """Whether the last answer called tools without the thoughts that a thinking model wants back with the results."""
    last = next((turn for turn in reversed(list(found)) if turn["role"] == "assistant"), None)
    kinds = [block["type"] for block in last["content"]] if last else []
    return "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking")
