"""Legacy completions asked as chats, over any adapter: each prompt is what a user says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway.adapters.base import Adapter
from gateway.chat import ChatRequest
from gateway.completions import MAX_PROMPTS, CompletionRequest
from gateway.errors import UnsupportedParameter, UpstreamError
from gateway.events import Event, Failed, RawChunks, RawClosing, RawReply, Sound, Started, Transcript, Usage
from gateway.targets import Target
from gateway.tokens import carried, summed
from gateway.upstream import Upstream

OF_NO_CHOICE = (Started, Failed, RawChunks, RawClosing, RawReply, Sound, Transcript)


class OverChat:
    local = False

    def __init__(self, adapter: Adapter) -> None:
        self.label = adapter.label
        self._adapter = adapter

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        assert isinstance(chat, CompletionRequest)
        found: list[Event] = []
        spent = Spent(chat)
        for first, part in parts(target, chat):
            try:
                events = await self._adapter.complete(upstream, target, part)
            except UpstreamError as error:
                carried(error, spent.parts)
                # The error knows it now.
                spent.parts.clear()
                raise
            for event in events:
                found.extend(spent.passed(event, first))
        return [*found, *spent.told()]

    async def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        assert isinstance(chat, CompletionRequest)
        spent = Spent(chat)
        try:
            for first, part in parts(target, chat):
                async with aclosing(self._adapter.stream(upstream, target, part)) as events:
                    async for event in events:
                        for passed in spent.passed(event, first):
                            yield passed
        except UpstreamError:
            # The caller has seen some of what it was used for.
            for event in spent.told():
                yield event
            raise
        for event in spent.told():
            yield event


class Spent:
    """Sums the usage of several chats. The request has it too, for whoever books it when the caller leaves."""

    def __init__(self, request: CompletionRequest) -> None:
        self.parts = request.spent
        self.parts.clear()

    def passed(self, event: Event, first: int) -> Iterator[Event]:
        """The event as one of the whole answer, whose choices of this chat begin with `first`."""
        if isinstance(event, Usage):
            self.parts.append(event)
        elif first and not isinstance(event, OF_NO_CHOICE):
            yield replace(event, index=event.index + first)
        else:
            yield event

    def told(self) -> Iterator[Event]:
        if self.parts:
            yield summed(self.parts)


def parts(target: Target, request: CompletionRequest) -> list[tuple[int, ChatRequest]]:
    """A chat for each prompt, with the index of its first choice. Raises UnsupportedParameter."""
    legacy, why = request.legacy, "it is asked as a chat."
    if legacy.get("suffix"):
        raise UnsupportedParameter(target.provider, "suffix", why)
    if legacy.get("logprobs") is not None:
        raise UnsupportedParameter(target.provider, "logprobs", why)
    if (legacy.get("best_of") or 1) > request.choices:
        raise UnsupportedParameter(target.provider, "best_of", why)
    if legacy.get("max_tokens") == 0:
        raise UnsupportedParameter(target.provider, "max_tokens", "a chat answers at least one token.")
    prompts = request.prompts
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise UnsupportedParameter(target.provider, "prompt", "tokens cannot be asked as a chat.")
    if len(prompts) > MAX_PROMPTS:
        raise UnsupportedParameter(target.provider, "prompt", f"at most {MAX_PROMPTS} prompts are asked as chats.")
    return [(at * request.choices, request.chat(prompt)) for at, prompt in enumerate(prompts)]
