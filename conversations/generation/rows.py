"""Answers in the database: begun before any provider is asked, saved while they grow, ended once.

Every function here waits for the database: call it from a thread. Leases are by the database's clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from conversations import tree
from conversations.generation.ask import Ask
from conversations.generation.placing import BROKEN_OFF, placed
from conversations.live import changes
from conversations.models import Conversation, Generation, Message
from conversations.models.conversations import NAME_CHARS, RUNNING, State
from conversations.quota import check_room, lock_owner
from gateway.errors import BadRequest, TooManyStreams

LEASE = timedelta(seconds=15)
# Viewers have seen events of which a dead process told the database nothing: what they are told next has a number
# that is higher than all of those.
UNSEEN = 1_000_000
KEY_LIVES = timedelta(days=1)
TITLE_WORDS = 80


@dataclass(slots=True)
class Begun:
    """An answer to make, or (`fresh` False) one that is made already. `messages` are the provider's."""

    generation: uuid.UUID
    message: uuid.UUID
    conversation: uuid.UUID
    parent: uuid.UUID | None
    fresh: bool = True
    messages: list[dict[str, Any]] = field(default_factory=list, repr=False)
    title: str = ""
    state: dict[str, Any] = field(default_factory=dict)
    temporary: bool = False
    # Whether the conversation is new, and the first of the messages that are.
    made: bool = False
    first: uuid.UUID | None = None


@dataclass(slots=True)
class Outcome:
    """How an answer ended, and what it says."""

    state: str
    seq: int
    text: str = field(repr=False)
    reasoning: str = field(default="", repr=False)
    tool_calls: list[dict[str, Any]] = field(default_factory=list, repr=False)
    provider: str = ""
    model: str = ""
    usage: dict[str, Any] | None = None
    cost: int | None = None
    finish_reason: str = ""
    error: dict[str, Any] | None = None
    citations: list[dict[str, Any]] = field(default_factory=list, repr=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """An answer as far as it is."""

    generation: uuid.UUID
    message: uuid.UUID
    seq: int
    text: str = field(repr=False)
    reasoning: str = field(repr=False)


def not_found() -> BadRequest:
    return BadRequest("No such conversation.", status=404, code="conversation_not_found", param="conversation_id")


def check_count(owner: int, most: int) -> None:
    """Raises TooManyStreams where a user has so many answers under way, in all workers. 0: no limit.

    Under the lock on the owner, so that of many at once no more begin than may.
    """
    if most and Generation.objects.filter(owner_id=owner, state__in=RUNNING).count() >= most:
        raise TooManyStreams(f"{most} answers are being made for you, which is the limit.", retry_after=1)


def begin(owner: int, ask: Ask, attachments: list[dict[str, Any]], worker: str, most: int = 0) -> Begun:
    """The messages that are new and the answer to them, all or nothing. `most`: answers under way at once; 0: any.

    Raises BadRequest 404 for another's conversation or message, Stale where the writer names an old version, and
    TooManyStreams.
    """
    try:
        with transaction.atomic():
            return _begun(owner, ask, attachments, worker, most)
    except IntegrityError:
        # The same was sent twice at once; the other one is there now.
        with transaction.atomic():
            return _begun(owner, ask, attachments, worker, most)


def _begun(owner: int, ask: Ask, attachments: list[dict[str, Any]], worker: str, most: int) -> Begun:
    if ask.client_id or most:
        # One after the other: without a conversation of theirs to lock, two of the same could pass each other.
        lock_owner(owner)
    known = _asked_before(owner, ask)
    if known is not None:
        return known
    check_count(owner, most)
    conversation, made = _conversation(owner, ask)
    with tree.locked(conversation) as current:
        tree.check_version(current, ask.version)
        # Pages call the tools that an answer asks for, and go on under the id that they had.
        used = ask.client_id and Message.objects.filter(owner_id=owner, client_id=ask.client_id).exists()
        if ask.goes_on:
            _check_alone(current)
        leaf, sent, first = placed(current, ask, attachments)
        answer = tree.append(
            current, leaf, Message.Role.ASSISTANT, "", client_id="" if used else ask.client_id, state=State.STREAMING,
            model=ask.model[:NAME_CHARS], provider=(ask.provider or "")[:NAME_CHARS],
        )  # fmt: skip
        generation = Generation.objects.create(
            message=answer, conversation=current, owner_id=owner, state=State.STREAMING, worker=worker,
            request={"digest": ask.digest},
        )  # fmt: skip
        Generation.objects.filter(pk=generation.pk).update(lease_until=Now() + LEASE)
        Conversation.objects.filter(pk=current.pk).update(**_settings(current, ask))
        changes.answering(owner, current.pk, answer.pk, leaf)
    begun = Begun(generation.pk, answer.pk, current.pk, leaf, True, sent)
    begun.title, begun.temporary = current.title, current.temporary
    begun.state, begun.made, begun.first = {**current.state, **ask.state}, made, first
    return begun


def _check_alone(conversation: Conversation) -> None:
    """Raises BadRequest where another answer is under way: what follows it cannot be asked before it is there."""
    if Generation.objects.filter(conversation=conversation, state__in=RUNNING).exists():
        raise BadRequest(
            "Another answer is being made in this conversation. Send the request again when it is over.",
            status=409, code="conversation_busy", param="conversation_id", retry_after=1, should_retry=True,
        )  # fmt: skip


def _asked_before(owner: int, ask: Ask) -> Begun | None:
    """The answer to the same request, sent again because its sender did not hear what became of it."""
    if not ask.client_id:
        return None
    rows = Generation.objects.filter(owner_id=owner, message__client_id=ask.client_id)
    known = rows.select_related("message").first()
    if known is None:
        return None
    same = known.request.get("digest") == ask.digest
    if ask.idempotent:
        if _may_run_again(known) or (same and ask.goes_on and known.state in BROKEN_OFF):
            Message.objects.filter(pk=known.message_id).update(client_id="")
            return None
        _check_retry(known, same=same)
    if not same:
        return None
    return Begun(known.pk, known.message_id, known.conversation_id, known.message.parent_id, fresh=False)


def _may_run_again(known: Generation) -> bool:
    """A key is forgotten after a day, and where nothing came of what it named."""
    old = known.created_at < timezone.now() - KEY_LIVES
    message = known.message
    nothing = not (message.usage or message.text or message.reasoning or message.tool_calls)
    return old or (known.state in {State.ERROR, State.INTERRUPTED} and nothing)


def _check_retry(known: Generation, *, same: bool) -> None:
    """Raises BadRequest: the key is that of something else, or of something that is not over."""
    if not same:
        raise BadRequest(
            "This Idempotency-Key was sent with another request.",
            status=422, code="idempotency_key_reused", param="Idempotency-Key",
        )  # fmt: skip
    if known.state in RUNNING:
        raise BadRequest(
            "The request with this Idempotency-Key is still being answered.",
            status=409, code="request_in_progress", param="Idempotency-Key", retry_after=1,
        )  # fmt: skip


def _conversation(owner: int, ask: Ask) -> tuple[Conversation, bool]:
    """The one that is named, and whether it is new."""
    system = "\n\n".join(
        tree.text_of(message.get("content")) for message in ask.messages if message.get("role") == "system"
    )
    if ask.conversation_id is not None:
        found = Conversation.objects.filter(pk=ask.conversation_id).first()
        if found is not None:
            if found.owner_id != owner or found.deleted_at is not None:
                raise not_found()
            return found, False
        if ask.parent_id is not None:
            raise not_found()
        check_room(owner)
    words = " ".join(_last_words(ask.messages).split())
    title = words if len(words) <= TITLE_WORDS else words[: TITLE_WORDS - 1] + "…"
    made = Conversation.objects.create(
        pk=ask.conversation_id or uuid.uuid4(), owner_id=owner, title=tree.storable(title),
        system_prompt=tree.storable(system), temporary=ask.conversation_id is None,
    )  # fmt: skip
    return made, True


def _settings(conversation: Conversation, ask: Ask) -> dict[str, Any]:
    """What the next question in it will be asked with, unless it says otherwise."""
    found: dict[str, Any] = {"model": ask.model[:NAME_CHARS], "provider": (ask.provider or "")[:NAME_CHARS]}
    if ask.state:
        found["state"] = tree.storable({**conversation.state, **ask.state})
    return found


def _last_words(messages: Sequence[dict[str, Any]]) -> str:
    said = (tree.text_of(message.get("content")) for message in reversed(messages) if message.get("role") == "user")
    return next(said, "")


def end(generation: uuid.UUID, message: uuid.UUID, worker: str, outcome: Outcome) -> bool:
    """Closes an answer, once. False when somebody else has closed it."""
    with transaction.atomic():
        mine = Generation.objects.filter(pk=generation, worker=worker, state__in=RUNNING)
        if not mine.update(state=outcome.state, seq=outcome.seq, ended_at=Now(), lease_until=None):
            # Closed by this very call, which was thought lost because the database took its time?
            same = Generation.objects.filter(pk=generation, worker=worker, state=outcome.state, seq=outcome.seq)
            return same.exists()
        text = tree.storable(outcome.text)
        Message.objects.filter(pk=message).update(
            content=text, text=text, reasoning=tree.storable(outcome.reasoning),
            tool_calls=tree.storable(outcome.tool_calls), provider=outcome.provider[:NAME_CHARS],
            model=outcome.model[:NAME_CHARS], usage=outcome.usage, cost=outcome.cost,
            finish_reason=outcome.finish_reason[:50], error=tree.storable(outcome.error), state=outcome.state,
            citations=tree.storable(outcome.citations), updated_at=timezone.now(),
        )  # fmt: skip
        _ended(message, outcome.state)
    return True


def undo(begun: Begun, worker: str) -> list[dict[str, Any]]:
    """Takes back an answer in which nothing was said, with the question; the attachments that went with them."""
    with transaction.atomic():
        mine = Generation.objects.filter(pk=begun.generation, worker=worker, state__in=RUNNING)
        conversation = Conversation.objects.filter(pk=begun.conversation).first()
        if conversation is None or not mine.exists():
            return []
        first = begun.first or begun.message
        rows = Message.objects.filter(conversation=conversation, pk__in=[first, begun.parent, begun.message])
        gone = [item for row in rows if row.pk == first or begun.first for item in row.attachments]
        tree.delete_branch(conversation, first)
        changes.answered(conversation.owner_id, conversation.pk, begun.message, State.ERROR)
        if begun.made and not conversation.messages.exists():
            conversation.delete()
    return gone


def _ended(message: uuid.UUID, state: str) -> None:
    """An answer is over: lists show its conversation first, and whoever has seen an older version must look again."""
    for owner, conversation in Message.objects.filter(pk=message).values_list("owner_id", "conversation_id"):
        rows = Conversation.objects.filter(pk=conversation)
        rows.update(version=F("version") + 1, updated_at=timezone.now())
        changes.answered(owner, conversation, message, state)
        changes.moved(owner, conversation)


def renew(generations: Sequence[uuid.UUID], worker: str) -> None:
    mine = Generation.objects.filter(pk__in=generations, worker=worker, state__in=RUNNING)
    mine.update(lease_until=Now() + LEASE)


def to_stop(generations: Sequence[uuid.UUID], worker: str) -> set[uuid.UUID]:
    """Those of these answers that somebody wants stopped, or that are no longer this worker's to make."""
    mine = Generation.objects.filter(pk__in=generations, worker=worker, state__in=RUNNING)
    going = set(mine.filter(stop_requested=False).values_list("pk", flat=True))
    return set(generations) - going


def reap(living: Collection[str] = (), making: Collection[uuid.UUID] = ()) -> list[uuid.UUID]:
    """Marks what workers left whose lease is over; the text so far stays. The ids of those answers.

    Nothing of workers that are known to be `living`, and nothing that this one is `making`.
    """
    over = Generation.objects.filter(state__in=RUNNING, lease_until__lt=Now())
    return _reaped(over.exclude(worker__in=living).exclude(pk__in=making))


def left_by(workers: Sequence[str]) -> list[uuid.UUID]:
    """The same for workers that are known to be dead."""
    return _reaped(Generation.objects.filter(state__in=RUNNING, worker__in=workers))


def _reaped(left: QuerySet[Generation]) -> list[uuid.UUID]:
    reaped = []
    for generation, message in list(left.values_list("pk", "message_id")):
        with transaction.atomic():
            ends = {"state": State.INTERRUPTED, "ended_at": Now(), "lease_until": None, "seq": F("seq") + UNSEEN}
            if left.filter(pk=generation).update(**ends):
                rows = Message.objects.filter(pk=message, state__in=RUNNING)
                rows.update(state=State.INTERRUPTED, finish_reason=State.INTERRUPTED, updated_at=timezone.now())
                _ended(message, State.INTERRUPTED)
                reaped.append(generation)
    return reaped


def find(owner: int, conversation: uuid.UUID, message: uuid.UUID | None) -> Generation:
    """The answer of this message, or the conversation's last one. Raises BadRequest 404."""
    rows = Generation.objects.filter(owner_id=owner, conversation_id=conversation, conversation__deleted_at=None)
    if message is not None:
        rows = rows.filter(message_id=message)
    found = rows.select_related("message").order_by("-message__seq").first()
    if found is None:
        raise not_found()
    return found


def is_running(generation: uuid.UUID) -> bool:
    return Generation.objects.filter(pk=generation, state__in=RUNNING).exists()


def exists(generation: uuid.UUID) -> bool:
    return Generation.objects.filter(pk=generation).exists()


def request_stop(owner: int, conversation: uuid.UUID, message: uuid.UUID | None) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Asks whoever makes the answers of a conversation to stop; their ids and those of their messages.

    Raises BadRequest 404 unless it is this owner's.
    """
    if not Conversation.objects.filter(pk=conversation, owner_id=owner).exists():
        raise not_found()
    rows = Generation.objects.filter(conversation_id=conversation, owner_id=owner, state__in=RUNNING)
    if message is not None:
        rows = rows.filter(message_id=message)
    found = list(rows.values_list("pk", "message_id"))
    rows.filter(pk__in=[pk for pk, _ in found]).update(stop_requested=True)
    return found


def set_title(conversation: uuid.UUID, before: str, title: str) -> bool:
    """Gives a conversation a better title than its first words, unless somebody gave it one meanwhile."""
    rows = Conversation.objects.filter(pk=conversation, title=before)
    owners = list(rows.values_list("owner_id", "pk"))
    changed = bool(rows.update(title=tree.storable(title), version=F("version") + 1))
    if changed:
        changes.all_moved(owners)
    return changed


def snapshot(generation: Generation) -> dict[str, Any]:
    """The answer as the database has it, for whoever comes too late for its log."""
    message = generation.message
    return {
        "type": "snapshot",
        "conversation_id": str(generation.conversation_id),
        "message_id": str(message.pk),
        "state": generation.state,
        "content": message.content,
        "reasoning": message.reasoning,
        "tool_calls": message.tool_calls,
        "citations": message.citations,
        "provider": message.provider,
        "model": message.model,
        "finish_reason": message.finish_reason,
        "usage": message.usage,
        "error": message.error,
    }


def ended(state: str) -> dict[str, Any]:
    return {"type": "end", "state": state}
