"""Cuts a provider's byte stream into server-sent events (WHATWG HTML, section 9.2) without copying what is whole."""

from __future__ import annotations

MAX_EVENT_BYTES = 4 * 1024 * 1024
MARK = b"\xef\xbb\xbf"
# As numbers, because CPython 3.11 looks for bytes in bytes by way of an exception.
CARRIAGE, NEWLINE = b"\r\n"


class EventTooLarge(Exception):
    """An event is larger than anybody should send."""


class EventSplitter:
    """Feed it bytes as they come; it gives whole events, each without the blank line that ends it."""

    max_bytes = MAX_EVENT_BYTES

    def __init__(self) -> None:
        # What has no end yet; growing in place, or an event in small packets would cost its length with each.
        self._rest: bytes | bytearray = b""
        self._mark = b""
        self._carriage = False
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """Raises EventTooLarge for an event that does not end within `max_bytes`."""
        if not self._begun:
            data = self._without_mark(data)
        if self._carriage or CARRIAGE in data:
            data = self._newlines(data)
        if self._rest:
            # Search from where the blank line could begin, so that a long event costs its length once.
            if b"\n\n" not in self._rest[-1:] + data:
                self._rest += data
                self._bounded()
                return []
            data = b"".join((self._rest, data))
        *events, rest = data.split(b"\n\n")
        self._rest = bytearray(rest) if rest else rest
        self._bounded()
        return [event for event in events if event]

    def end(self) -> list[bytes]:
        """What was left without its blank line: servers do forget it after the last event."""
        rest, self._rest = (self._mark + self._rest).strip(b"\n"), b""
        return [bytes(rest)] if rest else []

    def _bounded(self) -> None:
        if len(self._rest) > self.max_bytes:
            raise EventTooLarge

    def _without_mark(self, data: bytes) -> bytes:
        data, self._mark = self._mark + data, b""
        if len(data) < len(MARK) and MARK.startswith(data):
            self._mark = data
            return b""
        self._begun = True
        return data.removeprefix(MARK)

    def _newlines(self, data: bytes) -> bytes:
        # A packet may end between CR and LF: the LF that follows belongs to the same line end.
        if self._carriage and data.startswith(b"\n"):
            data = data[1:]
        self._carriage = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def payload(event: bytes) -> tuple[str, bytes]:
    """The event's name (empty when unnamed) and its data; no data: a comment or a bare field."""
    if event.startswith(b"data: ") and NEWLINE not in event:
        return "", event[6:]
    name, data = "", []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return name, b"\n".join(data)
