"""What the gateway does for models that cannot: tools and JSON by instruction, `<think>` as reasoning.

A wrapper around any adapter, made only where a flag of the model or the request asks for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from gateway.adapters.base import Adapter
from gateway.answer_schema import Check
from gateway.chat import ChatRequest
from gateway.errors import AnswerUnfit, UnsupportedParameter, UpstreamError
from gateway.events import Event, Finished, TextDelta, Usage
from gateway.prompted_tools import ToolFilter, instructed, with_tools
from gateway.targets import Target
from gateway.think_tags import ThinkFilter
from gateway.tokens import carried, summed
from gateway.upstream import Upstream

P = ParamSpec("P")
T = TypeVar("T")
# Checks by callers' schemas have few threads of their own: nobody else waits for them.
CHECKERS = ThreadPoolExecutor(2, thread_name_prefix="schemas")


class Filter(Protocol):
    def take(self, event: Event) -> Iterable[Event]:
        """What becomes of the event; what was held back comes out before its choice's Finished."""


def emulated(adapter: Adapter, target: Target, chat: ChatRequest) -> Adapter:
    """The adapter itself where nothing is to be done. Raises UnsupportedParameter for what is neither there nor
    emulated."""
    tools = _tools(adapter, target, chat)
    kind = chat.answer_format().kind
    json = kind in ("json_object", "json_schema") and "json" in target.lacks
    if json and "json" not in target.emulates:
        raise UnsupportedParameter(target.provider, "response_format", "the model gives no JSON.")
    think = "think" in target.emulates
    if tools or think:
        adapter = Filtering(adapter, tools=tools, think=think)
    return JsonByPrompt(adapter) if json else adapter


def _tools(adapter: Adapter, target: Target, chat: ChatRequest) -> bool:
    """Whether tools are emulated."""
    offered = bool(chat.body.get("tools"))
    if not offered and not _has_calls(chat):
        return False
    asked = chat.emulate_tools
    if asked or ("tools" in target.emulates and asked is None):
        return True
    if "choice" in target.emulates and asked is None and not getattr(adapter, "obeys_choice", True):
        return offered and _chooses(chat)
    if offered and "tools" in target.lacks:
        raise UnsupportedParameter(target.provider, "tools", "the model has none.")
    return False


def _chooses(chat: ChatRequest) -> bool:
    """Whether a call is wanted, or one at most: not every protocol can say so."""
    return chat.tool_choice() not in (None, "auto", "none") or chat.body.get("parallel_tool_calls") is False


def _has_calls(chat: ChatRequest) -> bool:
    return any(item.get("tool_calls") or item.get("role") == "tool" for item in chat.body["messages"])


class Filtering:
    """Rewrites the request, and the events of the answer as they pass."""

    local = False

    def __init__(self, adapter: Adapter, *, tools: bool, think: bool) -> None:
        self.label = adapter.label
        self._adapter = adapter
        self._tools = tools
        self._think = think

    def _request(self, chat: ChatRequest) -> ChatRequest:
        return replace(chat, body=with_tools(chat) if self._tools else chat.body, raw=False, native=None)

    def _filters(self, chat: ChatRequest) -> list[Filter]:
        filters: list[Filter] = [ThinkFilter()] if self._think else []
        return [*filters, ToolFilter(chat)] if self._tools else filters

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        filters = self._filters(chat)
        events = await self._adapter.complete(upstream, target, self._request(chat))
        return [passed for event in events for passed in _through(filters, event)]

    async def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        filters = self._filters(chat)
        async with aclosing(self._adapter.stream(upstream, target, self._request(chat))) as events:
            async for event in events:
                for passed in _through(filters, event):
                    yield passed


def _through(filters: Sequence[Filter], event: Event) -> Iterator[Event]:
    if not filters:
        yield event
        return
    for passed in filters[0].take(event):
        yield from _through(filters[1:], passed)


class JsonByPrompt:
    """Asks for JSON in words, checks what comes, and lets the model repair it once. Streams are collected first."""

    local = False

    def __init__(self, adapter: Adapter) -> None:
        self.label = adapter.label
        self._adapter = adapter

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        check = await _beside(Check, chat.answer_format())
        kept = {name: value for name, value in chat.body.items() if name != "response_format"}
        asked = replace(chat, body=instructed(kept, check.instruction()), raw=False, native=None, stream=False)
        events = await self._adapter.complete(upstream, target, asked)
        usage = [event for event in events if isinstance(event, Usage)]
        try:
            found = await self._checked(upstream, target, asked, check, events, usage)
        except UpstreamError as error:
            carried(error, usage)
            raise
        return [*found, *([summed(usage)] if usage else [])]

    async def _checked(
        self,
        upstream: Upstream,
        target: Target,
        asked: ChatRequest,
        check: Check,
        events: Sequence[Event],
        usage: list[Usage],
    ) -> list[Event]:
        """The events with valid texts; `usage` grows by what repairing them uses."""
        texts: dict[int, str] = {}
        for event in events:
            if isinstance(event, TextDelta):
                texts[event.index] = texts.get(event.index, "") + event.text
        found: list[Event] = []
        for event in events:
            if isinstance(event, Finished):
                text = texts.get(event.index, "")
                if event.reason == "stop":
                    text = await self._valid(upstream, target, asked, check, text, usage)
                found.extend([TextDelta(text, event.index)] if text else [])
            if not isinstance(event, (TextDelta, Usage)):
                found.append(event)
        return found

    async def _valid(
        self, upstream: Upstream, target: Target, asked: ChatRequest, check: Check, text: str, usage: list[Usage]
    ) -> str:
        """The text as JSON, repaired once. Raises AnswerUnfit when that failed."""
        found, fault = await _beside(check.read, text)
        if not fault:
            return found
        body = {name: value for name, value in asked.body.items() if name not in ("n", "tools", "tool_choice")}
        said = [
            {"role": "assistant", "content": text or "(nothing)"},
            {"role": "user", "content": check.correction(fault)},
        ]
        again = replace(asked, body={**body, "messages": [*body["messages"], *said]})
        events = await self._adapter.complete(upstream, target, again)
        usage.extend(event for event in events if isinstance(event, Usage))
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        found, fault = await _beside(check.read, text)
        if fault:
            raise AnswerUnfit(f"{target.provider} gave no JSON of the form that was asked for.")
        return found

    async def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        for event in await self.complete(upstream, target, chat):
            yield event


async def _beside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Beside the loop: a caller's schema says how long it takes."""
    return await asyncio.get_running_loop().run_in_executor(CHECKERS, partial(work, *args, **kwargs))
