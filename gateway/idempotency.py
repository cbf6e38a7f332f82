"""A request that comes again under the same `Idempotency-Key` gets the answer of the first one, and is not done again.

One row for each key of one user on one route, for a day. Who makes the row works, under a lease that is renewed
meanwhile: the row of a process that was killed is free again once its lease is over. Times are the database's, so that
clocks that differ take nobody's lease. Surfaces say what was asked and what an answer is; this knows neither.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import uuid
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import IntegrityError, connection, transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet, Sum
from django.db.models.functions import Now

from gateway.errors import AnswerNotKept, BadRequest, KeyReused, StillRunning, Unavailable
from gateway.models import IdempotentAnswer

log = logging.getLogger(__name__)

T = TypeVar("T")
HEADER = "Idempotency-Key"
MAX_KEY = 255
KEPT = timedelta(hours=24)
LEASE = timedelta(seconds=20)
RENEW_SECONDS = 5.0
RETRY_SECONDS = 2.0
SECONDS = 8.0
TRIES = 5
# Of one answer, and of all that one user has: what is larger is remembered as done, without its body.
MAX_BYTES = 48 * 1024 * 1024
MAX_OWNER_BYTES = 512 * 1024 * 1024
State = IdempotentAnswer.State
# An answer may take the database seconds; by then others' leases would be over.
_threads = ThreadPoolExecutor(4, thread_name_prefix="idempotency")
_renewals = ThreadPoolExecutor(1, thread_name_prefix="idempotency-leases")
# At the end of a process, for what is being written then.
LAST_SECONDS = 5.0
# A loop alone would forget them.
_going: set[asyncio.Task[Any]] = set()


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: whose it is, of which route, under which key, and the digest of what it asks."""

    owner_id: int
    route: str
    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class Given:
    """The answer of the first request. `kind` is the surface's own word for the form of `body`."""

    status: int
    kind: str
    body: bytes = field(repr=False)


def key_in(headers: list[tuple[bytes, bytes]]) -> str | None:
    """The caller's key, 1 to 255 printable ASCII characters; None where none was sent. Raises BadRequest."""
    found = {value.strip(b" \t") for name, value in headers if name == b"idempotency-key"}
    if not found:
        return None
    value = found.pop()
    if found or not 1 <= len(value) <= MAX_KEY or not all(32 <= byte < 127 for byte in value):
        raise BadRequest(
            f"'{HEADER}' must be one text of 1 to {MAX_KEY} printable ASCII characters.",
            code="invalid_header",
            param=HEADER,
        )
    return value.decode()


def digest_of(asked: Any) -> str:
    """Of anything that is JSON; the order of an object's names does not count. Nobody guesses a request from it."""
    said = orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)
    return hmac.digest(settings.KEY_PEPPER.encode(), said, "sha256").hex()


async def enter(asked: Asked) -> Claim | Given:
    """The answer that was given, or the right to make one: use that in `async with`.

    Raises KeyReused 422 for another request under the key, StillRunning 409 while the first one is under way,
    AnswerNotKept 409, and Unavailable when the database does not say.
    """
    holder = uuid.uuid4().hex
    try:
        found = await _off_the_loop(partial(_entered, asked, holder))
    except (DatabaseError, TimeoutError) as error:
        log.error("idempotent answers cannot be reached: %s", type(error).__name__)
        raise Unavailable("Answers cannot be kept now. Send the request again.", code="storage_unavailable") from None
    return found if isinstance(found, Given) else Claim(found, holder, asked.owner_id)


class Claim:
    """The right to do what was asked, kept alive meanwhile; given back at the end unless an answer was kept."""

    def __init__(self, row_id: int, holder: str, owner_id: int) -> None:
        self._row_id = row_id
        self._holder = holder
        self._owner_id = owner_id
        self._kept = False

    async def __aenter__(self) -> Self:
        self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._renewing.cancel()
        if not self._kept:
            await _through(self._tried(partial(_freed, self._row_id, self._holder), "given back"))

    async def keep(self, status: int, kind: str, body: bytes) -> None:
        """Never raises: what was made is handed over, whether it can be kept or not."""
        self._kept = True
        await _through(self._keep(Given(status, kind, body)))

    async def _keep(self, given: Given) -> None:
        """Where the body cannot be written it is remembered at least that the request was answered."""
        settled = partial(_settled, self._row_id, self._holder, self._owner_id)
        if not await self._tried(partial(settled, given), "kept"):
            await self._tried(partial(settled, given, bare=True), "noted")

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._tried(partial(_renewed, self._row_id, self._holder), "renewed", _renewals)

    async def _tried(self, work: Callable[[], object], what: str, threads: ThreadPoolExecutor = _threads) -> bool:
        try:
            await _off_the_loop(work, threads)
        except (DatabaseError, TimeoutError) as error:
            log.error("an idempotent answer could not be %s: %s", what, type(error).__name__)
            return False
        return True


def busy() -> bool:
    """Whether answers are being kept, or keys given back, which no request waits for any more."""
    return bool(_going)


async def close() -> None:
    """Lets what is being written come to its end: a key that is not given back is taken until its lease is over."""
    if _going:
        await asyncio.wait(set(_going), timeout=LAST_SECONDS)


def purge() -> int:
    """How many rows went whose day is over."""
    # By their ids: what is under way stays, however long it takes.
    old = IdempotentAnswer.objects.filter(_over(), created_at__lte=Now() - KEPT)
    purged = 0
    while found := list(old.values_list("pk", flat=True)[:100]):
        # Asked once more: somebody may have taken one of them meanwhile.
        purged += old.filter(pk__in=found).delete()[0]
    return purged


def _over() -> Q:
    """Nobody works on it."""
    return Q(state=State.DONE) | Q(lease_until__lte=Now())


def _entered(asked: Asked, holder: str) -> int | Given:
    """The id of the row that is now the holder's, or the answer in it."""
    for _ in range(TRIES):
        row = _row(asked)
        if row is None:
            with suppress(IntegrityError), transaction.atomic():
                return _made(asked, holder).pk
        elif row["free"]:
            if _taken(row["pk"], row["holder"], asked, holder):
                return int(row["pk"])
        elif row["digest"] != asked.digest:
            raise KeyReused
        elif row["state"] == State.RUNNING:
            raise StillRunning(RETRY_SECONDS)
        else:
            return _given(row["pk"])
    raise StillRunning(RETRY_SECONDS)


def _row(asked: Asked) -> Mapping[str, Any] | None:
    """`free` says that anybody may take it: the day is over, or who worked on it is gone."""
    stale = (Q(state=State.RUNNING) & Q(lease_until__lte=Now())) | (_over() & Q(created_at__lte=Now() - KEPT))
    rows = IdempotentAnswer.objects.filter(owner_id=asked.owner_id, route=asked.route, key=asked.key)
    free = ExpressionWrapper(stale, output_field=BooleanField())
    return rows.annotate(free=free).values("pk", "holder", "digest", "state", "free").first()


def _made(asked: Asked, holder: str) -> IdempotentAnswer:
    return IdempotentAnswer.objects.create(
        owner_id=asked.owner_id,
        route=asked.route,
        key=asked.key,
        digest=asked.digest,
        holder=holder,
        created_at=Now(),
        lease_until=Now() + LEASE,
    )


def _taken(row_id: int, before: str, asked: Asked, holder: str) -> bool:
    """Of several that try, one takes it from who held it `before`."""
    return bool(
        IdempotentAnswer.objects.filter(pk=row_id, holder=before)
        .filter(_over())
        .update(
            digest=asked.digest,
            state=State.RUNNING,
            holder=holder,
            created_at=Now(),
            lease_until=Now() + LEASE,
            status=None,
            kind="",
            body=None,
            size=0,
        )
    )


def _given(row_id: int) -> Given:
    row = IdempotentAnswer.objects.filter(pk=row_id, state=State.DONE).first()
    if row is None:
        # It was purged between two queries.
        raise StillRunning(RETRY_SECONDS)
    if row.body is None:
        raise AnswerNotKept
    return Given(row.status or 200, row.kind, bytes(row.body))


def _mine(row_id: int, holder: str) -> QuerySet[IdempotentAnswer, IdempotentAnswer]:
    return IdempotentAnswer.objects.filter(pk=row_id, holder=holder, state=State.RUNNING)


def _renewed(row_id: int, holder: str) -> None:
    _mine(row_id, holder).update(lease_until=Now() + LEASE)


def _freed(row_id: int, holder: str) -> None:
    _mine(row_id, holder).delete()


def _settled(row_id: int, holder: str, owner_id: int, given: Given, *, bare: bool = False) -> None:
    size = len(given.body)
    held = IdempotentAnswer.objects.filter(owner_id=owner_id).aggregate(size=Sum("size"))["size"] or 0
    fits = not bare and size <= MAX_BYTES and held + size <= MAX_OWNER_BYTES
    _mine(row_id, holder).update(
        state=State.DONE,
        lease_until=None,
        status=given.status,
        kind=given.kind,
        body=given.body if fits else None,
        size=size if fits else 0,
    )


async def _through(work: Coroutine[Any, Any, T]) -> T:
    """To its end, also when whoever waits for it is cancelled."""
    task = asyncio.ensure_future(work)
    _going.add(task)
    task.add_done_callback(_going.discard)
    return await asyncio.shield(task)


async def _off_the_loop(work: Callable[[], T], threads: ThreadPoolExecutor = _threads) -> T:
    async with asyncio.timeout(SECONDS):
        return await asyncio.get_running_loop().run_in_executor(threads, _with_own_connection, work)


def _with_own_connection(work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        connection.close()
