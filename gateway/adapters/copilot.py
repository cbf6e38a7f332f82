"""Microsoft 365 Copilot's Chat API on Microsoft Graph (beta): a conversation is made, then asked. Not seen live.

https://learn.microsoft.com/microsoft-365-copilot/extensibility/api/ai-services/chat/overview. A conversation takes one
message at a time, so the newest one is sent and all before it goes along as context.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from gateway.adapters.failures import from_object, from_reply
from gateway.adapters.sse import EventSplitter
from gateway.adapters.translated import UNREADABLE, AnswerReader, Records, decoded, relayed
from gateway.adapters.unsupported import content_path, is_asked, refuse
from gateway.chat import ChatRequest, Message, ReasoningPart, TextPart
from gateway.errors import UnsupportedParameter, UpstreamBroken
from gateway.events import Citation, Event, Finished, TextDelta
from gateway.targets import Target
from gateway.upstream import Reply, Upstream

REFUSED = ("n", "logprobs", "top_logprobs", "modalities", "response_format", "stop", "functions")
TIME_ZONE = "UTC"
DESCRIPTIONS = {
    "system": "Instructions for the answer",
    "developer": "Instructions for the answer",
    "user": "What the user said earlier",
    "assistant": "What was answered earlier",
    "tool": "The result of a tool",
    "function": "The result of a tool",
}
# The name of a conversation whose answer is still being written.
UNFINISHED = "Intermediate Conversation Update"
DISENGAGED = "disengagedForRai"


class CopilotAdapter:
    label = "Microsoft 365 Copilot"
    local = False

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        body = request_body(target, chat)
        path = await _conversation(upstream, target)
        reply = await upstream.call(target, f"{path}/chat", orjson.dumps(body))
        if reply.status != 200:
            raise from_reply(target, reply)
        reader = Conversations(target, body["message"]["text"])
        return reader.whole(decoded(target, reply.body))

    async def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        body = request_body(target, chat)
        path = await _conversation(upstream, target)
        stream = await upstream.open_stream(target, f"{path}/chatOverStream", orjson.dumps(body))
        if isinstance(stream, Reply):
            raise from_reply(target, stream)
        reader = Conversations(target, body["message"]["text"])
        async for event in relayed(stream, Records(target, reader, FoldingSplitter())):
            yield event


async def _conversation(upstream: Upstream, target: Target) -> str:
    """The path of a new conversation."""
    reply = await upstream.call(target, "/conversations", b"{}")
    if reply.status not in (200, 201):
        raise from_reply(target, reply)
    known = decoded(target, reply.body).get("id")
    if not isinstance(known, str) or not 0 < len(known) <= 500:
        raise UpstreamBroken(f"{target.provider} made no conversation.")
    return f"/conversations/{quote(known, safe='')}"


def request_body(target: Target, chat: ChatRequest) -> dict[str, Any]:
    """Raises UnsupportedParameter for what a conversation cannot do."""
    refuse(target, chat, REFUSED)
    if is_asked(chat, "tools") and chat.tool_choice() != "none":
        raise UnsupportedParameter(target.provider, "tools")
    messages = chat.messages()
    newest = max((number for number, message in enumerate(messages) if message.role == "user"), default=None)
    if newest is None:
        raise UnsupportedParameter(target.provider, "messages", "one must be the user's.")
    texts = [_text(target, number, message) for number, message in enumerate(messages)]
    context = [
        {"text": text, "description": DESCRIPTIONS.get(message.role, message.role)}
        for number, (message, text) in enumerate(zip(messages, texts, strict=True))
        if number != newest and text
    ]
    body = {"message": {"text": texts[newest]}, "locationHint": _location(chat)}
    return {**body, "additionalContext": context} if context else body


def _text(target: Target, number: int, message: Message) -> str:
    for position, part in enumerate(message.parts):
        if not isinstance(part, TextPart | ReasoningPart):
            path = content_path(number, message, position)
            raise UnsupportedParameter(target.provider, path, "only text can be sent.")
    return message.text


def _location(chat: ChatRequest) -> dict[str, str]:
    """OpenAI's form of it is `web_search_options.user_location`; without one the time is UTC."""
    place: Any = chat.body
    for step in ("web_search_options", "user_location", "approximate"):
        place = place.get(step) if isinstance(place, Mapping) else None
    said = place if isinstance(place, Mapping) else {}
    zone, country = said.get("timezone"), said.get("country")
    hint = {"timeZone": zone if zone and isinstance(zone, str) else TIME_ZONE}
    return {**hint, "countryOrRegion": country} if country and isinstance(country, str) else hint


class FoldingSplitter(EventSplitter):
    """Its documentation shows events whose JSON goes on over several lines without `data:` in front of each."""

    def feed(self, data: bytes) -> list[bytes]:
        return [_folded(event) for event in super().feed(data)]

    def end(self) -> list[bytes]:
        return [_folded(event) for event in super().end()]


def _folded(event: bytes) -> bytes:
    first, *rest = event.split(b"\n")
    if not first.startswith(b"data:"):
        return event
    more = b"".join(line for line in rest if line[:1] in (b" ", b"\t", b"}", b"]"))
    return first + more if more else event


def _shared(one: str, other: str) -> int:
    """How many characters they have in common from the beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


class Conversations(AnswerReader):
    """States of one conversation, each with the whole text so far. `prompt` is what was asked, which is said again."""

    def __init__(self, target: Target, prompt: str) -> None:
        super().__init__(target)
        self._prompt = prompt
        self._told = ""
        self._whole = False
        self._disengaged = False
        self._sources: dict[str, str] = {}

    def whole(self, body: Mapping[str, Any]) -> Sequence[Event]:
        """The events of a plain answer."""
        try:
            said = self.take("", body)
        except UNREADABLE:
            raise UpstreamBroken(f"{self.target.provider} sent an answer that cannot be read.") from None
        if self.done:
            return said
        if not self._told and not self._disengaged:
            raise UpstreamBroken(f"{self.target.provider} sent an answer without a message.")
        return [*said, *self._ending()]

    def take(self, name: str, data: Mapping[str, Any]) -> Sequence[Event]:
        if name == "error" or data.get("error"):
            raise from_object(self.target, data.get("error") or data)
        self._disengaged = self._disengaged or data.get("state") == DISENGAGED
        messages = data.get("messages") or []
        answer = self._answer(messages)
        found: list[Event] = []
        if answer is not None:
            found.extend(self._added(answer))
            self._note_sources(answer)
        turns, title = data.get("turnCount"), data.get("displayName")
        turned = isinstance(turns, int) and turns > 0
        if (answer is not None or self._disengaged) and (turned or (title and title != UNFINISHED)):
            self._whole = True
        if turned and answer is not None and len(messages) > 1:
            # Question and answer together are the last state.
            self.done = True
            found.extend(self._ending())
        return found

    def end(self) -> Sequence[Event]:
        return list(self._ending()) if self._whole else super().end()

    def _answer(self, messages: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """The last message, unless it is the question."""
        if not messages or not isinstance(messages[-1].get("text"), str):
            return None
        last = messages[-1]
        return None if len(messages) == 1 and last["text"] == self._prompt else last

    def _added(self, answer: Mapping[str, Any]) -> Iterator[Event]:
        """What is new. Where the text was changed behind its beginning, what was told stays told."""
        text = answer["text"]
        if self._told.startswith(text):
            return
        known = len(self._told) if text.startswith(self._told) else _shared(self._told, text)
        self._told = text
        yield TextDelta(text[known:])

    def _note_sources(self, answer: Mapping[str, Any]) -> None:
        for source in answer.get("attributions") or ():
            url, title = source.get("seeMoreWebUrl"), source.get("providerDisplayName")
            # Annotations are links to people and events that the text names.
            if url and isinstance(url, str) and source.get("attributionType") != "annotation":
                self._sources.setdefault(url, title if isinstance(title, str) else "")

    def _ending(self) -> Iterator[Event]:
        yield from (Citation(url, title) for url, title in self._sources.items())
        yield Finished("content_filter" if self._disengaged else "stop")
