"""Changes to what conversations are called and where they stand: one at a time, or many or none at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from conversations import tree
from conversations.live import changes
from conversations.models import Conversation
from gateway.errors import BadRequest

MAX_TAGS = 20


def change(row: Conversation, fields: dict[str, Any], version: int | None = None) -> Conversation:
    """Sets fields of a conversation; an `active_leaf` is any message of it, and shows the branch to its newest end.

    Raises tree.Stale where `version` is not the conversation's, BadRequest for a message that is not its own.
    """
    with tree.locked(row) as current:
        tree.check_version(current, version)
        if fields.get("active_leaf") is not None:
            fields = {**fields, "active_leaf": _leaf(current, fields["active_leaf"])}
        for name, value in fields.items():
            setattr(current, name, value)
        current.version += 1
        current.save(update_fields=[*fields, "version"])
    return current


def _leaf(conversation: Conversation, message: uuid.UUID) -> uuid.UUID:
    found = conversation.messages.filter(pk=message).first()
    if found is None:
        raise tree.missing_message("active_leaf")
    return tree.leaf_under(found)


def purge(rows: Sequence[Conversation]) -> int:
    """Deletes conversations with all that belongs to them, for good; how many there were."""
    Conversation.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows)


def purge_some(rows: QuerySet[Conversation], most: int) -> int:
    """Purges the first of `rows`; how many. Under their lock, so that none goes that was restored or used meanwhile."""
    with transaction.atomic():
        return purge(list(rows.select_for_update().only("pk")[:most]))


def _save(rows: Sequence[Conversation], *fields: str) -> None:
    """Under the lock on these rows."""
    for row in rows:
        row.version += 1
    Conversation.objects.bulk_update(rows, [*fields, "version"])
    changes.all_moved((row.owner_id, row.pk) for row in rows)


def _binned(rows: Sequence[Conversation]) -> None:
    changed = [row for row in rows if row.deleted_at is None]
    for row in changed:
        row.deleted_at = timezone.now()
    _save(changed, "deleted_at")


def _restored(rows: Sequence[Conversation]) -> None:
    changed = [row for row in rows if row.deleted_at is not None]
    for row in changed:
        row.deleted_at = None
    _save(changed, "deleted_at")


def _flagged(field: str, value: bool) -> Callable[[Sequence[Conversation]], None]:
    def apply(rows: Sequence[Conversation]) -> None:
        for row in rows:
            setattr(row, field, value)
        _save(rows, field)

    return apply


SIMPLE: dict[str, Callable[[Sequence[Conversation]], Any]] = {
    "delete": _binned,
    "restore": _restored,
    "purge": purge,
    "archive": _flagged("archived", True),
    "unarchive": _flagged("archived", False),
    "pin": _flagged("pinned", True),
    "unpin": _flagged("pinned", False),
}


def bulk(owner_id: int, ids: Sequence[uuid.UUID], action: str, folder: str | None, tags: Sequence[str]) -> int:
    """The same for many conversations or, if one of them is not there or not the owner's, for none.

    Returns how many. Raises BadRequest: 404, or where an action lacks its folder or tags.
    """
    if action == "move" and folder is None:
        raise BadRequest("Missing required parameter: 'folder'.", code="missing_required_parameter", param="folder")
    if action in ("tag", "untag") and not tags:
        raise BadRequest("Missing required parameter: 'tags'.", code="missing_required_parameter", param="tags")
    with transaction.atomic():
        rows = list(Conversation.objects.select_for_update().filter(owner_id=owner_id, pk__in=ids).order_by("pk"))
        if len(rows) != len(set(ids)):
            raise tree.missing_conversation("ids")
        if action in SIMPLE:
            SIMPLE[action](rows)
        elif action == "move":
            _moved(rows, folder or "")
        else:
            _tagged(rows, tags, add=action == "tag")
    return len(rows)


def _moved(rows: Sequence[Conversation], folder: str) -> None:
    for row in rows:
        row.folder = folder
    _save(rows, "folder")


def _tagged(rows: Sequence[Conversation], tags: Sequence[str], *, add: bool) -> None:
    for row in rows:
        kept = [tag for tag in row.tags if tag not in tags]
        row.tags = [*kept, *tags] if add else kept
        if len(row.tags) > MAX_TAGS:
            raise BadRequest(f"At most {MAX_TAGS} tags.", code="array_above_max_length", param="tags")
    _save(rows, "tags")


def empty_bin(owner_id: int) -> int:
    """Deletes for good what is in the owner's bin; how many conversations went."""
    gone = 0
    rows = Conversation.objects.filter(owner_id=owner_id, deleted_at__isnull=False)
    while found := purge_some(rows.order_by("pk"), 100):
        gone += found
    return gone


def rename_folder(owner_id: int, name: str, to: str) -> int:
    """Moves all of a folder's conversations; to no folder where `to` is empty. How many there were."""
    rows = Conversation.objects.filter(owner_id=owner_id, folder=name)
    moved = list(rows.values_list("owner_id", "pk"))
    count = rows.update(folder=to, version=F("version") + 1)
    changes.all_moved(moved)
    return count
