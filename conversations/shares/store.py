"""The rows of shared chats: who may read one, who may write it, and that it only grows newer."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
import uuid
from datetime import datetime, timedelta
from typing import Any

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from conversations.models import Conversation, Message, SharedChat
from conversations.quota import check_room
from conversations.shares.snapshot import Body
from conversations.tree import text_of
from gateway.errors import BadRequest

# What a client may call one itself; ours have 128 bits.
SHARE_ID = re.compile(r"[A-Za-z0-9_-]{22,64}\Z", re.ASCII)
UNSET: Any = object()
BATCH = 500
# What is left of one that was revoked.
GONE: dict[str, Any] = {"body": "", "title": "", "digest": "", "conversation": None, "expires_at": None}


def not_found() -> BadRequest:
    return BadRequest("No such shared chat.", status=404, code="share_not_found", param="share_id")


def _bad_id() -> BadRequest:
    return BadRequest(
        "A share's id is 22 to 64 letters, digits, - and _, and not one that another has.",
        code="invalid_share_id",
        param="share_id",
    )


def new_id() -> str:
    return secrets.token_urlsafe(16)


def readable(share_id: str, reader_id: int | None = None) -> SharedChat:
    """One that is open to whoever has the link, or the reader's own. Raises BadRequest 404."""
    found = SharedChat.objects.filter(pk=share_id, revoked_at=None, owner__is_active=True).first()
    if found is None:
        raise not_found()
    if found.owner_id != reader_id and (found.visibility != SharedChat.Visibility.LINK or found.is_over):
        raise not_found()
    return found


def own(share_id: str, owner_id: int) -> SharedChat:
    """Raises BadRequest 404."""
    found = SharedChat.objects.filter(pk=share_id, owner_id=owner_id, revoked_at=None).first()
    if found is None:
        raise not_found()
    return found


def save(
    share_id: str,
    owner_id: int,
    body: Body,
    updated: int | None,
    *,
    conversation: Conversation | None = None,
    visibility: str = UNSET,
    expires_at: datetime | None = UNSET,
) -> SharedChat:
    """A new share or a newer copy. The same `updated` again changes no copy. Raises BadRequest 400, 409, 413."""
    moment = int(time.time() * 1000) if updated is None else updated
    data = orjson.dumps({**body, "updated": moment})
    if len(data) > settings.SHARE_MAX_BYTES:
        raise BadRequest(
            f"A shared chat has at most {settings.SHARE_MAX_BYTES} bytes.", status=413, code="share_too_large"
        )
    with transaction.atomic():
        row = SharedChat.objects.select_for_update().filter(pk=share_id).first()
        if row is None:
            row = _made(share_id, owner_id)
        elif row.owner_id != owner_id:
            raise _bad_id()
        elif row.revoked_at is None and moment < row.updated:
            raise BadRequest(
                "A newer copy of this chat is shared already.",
                status=409,
                code="stale_share",
                param="updated",
                should_retry=False,
            )
        if row.revoked_at is not None:
            _check_count(owner_id)
        if row.revoked_at is not None or moment > row.updated or not row.body:
            _write(row, data, moment, body["title"], conversation)
        _set(row, visibility, expires_at)
        row.save()
    return row


def _made(share_id: str, owner_id: int) -> SharedChat:
    if not SHARE_ID.match(share_id):
        raise _bad_id()
    _check_count(owner_id)
    try:
        with transaction.atomic():
            return SharedChat.objects.create(pk=share_id, owner_id=owner_id)
    except IntegrityError:
        # Somebody was faster with the same id.
        raise _bad_id() from None


def _check_count(owner_id: int) -> None:
    if SharedChat.objects.filter(owner_id=owner_id, revoked_at=None).count() >= settings.SHARES_PER_USER:
        raise BadRequest(
            f"No more than {settings.SHARES_PER_USER} chats can be shared. Revoke some first.", code="too_many_shares"
        )


def _write(row: SharedChat, data: bytes, moment: int, title: str, conversation: Conversation | None) -> None:
    row.body, row.updated, row.title = data.decode(), moment, title
    row.digest = hashlib.sha256(data).hexdigest()[:16]
    row.conversation, row.revoked_at, row.changed_at = conversation, None, timezone.now()


def _set(row: SharedChat, visibility: str, expires_at: datetime | None) -> None:
    if visibility is not UNSET:
        row.visibility = visibility
    if expires_at is not UNSET:
        row.expires_at = expires_at


def change(row: SharedChat, *, visibility: str = UNSET, expires_at: datetime | None = UNSET) -> None:
    _set(row, visibility, expires_at)
    row.save(update_fields=["visibility", "expires_at"])


def revoke(row: SharedChat) -> None:
    """The copy goes at once; the address stays taken."""
    for name, value in GONE.items():
        setattr(row, name, value)
    row.revoked_at = timezone.now()
    row.save()


def purge_expired() -> int:
    """The copies of shares that expired long ago go; how many. Their addresses stay taken."""
    if not settings.SHARES_EXPIRED_DAYS:
        return 0
    limit = timezone.now() - timedelta(days=settings.SHARES_EXPIRED_DAYS)
    old = SharedChat.objects.filter(revoked_at=None, expires_at__lte=limit)
    purged = 0
    while found := list(old.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        # Asked once more: one may have been given more time meanwhile.
        purged += old.filter(pk__in=found).update(**GONE, revoked_at=timezone.now())
    return purged


def revoke_named(owner_id: int, share_id: str) -> bool:
    """Revokes the owner's share of that id; whether there was one."""
    found = None
    if SHARE_ID.match(share_id):
        found = SharedChat.objects.filter(pk=share_id, owner_id=owner_id, revoked_at=None).first()
    if found is not None:
        revoke(found)
    return found is not None


@transaction.atomic
def copy(row: SharedChat, body: Body, owner_id: int) -> Conversation:
    """The shared messages as a conversation of somebody's own. `body` is the row's."""
    check_room(owner_id)
    made = Conversation.objects.create(owner_id=owner_id, title=row.title, system_prompt=body.get("system", ""))
    messages: list[Message] = []
    for item in body["items"]:
        messages.append(_message(made, item, messages[-1] if messages else None))
    Message.objects.bulk_create(messages, batch_size=BATCH)
    if messages:
        made.active_leaf = messages[-1].pk
        made.save(update_fields=["active_leaf"])
    return made


def _message(conversation: Conversation, item: Body, parent: Message | None) -> Message:
    provider = item.get("provider") or {}
    told = provider if isinstance(provider, dict) else {"name": provider}
    reasoning = item.get("reasoning") or ""
    return Message(
        id=uuid.uuid4(),
        conversation=conversation,
        owner_id=conversation.owner_id,
        parent_id=parent.pk if parent else None,
        seq=parent.seq + 1 if parent else 1,
        role=item["role"],
        content=item["content"],
        text=text_of(item["content"]),
        reasoning=reasoning if isinstance(reasoning, str) else str(reasoning.get("text") or ""),
        provider=str(told.get("name") or "")[:255],
        model=str(told.get("model") or "")[:255],
    )
