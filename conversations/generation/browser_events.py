"""Events of an answer as those of `/backend-api/v2/conversation`: one JSON object each, with its name under `type`.

They are the ones that g4f's pages read; `generation`, `citation`, `snapshot` and `end` are ours, and those pages pass
over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.errors import GatewayError, UpstreamRefused
from gateway.events import (
    Citation,
    Event,
    Failed,
    Finished,
    MediaOutput,
    ReasoningDelta,
    Refusal,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gateway.nested import rewritten

Item = dict[str, Any]
# What a form for a provider's parameters is filled with.
PARAMETERS: Item = {
    "temperature": 0.7,
    "top_p": 1.0,
    "max_tokens": 4096,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "reasoning_effort": "medium",
}
# Codes of errors about a credential that is missing at our side.
CREDENTIALS = ("no_credential",)


def frame(number: int, item: Item) -> bytes:
    """One event of a stream. Its id is its number in the answer's log, from 1."""
    return b"event: %b\nid: %d\ndata: %b\n\n" % (item["type"].encode(), number, rewritten(item))


def provider(name: str, model: str, label: str = "") -> Item:
    """Who is asked, or answers. A provider's address is nobody's business."""
    return {"type": "provider", "provider": {"name": name, "url": "", "label": label or name, "model": model}}


def parameters() -> Item:
    return {"type": "parameters", "parameters": PARAMETERS}


def searching(query: str) -> Item:
    """Shown in the place of an answer that is not there yet."""
    return {"type": "reasoning", "status": f"Searching the web for {' '.join(query.split())[:80]}"}


def drawing() -> Item:
    return {"type": "reasoning", "status": "Drawing"}


def preview(url: str) -> Item:
    """An unfinished picture, in the place of which the next one or the answer comes."""
    return {"type": "preview", "preview": f"![preview]({url})", "urls": [url], "alt": "preview"}


def failure(error: GatewayError) -> Item:
    """The last event of an answer that failed, in the words that g4f's pages show."""
    name = type(error).__name__
    said = {"message": f"{name}: {error.message}", "code": error.code or ""}
    if isinstance(error, UpstreamRefused) or error.code in CREDENTIALS:
        return {"type": "auth", "auth": name, **said}
    return {"type": "error", "error": name, **said}


def passed_over(error: GatewayError) -> Item:
    """A provider that failed while another one could still be asked."""
    name = type(error).__name__
    return {"type": "message", "message": f"{name}: {error.message}", "error": name}


def usage(used: Usage, model: str, provider_name: str, cost: float | None) -> Item:
    said: Item = {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.total_tokens,
    }
    if used.cached_tokens is not None:
        said["prompt_tokens_details"] = {"cached_tokens": used.cached_tokens}
    if used.reasoning_tokens is not None:
        said["completion_tokens_details"] = {"reasoning_tokens": used.reasoning_tokens}
    if cost is not None:
        said["cost"] = cost
    return {"type": "usage", "usage": said, "model": model, "provider": provider_name}


def joined(items: list[Item], item: Item) -> None:
    """Adds an event that is waiting to be told; pieces of the same text become one."""
    last = items[-1] if items else None
    if last is not None and last["type"] == item["type"]:
        if item["type"] == "content" and last.keys() == item.keys() == {"type", "content"}:
            last["content"] += item["content"]
            return
        if item["type"] == "reasoning" and last.get("token") and item.get("token"):
            last["token"] += item["token"]
            return
        if item["type"] == "tool_calls" and _continued(last["tool_calls"][-1], item["tool_calls"][0]):
            last["tool_calls"][-1]["function"]["arguments"] += item["tool_calls"][0]["function"]["arguments"]
            return
    items.append(item)


def _continued(last: Item, piece: Item) -> bool:
    return bool(last["index"] == piece["index"] and "id" not in piece and "name" not in piece["function"])


class Growing:
    """A text that comes in pieces, and is asked for again and again, also from another thread."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        # How many pieces it is made of goes with it, so that no reader takes one without the other.
        self._joined = (0, "")

    def append(self, piece: str) -> None:
        self._pieces.append(piece)

    def whole(self) -> str:
        count, text = self._joined
        if new := self._pieces[count:]:
            count, text = count + len(new), text + "".join(new)
            self._joined = (count, text)
        return text


class BrowserEncoder:
    """Translates one answer and remembers what of it is kept: its text, its reasoning, its calls."""

    def __init__(self) -> None:
        self.provider = ""
        self.model = ""
        self.usage: Usage | None = None
        self.finish_reason = ""
        self.chunks = 0
        self.error: GatewayError | None = None
        self._text = Growing()
        self._reasoning = Growing()
        self._calls: dict[int, Item] = {}
        # Pieces, as of texts: a long argument would be copied for each.
        self._arguments: dict[int, list[str]] = {}
        self.citations: list[Item] = []
        self._thinking = False

    @property
    def text(self) -> str:
        return self._text.whole()

    @property
    def reasoning(self) -> str:
        return self._reasoning.whole()

    @property
    def tool_calls(self) -> list[Item]:
        for position, pieces in self._arguments.items():
            self._calls[position]["function"]["arguments"] = "".join(pieces)
        return [self._calls[position] for position in sorted(self._calls)]

    def items(self, event: Event) -> Iterator[Item]:
        """Of several choices only the first is told: a page shows one."""
        if getattr(event, "index", 0):
            return
        match event:
            case Started(name, model):
                self.provider, self.model = name, model
            case TextDelta(text) | Refusal(text):
                yield from self._said({"type": "content", "content": text}, text)
            case ReasoningDelta(text):
                self.chunks += 1
                self._thinking = True
                self._reasoning.append(text)
                yield {"type": "reasoning", "token": text}
            case ToolCallDelta():
                yield from self._thought()
                self.chunks += 1
                yield {"type": "tool_calls", "tool_calls": [self._call(event)]}
            case Citation(url, title, start, end):
                self.citations.append({"url": url, "title": title, "start": start, "end": end})
                yield {"type": "citation", "citation": self.citations[-1]}
            case MediaOutput(kind, data):
                yield from self.media(f"data:{kind};base64,{data}", kind, "image")
            case Usage():
                self.usage = event
            case Finished(reason):
                yield from self._thought()
                self.finish_reason = reason
            case Failed(error):
                self.error = error
            case _:
                # Signatures of reasoning are for providers; raw events and transcripts are of other protocols.
                return

    def media(self, url: str, kind: str, alt: str) -> Iterator[Item]:
        """A picture, a sound or a film behind an address, which may be a data: URL."""
        if kind.startswith("audio/"):
            text = f'<audio controls src="{url}"></audio>\n'
            yield from self._said({"type": "content", "content": text, "data": url}, text)
            return
        text = f"\n[![{alt}]({url})]({url})\n"
        yield from self._said({"type": "content", "content": text, "urls": [url], "alt": alt}, text)

    def _said(self, item: Item, text: str) -> Iterator[Item]:
        yield from self._thought()
        self.chunks += 1
        self._text.append(text)
        yield item

    def _thought(self) -> Iterator[Item]:
        """Tells once that the thinking is over."""
        if self._thinking:
            self._thinking = False
            yield {"type": "reasoning", "token": None, "status": ""}

    def _call(self, event: ToolCallDelta) -> Item:
        known = self._calls.get(event.position)
        piece: Item = {"index": event.position, "type": "function", "function": {"arguments": event.arguments}}
        if event.id is not None:
            piece["id"] = event.id
        if event.name is not None:
            piece["function"]["name"] = event.name
        if known is None:
            whole = {"name": event.name or "", "arguments": ""}
            self._calls[event.position] = {"id": event.id or "", "type": "function", "function": whole}
        else:
            known["id"] = event.id or known["id"]
            known["function"]["name"] += event.name or ""
        self._arguments.setdefault(event.position, []).append(event.arguments)
        return piece


def debugged(event: Event) -> Item:
    """What a provider said, for staff who look for a fault."""
    said = {name: getattr(event, name) for name in event.__slots__ if name != "error"}
    return {"type": "response", "response": {"event": type(event).__name__, **_shown(said)}}


def _shown(said: Item) -> Item:
    try:
        return said if len(orjson.dumps(said)) < 4096 else {"omitted": "too large"}
    except TypeError:
        return {"omitted": "bytes"}
