"""Conversations as files: JSON that `imports` reads again, and Markdown for people. Written piece by piece."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from conversations import tree
from conversations.models import Conversation, Message

FORMAT = "g4fsite/1"
AT_ONCE = 200
FENCE = re.compile(r"^(`{3,}|~{3,})", re.MULTILINE)
NAMES = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}


def message_record(row: Message) -> dict[str, Any]:
    return {
        "id": row.pk,
        "parent": row.parent_id,
        "role": row.role,
        "content": row.content,
        "reasoning": row.reasoning,
        "tool_calls": row.tool_calls,
        "attachments": row.attachments,
        "extra": row.extra,
        "provider": row.provider,
        "model": row.model,
        "usage": row.usage,
        "cost": row.cost,
        "finish_reason": row.finish_reason,
        "error": row.error,
        "state": row.state,
        "created_at": row.created_at,
    }


def conversation_record(row: Conversation) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "id": row.pk,
        "title": row.title,
        "system_prompt": row.system_prompt,
        "model": row.model,
        "provider": row.provider,
        "settings": row.settings,
        "folder": row.folder,
        "tags": row.tags,
        "pinned": row.pinned,
        "archived": row.archived,
        "deleted_at": row.deleted_at,
        "active_leaf": row.active_leaf,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def as_json(row: Conversation) -> Iterator[bytes]:
    """One object: the whole tree, a message after the one that it answers.

    Read page by page with no query open in between: the next piece may be made in another thread.
    """
    yield orjson.dumps(conversation_record(row))[:-1] + b',"messages":['
    separator = b"\n"
    for message in _all(row):
        yield separator + orjson.dumps(message_record(message))
        separator = b",\n"
    yield b"]}"


def _all(row: Conversation) -> Iterator[Message]:
    last = 0
    while page := list(row.messages.filter(seq__gt=last).order_by("seq")[:AT_ONCE]):
        yield from page
        last = page[-1].seq


def as_markdown(row: Conversation) -> Iterator[bytes]:
    """The branch that is shown, for reading."""
    title = " ".join(row.title.split()) or "Untitled"
    yield f"# {title}\n\n{row.created_at:%Y-%m-%d %H:%M} UTC\n".encode()
    if row.system_prompt:
        yield f"\n## System\n\n{row.system_prompt}\n".encode()
    for page in tree.pages_to(row.active_leaf):
        for message in page:
            yield _said(message).encode()


def _said(message: Message) -> str:
    who = NAMES[message.role] + (f" ({message.model})" if message.model else "")
    parts = [f"\n## {who}\n"]
    if message.reasoning:
        quoted = "\n".join(f"> {line}".rstrip() for line in message.reasoning.splitlines())
        parts.append(f"\n{quoted}\n")
    text = message.text.rstrip()
    # A fence that was never closed would take in all that follows.
    if len(FENCE.findall(text)) % 2:
        text += "\n```"
    parts.append(f"\n{text}\n" if text else "")
    inside = [part for part in message.content if isinstance(part, dict) and "bucket_id" in part]
    parts += [f"\n- {_name_of(item)}\n" for item in (*inside, *message.attachments)]
    return "".join(parts)


def _name_of(attachment: dict[str, Any]) -> str:
    found = (attachment.get(key) for key in ("label", "name", "file_id", "bucket_id"))
    name = next(filter(None, found), "attachment")
    return " ".join(str(name).split())


WRITERS = {"json": as_json, "markdown": as_markdown}
BETWEEN = {"json": (b"[", b",\n", b"]\n"), "markdown": (b"", b"\n---\n\n", b"")}
TYPES = {"json": ("application/json", "json"), "markdown": ("text/markdown; charset=utf-8", "md")}


def ids_of(owner_id: int) -> list[uuid.UUID]:
    """Of all that the owner keeps, the bin too; the oldest first, so that a re-import keeps the order."""
    return list(
        Conversation.objects.filter(owner_id=owner_id).order_by("updated_at", "id").values_list("pk", flat=True)
    )


def pieces(owner_id: int, wanted: Sequence[uuid.UUID], form: str, *, several: bool) -> Iterator[bytes]:
    """The file. A conversation that goes while it is written is left out."""
    first, between, last = BETWEEN[form] if several else (b"", b"", b"\n" if form == "json" else b"")
    yield first
    separator = b""
    for pk in wanted:
        row = Conversation.objects.filter(owner_id=owner_id, pk=pk).first()
        if row is None:
            continue
        yield separator
        yield from WRITERS[form](row)
        separator = between
    yield last
