"""Anthropic's Messages API (POST /messages): requests and answers translated, or passed on for its own clients.

A caller who speaks this protocol too gets the provider's own events, so that nothing of them is lost.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from gateway.adapters.anthropic.answers import MessageEvents, read_answer
from gateway.adapters.anthropic.failures import from_error, from_status
from gateway.adapters.anthropic.passing import PassedEvents, passed_answer
from gateway.adapters.anthropic.requests import counted_body, message_body
from gateway.adapters.sse import EventSplitter
from gateway.adapters.translated import AnswerReader, Records, TranslatedAdapter, decoded, relayed, written
from gateway.chat import ChatRequest
from gateway.errors import UpstreamBroken, UpstreamError
from gateway.events import Event
from gateway.targets import Target
from gateway.tokens import count
from gateway.upstream import Reply, Upstream

PROTOCOL = "anthropic"
BETA = "anthropic-beta"


class AnthropicAdapter(TranslatedAdapter):
    label = "Anthropic Messages"
    # A row may name another version, or add `anthropic-beta`.
    headers: ClassVar[Mapping[str, str]] = {"anthropic-version": "2023-06-01"}

    def path(self, target: Target, chat: ChatRequest) -> str:
        return "/messages"

    def body(self, target: Target, chat: ChatRequest) -> Mapping[str, Any]:
        if is_native(chat):
            return {**_native(chat), "model": target.upstream_model}
        return message_body(target, chat)

    def answer(self, target: Target, body: Mapping[str, Any]) -> Sequence[Event]:
        if body.get("type") == "error" or body.get("error"):
            raise from_error(target, body.get("error"))
        return read_answer(target, body)

    def reader(self, target: Target) -> AnswerReader:
        return MessageEvents(target)

    def failure(self, target: Target, reply: Reply) -> UpstreamError:
        return from_status(target, reply)

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        if not is_native(chat):
            return await super().complete(upstream, target, chat)
        reply = await self._sent(upstream, previewing(target, chat), "/messages", self.body(target, chat))
        return passed_answer(target, decoded(target, reply.body), reply.body)

    async def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        if not is_native(chat):
            async for event in super().stream(upstream, target, chat):
                yield event
            return
        sent = written(target, self.body(target, chat))
        stream = await upstream.open_stream(previewing(target, chat), "/messages", sent)
        if isinstance(stream, Reply):
            raise self.failure(target, stream)
        async for event in relayed(stream, Records(target, PassedEvents(target), EventSplitter())):
            yield event

    async def count_tokens(self, upstream: Upstream, target: Target, chat: ChatRequest) -> int:
        """What the request's prompt counts to. Raises UpstreamError."""
        body = counted_body(self.body(target, chat))
        reply = await self._sent(upstream, previewing(target, chat), "/messages/count_tokens", body)
        found = count(decoded(target, reply.body).get("input_tokens"))
        if found is None:
            raise UpstreamBroken(f"{target.provider} sent no number of tokens.")
        return found

    async def _sent(self, upstream: Upstream, target: Target, path: str, body: Mapping[str, Any]) -> Reply:
        reply = await upstream.call(target, path, written(target, body))
        if reply.status != 200:
            raise self.failure(target, reply)
        return reply


def is_native(chat: ChatRequest) -> bool:
    return chat.native is not None and chat.native.protocol == PROTOCOL


def previewing(target: Target, chat: ChatRequest) -> Target:
    """The target that hears of the caller's `anthropic-beta`, beside what its own row says."""
    betas = chat.native.betas if chat.native is not None and is_native(chat) else ()
    if not betas:
        return target
    own = [text for name, text in target.endpoint.headers if name.lower() == BETA]
    names = dict.fromkeys([name.strip() for text in own for name in text.split(",")] + list(betas))
    others = [(name, text) for name, text in target.endpoint.headers if name.lower() != BETA]
    endpoint = replace(target.endpoint, headers=(*others, (BETA, ",".join(filter(None, names)))))
    # What was worked out for others is not for this one.
    return replace(target, endpoint=endpoint, prepared={})


def _native(chat: ChatRequest) -> Mapping[str, Any]:
    assert chat.native is not None, "only asked of requests in this protocol"
    return chat.native.body
