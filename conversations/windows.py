"""Parts of a long branch: the messages around one or after one, and those in which something is said."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from conversations import search, tree
from conversations.listing import Hit
from conversations.models import Conversation, Message

# More than this nobody steps through.
MOST_FOUND = 500


@dataclass(frozen=True, slots=True)
class Window:
    """Neighbours on a branch, the first first, and whether there are others above and below them."""

    rows: list[Message]
    earlier: bool
    later: bool


def around(conversation: Conversation, message: Message, limit: int) -> Window:
    """The message in the middle of its neighbours, on the branch that is shown if it is there."""
    ids = _branch_of(conversation, message)
    at = ids.index(message.pk)
    start = max(0, min(at - limit // 2, len(ids) - limit))
    return _window(ids, start, limit)


def after(conversation: Conversation, message: Message, limit: int) -> Window:
    """Those that follow the message."""
    ids = _branch_of(conversation, message)
    return _window(ids, ids.index(message.pk) + 1, limit)


def _branch_of(conversation: Conversation, message: Message) -> list[uuid.UUID]:
    shown = tree.ids_to(conversation.active_leaf)
    return shown if message.pk in shown else tree.ids_to(tree.leaf_under(message))


def _window(ids: Sequence[uuid.UUID], start: int, limit: int) -> Window:
    wanted = ids[start : start + limit]
    rows = Message.objects.in_bulk(wanted)
    return Window([rows[pk] for pk in wanted if pk in rows], start > 0, start + limit < len(ids))


def find(conversation: Conversation, words: str) -> tuple[list[Hit], bool]:
    """The messages of the branch that is shown in which the words stand as they are, the first first, whatever their
    case; and whether those are all."""
    query = search.Query((), False, words)
    place = {pk: number for number, pk in enumerate(tree.ids_to(conversation.active_leaf))}
    rows = conversation.messages.only("id", "role", "created_at", "text").iterator(chunk_size=500)
    found = sorted(
        (place[row.pk], Hit(row.pk, row.role, row.created_at, search.snippet(row.text, query)))
        for row in rows
        if row.pk in place and query.pattern.search(row.text)
    )
    return [hit for _, hit in found[:MOST_FOUND]], len(found) <= MOST_FOUND
