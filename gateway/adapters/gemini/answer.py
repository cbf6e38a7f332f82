"""Gemini's answers as events. A stream's records have the form of whole answers, each with a piece of the parts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from gateway.adapters.gemini.failures import from_error
from gateway.adapters.gemini.signatures import IMAGE, TEXT, THOUGHT, marked
from gateway.adapters.translated import AnswerReader
from gateway.errors import UpstreamBroken
from gateway.events import (
    Citation,
    Event,
    Finished,
    MediaOutput,
    ReasoningDelta,
    ReasoningSignature,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gateway.targets import Target
from gateway.tokens import count

MAX_SOURCES = 200

FILTERED = {
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
}
# The model wrote a call that cannot be read: no answer, and no fault of the caller's.
BROKEN = {
    "MALFORMED_FUNCTION_CALL",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE",
}
CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@dataclass(slots=True)
class _Candidate:
    """What one of the answers has said so far."""

    text: list[str] = field(default_factory=list)
    calls: int = 0
    spoke: bool = False
    finished: bool = False
    cited: set[tuple[str, int | None, int | None]] = field(default_factory=set)


class GeminiReader(AnswerReader):
    """Over at the connection's end, which a finish reason or a blocked prompt must have come before."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._candidates: dict[int, _Candidate] = {}
        self._usage: Usage | None = None

    def take(self, name: str, data: Mapping[str, Any]) -> Sequence[Event]:
        if data.get("error"):
            raise from_error(self.target, data["error"])
        self._usage = _usage(data.get("usageMetadata")) or self._usage
        found: list[Event] = []
        for number, candidate in enumerate(_dicts(data.get("candidates"))):
            index = count(candidate.get("index"))
            found.extend(self._said(candidate, number if index is None else index))
        feedback = data.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason") and not self._finished():
            self._candidate(0).finished = True
            found.append(Finished("content_filter"))
        return found

    def end(self) -> Sequence[Event]:
        if not self._finished():
            return super().end()
        return (self._usage,) if self._usage else ()

    def _finished(self) -> bool:
        return any(candidate.finished for candidate in self._candidates.values())

    def _candidate(self, index: int) -> _Candidate:
        return self._candidates.setdefault(index, _Candidate())

    def _said(self, candidate: Mapping[str, Any], index: int) -> Iterator[Event]:
        state = self._candidate(index)
        content = candidate.get("content")
        for part in _dicts(content.get("parts")) if isinstance(content, dict) else ():
            for event in _events(part, state, index):
                state.spoke = True
                yield event
        yield from _citations(candidate, state, index)
        reason = candidate.get("finishReason")
        if reason and not state.finished:
            state.finished = True
            yield Finished(self._reason(str(reason), state), index)

    def _reason(self, reason: str, state: _Candidate) -> str:
        if reason in FILTERED:
            return "content_filter"
        if reason in BROKEN and not state.spoke:
            raise UpstreamBroken(f"{self.target.provider}'s model ended with {reason}.")
        if reason == "MAX_TOKENS":
            return "length"
        return "tool_calls" if state.calls else "stop"


def _events(part: Mapping[str, Any], state: _Candidate, index: int) -> Iterator[Event]:
    """What one part holds. A signature goes before its call, and after its text."""
    signature = part.get("thoughtSignature")
    signature = signature if isinstance(signature, str) else ""
    call = part.get("functionCall")
    if isinstance(call, dict):
        yield from _call(call, signature, state, index)
        return
    thought = part.get("thought") is True
    text = part.get("text")
    if isinstance(text, str) and text:
        if not thought:
            state.text.append(text)
        yield ReasoningDelta(text, index) if thought else TextDelta(text, index)
    made = part.get("inlineData")
    if isinstance(made, dict) and isinstance(made.get("data"), str) and not thought:
        yield MediaOutput(str(made.get("mimeType") or "application/octet-stream"), made["data"], index)
    for shown in _code(part):
        state.text.append(shown)
        yield TextDelta(shown, index)
    if signature:
        place = THOUGHT if thought else IMAGE if made else TEXT
        yield ReasoningSignature(marked(place, signature), True, index)


def _call(call: Mapping[str, Any], signature: str, state: _Candidate, index: int) -> Iterator[Event]:
    """Calls come whole; most without an id, which clients need to answer them."""
    said = call.get("id")
    name, arguments = call["name"], call.get("args")
    if not isinstance(name, str):
        raise TypeError("a call's name is a text")
    made = said if isinstance(said, str) and CALL_ID.match(said) else f"call_{os.urandom(12).hex()}"
    if signature:
        yield ReasoningSignature(marked(made, signature), True, index)
    text = orjson.dumps(arguments if isinstance(arguments, dict) else {}).decode()
    yield ToolCallDelta(state.calls, made, name, text, index)
    state.calls += 1


def _code(part: Mapping[str, Any]) -> Iterator[str]:
    """Code that Google ran for the model, and what came of it, as people read them."""
    code, result = part.get("executableCode"), part.get("codeExecutionResult")
    if isinstance(code, dict) and isinstance(code.get("code"), str):
        yield f"\n```{str(code.get('language') or '').lower()}\n{code['code'].strip()}\n```\n"
    if isinstance(result, dict) and isinstance(result.get("output"), str):
        yield f"\n```\n{result['output'].strip()}\n```\n"


def _citations(candidate: Mapping[str, Any], state: _Candidate, index: int) -> Iterator[Event]:
    """Each once: streams repeat what they have said. So many at most: each is looked for in the whole text."""
    for url, title, start, end in islice(_sources(candidate), MAX_SOURCES):
        if (url, start, end) in state.cited:
            continue
        if len(state.cited) >= MAX_SOURCES:
            return
        state.cited.add((url, start, end))
        yield Citation(url, title, _characters(state, start), _characters(state, end), index)


def _sources(candidate: Mapping[str, Any]) -> Iterator[tuple[str, str, int | None, int | None]]:
    """URL, title, and the bytes of the text that it stands for."""
    grounding = candidate.get("groundingMetadata")
    if isinstance(grounding, dict):
        chunks = grounding.get("groundingChunks")
        webs = [_web(chunk) for chunk in (chunks if isinstance(chunks, list) else ())]
        used: set[int] = set()
        for support in _dicts(grounding.get("groundingSupports")):
            segment = support.get("segment")
            start, end = _span(segment if isinstance(segment, dict) else {})
            numbers = support.get("groundingChunkIndices")
            for number in numbers if isinstance(numbers, list) else ():
                if isinstance(number, int) and 0 <= number < len(webs) and webs[number][0]:
                    used.add(number)
                    yield (*webs[number], start, end)
        yield from ((*web, None, None) for number, web in enumerate(webs) if web[0] and number not in used)
    said = candidate.get("citationMetadata")
    for source in _dicts(said.get("citationSources") or said.get("citations")) if isinstance(said, dict) else ():
        if isinstance(source.get("uri"), str) and source["uri"]:
            yield (source["uri"], str(source.get("title") or ""), *_span(source))


def _web(chunk: Any) -> tuple[str, str]:
    held = (chunk.get("web") or chunk.get("retrievedContext")) if isinstance(chunk, dict) else None
    if not isinstance(held, dict) or not isinstance(held.get("uri"), str):
        return "", ""
    return held["uri"], str(held.get("title") or "")


def _span(segment: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """No start means the beginning, as JSON of protocol buffers leaves zeros out."""
    end = count(segment.get("endIndex"))
    return (None, None) if end is None else (count(segment.get("startIndex")) or 0, end)


def _characters(state: _Candidate, size: int | None) -> int | None:
    """Google counts bytes, we count characters."""
    if size is None:
        return None
    state.text = ["".join(state.text)]
    return len(state.text[0].encode()[:size].decode(errors="ignore"))


def _usage(said: Any) -> Usage | None:
    """Thoughts are counted beside the candidates' tokens, what tools brought beside the prompt's."""
    if not isinstance(said, dict):
        return None
    prompt, total = count(said.get("promptTokenCount")), count(said.get("totalTokenCount"))
    spoken, thought = count(said.get("candidatesTokenCount")), count(said.get("thoughtsTokenCount"))
    if prompt is None and spoken is None and total is None:
        return None
    asked = (prompt or 0) + (count(said.get("toolUsePromptTokenCount")) or 0)
    given = (spoken or 0) + (thought or 0)
    if spoken is None and total is not None:
        given = max(given, total - asked)
    return Usage(asked, given, count(said.get("cachedContentTokenCount")), thought)


def _dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    return (item for item in (value if isinstance(value, list) else ()) if isinstance(item, dict))
