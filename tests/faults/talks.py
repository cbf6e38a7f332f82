"""One simulated page: asks in a conversation, is cut off anywhere, comes back, and asks again if it heard nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from tests.faults.cases import KINDS, MARK, Case, cases
from tests.faults.catalogue import ALL

# What the gateway says to have an answer continued; the scripted provider repeats it.
CONTINUE = "Continue your last message exactly where it stopped. Repeat nothing of it, and add no introduction."
PATH = "/backend-api/v2/conversation"
# Longer than the lease of a worker that died, and its marking by another one.
PATIENCE = 75.0
PAUSE = 0.15
# Answers with pauses in between, which a page can leave.
SLOW_SHARE, LONG_SHARE = 0.6, 0.06
SLOW_WORDS, LONG_WORDS = (3, 25), (80, 150)
WHOLE = tuple(name for name in ("drip", "small-packets", "comments", "carriage-returns") if name in ALL)


@dataclass(frozen=True, slots=True)
class Talk:
    """One question, and how its page behaves.

    `cuts`: the connection is lost each time after so many further events. `name`: the field in which a repetition
    says that it is one, `id` or `Idempotency-Key`. `stops` after so many events. `snoop`: another user, who asks
    for the answer.
    """

    case: Case
    conversation: str
    cuts: tuple[int, ...] = ()
    name: str = "id"
    stops: int | None = None
    snoop: int | None = None


@dataclass
class Told:
    """What a page was told. `times`: when how many characters of the answer had come since the last beginning."""

    talk: Talk
    began: float
    ended: float = 0.0
    request_ids: list[str] = field(default_factory=list)
    # Questions of which nobody said what became of them.
    unheard: int = 0
    refusals: list[tuple[float, int, str]] = field(default_factory=list)
    breaks: list[tuple[float, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    message: str = ""
    state: str = ""
    number: int = 0
    text: str = ""
    # Of the error that ended it.
    code: str = ""
    snapshot: bool = False
    stopped: bool = False
    joins: int = 0
    strangers: set[str] = field(default_factory=set)
    # What a continued answer says; None: what the case says.
    whole: str | None = None
    times: list[tuple[float, int]] = field(default_factory=list)

    def take(self, number: int, event: dict[str, Any]) -> None:
        if event["type"] == "snapshot":
            self.text, self.number, self.snapshot = event["content"], number, True
            self.code = (event["error"] or {}).get("code") or ""
        elif event["type"] == "end" and self.snapshot:
            self.state = event["state"]
        else:
            if number != self.number + 1:
                self.problems.append(f"event {number} came after {self.number}")
            self.number = number
            self._heard(event)
        self.strangers |= set(MARK.findall(json.dumps(event))) - {self.talk.case.mark}

    def _heard(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "content":
                self.text += event["content"]
                self.times.append((time.monotonic(), len(self.text)))
            case "error" | "auth":
                self.code = event["code"]
            case "end":
                self.state = event["state"]


def talks(seed: int, count: int, share: float, only: Sequence[str] = ()) -> Iterator[Talk]:
    """As `cases`: what does not end by itself is cut, left and rejoined."""
    chance = random.Random(seed + 7)
    for case in cases(seed, count, share, only):
        yield _talk(chance, replace(case, stream=True, asks_usage=True, leave=None, slow=0.0, rest=0.0, pad=0))


def _talk(chance: random.Random, case: Case) -> Talk:
    stops = None
    if case.words > 12:
        # It was to be read slowly; pages do that by leaving.
        case = replace(case, words=12, at=min(case.at, 11))
    if case.fault == "none" and chance.random() < SLOW_SHARE:
        low, high = LONG_WORDS if chance.random() < LONG_SHARE else SLOW_WORDS
        case = replace(case, fault=chance.choice((*WHOLE, "drip", "drip")), words=chance.randint(low, high))
        if chance.random() < 0.05:
            stops = chance.randint(2, 12)
    cuts = tuple(chance.randint(1, 9) for _ in range(chance.randint(1, 6))) if chance.random() < 0.7 else ()
    conversation = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    name = "Idempotency-Key" if chance.random() < 0.3 else "id"
    return Talk(case, conversation, cuts, name, stops, chance.randrange(12) if chance.random() < 0.1 else None)


class Line(contextlib.AbstractAsyncContextManager["Line"]):
    """One request on a connection of its own. Leaving the block drops it, wherever it is."""

    def __init__(self, port: int, key: str, method: str, path: str, body: Any = None, **headers: str) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.sent = False
        self._port = port
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n{''.join(lines)}"
        self._data = f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**22)
        try:
            self.sent = True
            self._writer.write(self._data)
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except BaseException:
            self._writer.transport.abort()
            raise
        first, *lines = head.rstrip("\r\n").split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.status = int(first.split(" ")[1])
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._writer.transport.abort()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            yield await self._reader.readexactly(int(self.headers.get("content-length", "0")))
            return
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)

    async def body(self) -> Any:
        return json.loads(b"".join([piece async for piece in self.pieces()]) or b"null")

    async def events(self) -> AsyncGenerator[tuple[int, dict[str, Any]], None]:
        """What has a number, in order; `reconnect` and comments are passed over."""
        rest = b""
        async for piece in self.pieces():
            *frames, rest = (rest + piece).split(b"\n\n")
            for frame in frames:
                found = dict(line.split(b": ", 1) for line in frame.split(b"\n") if not line.startswith(b":"))
                if found and found[b"event"] != b"reconnect":
                    yield int(found[b"id"]), json.loads(found[b"data"])
        if rest:
            raise EOFError("half an event")


class Page:
    """`wait` returns once the gateway takes connections at all."""

    def __init__(self, port: int, keys: Sequence[str], wait: Any) -> None:
        self._port = port
        self._keys = keys
        self._wait = wait

    async def talk(self, talk: Talk) -> Told:
        told = Told(talk, time.monotonic())
        body = {
            "model": talk.case.model, "conversation_id": talk.conversation,
            "messages": [{"role": "user", "content": talk.case.prompt}],
        }  # fmt: skip
        await self._through(told, body)
        return told

    async def go_on(self, first: Told) -> Told:
        """`action: continue` after an answer that was interrupted."""
        case = replace(first.talk.case, fault="none", kind=KINDS[1], model=f"{KINDS[1].name}-0")
        told = Told(Talk(case, first.talk.conversation), time.monotonic(), whole=CONTINUE)
        body = {
            "model": case.model, "conversation_id": first.talk.conversation, "parent_id": first.message,
            "action": "continue",
        }  # fmt: skip
        await self._through(told, body)
        return told

    async def _through(self, told: Told, body: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(told.talk.case.deadline + PATIENCE):
                await self._to_the_end(told, body)
        except TimeoutError:
            told.state = "hung"
        told.ended = time.monotonic()

    async def _to_the_end(self, told: Told, body: dict[str, Any]) -> None:
        cuts, name = iter(told.talk.cuts), uuid.uuid4().hex
        while not told.state:
            await self._wait()
            began = time.monotonic()
            line = self._rejoining(told) if told.message else self._asking(told, body, name)
            try:
                async with line:
                    await self._read(line, told, next(cuts, None))
            except (OSError, EOFError, asyncio.IncompleteReadError):
                told.breaks.append((began, time.monotonic()))
                told.unheard += line.sent and not told.message
                await asyncio.sleep(PAUSE)

    def _asking(self, told: Told, body: dict[str, Any], name: str) -> Line:
        key = self._keys[told.talk.case.user]
        if told.talk.name == "id":
            return Line(self._port, key, "POST", PATH, {**body, "id": name})
        return Line(self._port, key, "POST", PATH, body, idempotency_key=name)

    def _rejoining(self, told: Told) -> Line:
        told.joins += 1
        path = f"{PATH}/{told.talk.conversation}/stream?message_id={told.message}"
        key = self._keys[told.talk.case.user]
        if told.joins % 2:
            return Line(self._port, key, "GET", path, last_event_id=str(told.number))
        return Line(self._port, key, "GET", f"{path}&after={told.number}")

    async def _read(self, line: Line, told: Told, most: int | None) -> None:
        if line.status == 204:
            told.problems.append(f"there was nothing after event {told.number}, which was not the end")
            told.state = "lost"
        elif line.status != 200:
            error = (await line.body())["error"]
            told.refusals.append((time.monotonic(), line.status, error["code"]))
            if error["code"] == "idempotency_key_reused":
                told.state = "lost"
            await asyncio.sleep(PAUSE * 2)
        else:
            if not told.message:
                told.message = line.headers["x-message-id"]
                if "idempotent-replayed" not in line.headers:
                    told.request_ids.append(line.headers["x-request-id"])
                else:
                    told.unheard = max(told.unheard, 1)
                await self._snoop(told)
            await self._events(line, told, most)

    async def _events(self, line: Line, told: Told, most: int | None) -> None:
        count = 0
        async for number, event in line.events():
            told.take(number, event)
            count += 1
            if told.talk.stops is not None and not told.stopped and told.number >= told.talk.stops:
                await self._stop(told)
            if told.state or count == most:
                return

    async def _stop(self, told: Told) -> None:
        told.stopped = True
        path = f"{PATH}/{told.talk.conversation}/stop"
        with contextlib.suppress(OSError, EOFError):
            async with Line(self._port, self._keys[told.talk.case.user], "POST", path) as line:
                told.stopped = line.status == 200

    async def _snoop(self, told: Told) -> None:
        """Somebody else asks for the answer, and wants it stopped."""
        if told.talk.snoop in (None, told.talk.case.user):
            return
        key = self._keys[told.talk.snoop or 0]
        for method, what in (("GET", "stream"), ("POST", "stop")):
            with contextlib.suppress(OSError, EOFError):
                async with Line(self._port, key, method, f"{PATH}/{told.talk.conversation}/{what}") as line:
                    if line.status not in (404, 503):
                        told.strangers.add(f"user {told.talk.snoop} got {line.status} for {what}")
