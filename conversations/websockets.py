"""The websocket `/ws/`: news of one's own lists and answers, and the events of answers (docs/streaming.md).

Who opens it is asked before it is open. A browser's session counts only from a page of this server, because browsers
send cookies with whatever any page opens; a key counts as everywhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections import Counter, deque
from contextlib import aclosing, suppress
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.http import parse_cookie

from conversations.generation import rows
from conversations.generation.ask import conversation_id
from conversations.generation.consumer import events_after, watching
from conversations.generation.threads import off_the_loop
from conversations.live import changes
from conversations.live.hub import LOOK, Item, hub
from gateway.authentication import Principal, authenticate_scope
from gateway.errors import BadRequest, GatewayError, NotAllowed, NotAuthenticated, ServerStopping, TooManyStreams
from gateway.live import Live, answers

log = logging.getLogger(__name__)

PATHS = ("/ws", "/ws/")
# Of one user in one process, and of one socket.
MOST_SOCKETS = 32
MOST_FOLLOWED = 8
MOST_WAITING = 200
# A client asks for little: more than so many messages in so many seconds is none.
MOST_MESSAGES, MESSAGES_SECONDS = 60, 5.0
CHECK_SECONDS = 60.0
# A session ends a little after it was said that it does.
SOON_SECONDS = 0.3
# How long a client may take nothing of what waits for it.
READER_SECONDS = 60.0
NOT_ALLOWED, TOO_MUCH, STOPPING = 4401, 1008, 1012
BEAT: Item = {"type": "beat"}
# By user.
_open: Counter[int] = Counter()
DATA = re.compile(rb"^id: (\d+)\ndata: (.*)$", re.MULTILINE)


async def websocket_application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Raises GatewayError before anything is open."""
    if scope["path"] not in PATHS:
        raise BadRequest("No such websocket.", status=404, code="unknown_url")
    principal = await _principal(scope)
    user = principal.user_id or 0
    if _open[user] >= MOST_SOCKETS:
        raise TooManyStreams(f"{MOST_SOCKETS} websockets of yours are open, which is the limit.", retry_after=30)
    # Counted before anything is waited for: many may come at once.
    _open[user] += 1
    try:
        await LiveSocket()({**scope, "principal": principal}, receive, send)
    finally:
        _open[user] -= 1
        if not _open[user]:
            del _open[user]


async def _principal(scope: dict[str, Any]) -> Principal:
    """Raises NotAuthenticated, and NotAllowed for a page of another place."""
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    if origins and not all(_is_ours(origin, scope) for origin in origins):
        raise NotAllowed("A page of another origin may not open this websocket.", code="origin_not_allowed")
    # A key's scopes are about this door; and reading needs no token.
    principal = await authenticate_scope({**scope, "path": "/backend-api/v2/ws", "method": "GET", "type": "http"})
    if principal.user_id is None:
        raise NotAuthenticated("News belong to a user: sign in, or send an API key as `Authorization: Bearer KEY`.")
    if principal.key is None and not origins:
        raise NotAllowed("A session opens this websocket from a page alone.", code="origin_not_allowed")
    return principal


def _is_ours(origin: str, scope: dict[str, Any]) -> bool:
    """Of the place that the request is sent to, which the edge has checked, or of one that the operator trusts."""
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").lower()
    return origin in settings.CSRF_TRUSTED_ORIGINS or origin.lower() in (f"http://{host}", f"https://{host}")


def _session(scope: dict[str, Any]) -> str:
    """The digest of the session's key; empty for none."""
    for name, value in scope["headers"]:
        if name == b"cookie":
            key = parse_cookie(value.decode("latin-1")).get(settings.SESSION_COOKIE_NAME)
            return changes.digest_of(key) if key else ""
    return ""


class LiveSocket(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One open page. News wait in a queue; when that is full they give way to one word, to look for oneself."""

    # Its own queue is the only one.
    channel_layer_alias = ""
    user_id = 0

    async def connect(self) -> None:
        self._principal: Principal = self.scope["principal"]
        assert self._principal.user_id is not None
        self.user_id = self._principal.user_id
        self._session = _session(self.scope)
        self._waiting: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing: int | None = None
        self._came: deque[float] = deque(maxlen=MOST_MESSAGES)
        self._followed: dict[UUID, asyncio.Task[None]] = {}
        loop = asyncio.get_running_loop()
        self._checking: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        await self.accept()
        self._live = Live(self._principal, loop, self._ended_by, False)
        answers.enter(self._live)
        hub.add(self)
        self._put({"type": "hello", "user": self.user_id})
        self._writer = self._task(self._write())
        self._checker = self._task(self._check_now_and_then())

    async def disconnect(self, code: int) -> None:
        hub.remove(self)
        answers.leave(self._live)
        if self._checking is not None:
            self._checking.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _task(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # What it is told.

    def hear(self, item: Item) -> None:
        if item["type"] == changes.SIGNED_OUT:
            if self._session and item["session"] == self._session:
                self._close(NOT_ALLOWED)
        elif item["type"] == changes.CHECK:
            if self._checking is None:
                self._checking = asyncio.get_running_loop().call_later(SOON_SECONDS, self._check_soon)
        elif len(self._waiting) >= MOST_WAITING:
            self._waiting.clear()
            self._put(LOOK)
        else:
            self._put(item)

    def _put(self, item: Item) -> None:
        self._waiting.append(orjson.dumps(item, default=str))
        self._more.set()

    async def _event(self, data: bytes) -> None:
        await self._room.wait()
        self._waiting.append(data)
        self._more.set()
        if len(self._waiting) >= MOST_WAITING // 2:
            self._room.clear()

    def _close(self, code: int) -> None:
        self._closing = self._closing or code
        self._more.set()

    def _ended_by(self, error: GatewayError) -> None:
        self._close(STOPPING if isinstance(error, ServerStopping) else NOT_ALLOWED)

    async def _write(self) -> None:
        """Everything that waits, as fast as the client reads; into every silence a word that somebody is there."""
        while self._closing is None:
            if not self._waiting:
                self._more.clear()
                self._room.set()
                try:
                    async with asyncio.timeout(settings.HEARTBEAT_SECONDS):
                        await self._more.wait()
                except TimeoutError:
                    self._put(BEAT)
            while self._waiting and self._closing is None:
                try:
                    async with asyncio.timeout(READER_SECONDS):
                        await self.send(text_data=self._waiting.popleft().decode())
                except TimeoutError:
                    self._close(TOO_MUCH)
                except (RuntimeError, OSError):
                    # The protocol has closed it meanwhile.
                    return
                if len(self._waiting) < MOST_WAITING // 4:
                    self._room.set()
        with suppress(RuntimeError, OSError):
            async with asyncio.timeout(1):
                await self.close(self._closing)

    # Whether its user still is who it was.

    def _check_soon(self) -> None:
        self._checking = None
        self._task(self._check())

    async def _check_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self._check()

    async def _check(self) -> None:
        try:
            found = await _principal(self.scope)
        except GatewayError as error:
            if error.status < 500:
                self._close(NOT_ALLOWED)
            return
        except Exception:
            log.exception("the right to a websocket cannot be checked")
            return
        if found.user_id != self.user_id:
            self._close(NOT_ALLOWED)

    # What it asks.

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        now = time.monotonic()
        if len(self._came) == MOST_MESSAGES and now - self._came[0] < MESSAGES_SECONDS:
            self._close(TOO_MUCH)
            return
        self._came.append(now)
        try:
            asked = orjson.loads(text_data or b"")
        except json.JSONDecodeError:
            asked = None
        act = {"follow": self._follow, "unfollow": self._unfollow}.get(
            str(asked.get("type")) if isinstance(asked, dict) else ""
        )
        if act is None:
            self._refuse("Send an object whose type is follow or unfollow.")
        else:
            act(asked)

    def _refuse(self, message: str, **more: Any) -> None:
        self.hear({"type": "refused", "message": message, **more})

    def _follow(self, asked: Item) -> None:
        named, message, after = asked.get("conversation_id"), asked.get("message_id"), asked.get("after", 0)
        try:
            if not isinstance(named, str) or not 0 < len(named) <= 200 or not isinstance(after, int) or after < 0:
                raise ValueError
            conversation, wanted = conversation_id(named, self.user_id), UUID(message) if message is not None else None
        except (ValueError, TypeError, AttributeError):
            self._refuse("conversation_id, message_id or after is none.")
            return
        self._unfollow(asked)
        if len(self._followed) >= MOST_FOLLOWED:
            self._refuse(f"{MOST_FOLLOWED} answers are followed, which is the limit.", conversation_id=named)
            return
        task = self._task(self._tell_events(named, conversation, wanted, min(after, 2**53)))
        self._followed[conversation] = task
        task.add_done_callback(partial(self._forget, conversation))

    def _unfollow(self, asked: Item) -> None:
        named = asked.get("conversation_id")
        task = self._followed.pop(conversation_id(named, self.user_id), None) if isinstance(named, str) else None
        if task is not None:
            task.cancel()

    def _forget(self, conversation: UUID, task: asyncio.Task[None]) -> None:
        if self._followed.get(conversation) is task:
            del self._followed[conversation]

    async def _tell_events(self, named: str, conversation: UUID, message: UUID | None, after: int) -> None:
        """The events of an answer as its stream has them, with their numbers; waits while the client reads slowly."""
        try:
            found = await off_the_loop(partial(rows.find, self.user_id, conversation, message))
            find = partial(rows.find, self.user_id, conversation, found.message_id)
            head = orjson.dumps(
                {"type": "event", "conversation_id": str(conversation), "message_id": str(found.message_id)}
            )[:-1]
            with watching(found.pk):
                async with aclosing(events_after(found.pk, after, find)) as events:
                    async for _, data in events:
                        for number, event in DATA.findall(data):
                            await self._event(head + b',"id":%b,"event":%b}' % (number, event))
        except GatewayError as error:
            self._refuse(error.message, conversation_id=named, code=error.code)
