"""One answer being made, by a task that belongs to the server and to no request.

It takes the way of every other request (routing, limits, relay, one usage row); what is its own is where its events
go: into a log that anybody who may can follow, and into the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from typing import Any

from django.conf import settings

from conversations.generation import browser_events as say
from conversations.generation import drawing, pictures, rows
from conversations.generation.ask import CONTINUE, Ask
from conversations.generation.browser_events import BrowserEncoder
from conversations.generation.event_log import EventLog, LogFull
from conversations.generation.rows import Begun, Outcome, Progress
from conversations.generation.small_model import Extras, extras
from conversations.generation.telling import Teller
from conversations.generation.threads import off_the_loop
from conversations.memory.using import remember
from conversations.models.conversations import State
from gateway import relay
from gateway.answer_cache import Source
from gateway.authentication import Principal
from gateway.breaker import breaker
from gateway.chat import ChatRequest
from gateway.errors import GatewayError, ServerStopping, Unavailable
from gateway.events import Event, Failed, MediaOutput, Started, Usage
from gateway.limiter import Admission, limiter, limits_of
from gateway.live import Live, answers
from gateway.pictures import PictureRequest
from gateway.routing import targets_of
from gateway.snapshot import store
from gateway.surfaces.kept import NOT_IN_MARKDOWN
from gateway.surfaces.openai.attachments import attach
from gateway.surfaces.openai.encoder import estimated
from gateway.surfaces.openai.errors import limit_headers
from gateway.surfaces.searching import Cited, search
from gateway.targets import Target
from gateway.upstream import upstream
from gateway.usage import Tally

log = logging.getLogger(__name__)

SURFACE = "backend.conversation"
CLIENT_CLOSED = 499
# How long the database may be away when an answer ends, before its text is left to what was saved last.
END_SECONDS = 60.0
MAX_ALT = 100
MAX_PROMPT = 2000
MAX_CITATIONS = 200
# Nano-dollars that a column holds; providers may say any number of tokens.
MAX_COST = 2**62


class Stopped(GatewayError):
    """Its owner stopped it."""

    status = 499

    def __init__(self) -> None:
        super().__init__("The answer was stopped.")


class Unwatched(GatewayError):
    """Nobody has looked at it for as long as it may go on so."""

    status = 499

    def __init__(self) -> None:
        super().__init__("Nobody was there any more.")


class WatchedTally(Tally):
    """Tells what is tried as it happens."""

    runner: Runner

    def trying(self, target: Target) -> None:
        super().trying(target)
        self.runner.trying(target)

    def tried(self, error: GatewayError | None) -> None:
        super().tried(error)
        self.runner.tried(error)


def _last_words(chat: ChatRequest) -> str:
    return next((message.text for message in reversed(chat.messages()) if message.role == "user"), "")


class Runner:
    """`done` is called on its loop when everything is over."""

    def __init__(self, begun: Begun, ask: Ask, principal: Principal, request_id: str, base: str, worker: str) -> None:
        assert principal.user_id is not None, "conversations have an owner"
        self.generation = begun.generation
        self.begun = begun
        self.log = EventLog(begun.generation)
        self.reason: GatewayError | None = None
        self.viewers = 0
        # Somebody else has closed or deleted it.
        self.taken = False
        self._ask = ask
        self._principal = principal
        self._owner = principal.user_id
        self._request_id = request_id
        self._base = base
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._encoder = BrowserEncoder()
        self._teller = Teller(self.log, lambda: self.cut(_too_large()))
        self._alone: asyncio.TimerHandle | None = None
        self._lines: list[str] = []
        self._target: Target | None = None
        self._tried = 0
        self._chat: ChatRequest | None = None
        self._answering = False
        self._cost: float | None = None
        self.task: asyncio.Task[None] = self._loop.create_task(self._run())
        self._left_alone()

    # What others do with it.

    def progress(self) -> Progress:
        """From another thread: lists only grow, so what is read was there."""
        encoder = self._encoder
        return Progress(self.generation, self.begun.message, self.log.seq, encoder.text, encoder.reasoning)

    def lost(self) -> None:
        self._loop.call_soon_threadsafe(self.cut, Stopped())

    def cut(self, reason: GatewayError) -> None:
        """Ends it, on its loop. The first reason counts; what comes after the answer itself is only left out."""
        if self.reason is None and not self.task.done():
            self.reason = reason
            if self._answering:
                self.task.cancel()

    def enter(self) -> None:
        """Somebody watches through this process."""
        self.viewers += 1
        if self._alone is not None:
            self._alone.cancel()
            self._alone = None

    def leave(self) -> None:
        self.viewers -= 1
        if not self.viewers:
            self._left_alone()

    def _left_alone(self) -> None:
        if not self.task.done():
            self._alone = self._loop.call_later(settings.GENERATION_SECONDS, self.cut, Unwatched())

    # The answer.

    async def _run(self) -> None:
        state: str = State.ERROR
        self._answering = True
        try:
            if self.reason is not None:
                raise asyncio.CancelledError
            await self._answer()
            state = State.DONE
        except GatewayError as error:
            self._failed(error)
        except LogFull:
            self._failed(_too_large())
        except asyncio.CancelledError:
            self.task.uncancel()
            state = self._ended_by(self.reason or ServerStopping())
        except Exception:
            log.exception("an answer failed", extra={"request_id": self._request_id})
            self._failed(
                GatewayError(
                    f"The server had an error. Its log has it under {self._request_id}.", code="internal_error"
                )
            )
        self._answering = False
        await self._finish(state)

    def _ended_by(self, reason: GatewayError) -> str:
        """What becomes of an answer that somebody cut short."""
        if isinstance(reason, Stopped | Unwatched):
            self._encoder.finish_reason = "stopped"
            return State.STOPPED
        if isinstance(reason, ServerStopping):
            self._encoder.finish_reason = State.INTERRUPTED
            return State.INTERRUPTED
        self._failed(reason)
        return State.ERROR

    def _failed(self, error: GatewayError) -> None:
        error.named(self._request_id)
        if error.status >= 500:
            marks = {"request_id": self._request_id, "path": "/backend-api/v2/conversation"}
            log.warning("answered %s %s: %s", error.status, error.code, error.message, extra=marks)
        self._encoder.error, self._encoder.finish_reason = error, "error"
        self._teller.tell(say.failure(error))

    async def _answer(self) -> None:
        """Raises GatewayError, LogFull."""
        self._greet()
        chat, principal = await self._asked(), self._principal
        draws = drawing.is_drawing(chat)
        targets = targets_of(store.current, chat, principal, *([drawing.IMAGES] if draws else []))
        live = Live(principal, self._loop, self.cut, True)
        answers.enter(live)
        admission: Admission | None = None
        tally: WatchedTally | None = None
        try:
            limits = limits_of(principal)
            if limits or store.current.limits_models:
                targets = breaker.order(targets)
                admission, targets = await limiter.admit_somewhere(limits, targets, chat)
                if headers := limit_headers(admission.standings):
                    self._teller.tell({"type": "headers", "headers": {k.decode(): v.decode() for k, v in headers}})
            if chat.attached:
                await attach(chat, principal, kept=True)
            if draws:
                self._teller.tell(say.drawing())
                chat = drawing.request_of(chat)
            if chat.search:
                self._teller.tell(say.searching(chat.search))
                await search(chat, principal)
            tally = WatchedTally(self._request_id, principal, chat, SURFACE)
            tally.runner = self
            await self._relay(chat, targets, tally)
        finally:
            answers.leave(live)
            if admission is not None:
                admission.leave()
                # Who stops it before usage is known has used what was estimated, as far as anyone knows.
                if tally is None or tally.usage is not None or self.reason is None:
                    admission.settle(tally.total() if tally else None)

    def _greet(self) -> None:
        ask, begun = self._ask, self.begun
        self._teller.tell(say.provider(ask.provider or "AnyProvider", ask.model))
        self._teller.tell(say.parameters())
        ids = {
            "id": str(begun.generation), "conversation_id": str(begun.conversation), "message_id": str(begun.message),
            "parent_id": str(begun.parent) if begun.parent else None,
        }  # fmt: skip
        self._teller.tell({"type": "generation", "generation": ids})

    async def _asked(self) -> ChatRequest:
        """The chat for providers: pictures of ours as bytes, and what continues an answer. Raises GatewayError."""
        messages = self.begun.messages
        if self._ask.action == "continue" and messages and messages[-1].get("role") == "assistant":
            messages = [*messages, {"role": "user", "content": CONTINUE}]
        for message in messages:
            if isinstance(message.get("content"), list):
                message["content"] = list(message["content"])
        if any(isinstance(message.get("content"), list) for message in messages):
            await off_the_loop(lambda: pictures.with_bytes(messages, self._owner, self._base), files=True)
        self._chat = self._ask.chat(messages)
        await remember(self._chat, self._principal)
        return self._chat

    async def _relay(self, chat: ChatRequest, targets: tuple[Target, ...], tally: WatchedTally) -> None:
        """Books the answer exactly once, however it ends."""
        tally.begin(targets[0])
        encoder = self._encoder
        try:
            source: Source = Cited(relay, chat) if chat.citations else relay
            if isinstance(chat, PictureRequest):
                source = drawing.Drawing()
            async with aclosing(source.stream(upstream, chat, targets, tally)) as events:
                async for event in events:
                    await self._take(event, chat)
            if encoder.error is not None:
                raise encoder.error
        except GatewayError as error:
            self._book_partial(tally, chat)
            tally.end("error", error.status, error)
            raise
        except asyncio.CancelledError:
            self._book_partial(tally, chat)
            cut = self.reason or ServerStopping()
            if isinstance(cut, ServerStopping):
                tally.end("interrupted", cut.status, cut)
            else:
                tally.end("cancelled", CLIENT_CLOSED)
            raise
        except BaseException:
            self._book_partial(tally, chat)
            tally.end("error", 500)
            raise
        encoder.usage = tally.usage = encoder.usage or estimated(chat, encoder.chunks)
        self._cost = tally.cost(encoder.usage)
        tally.end("ok", 200)

    def _book_partial(self, tally: Tally, chat: ChatRequest) -> None:
        encoder = self._encoder
        if tally.usage is None:
            tally.usage = encoder.usage or (estimated(chat, encoder.chunks) if encoder.chunks else None)
        encoder.usage = tally.usage

    async def _take(self, event: Event, chat: ChatRequest) -> None:
        if self._ask.debug and self._principal.is_staff and not isinstance(event, Started):
            self._teller.tell(say.debugged(event))
        if isinstance(event, Started):
            for _ in self._encoder.items(event):
                pass
        elif isinstance(event, MediaOutput) and not event.index:
            await self._keep(event, chat)
        elif isinstance(event, drawing.Unfinished):
            if url := await pictures.glimpse(event.picture):
                self._teller.tell(say.preview(url))
        elif isinstance(event, Failed):
            # Raised once the relay has closed the attempt.
            self._encoder.error = event.error
        else:
            for item in self._encoder.items(event):
                self._teller.piece(item)

    async def _keep(self, event: MediaOutput, chat: ChatRequest) -> None:
        asked = chat.prompt if isinstance(chat, PictureRequest) else _last_words(chat)
        url = None
        if chat.keep_media:
            about = {"prompt": asked[:MAX_PROMPT], "provider": self._encoder.provider, "model": self._encoder.model}
            url = await pictures.made(event.mime_type, event.data, self._owner, about)
        words = " ".join(NOT_IN_MARKDOWN.sub(" ", asked[:MAX_ALT]).split()) or "image"
        url = url or f"data:{event.mime_type};base64,{event.data}"
        for item in self._encoder.media(url, event.mime_type, words):
            self._teller.tell(item)

    # What a tally hears.

    def trying(self, target: Target) -> None:
        self._target = target
        self._tried += 1
        self._teller.tell(say.provider(target.provider, target.public_id))
        if self._ask.debug and self._principal.is_staff and self._chat is not None:
            self._teller.tell({"type": "request", "request": {**self._chat.body, "model": target.upstream_model}})

    def tried(self, error: GatewayError | None) -> None:
        if self._target is None:
            return
        name = f"{self._target.provider}/{self._target.public_id}"
        self._lines.append(f"{name}: {'answered' if error is None else f'{error.status} {error.code}'}")
        if error is not None and not self._encoder.chunks:
            self._teller.tell(say.passed_over(error))

    # The end.

    async def _finish(self, state: str) -> None:
        # What could not be recorded is closed by the reaper.
        told: str = State.INTERRUPTED
        try:
            told = await self._settled(state)
            if told == State.DONE and self.reason is None:
                await self._more(self._encoder)
        except Exception:
            log.exception("an answer did not end as it should", extra={"request_id": self._request_id})
        finally:
            # Whatever happened, viewers wait for this.
            for line in self._lines:
                self._append({"type": "log", "log": line})
            self._append(rows.ended(told), last=True)
            if self._alone is not None:
                self._alone.cancel()

    async def _settled(self, state: str) -> str:
        """Puts the end into the log and the database; what became of the answer."""
        try:
            self._close(state)
        except LogFull:
            state = State.ERROR
        if await self._recorded(self._outcome(state)):
            return state
        # Another process has closed it, because this one seemed dead.
        self.taken = True
        return State.INTERRUPTED

    def _append(self, item: dict[str, Any], *, last: bool = False) -> None:
        try:
            self.log.append(item, last=last)
        except LogFull:
            log.warning("an event did not fit", extra={"request_id": self._request_id})

    def _close(self, state: str) -> None:
        """What follows the text. Raises LogFull."""
        encoder = self._encoder
        self._teller.flush()
        if state == State.DONE:
            encoder.finish_reason = encoder.finish_reason or "stop"
        if encoder.provider and encoder.error is None:
            given = self.begun.state.get(encoder.provider)
            ids = {"conversation_id": str(self.begun.conversation), "message_id": str(self.begun.message)}
            kept = {**(given if isinstance(given, dict) else {}), **ids}
            self._teller.tell({"type": "conversation", "conversation": {encoder.provider: kept}})
        if encoder.error is None:
            self._teller.tell({"type": "finish", "finish": {"reason": encoder.finish_reason}})
        if encoder.usage is not None:
            self._teller.tell(say.usage(encoder.usage, encoder.model, encoder.provider, self._cost))

    def _outcome(self, state: str) -> Outcome:
        """Its number is that of the last event, unless a title comes before: whoever has seen less is told the rest."""
        encoder, error = self._encoder, self._encoder.error
        used: Usage | None = encoder.usage
        said = say.usage(used, encoder.model, encoder.provider, self._cost)["usage"] if used else None
        told = {"message": error.message, "type": error.type, "code": error.code} if error is not None else None
        last = self.log.seq + len(self._lines) + 1
        return Outcome(
            state, last, encoder.text, encoder.reasoning, encoder.tool_calls, encoder.provider, encoder.model,
            said, None if self._cost is None else min(round(self._cost * 1e9), MAX_COST), encoder.finish_reason, told,
            encoder.citations[:MAX_CITATIONS],
        )  # fmt: skip

    async def _recorded(self, outcome: Outcome) -> bool:
        """Tries for a minute while the database is away; then the reaper closes it with what was saved."""
        begun, deadline = self.begun, time.monotonic() + END_SECONDS
        while True:
            try:
                return await asyncio.shield(
                    off_the_loop(lambda: rows.end(begun.generation, begun.message, self._worker, outcome))
                )
            except Unavailable:
                if time.monotonic() > deadline or isinstance(self.reason, ServerStopping):
                    return False
                await asyncio.sleep(1)

    async def _more(self, encoder: BrowserEncoder) -> None:
        """A title and suggestions by the operator's small model; and whether the answer can be spoken."""
        name = encoder.provider.lower()
        policy = store.current.by_name.get(name)
        if policy is not None and encoder.text and any(model.flags.get("speech") for model in policy.models.values()):
            self._append({"type": "synthesize", "synthesize": {"provider": encoder.provider, "data": {}}})
        if not settings.SMALL_MODEL or self._chat is None or not encoder.text:
            return
        found = await self._extras(encoder)
        if found is None:
            return
        begun = self.begun
        if found.title and len(begun.messages) <= 2 and not begun.temporary:
            try:
                if await off_the_loop(lambda: rows.set_title(begun.conversation, begun.title, found.title)):
                    self._append({"type": "title", "title": found.title})
            except GatewayError:
                log.warning("a title was not kept", extra={"request_id": self._request_id})
        if found.suggestions:
            self._append({"type": "suggestions", "suggestions": found.suggestions})

    async def _extras(self, encoder: BrowserEncoder) -> Extras | None:
        asked = next((m.text for m in reversed(self._chat.messages()) if m.role == "user"), "") if self._chat else ""
        return await extras(self._principal, self._request_id, asked, encoder.text)


def _too_large() -> GatewayError:
    return Unavailable("The answer is larger than any that is kept.", code="answer_too_large", should_retry=False)
