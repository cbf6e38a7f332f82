"""Responses in the background: made by a task of the server and not of a request, read and ended by whoever asks.

Who makes one holds a lease on its row. A row that is ended or deleted by others is lost to its maker, who stops; a row
whose lease is over was left by a process that died. So cancelling and dying need no word between the processes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from gateway.authentication import Principal
from gateway.errors import GatewayError, ServerStopping, Unavailable
from gateway.surfaces.exchange import Exchange, Message, Scope, Watch
from gateway.surfaces.pipeline import note
from gateway.surfaces.responses import store
from gateway.surfaces.responses.encoder import Answer, ResponseEncoder, error_fields, frame
from gateway.surfaces.responses.items import with_ids
from gateway.surfaces.responses.parser import ResponsesRequest

log = logging.getLogger(__name__)

# Events are kept, leases renewed and cancelled ones noticed as often.
LOOK_SECONDS = 0.5
# How long the database may be away when an answer ends; then its lease runs out.
END_SECONDS = 30.0
LAST_SECONDS = 5.0
SCOPE = ("g4f.request_id", "g4f.started", "g4f.content_type", "path", "method", "headers", "scheme", "server", "type")


class Cancelled(GatewayError):
    """Its owner ended or deleted it."""

    status, type, code = 499, "invalid_request_error", "response_cancelled"

    def __init__(self) -> None:
        super().__init__("The response was cancelled.")


class Job(Exchange):
    """What a request's exchange is to an answer, for one that nobody waits for: its frames become a log."""

    def __init__(self, scope: Scope, chat: ResponsesRequest, principal: Principal, *, streamed: bool) -> None:
        super().__init__({name: scope[name] for name in SCOPE if name in scope}, _nothing, _nowhere)
        assert principal.user_id is not None, "what is kept has an owner"
        self.chat = chat
        self.id = chat.asked.id
        self.owner = principal.user_id
        self.streamed = streamed
        self.frames: list[bytes] = []
        # How many of them lie in the database.
        self.kept = 0
        self.ended = False
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever asked may have left before it failed.
        self.began.add_done_callback(lambda future: future.exception())
        self._moved = asyncio.Event()
        self._watch: Watch | None = None

    # What the pipeline does with an exchange.

    def expect_stream(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Nobody waits for a word."""

    def stop_beating(self) -> None:
        """Nor hears one."""

    def wrote(self, data: bytes) -> bool:
        self.frames += [part + b"\n\n" for part in data.split(b"\n\n") if part]
        self._move()
        return True

    async def write(self, data: bytes) -> None:
        self.wrote(data)

    async def end_stream(self, data: bytes) -> None:
        self.wrote(data)
        self.started = self.over = True

    def watched(self) -> Watch:
        self._watch = super().watched()
        return self._watch

    async def wait_for_leave(self) -> None:
        await asyncio.get_running_loop().create_future()

    # What others do with it.

    def response(self, status: str, error: GatewayError | None = None) -> dict[str, Any]:
        """The response as it is."""
        encoder: ResponseEncoder | None = self.encoder
        answer = encoder.answer if encoder is not None else Answer(self.chat)
        return answer.response(status, error)

    def outcome(self, error: GatewayError | None) -> dict[str, Any]:
        """The response as it ended."""
        encoder: ResponseEncoder | None = self.encoder
        error = error or (encoder.failed if encoder is not None else None)
        if isinstance(error, Cancelled):
            return self.response("cancelled")
        if error is None and encoder is not None:
            return self.response(encoder.answer.status)
        return self.response("failed", error)

    async def follow(self) -> AsyncGenerator[bytes, None]:
        at = 0
        while at < len(self.frames) or not self.ended:
            if at < len(self.frames):
                found = self.frames[at : at + 1000]
                at += len(found)
                yield b"".join(found)
            else:
                await self._moved.wait()

    def lost(self) -> None:
        """Its row was ended or deleted by somebody else."""
        if self._watch is not None:
            self._watch.cut(Cancelled())

    def end(self) -> None:
        self.ended = True
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


class Background:
    """One per process; its jobs live on the loop that began them."""

    def __init__(self) -> None:
        self.worker = ""
        self._jobs: dict[str, tuple[Job, asyncio.Task[None]]] = {}
        self._keeper: asyncio.Task[None] | None = None

    def busy(self) -> bool:
        return bool(self._jobs)

    async def start(self, job: Job, serve: Callable[[], Awaitable[None]]) -> None:
        """Returns once it was let in and has its row; raises what kept it from that."""
        # Never the same twice: a process that comes back has lost what it made.
        self.worker = self.worker or f"{os.getpid()}:{secrets.token_hex(8)}"
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(job, serve))
        self._jobs[job.id] = job, task
        if self._keeper is None or self._keeper.done():
            self._keeper = loop.create_task(self._keep())
        await asyncio.shield(job.began)

    async def begun(self, job: Job) -> None:
        """Raises Unavailable."""
        asked = job.chat.asked
        save = partial(
            store.begin, asked.id, job.owner, asked.previous_id, asked.created_at, with_ids(asked.items, asked.token),
            job.response("in_progress"), self.worker, streamed=job.streamed,
        )  # fmt: skip
        await store.off_the_loop(save)
        if not job.began.done():
            job.began.set_result(None)

    async def _run(self, job: Job, serve: Callable[[], Awaitable[None]]) -> None:
        failure: GatewayError | None = None
        try:
            await serve()
        except GatewayError as error:
            failure = error
            if job.began.done():
                note(job.scope, error)
        except asyncio.CancelledError:
            failure = ServerStopping()
        except Exception:
            log.exception("a response failed", extra={"request_id": job.scope["g4f.request_id"]})
            failure = GatewayError("The server had an error.")
        try:
            if job.began.done():
                await self._ended(job, failure)
            else:
                job.began.set_exception(failure or GatewayError("The response could not begin."))
        finally:
            self._jobs.pop(job.id, None)
            job.end()

    async def _ended(self, job: Job, failure: GatewayError | None) -> None:
        if failure is not None and not job.over:
            encoder: ResponseEncoder | None = job.encoder
            last = frame("error", 0, error_fields(failure)) if encoder is None else encoder.error(failure)
            job.wrote(last)
        body, frames = job.outcome(failure), job.frames if job.streamed else []
        deadline = asyncio.get_running_loop().time() + END_SECONDS
        while True:
            try:
                await store.off_the_loop(partial(store.settle, job.id, self.worker, body, frames))
            except Unavailable:
                if asyncio.get_running_loop().time() > deadline or isinstance(failure, ServerStopping):
                    return
                await asyncio.sleep(1)
            else:
                return

    async def _keep(self) -> None:
        while self._jobs:
            await asyncio.sleep(LOOK_SECONDS)
            begun = [job for job, _ in self._jobs.values() if job.began.done()]
            new = [(job.id, job.kept, job.frames[job.kept :]) for job in begun if job.streamed]
            try:
                mine = await store.off_the_loop(
                    partial(
                        store.look_after, [job.id for job in begun], self.worker, [found for found in new if found[2]]
                    )
                )
            except Unavailable:
                continue
            except Exception:
                # Without this task all of them would lose their leases.
                log.exception("responses in the background cannot be looked after")
                continue
            written = {known: kept + len(frames) for known, kept, frames in new}
            for job in begun:
                job.kept = written.get(job.id, 0)
                if job.id not in mine and job.id in self._jobs:
                    job.lost()

    async def close(self) -> None:
        """Ends what is still going when the server stops, and keeps what it said."""
        tasks = [task for _, task in self._jobs.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_SECONDS)
        if self._keeper is not None:
            self._keeper.cancel()
        self._jobs.clear()
        self._keeper = None


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


async def _nowhere(message: Message) -> None:
    """Nobody is there."""


background = Background()
