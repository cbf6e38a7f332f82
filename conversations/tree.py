"""The tree of messages: its operations, and the queries that walk it.

Whoever changes a tree holds the lock on its conversation's row (`locked`), so that two who send at once make two
branches and neither loses anything. Nothing here waits for a network.
"""

from __future__ import annotations

import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

import orjson
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Max, Q, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from conversations.models import Conversation, Message
from gateway.errors import BadRequest

# What no database of ours takes, and no client can have meant.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# What JSON here is written with has integers of 64 bits; a `jsonb` is all digits.
LOWEST, HIGHEST = -(2**63), 2**64
# A branch longer than this is a fault of whoever wrote it; the walk up must end.
DEEPEST = 20_000
DELETED_AT_ONCE = 500
READ_AT_ONCE = 200
MOST_BESIDE = 200


class Shown(Enum):
    """The end of the branch that is shown, whatever that is when the lock is held."""

    SHOWN = "shown"


SHOWN = Shown.SHOWN


class Stale(BadRequest):
    """The writer had not seen the last changes. `conversation` is as it is now."""

    def __init__(self, message: str, conversation: Conversation, *, code: str, param: str) -> None:
        super().__init__(message, status=409, code=code, param=param, should_retry=False)
        self.conversation = conversation


def missing_conversation(param: str | None = None) -> BadRequest:
    """The same for what is not there and for what is another's."""
    return BadRequest("No such conversation.", status=404, code="conversation_not_found", param=param)


def missing_message(param: str | None = None) -> BadRequest:
    """The same for what is not there, what is another's, and what is in another conversation."""
    return BadRequest("No such message.", status=404, code="message_not_found", param=param)


def is_keepable(number: float) -> bool:
    return LOWEST <= number < HIGHEST


def storable(value: Any) -> Any:
    """A value of JSON without the characters that PostgreSQL refuses, and null for numbers that it gives back as
    integers which cannot be written again (1e30). For what providers say; callers are told."""
    match value:
        case int() | float():
            return value if is_keepable(value) else None
        case str():
            return UNSTORABLE.sub("", value)
        case dict():
            return {storable(str(key)): storable(item) for key, item in value.items()}
        case list() | tuple():
            return [storable(item) for item in value]
    return value


def text_of(content: Any) -> str:
    """The words of a message's content, a string or a list of parts; other parts say nothing here."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part if isinstance(part, str) else _part_text(part) for part in content]
    return "\n".join(text for text in texts if text)


def _part_text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


@contextmanager
def locked(conversation: Conversation) -> Iterator[Conversation]:
    """A transaction in which nobody else changes this conversation's tree. Gives the row as it is now.

    Raises BadRequest 404 if it is gone. On SQLite a transaction is alone anyway.
    """
    with transaction.atomic():
        found = Conversation.objects.select_for_update().filter(pk=conversation.pk).first()
        if found is None:
            raise missing_conversation()
        yield found


def create_conversation(owner: Any, **fields: Any) -> Conversation:
    """A new, empty one. `fields` are the model's."""
    return Conversation.objects.create(owner=owner, **storable_fields(fields))


def storable_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`storable` for values of a row, of which some are no JSON (dates, users)."""
    return {name: storable(value) if isinstance(value, (str, dict, list)) else value for name, value in fields.items()}


def append(
    conversation: Conversation, parent: Message | uuid.UUID | Shown | None, role: str, content: Any, **said: Any
) -> Message:
    """`add`, where it does not matter whether the message was there already."""
    return add(conversation, parent, role, content, **said)[0]


def add(
    conversation: Conversation,
    parent: Message | uuid.UUID | Shown | None,
    role: str,
    content: Any,
    *,
    client_id: str = "",
    version: int | None = None,
    at_tail: bool = False,
    activate: bool = True,
    **fields: Any,
) -> tuple[Message, bool]:
    """A new message, which becomes the end of the branch that is shown, and whether it is new.

    `parent` None: a first one; SHOWN: at the end of the branch that is shown. The same `client_id` again gives the
    message that is there. `version` is the conversation's as the writer knows it, `at_tail` says that the parent has
    no answers yet: raises Stale where that is not so. Raises BadRequest 404 for a parent of another conversation, 409
    where `client_id` is that of another message, or the conversation in the bin.
    """
    values = storable_fields({"role": role, "content": content, "client_id": client_id, **fields})
    values["text"] = text_of(values["content"])
    try:
        with locked(conversation) as current:
            found = _said_before(current, values)
            if found is None:
                check_version(current, version)
                check_kept(current)
                parent_id = _parent_id(current, parent)
                _check_parent(current, parent_id, at_tail=at_tail)
                message = _insert(current, parent_id, values)
                _touch(current, message.pk if activate else current.active_leaf)
    except IntegrityError:
        # Said at the same time in another conversation, whose lock is another.
        found = _said_before(conversation, values)
        if found is None:
            raise
    _copy_heads(current, conversation)
    return (found, False) if found else (message, True)


def append_all(
    conversation: Conversation, parent: uuid.UUID | None, said: Sequence[Mapping[str, Any]]
) -> list[uuid.UUID]:
    """Messages one under the other, at once; `parent` of the first. Under the lock. Their ids.

    A client may send a whole conversation that is new here: one by one would hold the lock for seconds.
    """
    seq, rows = next_seq(conversation), list[Message]()
    for number, fields in enumerate(said):
        values = storable_fields(fields)
        rows.append(
            Message(
                conversation=conversation,
                owner_id=conversation.owner_id,
                parent_id=rows[-1].pk if rows else parent,
                seq=seq + number,
                text=text_of(values["content"]),
                **values,
            )
        )
    Message.objects.bulk_create(rows, batch_size=READ_AT_ONCE)
    if rows:
        _touch(conversation, rows[-1].pk)
    return [row.pk for row in rows]


def _insert(conversation: Conversation, parent_id: uuid.UUID | None, values: Mapping[str, Any]) -> Message:
    return Message.objects.create(
        conversation=conversation,
        owner_id=conversation.owner_id,
        parent_id=parent_id,
        seq=next_seq(conversation),
        **values,
    )


def _said_before(conversation: Conversation, values: Mapping[str, Any]) -> Message | None:
    """The message that has this client_id. Raises BadRequest 409 if that is another one.

    The second time may come after the answer, so the parent is not compared; and an answer grows after it was added.
    """
    if not values["client_id"]:
        return None
    found = Message.objects.filter(owner_id=conversation.owner_id, client_id=values["client_id"]).first()
    if found is None:
        return None
    same = found.conversation_id == conversation.pk and found.role == values["role"]
    if not same or (found.role == Message.Role.USER and found.content != values["content"]):
        raise BadRequest(
            "This client_id is that of another message.",
            status=409,
            code="client_id_reused",
            param="client_id",
            should_retry=False,
        )
    return found


def _check_parent(conversation: Conversation, parent_id: uuid.UUID | None, *, at_tail: bool) -> None:
    if parent_id is not None and not conversation.messages.filter(pk=parent_id).exists():
        raise missing_message("parent")
    if at_tail and conversation.messages.filter(parent_id=parent_id).exists():
        raise Stale("The message was answered already.", conversation, code="stale_parent", param="parent")


def _parent_id(conversation: Conversation, parent: Message | uuid.UUID | Shown | None) -> uuid.UUID | None:
    if parent is SHOWN:
        return conversation.active_leaf
    return parent.pk if isinstance(parent, Message) else parent


def check_version(conversation: Conversation, version: int | None) -> None:
    """Raises Stale where the writer names a version that is not this one."""
    if version is not None and version != conversation.version:
        raise Stale("The conversation has changed meanwhile.", conversation, code="stale_version", param="version")


def check_kept(conversation: Conversation) -> None:
    """Raises BadRequest 409 for one in the bin: whoever writes there would lose it."""
    if conversation.deleted_at is not None:
        raise BadRequest(
            "The conversation is in the bin; restore it first.",
            status=409,
            code="conversation_deleted",
            should_retry=False,
        )


def next_seq(conversation: Conversation) -> int:
    """Under the lock."""
    last: int | None = conversation.messages.aggregate(last=Max("seq"))["last"]
    return (last or 0) + 1


def _touch(conversation: Conversation, leaf: uuid.UUID | None) -> None:
    conversation.active_leaf = leaf
    conversation.version += 1
    conversation.updated_at = timezone.now()
    conversation.save(update_fields=["active_leaf", "version", "updated_at"])


def _copy_heads(source: Conversation, target: Conversation) -> None:
    """What moved, into the caller's own object."""
    target.active_leaf, target.version, target.updated_at = source.active_leaf, source.version, source.updated_at


def touch(conversation: Conversation) -> None:
    """Something about its messages changed (an answer ended, say). Takes the lock."""
    with locked(conversation) as current:
        _touch(current, current.active_leaf)
    _copy_heads(current, conversation)


def activate(conversation: Conversation, leaf: uuid.UUID) -> None:
    """Shows the branch that ends with `leaf`, a message of this conversation. Takes the lock."""
    with locked(conversation) as current:
        current.active_leaf = leaf
        current.version += 1
        current.save(update_fields=["active_leaf", "version"])
    _copy_heads(current, conversation)


# The tables have columns for the search that no model knows.
_COLUMNS = ", ".join(f"m.{field.column}" for field in Message._meta.concrete_fields)
_UP = f"""
WITH RECURSIVE up(id, parent_id, depth) AS (
    SELECT id, parent_id, 1 FROM conversations_message WHERE id = %s
    UNION ALL
    SELECT m.id, m.parent_id, up.depth + 1 FROM conversations_message m JOIN up ON m.id = up.parent_id
    WHERE up.depth < %s
)
SELECT {_COLUMNS} FROM up JOIN conversations_message m ON m.id = up.id ORDER BY up.depth DESC
"""  # noqa: S608 # nosec B608 - the model's names
_UP_IDS = _UP.replace(_COLUMNS, "m.id, m.parent_id")
_DOWN = """
WITH RECURSIVE down(id) AS (
    SELECT id FROM conversations_message WHERE id = %s
    UNION ALL
    SELECT m.id FROM conversations_message m JOIN down ON m.parent_id = down.id
)
SELECT m.id, m.parent_id, m.seq FROM down JOIN conversations_message m ON m.id = down.id ORDER BY m.seq
"""


def _key(value: uuid.UUID) -> Any:
    """An id as this database writes it."""
    return Message._meta.pk.get_db_prep_value(value, connection)


def path_to(leaf: Message | uuid.UUID | None, limit: int = DEEPEST) -> list[Message]:
    """The branch that ends with `leaf`, first message first; only its last `limit`. One query."""
    if leaf is None:
        return []
    start = leaf.pk if isinstance(leaf, Message) else leaf
    return list(Message.objects.raw(_UP, [_key(start), limit]))


def ids_to(leaf: uuid.UUID | None) -> list[uuid.UUID]:
    """The ids of the branch that ends with `leaf`, first message first. One query, which reads no text."""
    if leaf is None:
        return []
    return [row.pk for row in Message.objects.raw(_UP_IDS, [_key(leaf), DEEPEST])]


def pages_to(leaf: uuid.UUID | None) -> Iterator[list[Message]]:
    """`path_to` bit by bit, for branches that may be too large to hold. No query stays open in between."""
    ids = ids_to(leaf)
    for start in range(0, len(ids), READ_AT_ONCE):
        wanted = ids[start : start + READ_AT_ONCE]
        rows = Message.objects.in_bulk(wanted)
        yield [rows[pk] for pk in wanted if pk in rows]


def branch_under(message: Message) -> list[uuid.UUID]:
    """The ids of the message and of everything that follows from it, in the order in which they came."""
    return [row.pk for row in Message.objects.raw(_DOWN, [_key(message.pk)])]


def leaf_under(message: Message) -> uuid.UUID:
    """The newest end of the branches that begin with the message: nothing that came later can lie above it."""
    return branch_under(message)[-1]


def siblings(conversation: Conversation, messages: Iterable[Message]) -> dict[uuid.UUID, list[uuid.UUID]]:
    """For each of the messages the ids of those that stand in its place, itself among them, oldest first.

    Of very many the newest `MOST_BESIDE`: each of a page's messages would bring all of them.
    """
    wanted = list(messages)
    parents = {message.parent_id for message in wanted}
    place = Window(RowNumber(), partition_by=[F("parent_id")], order_by=F("seq").desc())
    beside = Q(parent_id__in=parents - {None}) | (Q(parent=None) if None in parents else Q(pk__in=[]))
    rows = conversation.messages.filter(beside).annotate(place=place).filter(place__lte=MOST_BESIDE)
    found: dict[uuid.UUID | None, list[uuid.UUID]] = defaultdict(list)
    for parent, pk in rows.order_by("seq").values_list("parent_id", "pk"):
        found[parent].append(pk)
    told = {}
    for message in wanted:
        newest = found[message.parent_id]
        told[message.pk] = newest if message.pk in newest else [message.pk, *newest]
    return told


def delete_branch(conversation: Conversation, message_id: uuid.UUID, version: int | None = None) -> int:
    """Takes a message away with all that follows from it; how many went. What is shown moves to what is left.

    Raises BadRequest 404 where the conversation has no such message, Stale as `append`.
    """
    with locked(conversation) as current:
        check_version(current, version)
        message = current.messages.filter(pk=message_id).first()
        if message is None:
            raise missing_message()
        gone = branch_under(message)
        for start in range(0, len(gone), DELETED_AT_ONCE):
            current.messages.filter(pk__in=gone[start : start + DELETED_AT_ONCE]).delete()
        leaf = current.active_leaf
        if leaf in set(gone):
            leaf = _newest_beside(current, message.parent_id)
        _touch(current, leaf)
    _copy_heads(current, conversation)
    return len(gone)


def _newest_beside(conversation: Conversation, parent_id: uuid.UUID | None) -> uuid.UUID | None:
    """Where to go when a branch under `parent_id` went: the newest branch beside it, else the parent."""
    beside = conversation.messages.filter(parent_id=parent_id).order_by("-seq").first()
    return leaf_under(beside) if beside else parent_id


def said(role: str, content: Any) -> tuple[str, str]:
    """What two messages have in common if they say the same, however their content is written."""
    rest = [part for part in content if not _part_text(part)] if isinstance(content, list) else []
    parts = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS).decode() if rest else ""
    return role, f"{text_of(content).strip()}{parts}"


def match_path(conversation: Conversation, messages: Sequence[Mapping[str, Any]]) -> tuple[Message | None, int]:
    """Where in the tree a list of messages (`role`, `content`) lies: the last that is there, and how many are.

    System messages at the beginning are the conversation's own prompt unless the tree has them; they are counted as
    there. Among equal branches the one that is shown wins, then the newest.
    """
    rows = conversation.messages.only("id", "parent_id", "role", "content", "seq", "conversation_id")
    children: dict[uuid.UUID | None, list[Message]] = defaultdict(list)
    for row in rows.order_by("seq"):
        children[row.parent_id].append(row)
    shown = {row.pk for row in path_to(conversation.active_leaf)}
    ends: list[Message] = []
    count = 0
    for message in messages:
        wanted = said(str(message.get("role")), storable(message.get("content")))
        below = [child for end in ends for child in children[end.pk]] if ends else children[None]
        found = [row for row in below if said(row.role, row.content) == wanted]
        if found:
            ends = found
        elif ends or wanted[0] != Message.Role.SYSTEM:
            break
        count += 1
    if not ends:
        return None, count
    return max(ends, key=lambda row: (row.pk in shown, row.seq)), count
