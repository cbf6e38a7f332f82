"""A chat that asks for a web search: what was found goes before the model, and its sources beside the answer."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from gateway.answer_cache import Source, Targets
from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.events import Citation, Event, Failed, Finished, TextDelta
from gateway.upstream import Upstream
from gateway.usage import Tally
from gateway.websearch.search import Findings, web_search

MARK = re.compile(r"\[(\d{1,2})\]")
# Marks that are broken over two deltas are seen because so much of the text before is kept.
LONGEST_MARK = 4


async def search(chat: ChatRequest, principal: Principal) -> None:
    """Puts what was found into the last user's message. A search that fails leaves the request as it is, but for
    a warning."""
    found = await web_search.find(principal.user_id, chat.search)
    if found is None:
        chat.warnings = (*chat.warnings, "web_search")
        return
    add(chat.body["messages"], found)
    chat.citations = tuple(Citation(source.url, source.title) for source in found.sources)


def add(messages: list[dict[str, Any]], found: Findings) -> None:
    last = next((message for message in reversed(messages) if message.get("role") == "user"), messages[-1])
    content, text = last.get("content"), found.as_text()
    if isinstance(content, list):
        last["content"] = [*content, {"type": "text", "text": text}]
    else:
        last["content"] = f"{content}\n\n{text}" if content else text


class Cited:
    """A source of events that ends an answer with the citations of what its text names as [1], [2] and so on.

    Where it names nothing, all that was read is told, so that a caller always sees what stood before the model.
    """

    def __init__(self, source: Source, chat: ChatRequest) -> None:
        self._source = source
        self._sources = chat.citations

    async def complete(self, upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally) -> Sequence[Event]:
        events = await self._source.complete(upstream, chat, targets, tally)
        marks = Marks(self._sources)
        for event in events:
            if isinstance(event, TextDelta):
                marks.read(event)
        if any(isinstance(event, Failed) for event in events):
            return events
        return [*_until_finished(events), *marks.citations(), *_finished(events)]

    async def stream(
        self, upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally
    ) -> AsyncGenerator[Event, None]:
        marks, told = Marks(self._sources), False
        async with aclosing(self._source.stream(upstream, chat, targets, tally)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    marks.read(event)
                elif isinstance(event, Finished) and not told:
                    told = True
                    for citation in marks.citations():
                        yield citation
                yield event


def _until_finished(events: Sequence[Event]) -> Iterator[Event]:
    return (event for event in events if not isinstance(event, Finished))


def _finished(events: Sequence[Event]) -> Iterator[Event]:
    return (event for event in events if isinstance(event, Finished))


class Marks:
    """Where the first choice's text names which source first."""

    def __init__(self, sources: Sequence[Citation]) -> None:
        self._sources = sources
        self._found: dict[int, tuple[int, int]] = {}
        self._kept = ""
        self._length = 0

    def read(self, delta: TextDelta) -> None:
        if delta.index:
            return
        text = self._kept + delta.text
        begin = self._length - len(self._kept)
        for mark in MARK.finditer(text):
            number = int(mark[1])
            if 1 <= number <= len(self._sources):
                self._found.setdefault(number, (begin + mark.start(), begin + mark.end()))
        self._length += len(delta.text)
        self._kept = text[-LONGEST_MARK + 1 :]

    def citations(self) -> list[Citation]:
        """In the order of the text."""
        if not self._found:
            return list(self._sources)
        named = sorted(self._found.items(), key=lambda item: item[1])
        cited = ((self._sources[number - 1], place) for number, place in named)
        return [Citation(source.url, source.title, start, end) for source, (start, end) in cited]
