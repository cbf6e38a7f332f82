"""`<think>...</think>` at the beginning of an answer, as reasoning. Wherever the pieces of a stream are cut."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.events import Event, Finished, ReasoningDelta, TextDelta

# Blanks before an answer that may yet begin with a thought.
MAX_BLANKS = 10_000
OPEN, CLOSE = "<think>", "</think>"
START, THINKING, GAP, TEXT = range(4)


def unfinished(text: str, tag: str) -> int:
    """How many characters at the end of the text may be the beginning of the tag."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-size:])), 0)


class ThinkFilter:
    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}

    def take(self, event: Event) -> Iterator[Event]:
        if isinstance(event, TextDelta):
            choice = self._choices.setdefault(event.index, _Choice(event.index))
            yield from choice.feed(event.text)
            return
        if isinstance(event, Finished) and event.index in self._choices:
            yield from self._choices[event.index].end()
        yield event


class _Choice:
    def __init__(self, index: int) -> None:
        self._index = index
        self._state = START
        self._held = ""

    def feed(self, text: str) -> Iterator[Event]:
        if self._state == TEXT:
            yield TextDelta(text, self._index)
            return
        self._held += text
        if self._state == START:
            self._begin()
            if len(self._held) > MAX_BLANKS:
                # Nobody thinks so late.
                self._state = TEXT
        if self._state == THINKING:
            yield from self._think()
        if self._state == GAP:
            self._held = self._held.lstrip()
            self._state = TEXT if self._held else GAP
        if self._state == TEXT and self._held:
            yield TextDelta(self._held, self._index)
            self._held = ""

    def _begin(self) -> None:
        said = self._held.lstrip()
        if said.startswith(OPEN):
            self._state, self._held = THINKING, said[len(OPEN) :]
        elif not OPEN.startswith(said):
            self._state = TEXT

    def _think(self) -> Iterator[Event]:
        thought, closed, rest = self._held.partition(CLOSE)
        if closed:
            self._state, self._held = GAP, rest
        else:
            kept = unfinished(thought, CLOSE)
            thought, self._held = thought[: len(thought) - kept], thought[len(thought) - kept :]
        if thought:
            yield ReasoningDelta(thought, self._index)

    def end(self) -> Iterator[Event]:
        held, self._held = self._held, ""
        if held and self._state == THINKING:
            yield ReasoningDelta(held, self._index)
        elif held and self._state == START:
            yield TextDelta(held, self._index)
