"""What was said and answered, kept per user: written and read off the loop, in threads of their own.

A conversation is a chain of rows. Who is not its owner is told that it does not exist.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Length, Now

from gateway.errors import BadRequest, Unavailable
from gateway.models import ResponseEvents, StoredResponse

log = logging.getLogger(__name__)

T = TypeVar("T")
Item = dict[str, Any]
SECONDS = 15.0
MAX_TURNS = 2000
# Of a response in the background: how long it is its maker's without a word of it, and its status meanwhile.
LEASE = timedelta(seconds=15)
RUNNING = "in_progress"
RESPONSE_ID = re.compile(r"resp_[0-9a-f]{48}\Z")
# An item's id holds its response's, and an `i` when it was said to it.
ITEM_ID = re.compile(r"[a-z]+_([0-9a-f]{48})_(i?)\d{1,6}\Z")
TABLE = StoredResponse._meta.db_table


def _chain(size: str, found: str) -> str:
    """A query along a conversation, from its last turn: both databases know recursion, so that a long one is one query.

    `size` is what a turn adds and `found` what is told, in words of SQL. The chain ends with the turn that is too much.
    """
    return f"""
        WITH RECURSIVE chain(id, previous_id, size, depth) AS (
            SELECT id, previous_id, {size}, 0 FROM {TABLE} WHERE id = %s AND user_id = %s
            UNION ALL
            SELECT turn.id, turn.previous_id, chain.size + {size}, chain.depth + 1
            FROM {TABLE} turn JOIN chain ON turn.id = chain.previous_id
            WHERE turn.user_id = %s AND chain.depth < {MAX_TURNS} AND chain.size <= %s
        )
        SELECT {found} ORDER BY chain.depth
    """  # noqa: S608 # nosec B608 - names come from the model, values travel as parameters


LINKS = _chain("0", "chain.id FROM chain")
# The turn that is too much is told without its texts.
CONVERSATION = _chain(
    "CAST(length(input) AS bigint) + length(response)",
    "chain.id, chain.previous_id, turn.input, turn.response "
    f"FROM chain LEFT JOIN {TABLE} turn ON turn.id = chain.id AND chain.size <= %s",
)
_threads = ThreadPoolExecutor(4, thread_name_prefix="responses")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one request said and what was answered. `previous_id` is empty at the beginning."""

    id: str
    previous_id: str
    input: list[Item]
    response: dict[str, Any]


def enabled() -> bool:
    return bool(settings.RESPONSES_RETENTION_DAYS)


async def off_the_loop(work: Callable[[], T]) -> T:
    """Raises Unavailable when the database does not do it."""
    try:
        async with asyncio.timeout(SECONDS):
            return await asyncio.get_running_loop().run_in_executor(_threads, _with_own_connection, work)
    except (DatabaseError, TimeoutError) as error:
        raise away(error) from None


def away(error: Exception) -> Unavailable:
    log.error("stored responses cannot be reached: %s", type(error).__name__)
    return Unavailable("Stored responses cannot be reached now. Send the request again.", code="storage_unavailable")


def _with_own_connection(work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        connection.close()


def save(id: str, user_id: int, previous_id: str, created_at: int, items: Sequence[Item], body: dict[str, Any]) -> None:
    StoredResponse.objects.create(
        id=id,
        user_id=user_id,
        previous_id=previous_id,
        created_at=datetime.fromtimestamp(created_at, UTC),
        input=orjson.dumps(items).decode(),
        response=orjson.dumps(body).decode(),
    )


def begin(
    id: str, user_id: int, previous_id: str, created_at: int, items: Sequence[Item], body: dict[str, Any],
    worker: str, *, streamed: bool,
) -> None:  # fmt: skip
    """A response in the background, which is its worker's to make."""
    StoredResponse.objects.create(
        id=id,
        user_id=user_id,
        previous_id=previous_id,
        created_at=datetime.fromtimestamp(created_at, UTC),
        input=orjson.dumps(items).decode(),
        response=orjson.dumps(body).decode(),
        worker=worker,
        streamed=streamed,
        lease_until=Now() + LEASE,
    )


def look_after(ids: Sequence[str], worker: str, new: Sequence[tuple[str, int, list[bytes]]]) -> set[str]:
    """Renews the leases of responses and keeps their new events, each with how many were kept before.

    Gives those that are still this worker's to make.
    """
    # The rows are locked by their update, so that what ends one waits for its events.
    with transaction.atomic():
        rows = StoredResponse.objects.filter(pk__in=ids, worker=worker, lease_until__isnull=False)
        rows.update(lease_until=Now() + LEASE)
        mine = set(rows.values_list("pk", flat=True))
        for known, kept, frames in new:
            if known in mine:
                _keep_events(known, kept, frames)
    return mine


def _keep_events(response: str, kept: int, frames: list[bytes]) -> None:
    text = b"".join(frames).decode()
    found = ResponseEvents(response_id=response, first=kept, count=len(frames), frames=text)
    # The same again, because nobody heard that it was done, changes nothing.
    ResponseEvents.objects.bulk_create([found], ignore_conflicts=True)


def settle(id: str, worker: str, body: dict[str, Any], frames: list[bytes]) -> bool:
    """How a response in the background ended, with all its events. False when somebody else has ended it."""
    with transaction.atomic():
        mine = StoredResponse.objects.filter(pk=id, worker=worker, lease_until__isnull=False)
        if not mine.update(response=orjson.dumps(body).decode(), lease_until=None):
            return False
        kept = ResponseEvents.objects.filter(response_id=id).aggregate(number=Sum("count"))["number"] or 0
        if frames[kept:]:
            _keep_events(id, kept, frames[kept:])
    return True


def cancel(row: StoredResponse) -> dict[str, Any]:
    """The response once it is over: cancelled, unless it ended before. Whoever makes it notices within a second."""
    body = _ended_by_others(row, "cancelled", None, Q())
    return body or orjson.loads(StoredResponse.objects.get(pk=row.pk).response)


def looked_at(row: StoredResponse) -> dict[str, Any]:
    """The response as it is; failed, where the process that made it has died."""
    body: dict[str, Any] = orjson.loads(row.response)
    if row.lease_until is None:
        return body
    left = {"code": "server_error", "message": "The server that made this response has stopped."}
    found = _ended_by_others(row, "failed", left, Q(lease_until__lt=Now()))
    return found or body


def _ended_by_others(row: StoredResponse, status: str, error: Item | None, also: Q) -> dict[str, Any] | None:
    body = {**orjson.loads(row.response), "status": status, "error": error}
    rows = StoredResponse.objects.filter(also, pk=row.pk, lease_until__isnull=False)
    return body if rows.update(response=orjson.dumps(body).decode(), lease_until=None) else None


def events_after(id: str, number: int) -> tuple[list[str], bool]:
    """The events of a response that follow this one, and whether it was still being made before they were read."""
    row = StoredResponse.objects.filter(pk=id).first()
    running = row is not None and looked_at(row)["status"] == RUNNING
    rows = ResponseEvents.objects.filter(response_id=id, first__gt=number - F("count")).order_by("first")
    found: list[str] = []
    for kept in rows:
        frames = kept.frames.split("\n\n")[:-1]
        found += [frame + "\n\n" for frame in frames[max(0, number + 1 - kept.first) :]]
    return found, running


def most_read() -> int:
    """How much stored JSON is read for one request, in characters. An answer repeats much of what was asked."""
    return 2 * int(settings.MAX_BODY_BYTES)


def too_large(what: str, limit: int, param: str) -> BadRequest:
    return BadRequest(f"{what} than {limit} bytes.", status=413, code="request_too_large", param=param)


def conversation(id: str, user_id: int | None) -> list[Turn]:
    """From the oldest turn that is left to this one; empty when there is no such response of this user's.

    Raises BadRequest 413 when it is too large to be read.
    """
    limit = most_read()
    rows = _query(CONVERSATION, id, user_id, limit, limit)
    if any(row[2] is None for row in rows):
        raise too_large("The stored conversation is larger", limit, "previous_response_id")
    return [Turn(row[0], row[1], orjson.loads(row[2]), orjson.loads(row[3])) for row in reversed(rows)]


def turns_to(id: str, user_id: int | None) -> list[str]:
    """The ids of the responses of a conversation, the newest, which is this one, first."""
    return [row[0] for row in _query(LINKS, id, user_id, 0)]


def _query(sql: str, id: str, user_id: int | None, *limits: int) -> list[tuple[Any, ...]]:
    if user_id is None or not RESPONSE_ID.match(id):
        return []
    with connection.cursor() as cursor:
        cursor.execute(sql, [id, user_id, user_id, *limits])
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def items_of(id: str, *, answered: bool) -> tuple[list[Item], int]:
    """What was said to a response and, if wanted, what it answered; and how many characters were read for it."""
    columns = ("input", "response") if answered else ("input",)
    row = StoredResponse.objects.filter(pk=id).values_list(*columns).first()
    if row is None:
        return [], 0
    said: list[Item] = orjson.loads(row[0])
    return said + (orjson.loads(row[1])["output"] if answered else []), sum(map(len, row))


def holder_of(item_id: str) -> str:
    """The id of the response with which an item is kept; empty if the id is none of ours."""
    match = ITEM_ID.match(item_id)
    return f"resp_{match[1]}" if match else ""


def items_named(ids: Iterable[str], user_id: int | None) -> dict[str, Item]:
    """The stored items with these ids. An id may come several times, and its item counts as often.

    Raises BadRequest 413 when they are too large together, or what they are kept in.
    """
    if user_id is None:
        return {}
    wanted, found = Counter(ids), {}
    left = limit = int(settings.MAX_BODY_BYTES)
    for item in _items_beside(wanted, user_id):
        if times := wanted.get(item.get("id", ""), 0):
            left -= times * len(orjson.dumps(item))
            if left < 0:
                raise too_large("The items that 'input' refers to are larger", limit, "input")
            found[item["id"]] = item
    return found


def _items_beside(ids: Iterable[str], user_id: int) -> Iterator[Item]:
    """All items of the texts that hold these: of a response only what was said, or only what was answered."""
    holders: dict[str, set[str]] = {"input": set(), "response": set()}
    for match in filter(None, map(ITEM_ID.match, ids)):
        holders["input" if match[2] else "response"].add(f"resp_{match[1]}")
    texts = {column: _texts(column, holders[column], user_id) for column in holders}
    size = sum(rows.aggregate(size=Sum(Length(column)))["size"] or 0 for column, rows in texts.items())
    if size > most_read():
        raise too_large("What holds the items that 'input' refers to is larger", most_read(), "input")
    for column, rows in texts.items():
        for text in rows:
            kept = orjson.loads(text)
            yield from kept if column == "input" else kept["output"]


def _texts(column: str, ids: Iterable[str], user_id: int) -> QuerySet[StoredResponse, str]:
    return StoredResponse.objects.filter(pk__in=ids, user_id=user_id).values_list(column, flat=True)
