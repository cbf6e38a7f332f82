"""What was said and answered, kept per user: written and read off the loop, in threads of their own.

A conversation is a chain of rows. Who is not its owner is told that it does not exist.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from gateway.errors import Unavailable
from gateway.models import StoredResponse

log = logging.getLogger(__name__)

T = TypeVar("T")
Item = dict[str, Any]
SECONDS = 15.0
MAX_TURNS = 2000
RESPONSE_ID = re.compile(r"resp_[0-9a-f]{48}\Z")
# An item's id holds its response's.
ITEM_ID = re.compile(r"[a-z]+_([0-9a-f]{48})_i?\d{1,6}\Z")
TABLE = StoredResponse._meta.db_table
# The last turn first. Both databases know recursion, so that a long conversation is one query.
CHAIN = f"""
    WITH RECURSIVE chain(id, previous_id, input, response, depth) AS (
        SELECT id, previous_id, input, response, 0 FROM {TABLE} WHERE id = %s AND user_id = %s
        UNION ALL
        SELECT earlier.id, earlier.previous_id, earlier.input, earlier.response, chain.depth + 1
        FROM {TABLE} earlier JOIN chain ON earlier.id = chain.previous_id
        WHERE earlier.user_id = %s AND chain.depth < {MAX_TURNS}
    )
    SELECT id, previous_id, input, response FROM chain ORDER BY depth
"""  # noqa: S608 # nosec B608 - names come from the model, values travel as parameters
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


def conversation(id: str, user_id: int | None) -> list[Turn]:
    """From the oldest turn that is left to this one; empty when there is no such response of this user's."""
    if user_id is None or not RESPONSE_ID.match(id):
        return []
    with connection.cursor() as cursor:
        cursor.execute(CHAIN, [id, user_id, user_id])
        rows = cursor.fetchall()
    return [Turn(row[0], row[1], orjson.loads(row[2]), orjson.loads(row[3])) for row in reversed(rows)]


def items_named(ids: Iterable[str], user_id: int | None) -> dict[str, Item]:
    """The stored items with these ids, which carry their response's."""
    wanted = set(ids)
    holders = {f"resp_{match[1]}" for match in map(ITEM_ID.match, wanted) if match}
    found: dict[str, Item] = {}
    rows = StoredResponse.objects.filter(pk__in=holders, user_id=user_id) if user_id is not None else ()
    for row in rows:
        for item in (*orjson.loads(row.input), *orjson.loads(row.response)["output"]):
            if item.get("id") in wanted:
                found[item["id"]] = item
    return found
