"""Anthropic's answers for a caller who speaks its protocol: passed on as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.adapters.anthropic.answers import MessageEvents
from gateway.adapters.anthropic.failures import from_error
from gateway.errors import UpstreamBroken
from gateway.events import Event, RawChunks, RawReply
from gateway.targets import Target

# What comes before anything was said: held, so that a provider which fails right after it can be replaced.
OPENING = ("message_start", "ping")


def passed_answer(target: Target, body: dict[str, Any], data: bytes) -> Sequence[Event]:
    """Raises UpstreamError unless it is a message."""
    if body.get("type") == "error" or body.get("error"):
        raise from_error(target, body.get("error"))
    if not isinstance(body.get("content"), list):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not a message.")
    events = MessageEvents(target)
    events.told({}, body.get("usage"))
    return [RawReply(data, body), *filter(None, [events.usage()])]


class PassedEvents(MessageEvents):
    """Each event as a frame of its own, and at the end what was used."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._held = b""

    def take(self, name: str, data: Mapping[str, Any]) -> Sequence[Event]:
        kind = str(data.get("type") or name)
        if not kind.isidentifier():
            return ()
        if kind in (*OPENING, "message_delta", "error"):
            super().take(name, data)
        if kind in OPENING and (kind == "ping" or self._held):
            # One beginning is enough, and nobody waits for pings: comments of ours keep the connection.
            return ()
        self._held += b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(data))
        if kind in OPENING:
            return ()
        chunk, self._held = RawChunks(self._held), b""
        self.done = kind == "message_stop"
        return [chunk, *self.ending()] if self.done else [chunk]

    def end(self) -> Sequence[Event]:
        """A stream without its last event is cut off, whatever came before."""
        raise UpstreamBroken(f"{self.target.provider} broke off its answer.")
