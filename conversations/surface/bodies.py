"""Conversations and messages as JSON."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from conversations import tree
from conversations.listing import Hit, Page
from conversations.models import Conversation, Message
from conversations.windows import Window

TAIL = 50


def conversation_body(row: Conversation) -> dict[str, Any]:
    """Without its messages."""
    return {**listed_body(row), "system_prompt": row.system_prompt, "settings": row.settings}


def listed_body(row: Conversation) -> dict[str, Any]:
    """As a list shows it. Times are RFC 3339, UTC."""
    return {
        "id": row.pk,
        "object": "conversation",
        "title": row.title,
        "model": row.model,
        "provider": row.provider,
        "folder": row.folder,
        "tags": row.tags,
        "pinned": row.pinned,
        "archived": row.archived,
        "temporary": row.temporary,
        "deleted_at": row.deleted_at,
        "active_leaf": row.active_leaf,
        "version": row.version,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def page_body(page: Page, searched: bool) -> dict[str, Any]:
    data = [listed_body(row) for row in page.rows]
    body: dict[str, Any] = {
        "object": "list",
        "data": data,
        "has_more": page.next_cursor is not None,
        "next_cursor": page.next_cursor,
    }
    if searched:
        for item in data:
            item["hits"] = [hit_body(hit) for hit in page.hits.get(item["id"], ())]
        body["complete"] = page.complete
    return body


def hit_body(hit: Hit) -> dict[str, Any]:
    return {"message": hit.message, "role": hit.role, "created_at": hit.created_at, "snippet": hit.pieces}


def message_body(row: Message, siblings: Sequence[uuid.UUID] = ()) -> dict[str, Any]:
    """`siblings` are the ids of all that stand in its place, itself among them, oldest first."""
    return {
        "id": row.pk,
        "object": "message",
        "conversation": row.conversation_id,
        "parent": row.parent_id,
        "siblings": list(siblings) or [row.pk],
        "seq": row.seq,
        "role": row.role,
        "content": row.content,
        "reasoning": row.reasoning,
        "tool_calls": row.tool_calls,
        "attachments": row.attachments,
        "citations": row.citations,
        "extra": row.extra,
        "provider": row.provider,
        "model": row.model,
        "usage": row.usage,
        "cost": row.cost,
        "finish_reason": row.finish_reason or None,
        "error": row.error,
        "state": row.state,
        "client_id": row.client_id or None,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def messages_body(conversation: Conversation, rows: Sequence[Message]) -> list[dict[str, Any]]:
    beside: Mapping[uuid.UUID, Sequence[uuid.UUID]] = tree.siblings(conversation, rows) if rows else {}
    return [message_body(row, beside[row.pk]) for row in rows]


def branch_body(conversation: Conversation, end: uuid.UUID | None, limit: int = TAIL) -> dict[str, Any]:
    """The last messages of the branch that ends with `end`, and whether older ones are there."""
    rows = tree.path_to(end, limit + 1)
    more = len(rows) > limit
    return {"messages": messages_body(conversation, rows[-limit:]), "has_more": more, "has_newer": False}


def window_body(conversation: Conversation, window: Window) -> dict[str, Any]:
    """As `branch_body`, of a part of the branch."""
    messages = messages_body(conversation, window.rows)
    return {"messages": messages, "has_more": window.earlier, "has_newer": window.later}


def whole_body(conversation: Conversation) -> dict[str, Any]:
    """A conversation with the end of the branch that is shown, and what all of it took."""
    branch = branch_body(conversation, conversation.active_leaf)
    return {**conversation_body(conversation), **branch, "totals": totals_body(conversation)}


def totals_body(conversation: Conversation) -> dict[str, Any]:
    """Tokens and nano-dollars of its answers on all branches; null where none is known."""
    rows = list(conversation.messages.exclude(usage__isnull=True, cost__isnull=True).values_list("usage", "cost"))
    usages = [usage for usage, _ in rows if isinstance(usage, dict)]
    return {
        "prompt_tokens": _sum(usage.get("prompt_tokens") for usage in usages),
        "completion_tokens": _sum(usage.get("completion_tokens") for usage in usages),
        "cost": _sum(cost for _, cost in rows),
    }


def _sum(values: Iterable[Any]) -> int | None:
    """What was imported may hold anything."""
    known = [value for value in values if type(value) is int]
    return sum(known) if known else None
