"""Lists of one's conversations: filters, pages by key, and what a search finds."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import BooleanField, Count, Q, QuerySet
from django.db.models.expressions import RawSQL

from conversations import search
from conversations.models import Conversation, Message
from gateway.errors import BadRequest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CURSOR = re.compile(r"(\d{1,17})\.([0-9a-f]{32})\Z")
MICROSECOND = timedelta(microseconds=1)
# What may be long, and no list shows.
UNLISTED = ("system_prompt", "settings", "state")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is asked for. None: either way. `words` empty: no search."""

    folder: str | None = None
    tag: str | None = None
    pinned: bool | None = None
    archived: bool | None = False
    deleted: bool = False
    words: str = ""
    cursor: str = ""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Hit:
    """What a search found in a message."""

    message: uuid.UUID
    role: str
    created_at: datetime
    pieces: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Page:
    """`complete` is false where a search met more hits than it looks at."""

    rows: list[Conversation]
    next_cursor: str | None
    hits: dict[uuid.UUID, list[Hit]]
    complete: bool = True


def own(owner_id: int) -> QuerySet[Conversation]:
    return Conversation.objects.filter(owner_id=owner_id)


def page(owner_id: int, wanted: Wanted) -> Page:
    """Newest first. Raises BadRequest for a cursor that is none of ours."""
    rows = filtered(own(owner_id).filter(temporary=False), wanted)
    found: dict[uuid.UUID, list[uuid.UUID]] = {}
    complete = True
    query = search.parse(wanted.words) if wanted.words else None
    if query is not None:
        found, complete = _found(query, owner_id)
        rows = rows.filter(pk__in=found)
    if wanted.cursor:
        rows = rows.filter(_after(wanted.cursor))
    shown = list(rows.defer(*UNLISTED).order_by("-updated_at", "-id")[: wanted.limit + 1])
    more = len(shown) > wanted.limit
    shown = shown[: wanted.limit]
    hits = _hits(query, {row.pk: found[row.pk] for row in shown}) if query else {}
    return Page(shown, _cursor(shown[-1]) if more else None, hits, complete)


def filtered(rows: QuerySet[Conversation], wanted: Wanted) -> QuerySet[Conversation]:
    rows = rows.filter(deleted_at__isnull=not wanted.deleted)
    # What is in the bin is shown there, archived or not.
    if wanted.archived is not None and not wanted.deleted:
        rows = rows.filter(archived=wanted.archived)
    if wanted.pinned is not None:
        rows = rows.filter(pinned=wanted.pinned)
    if wanted.folder is not None:
        rows = rows.filter(folder=wanted.folder)
    return rows if wanted.tag is None else rows.filter(_tagged(wanted.tag))


def _tagged(tag: str) -> Q:
    if connection.vendor != "sqlite":
        return Q(tags__contains=[tag])
    has = "EXISTS (SELECT 1 FROM json_each(conversations_conversation.tags) tag WHERE tag.value = %s)"
    return Q(RawSQL(has, [tag], output_field=BooleanField()))  # noqa: S611 # nosec B611 - a parameter


def _found(query: search.Query, owner_id: int) -> tuple[dict[uuid.UUID, list[uuid.UUID]], bool]:
    """For each conversation that matches, the messages that do; and whether those are all."""
    found: dict[uuid.UUID, list[uuid.UUID]] = defaultdict(list)
    said = search.hits(search.MESSAGES, query, owner_id)
    for message, conversation in said:
        found[conversation].append(message)
    called = search.hits(search.TITLES, query, owner_id)
    for (conversation,) in called:
        found[conversation] += []
    return found, max(len(said), len(called)) < search.MOST_HITS


def _hits(query: search.Query, wanted: dict[uuid.UUID, list[uuid.UUID]]) -> dict[uuid.UUID, list[Hit]]:
    ids = [pk for found in wanted.values() for pk in found[: search.SNIPPETS]]
    hits: dict[uuid.UUID, list[Hit]] = defaultdict(list)
    rows = Message.objects.filter(pk__in=ids).only("id", "conversation_id", "role", "text", "created_at")
    for row in rows.order_by("-created_at"):
        hits[row.conversation_id].append(Hit(row.pk, row.role, row.created_at, search.snippet(row.text, query)))
    return hits


def _cursor(row: Conversation) -> str:
    text = f"{(row.updated_at - EPOCH) // MICROSECOND}.{row.pk.hex}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _after(cursor: str) -> Q:
    """The rows that follow the one that the cursor names, which may be gone."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        match = CURSOR.match(text)
        if match is None:
            raise ValueError(text)
        time = EPOCH + int(match[1]) * MICROSECOND
    except (ValueError, OverflowError, binascii.Error):
        raise BadRequest("This cursor is none of this server's.", param="cursor") from None
    # The first condition is what an index can begin with.
    return Q(updated_at__lte=time) & (Q(updated_at__lt=time) | Q(id__lt=uuid.UUID(match[2])))


def folders(owner_id: int) -> list[dict[str, Any]]:
    """The names of folders with the number of conversations in each, archived ones too."""
    rows = own(owner_id).filter(deleted_at=None, temporary=False).exclude(folder="")
    counted = rows.order_by().values_list("folder").annotate(count=Count("pk")).order_by("folder")
    return [{"name": name, "count": count} for name, count in counted]


def tags(owner_id: int) -> list[dict[str, Any]]:
    """As `folders`."""
    rows = own(owner_id).filter(deleted_at=None, temporary=False).exclude(tags=[]).order_by()
    counted = Counter(tag for found in rows.values_list("tags", flat=True) for tag in found)
    return [{"name": name, "count": count} for name, count in sorted(counted.items())]
