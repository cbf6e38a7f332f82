"""What becomes news: conversations that change in lists, answers that begin and end, rights that are taken.

Told when a transaction has come to its good end, and from whatever thread that is in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models.signals import post_delete, post_save

from conversations.live.hub import Item, hub
from conversations.models import Conversation

# What a socket looks at itself, and no client is told.
CHECK, SIGNED_OUT = "check", "signed_out"


def moved(owner: int, conversation: UUID) -> None:
    transaction.on_commit(partial(hub.moved, owner, conversation))


def all_moved(rows: Iterable[tuple[int, UUID]]) -> None:
    for owner, conversation in rows:
        moved(owner, conversation)


def answering(owner: int, conversation: UUID, message: UUID, parent: UUID | None) -> None:
    """An answer begins that everybody may follow who sees the conversation."""
    item = {"type": "answering", "conversation_id": str(conversation), "message_id": str(message)}
    _tell(owner, {**item, "parent_id": str(parent) if parent else None})


def answered(owner: int, conversation: UUID, message: UUID, state: str) -> None:
    item = {"type": "answered", "conversation_id": str(conversation), "message_id": str(message), "state": state}
    _tell(owner, item)


def _tell(owner: int, item: Item) -> None:
    transaction.on_commit(partial(hub.tell, owner, item))


def digest_of(session_key: str) -> str:
    """What names a session to other processes without being one."""
    return hashlib.sha256(session_key.encode()).hexdigest()


def listed(ids: Iterable[UUID]) -> dict[UUID, Item]:
    """Conversations as a list has them; waits for the database."""
    from conversations.surface.bodies import listed_body

    rows = Conversation.objects.filter(pk__in=list(ids), deleted_at=None)
    return {row.pk: listed_body(row) for row in rows}


def _conversation_changed(instance: Conversation, **_: Any) -> None:
    moved(instance.owner_id, instance.pk)


def _user_changed(instance: Any, **_: Any) -> None:
    """A new password, or an end of the account: sessions may have lost their right."""
    _tell(instance.pk, {"type": CHECK})


def _session_gone(instance: Session, **_: Any) -> None:
    if instance.session_key:
        item = {"type": SIGNED_OUT, "session": digest_of(instance.session_key)}
        transaction.on_commit(partial(hub.tell_everybody, item))


def connect() -> None:
    """Once, when the apps are ready."""
    hub.load = listed
    post_save.connect(_conversation_changed, sender=Conversation, dispatch_uid="live.changed")
    post_delete.connect(_conversation_changed, sender=Conversation, dispatch_uid="live.gone")
    post_save.connect(_user_changed, sender=get_user_model(), dispatch_uid="live.user")
    post_delete.connect(_user_changed, sender=get_user_model(), dispatch_uid="live.user_gone")
    post_delete.connect(_session_gone, sender=Session, dispatch_uid="live.session")
