"""Keeps what was read: each conversation in a transaction of its own, known again by its origin."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from django.db import IntegrityError, transaction
from django.utils import timezone

from conversations import tree
from conversations.files import is_own
from conversations.imports import chatgpt, others
from conversations.imports.reading import Broken, Element
from conversations.imports.said import Said, SaidMessage
from conversations.models import Conversation, Message
from conversations.models.conversations import FOLDER_CHARS, ORIGIN_CHARS, TITLE_CHARS
from conversations.quota import check_room
from conversations.tree import storable
from gateway.errors import BadRequest

MAX_CONVERSATIONS = 10_000
MAX_MESSAGES = 20_000
MAX_TAGS = 20
TAG_CHARS = 50
MAX_ATTACHMENTS = 50
PROMPT_CHARS = 100_000
SETTINGS_BYTES = 16 * 1024
AT_ONCE = 200
DEEPEST = 64
FORMS: tuple[tuple[Callable[[dict[str, Any]], bool], Callable[[dict[str, Any]], Said]], ...] = (
    (others.is_own, others.own),
    (chatgpt.is_it, chatgpt.read),
    (others.is_claude, others.claude),
    (others.is_open_webui, others.open_webui),
    (others.is_g4f, others.g4f),
)
Report = dict[str, Any]


def write(owner_id: int, found: Iterable[Element]) -> dict[str, Any]:
    """A report of each conversation. Raises BadRequest for a file in which there is none that can be read."""
    reports: list[Report] = []
    warnings: list[str] = []
    try:
        for item in found:
            if len(reports) == MAX_CONVERSATIONS:
                warnings.append(f"Only the first {MAX_CONVERSATIONS} conversations were read.")
                break
            reports.append(_one(owner_id, item))
    except BadRequest as error:
        # What was kept so far is kept; whoever sends the rest again doubles nothing.
        if not reports:
            raise
        warnings.append(error.message)
    counts = Counter(report["status"] for report in reports)
    names = ("imported", "updated", "unchanged", "failed")
    return {
        "object": "import",
        **{name: counts[name] for name in names},
        "conversations": reports,
        "warnings": warnings,
    }


def _report(status: str, title: str = "", pk: uuid.UUID | None = None, messages: int = 0, *warnings: str) -> Report:
    return {"id": pk, "title": title, "status": status, "messages": messages, "warnings": list(warnings)}


def _one(owner_id: int, item: Element) -> Report:
    if isinstance(item, Broken):
        return _report("failed", "", None, 0, str(item))
    read = next((read for is_it, read in FORMS if is_it(item)), None)
    if read is None or _is_deep(item):
        return _report(
            "failed", "", None, 0, "It is in no form that is known here." if read is None else "It is too deep."
        )
    said = read(item)
    _tidy(said, item)
    if len(said.messages) > MAX_MESSAGES:
        return _report("failed", said.title, None, 0, f"It has more than {MAX_MESSAGES} messages.")
    _without_others_files(owner_id, said)
    for _ in range(2):
        try:
            return _kept(owner_id, said)
        except IntegrityError:
            # Another process imported the same meanwhile: the second time it is known.
            continue
    return _report("failed", said.title, None, 0, "Its messages are in another conversation already.")


def _without_others_files(owner_id: int, said: Said) -> None:
    """Our own export may come from another user or server, whose files are not this one's."""
    for message in said.messages:
        attached = message.fields.get("attachments") or []
        message.fields["attachments"] = [item for item in attached[:MAX_ATTACHMENTS] if is_own(owner_id, item)]
        parts = message.content if isinstance(message.content, list) else []
        others = [part for part in parts if isinstance(part, dict) and not is_own(owner_id, part)]
        if others:
            message.content = [part for part in parts if part not in others]
        if others or len(message.fields["attachments"]) < len(attached):
            said.warn("Attached files that are not yours were left out.")


def _is_deep(item: dict[str, Any]) -> bool:
    level: list[Any] = [item]
    for _ in range(DEEPEST):
        level = [
            inner
            for holder in level
            for inner in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _tidy(said: Said, item: dict[str, Any]) -> None:
    """What the tables ask for: keys that are there and differ, parents that are there and lead to a first message."""
    said.title = " ".join(said.title.split())[:TITLE_CHARS]
    if said.origin.endswith(":"):
        # Without an id it is known by what it says.
        said.origin += hashlib.sha256(orjson.dumps(storable(item), option=orjson.OPT_SORT_KEYS)).hexdigest()
    said.origin = said.origin[:ORIGIN_CHARS]
    answered = {message.parent for message in said.messages}
    said.messages = _ordered([one for one in said.messages if not one.is_empty or one.key in answered])


def _ordered(messages: list[SaidMessage]) -> list[SaidMessage]:
    """Parents before their children, otherwise as they came; circles are cut."""
    by_key: dict[str, SaidMessage] = {}
    for number, message in enumerate(messages):
        message.key = message.key or f"#{number}"
        by_key.setdefault(message.key, message)
    placed: dict[str, SaidMessage] = {}
    for message in by_key.values():
        above: dict[str, SaidMessage] = {}
        here: SaidMessage | None = message
        while here is not None and here.key not in placed and here.key not in above:
            above[here.key] = here
            here = by_key.get(here.parent) if here.parent is not None else None
        for one in reversed(above.values()):
            one.parent = one.parent if one.parent in placed else None
            placed[one.key] = one
    return list(placed.values())


def _kept(owner_id: int, said: Said) -> Report:
    with transaction.atomic():
        known = _known(owner_id, said.origin)
        if known is not None and known.deleted_at is not None:
            return _report("unchanged", said.title, known.pk, 0, *said.warnings, "It is in the bin.")
        if known is None:
            check_room(owner_id)
        row = known or _new(owner_id, said)
        added, end = _add_messages(row, said)
        if known is not None and not added:
            return _report("unchanged", said.title, row.pk, 0, *said.warnings)
        row.active_leaf = end or row.active_leaf
        if known is not None:
            row.version += 1
            row.updated_at = max(row.updated_at, said.updated_at or row.updated_at)
        row.save()
    return _report("updated" if known else "imported", said.title, row.pk, added, *said.warnings)


def _known(owner_id: int, origin: str) -> Conversation | None:
    """The conversation that was imported before, or, of our own export, the one that was exported."""
    rows = Conversation.objects.select_for_update().filter(owner_id=owner_id)
    found = rows.filter(origin=origin).first()
    source, _, name = origin.partition(":")
    if found is not None or source != "g4fsite":
        return found
    try:
        return rows.filter(pk=uuid.UUID(name)).first()
    except ValueError:
        return None


def _new(owner_id: int, said: Said) -> Conversation:
    fields = storable(said.fields)
    fields["system_prompt"] = fields.get("system_prompt", "")[:PROMPT_CHARS]
    if len(orjson.dumps(fields.get("settings", {}))) > SETTINGS_BYTES:
        fields["settings"] = {}
        said.warn("The settings are too large and were left out.")
    fields["folder"] = fields.get("folder", "")[:FOLDER_CHARS]
    fields["tags"] = list(dict.fromkeys(tag[:TAG_CHARS] for tag in fields.get("tags", ())))[:MAX_TAGS]
    now = timezone.now()
    created = said.created_at or min((one.created_at for one in said.messages if one.created_at), default=now)
    return Conversation.objects.create(
        owner_id=owner_id,
        origin=said.origin,
        title=said.title,
        created_at=created,
        updated_at=said.updated_at or created,
        **fields,
    )


def _mark(origin: str, key: str) -> str:
    """The client_id of an imported message: the same in each import, in no other conversation."""
    return "import:" + hashlib.sha256(f"{origin} {key}".encode("utf-8", "surrogatepass")).hexdigest()


def _add_messages(row: Conversation, said: Said) -> tuple[int, uuid.UUID | None]:
    """How many were not there yet, and which row is the file's last message; those of our own keep their ids."""
    rows = list(row.messages.values_list("client_id", "pk"))
    there = {mark: pk for mark, pk in rows if mark}
    own = {str(pk): pk for _, pk in rows} if said.origin == f"g4fsite:{row.pk}" else {}
    pks: dict[str, uuid.UUID] = {}
    seq = tree.next_seq(row)
    new: list[Message] = []
    for one in said.messages:
        mark = _mark(said.origin, one.key)
        known = there.get(mark) or own.get(one.key)
        pks[one.key] = known or uuid.uuid4()
        if known is None:
            new.append(_message(row, one, pks, mark, seq + len(new)))
    for start in range(0, len(new), AT_ONCE):
        Message.objects.bulk_create(new[start : start + AT_ONCE])
    last = pks.get(said.end or "") or (new[-1].pk if new else None)
    return len(new), last


def _message(row: Conversation, one: SaidMessage, pks: dict[str, uuid.UUID], mark: str, seq: int) -> Message:
    created = one.created_at or row.created_at
    return Message(
        id=pks[one.key],
        conversation=row,
        owner_id=row.owner_id,
        parent_id=pks[one.parent] if one.parent is not None else None,
        seq=seq,
        role=one.role,
        content=one.content,
        text=tree.text_of(one.content),
        reasoning=one.reasoning,
        model=one.model,
        provider=one.provider,
        client_id=mark,
        created_at=created,
        **storable(one.fields),
    )
