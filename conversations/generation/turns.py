"""Chats of `/v1/chat/completions` in a stored conversation: what was said before comes with them, and what is answered
is kept as it is made. The request is the gateway's; only its rows are ours (`gateway/contexts.py`).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from conversations.generation import pictures, rows
from conversations.generation.ask import Ask, conversation_id, digest, named_by
from conversations.generation.browser_events import BrowserEncoder
from conversations.generation.browser_events import usage as usage_told
from conversations.generation.consumer import begin
from conversations.generation.keeper import keeper
from conversations.generation.rows import Begun, Outcome, Progress
from conversations.generation.runner import MAX_CITATIONS, MAX_COST, Stopped
from conversations.generation.threads import off_the_loop
from conversations.models import Message
from conversations.models.conversations import State
from gateway.authentication import Principal
from gateway.chat import ChatRequest, InConversation
from gateway.contexts import Around
from gateway.errors import GatewayError, ServerStopping, Unavailable
from gateway.events import Event, Finished, ReasoningDelta, Started, TextDelta, ToolCallDelta, Usage

log = logging.getLogger(__name__)

# How long the database may be away when an answer ends; then the reaper closes it with what was saved.
END_SECONDS = 60.0
RETRY_SECONDS = 1.0
_late: set[asyncio.Task[None]] = set()


async def open_turn(chat: ChatRequest, principal: Principal, around: Around) -> Turn:
    """Writes question and answer-to-be. Raises GatewayError: 404 for another's conversation, 409 for a busy one."""
    owner, place = principal.user_id, chat.conversation
    assert owner is not None
    assert place is not None
    ask = _ask(chat, place, owner)
    if around.key is not None:
        named_by(ask, around.key)
    begun = await off_the_loop(partial(begin, principal, owner, ask, []))
    if not begun.fresh:
        row = await off_the_loop(partial(Message.objects.get, pk=begun.message))
        return Turn(begun, place, owner, around.base, list(_events(row)))
    turn = Turn(begun, place, owner, around.base)
    try:
        if any(isinstance(message.get("content"), list) for message in begun.messages):
            await off_the_loop(partial(pictures.with_bytes, begun.messages, owner, around.base))
    except BaseException as error:
        await turn.ended(error)
        raise
    return turn


def _ask(chat: ChatRequest, place: InConversation, owner: int) -> Ask:
    said = {"body": chat.body, "model": chat.model, "provider": chat.provider, "conversation": place.id}
    return Ask(
        body={}, messages=[_copy(message) for message in chat.body["messages"]], model=chat.model,
        provider=chat.provider, conversation_id=conversation_id(place.id, owner), client_id="", action="next",
        parent_id=None, version=None, state={}, ignored=frozenset(), download_media=chat.keep_media, debug=False,
        digest=digest(said), goes_on=True,
    )  # fmt: skip


def _copy(message: dict[str, Any]) -> dict[str, Any]:
    """Pictures among its parts are replaced."""
    content = message.get("content")
    return {**message, "content": list(content) if isinstance(content, list) else content}


def _events(row: Message) -> Iterator[Event]:
    """An answer that is kept, as it was given."""
    yield Started(row.provider, row.model)
    if row.reasoning:
        yield ReasoningDelta(row.reasoning)
    if row.text:
        yield TextDelta(row.text)
    for position, call in enumerate(row.tool_calls):
        yield ToolCallDelta(position, call["id"], call["function"]["name"], call["function"]["arguments"])
    if row.usage:
        yield Usage(row.usage["prompt_tokens"], row.usage["completion_tokens"])
    yield Finished(row.finish_reason or "stop")


class Turn:
    """`gateway.contexts.Turn`. Its keeper saves what is said so far, and tells it when somebody stops it."""

    def __init__(
        self, begun: Begun, place: InConversation, owner: int, base: str, given: Sequence[Event] | None = None
    ) -> None:
        self.generation = begun.generation
        self.messages = begun.messages
        self.given = given
        self._begun = begun
        self._place = place
        self._owner = owner
        self._encoder = BrowserEncoder()
        # An address is signed for whoever asked; its owner's session needs none.
        self._signed = re.compile(re.escape(base) + r"(/media/[^\s?()]+)\?[^\s()]*")
        self._loop = asyncio.get_running_loop()
        self._stop: Callable[[GatewayError], None] | None = None
        self._cost: Callable[[Usage], float | None] = lambda _: None
        self._over = given is not None
        if given is not None:
            # Nobody asks for these: what is told is already there.
            self.messages = [{"role": "user", "content": ""}]
        else:
            keeper.add(self)

    def told(self) -> dict[str, Any]:
        begun = self._begun
        return {**self._place.told, "conversation_id": str(begun.conversation), "message_id": str(begun.message)}

    def begun(self, stop: Callable[[GatewayError], None], cost: Callable[[Usage], float | None]) -> None:
        self._stop, self._cost = stop, cost

    # What its keeper asks, from another thread.

    def progress(self) -> Progress:
        encoder = self._encoder
        return Progress(self.generation, self._begun.message, encoder.chunks, encoder.text, encoder.reasoning)

    def lost(self) -> None:
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        if self._stop is not None and not self._over:
            self._stop(Stopped())

    # The answer.

    def take(self, event: Event) -> None:
        for _ in self._encoder.items(event):
            pass

    async def done(self, usage: Usage | None) -> None:
        self._encoder.usage = usage
        self._encoder.finish_reason = self._encoder.finish_reason or "stop"
        await self._close(State.DONE)

    async def ended(self, error: BaseException | None) -> None:
        if self._over:
            return
        encoder = self._encoder
        if not encoder.chunks:
            await self._settle(self._undo)
            return
        if isinstance(error, ServerStopping):
            encoder.finish_reason = State.INTERRUPTED
            await self._close(State.INTERRUPTED)
        elif encoder.error is None and (isinstance(error, Stopped) or not isinstance(error, GatewayError)):
            # Who asked has left.
            encoder.finish_reason = "stopped"
            await self._close(State.STOPPED)
        else:
            encoder.error = encoder.error or (error if isinstance(error, GatewayError) else None)
            encoder.finish_reason = "error"
            await self._close(State.ERROR)

    async def _close(self, state: str) -> None:
        outcome = self._outcome(state)
        await self._settle(lambda: rows.end(self.generation, self._begun.message, keeper.worker, outcome))

    def _undo(self) -> None:
        pictures.drop(rows.undo(self._begun, keeper.worker), self._owner)

    def _outcome(self, state: str) -> Outcome:
        encoder, error = self._encoder, self._encoder.error
        used = encoder.usage
        cost = self._cost(used) if used else None
        said = usage_told(used, encoder.model, encoder.provider, cost)["usage"] if used else None
        told = {"message": error.message, "type": error.type, "code": error.code} if error is not None else None
        return Outcome(
            state, encoder.chunks, self._signed.sub(r"\1", encoder.text), encoder.reasoning, encoder.tool_calls,
            encoder.provider, encoder.model, said, None if cost is None else min(round(cost * 1e9), MAX_COST),
            encoder.finish_reason, told, encoder.citations[:MAX_CITATIONS],
        )  # fmt: skip

    async def _settle(self, work: Callable[[], Any]) -> None:
        """Once; later where the database is away: the caller has its answer, and is not kept waiting."""
        self._over = True
        if await self._settled(work):
            keeper.remove(self.generation)
            return
        task = self._loop.create_task(self._settle_later(work))
        _late.add(task)
        task.add_done_callback(_late.discard)

    async def _settled(self, work: Callable[[], Any]) -> bool:
        try:
            await asyncio.shield(off_the_loop(work))
        except Unavailable:
            return False
        return True

    async def _settle_later(self, work: Callable[[], Any]) -> None:
        deadline = time.monotonic() + END_SECONDS
        try:
            while time.monotonic() < deadline:
                await asyncio.sleep(RETRY_SECONDS)
                if await self._settled(work):
                    return
            log.error("an answer in a conversation could not be kept")
        finally:
            keeper.remove(self.generation)
