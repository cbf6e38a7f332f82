"""What a request used: counted as events pass, written once, whatever happens to the request."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, InternalError, OperationalError, close_old_connections, connection, transaction
from django.utils import timezone

from gateway import metrics
from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.errors import GatewayError, UpstreamError
from gateway.events import Usage
from gateway.models import ApiKey, UsageEvent
from gateway.spool import Record, Segment, Spool, orphans
from gateway.targets import PricePolicy, Target
from gateway.tokens import summed

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
ORPHAN_SECONDS = 10.0
PURGE_SECONDS = 3600.0
LAST_USED_SECONDS = 30.0
STOP_SECONDS = 15.0
BATCH = 500
# Beyond this many rows the database has been away for long; the rest stays in the journal alone.
MAX_WAITING = 100_000
TABLE = UsageEvent._meta.db_table
FIELDS = [field for field in UsageEvent._meta.concrete_fields if not field.primary_key]
DEFAULTS: Record = {str(field.column): field.get_default() for field in FIELDS}
NEEDED = {str(field.column) for field in FIELDS if not field.null}
MAX_TOKENS_STORED = 2**62
MAX_TOLD = 10
# The database's trouble and not a row's: gone, locked, or read-only during a failover.
AWAY = (OperationalError, InterfaceError, InternalError)
# Columns of text and their sizes. An answer that went well has only words that were checked before it.
TEXTS = {"requested_model": 200, "model": 200, "provider_name": 64, "error_code": 64, "surface": 24}

# Without these, each NULL and each truth value of a row costs an exception: sqlite3 looks for an adapter.
sqlite3.register_adapter(type(None), {}.get)  # type: ignore[arg-type]  # a function of C that gives None
sqlite3.register_adapter(bool, int)


def cost_of(prices: Iterable[PricePolicy], usage: Usage, at: float) -> tuple[int | None, int | None]:
    """The price's id and the cost in nano-dollars; (None, None) while no price is known.

    The cost alone is None where pictures or sound have no price of their own and no tokens that somebody counted,
    or where the length of a sound that is paid by the second is not known."""
    for price in prices:
        if price.valid_from <= at and (price.valid_to is None or at < price.valid_to):
            cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
            reasoning = min(usage.reasoning_tokens or 0, usage.completion_tokens)
            total = (
                (usage.prompt_tokens - cached) * price.input
                + cached * (price.input if price.cached_input is None else price.cached_input)
                + (usage.completion_tokens - reasoning) * price.output
                + reasoning * (price.output if price.reasoning is None else price.reasoning)
            )
            if usage.images or usage.characters or usage.audio_seconds or usage.unmeasured:
                media = _media_cost(price, usage)
                if media is None:
                    return price.id, None
                total += media
            return price.id, total // 1_000_000
    return None, None


def _media_cost(price: PricePolicy, usage: Usage) -> int | None:
    """What pictures and sound cost beside the tokens, in millionths of nano-dollars; None where nobody can say."""
    units = (
        (price.image, usage.images),
        (price.character, usage.characters),
        (price.audio_second, usage.audio_seconds or usage.unmeasured),
    )
    if usage.estimated and any(used and unit is None for unit, used in units):
        # Nobody counted tokens, and nobody said what a picture, a character or a second costs.
        return None
    if usage.unmeasured and price.audio_second:
        return None
    pictures = (usage.images or 0) * (price.image or 0) + (usage.characters or 0) * (price.character or 0)
    # Whole milliseconds: money is counted in integers.
    return pictures + round((usage.audio_seconds or 0) * 1000) * (price.audio_second or 0) // 1000


class Tally:
    """Counts one request. `begin` before the first provider is asked, `end` exactly once.

    `unsure`: a provider failed that may have done, and be paid for, what was asked.
    """

    unsure = False

    def __init__(self, request_id: str, principal: Principal, chat: ChatRequest, surface: str) -> None:
        self.request_id = request_id
        self.usage: Usage | None = None
        self.target: Target | None = None
        self.ended = False
        self._started = time.monotonic()
        self._created = time.time()
        self._first: float | None = None
        self._attempts: list[dict[str, Any]] = []
        # What attempts used that failed all the same, each with its price and cost.
        self._lost: list[tuple[Usage, int | None, int | None]] = []
        self._attempt_started = 0.0
        self._tries = 0
        self._principal = principal
        self._chat = chat
        self._surface = surface

    def _record(self, target: Target) -> Record:
        key = self._principal.key
        return {
            "request_id": self.request_id,
            "created_at": self._created,
            "user_id": self._principal.user_id,
            "api_key_id": None if key is None else key.id,
            "requested_model": self._chat.model,
            "surface": self._surface,
            "stream": self._chat.stream,
            "provider_id": target.provider_id,
            "provider_name": target.provider,
            "model": target.public_id,
        }

    def begin(self, target: Target) -> None:
        self.target = target
        self._begun = record = self._record(target)
        (writer.journal or writer.spool).begin(record)

    def trying(self, target: Target) -> None:
        self.target = target
        self._tries += 1
        self._attempt_started = time.monotonic()

    def tried(self, error: GatewayError | None) -> None:
        """Closes the attempt under way."""
        if self.target is None:
            return
        attempt = {
            "provider": self.target.provider,
            "model": self.target.public_id,
            "ms": _milliseconds(time.monotonic() - self._attempt_started),
        }
        if error is not None:
            attempt |= {"status": error.status, "code": error.code}
            self.unsure = self.unsure or (isinstance(error, UpstreamError) and error.unsure)
        self._attempts.append(attempt)
        if isinstance(error, UpstreamError) and error.usage is not None:
            self._lost.append((error.usage, *cost_of(self.target.prices, error.usage, self._created)))

    def total(self) -> Usage | None:
        """What all attempts used together, as far as anyone knows."""
        if not self._lost:
            return self.usage
        return summed([*(usage for usage, _, _ in self._lost), *([self.usage] if self.usage is not None else [])])

    def told(self) -> str:
        """What was tried until now, for the caller: `Acme/gpt-4o 429, Beta/gpt-4o 200`; empty for a single try."""
        tries = [f"{item['provider']}/{item['model']} {item.get('status', 200)}" for item in self._attempts]
        if self.target is not None and len(tries) == self._tries - 1 and self._first is not None:
            tries.append(f"{self.target.provider}/{self.target.public_id} 200")
        if len(tries) < 2:
            return ""
        more = len(tries) - MAX_TOLD
        return ", ".join(tries[:MAX_TOLD]) + (f", and {more} more" if more > 0 else "")

    def replayed(self, target: Target) -> Tally:
        """To be begun in this one's place: the target's answer was given before."""
        return Replayed(self.request_id, self._principal, self._chat, self._surface, target)

    def spoke(self) -> None:
        """The caller is about to see the first words."""
        if self._first is None:
            self._first = time.monotonic()

    def end(self, status: str, http_status: int, error: GatewayError | None = None) -> None:
        """Writes the one row; later calls do nothing."""
        if self.ended:
            return
        self.ended = True
        assert self.target is not None, "what ends has begun"
        now = time.monotonic()
        record = self._begun
        if record["provider_id"] != self.target.provider_id or record["model"] != self.target.public_id:
            record = self._record(self.target)
        record["status"] = status
        record["http_status"] = http_status
        record["error_code"] = (error.code or "") if error else ""
        record["duration_ms"] = _milliseconds(now - self._started)
        if self._first is not None:
            record["first_token_ms"] = _milliseconds(self._first - self._started)
        record["attempts"] = self._attempts
        if (used := self.total()) is not None:
            self._count(used, record)
        (writer.journal or writer.spool).end(record)

    def cost(self, usage: Usage) -> float | None:
        """Dollars; None while no price is known."""
        nano = cost_of(self.target.prices if self.target else (), usage, self._created)[1]
        return None if nano is None else nano / 1e9

    def _priced(self) -> tuple[int | None, int | None]:
        """The last attempt's price, and what all attempts cost by their own; no cost where one of them has none."""
        if not self._lost and self.usage is not None:
            return cost_of(self.target.prices if self.target else (), self.usage, self._created)
        parts = [(price_id, cost) for _, price_id, cost in self._lost]
        if self.usage is not None:
            parts.append(cost_of(self.target.prices if self.target else (), self.usage, self._created))
        costs = [cost for _, cost in parts if cost is not None]
        return parts[-1][0], sum(costs) if len(costs) == len(parts) else None

    def _count(self, usage: Usage, record: Record) -> None:
        """Adds what is known: each NULL that a row does not name is one that the database need not be told."""
        price_id, cost = self._priced()
        record["prompt_tokens"] = min(usage.prompt_tokens, MAX_TOKENS_STORED)
        record["completion_tokens"] = min(usage.completion_tokens, MAX_TOKENS_STORED)
        record["estimated"] = usage.estimated
        if usage.cached_tokens is not None:
            record["cached_tokens"] = usage.cached_tokens
        if usage.reasoning_tokens is not None:
            record["reasoning_tokens"] = usage.reasoning_tokens
        if usage.characters is not None:
            record["characters"] = usage.characters
        if usage.audio_seconds is not None:
            record["audio_seconds"] = usage.audio_seconds
        if usage.images is not None:
            record["images"] = usage.images
        if price_id is not None:
            record["price_id"] = price_id
        if cost is not None:
            record["cost"] = min(cost, MAX_TOKENS_STORED)


class Replayed(Tally):
    """Counts a request whose answer was given before: nobody is asked for it, nothing is used and nothing costs."""

    def __init__(self, request_id: str, principal: Principal, chat: ChatRequest, surface: str, target: Target) -> None:
        super().__init__(request_id, principal, chat, surface)
        self._kept_of = target
        self._attempts = [{"provider": target.provider, "model": target.public_id, "ms": 0, "cached": True}]

    def begin(self, target: Target) -> None:
        super().begin(self._kept_of)

    def total(self) -> Usage | None:
        return Usage(0, 0)

    def cost(self, usage: Usage) -> float | None:
        return 0.0

    def _priced(self) -> tuple[int | None, int | None]:
        return None, 0


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000 + 0.5)


def _complete(record: Record) -> Record:
    """With every column, and no other, in forms that fit: of a request that went wrong, or of an older version."""
    record = {name: record.get(name, default) for name, default in DEFAULTS.items()}
    return record | {name: _fitting(record[name], size) for name, size in TEXTS.items()}


def _fitting(text: Any, size: int) -> str:
    return text if type(text) is str and len(text) <= size else str(text or "")[:size]


def _naive_text(at: float) -> str:
    """As Django stores times in SQLite; its own way there costs as much as the rest of the row."""
    second = int(at)
    micros = round((at - second) * 1e6)
    if micros == 1_000_000:
        second, micros = second + 1, 0
    return f"{_text_of_second(second)}.{micros:06d}" if micros else _text_of_second(second)


@lru_cache(64)
def _text_of_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat(" ")


def _adapted(at: float) -> Any:
    return connection.ops.adapt_datetimefield_value(datetime.fromtimestamp(at, UTC))


@lru_cache(256)
def _statement(columns: tuple[str, ...]) -> str | None:
    """None where these are not columns of the table, or do not make a row."""
    if not NEEDED <= set(columns) <= DEFAULTS.keys():
        return None
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    # Names come from the model, values travel as parameters.
    return f"INSERT INTO {TABLE} ({names}) VALUES ({marks}) ON CONFLICT (request_id) DO NOTHING"  # noqa: S608 # nosec B608


def _rows(records: Iterable[Record], sqlite: bool) -> dict[str, list[tuple[Any, ...]]]:
    """By the statements that insert them, of which there are as many as sets of columns that requests fill."""
    stored = _naive_text if sqlite else _adapted
    rows: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for record in records:
        statement = _statement(tuple(record)) if record["status"] == "ok" else None
        if statement is None:
            record = _complete(record)  # noqa: PLW2901
            statement = _statement(tuple(record))
            assert statement is not None, "it has all columns"
        forms = {"created_at": stored(record["created_at"]), "attempts": orjson.dumps(record["attempts"]).decode()}
        if sqlite:
            # It has no truth values: sqlite3 would look for an adapter for each.
            forms["stream"], forms["estimated"] = +record["stream"], +record["estimated"]
        rows[statement].append(tuple({**record, **forms}.values()))
    return rows


def insert(records: list[Record]) -> None:
    """Plain SQL, because model instances cost ten times the statement; rows that are there already stay."""
    with transaction.atomic(), connection.cursor() as cursor:
        for statement, rows in _rows(records, connection.vendor == "sqlite").items():
            cursor.executemany(statement, rows)


class UsageWriter:
    """Carries finished records from the journal to the database, in batches, from a thread of its own."""

    def __init__(self) -> None:
        # None until somebody asks for `spool`.
        self.journal: Spool | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._flushing = threading.Lock()
        self._orphans_at = 0.0
        self._last_used: dict[int, float] = {}
        self._last_used_at = 0.0
        self._closed = 0.0
        self._failing = False
        # Full segments whose rows are not all in the database yet.
        self._unsettled: list[Segment] = []
        # Told which closed hours got a late row, so that their sums are made anew.
        self.late_hours: Callable[[set[datetime]], None] | None = None
        # Called once an hour: deletes what is kept longer than it should be.
        self.purge: Callable[[], object] | None = None
        self._purged_at = -PURGE_SECONDS

    @property
    def spool(self) -> Spool:
        if self.journal is None:
            self.journal = Spool(Path(settings.SPOOL_DIR))
        return self.journal

    def start(self) -> None:
        if self._thread and self._thread.is_alive():
            return
        self._stop.clear()
        self.replay()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Writes what is left and lets go of the journal."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread:
            thread.join(timeout=STOP_SECONDS)
        if self.journal is not None:
            if thread and thread.is_alive():
                # The database does not answer it. The journal may be the only copy of the rows that it has in hand.
                self.journal.leave_segment()
            else:
                self.flush()
            self._leave_unsettled()
            self.journal.close()
            self.journal = None

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            try:
                self.flush()
            except Exception:
                # Without this thread no row would reach the database until the next start.
                log.exception("usage rows could not be carried over")
            if time.monotonic() - self._orphans_at > ORPHAN_SECONDS:
                self.replay()
            if time.monotonic() - self._purged_at > PURGE_SECONDS:
                self._purge()
        connection.close()

    def _purge(self) -> None:
        self._purged_at = time.monotonic()
        try:
            if self.purge is not None:
                self.purge()
        except DatabaseError as error:
            log.error("what is too old could not be deleted: %s", type(error).__name__)

    def flush(self) -> None:
        """Commits what is finished; on failure the rows wait in memory and in the journal.

        One at a time: when it returns, rows that another thread had in hand are in the database, too.
        """
        with self._flushing:
            self._flush()

    def _flush(self) -> None:
        records, segment = self.spool.take()
        if segment is not None:
            self._unsettled.append(segment)
        try:
            self._commit(records)
            self._failing = False
        except DatabaseError as error:
            self._keep(records, error)
            return
        while self._unsettled:
            self._unsettled.pop().remove()
        metrics.observe(records)

    def _keep(self, records: list[Record], error: Exception) -> None:
        if not self._failing:
            log.error("usage rows wait, the database cannot be written: %s", type(error).__name__)
        self._failing = True
        if self.spool.waiting() + len(records) < MAX_WAITING:
            self.spool.put_back(records)
        else:
            # Their only copy: these files are for the replay at the next start.
            self._leave_unsettled()
            self.spool.leave_segment()
        close_old_connections()

    def _leave_unsettled(self) -> None:
        while self._unsettled:
            self._unsettled.pop().leave()

    def _commit(self, records: list[Record]) -> None:
        """Raises DatabaseError when the database is away; a row that it can never take is logged and left out."""
        if records:
            for start in range(0, len(records), BATCH):
                self._insert(records[start : start + BATCH])
            self._tell_late(records)
        self._note_last_used(records)

    def _insert(self, records: list[Record]) -> None:
        try:
            insert(records)
        except AWAY:
            raise
        except Exception as error:
            # One unwritable row must not hold back all others for ever.
            if len(records) == 1:
                log.exception("usage row %s cannot be written", records[0].get("request_id"), exc_info=error)
                return
            for record in records:
                self._insert([record])

    def _tell_late(self, records: list[Record]) -> None:
        # By the latest time that was ever seen: after a clock that was ahead, sums of hours to come may be kept.
        self._closed = closed = max(self._closed, timezone.now().timestamp() // 3600 * 3600)
        late = {record["created_at"] // 3600 * 3600 for record in records if record["created_at"] < closed}
        if late and self.late_hours:
            self.late_hours({datetime.fromtimestamp(hour, UTC) for hour in late})

    def _note_last_used(self, records: list[Record]) -> None:
        for record in records:
            if record.get("api_key_id"):
                self._last_used[record["api_key_id"]] = record["created_at"]
        if not self._last_used or time.monotonic() - self._last_used_at < LAST_USED_SECONDS:
            return
        used, self._last_used = self._last_used, {}
        self._last_used_at = time.monotonic()
        with transaction.atomic():
            # In one order everywhere, or two workers wait for each other's rows for ever.
            for key_id, at in sorted(used.items()):
                ApiKey.objects.filter(pk=key_id).update(last_used_at=datetime.fromtimestamp(at, UTC))

    def replay(self) -> None:
        """Settles the journals of workers that died: begun and never ended means interrupted."""
        self._orphans_at = time.monotonic()
        try:
            with orphans(self.spool.folder) as found:
                for ended, begun in found:
                    interrupted = [
                        {**record, "status": "interrupted", "error_code": "server_stopped"} for record in begun
                    ]
                    self._commit(ended + interrupted)
                    if ended or interrupted:
                        log.info("journal replayed: %d finished, %d interrupted", len(ended), len(interrupted))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a journal, the server must start
            # The journal stays for the next time; the server serves meanwhile.
            log.error("a journal could not be replayed yet: %s", type(error).__name__)


writer = UsageWriter()
