"""Pictures, sounds and documents of a request as checked bytes, for protocols that want them so.

    chat = await inlined(chat, ACCEPTED)     # in `prepared`: fetches what is behind URLs, checks all
    picture = embedded(part.url)             # in `body`: type and base64 of what is now a data: URL
    chat = retyped(chat)                     # for all others: no more than a look at their first bytes

`accepted` says which media types the protocol takes for each type of part (`image_url`, `video_url`, `input_audio`,
`file`); a part of another type is left alone. Whatever is at fault is a 400 that names the part.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote_to_bytes

from django.conf import settings

from gateway.chat import ChatRequest
from gateway.errors import UpstreamRejected
from media.fetch import Budget, Fetched, FetchError, Rules, fetch
from media.kinds import AUDIO, IMAGES, MORE_IMAGES, PLAIN, kind_of, settled

MAX_FILES = 50
# How many files of one request are fetched at once.
AT_ONCE = 4
# Where the bytes or the address of each type of part stand.
FIELDS = {"image_url": "url", "video_url": "url", "input_audio": "data", "file": "file_data"}
FORMATS = {"audio/mp4": "m4a"}
# Of a data: URL that is not base64: undoing its escapes takes time and memory by the character.
MAX_QUOTED = 1024 * 1024
# What of a file's base64 tells its type, and how long the part of a data: URL before it may be.
BEGINNING, LONGEST_HEAD = 88, 1024
PICTURES = IMAGES | MORE_IMAGES
# Containers of films hold sound alone as well.
SOUNDS = AUDIO | {"video/webm", "video/mp4"}
# Formats that always begin with a mark; of others the sender knows what the bytes are.
MARKED = frozenset({"wav", "flac", "ogg", "aiff"})
NAMED = MARKED | {"mp3", "aac", "m4a"}
ALIKE = {"mpeg": "mp3", "mpga": "mp3", "mp4": "m4a", "opus": "ogg", "oga": "ogg", "aif": "aiff", "wave": "wav"}
URL_SAFE = bytes.maketrans(b"-_", b"+/")

Accepted = Mapping[str, Container[str]]


@dataclass(frozen=True, slots=True)
class Embedded:
    """`data` is base64."""

    mime_type: str
    data: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"data:{self.mime_type};base64,{self.data}"


@dataclass(frozen=True, slots=True)
class _Slot:
    """A part that holds a file: the `number`th of the list `name` of a message."""

    message: int
    name: str
    number: int
    kind: str
    held: Mapping[str, Any]

    @property
    def path(self) -> str:
        return f"messages[{self.message}].{self.name}[{self.number}].{self.kind}.{FIELDS[self.kind]}"

    @property
    def value(self) -> str:
        return str(self.held[FIELDS[self.kind]])

    def filled(self, found: Embedded) -> dict[str, Any]:
        if self.kind != "input_audio":
            return {"type": self.kind, self.kind: {**self.held, FIELDS[self.kind]: found.url}}
        suffix = FORMATS.get(found.mime_type) or found.mime_type.partition("/")[2]
        return {"type": self.kind, self.kind: {**self.held, "data": found.data, "format": suffix}}


def is_web(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://"))


def embedded(url: str) -> Embedded | None:
    """What a base64 data: URL holds, unchecked; None for any other URL."""
    head, comma, data = url.partition(",")
    if not comma or head[:5].lower() != "data:" or not head.lower().endswith(";base64"):
        return None
    return Embedded(head[5:].partition(";")[0].lower(), data)


async def inlined(chat: ChatRequest, accepted: Accepted, keep: Callable[[str], bool] | None = None) -> ChatRequest:
    """The request with each file as a base64 data: URL whose type is that of its bytes.

    Web addresses are fetched, except those to `keep`: what the provider reads itself. The files of a request may be
    50, and together as large as two single ones. Raises UpstreamRejected.
    """
    slots = [slot for slot in _slots(chat.body) if slot.kind in accepted and not (keep and keep(slot.value))]
    if not slots:
        return chat
    if len(slots) > MAX_FILES:
        raise _rejected(slots[MAX_FILES], f"A request may hold {MAX_FILES} files.")
    rules = _rules()
    budget = Budget(rules.max_bytes * 2)
    fetched = await _fetched([slot for slot in slots if is_web(slot.value)], accepted, rules, budget)
    changed: dict[int, dict[tuple[str, int], dict[str, Any]]] = {}
    for slot in slots:
        part = slot.filled(fetched.get(slot.value) or _read(slot, accepted[slot.kind], rules, budget))
        changed.setdefault(slot.message, {})[slot.name, slot.number] = part
    messages = [
        _changed(message, changed[number]) if number in changed else message
        for number, message in enumerate(chat.body["messages"])
    ]
    return replace(chat, body={**chat.body, "messages": messages})


def retyped(chat: ChatRequest) -> ChatRequest:
    """The request with each picture and sound that it holds under the type that its first bytes show; the same one
    where all are so already. Addresses and other files are left alone. Raises UpstreamRejected for what is neither.
    """
    changed: dict[int, dict[tuple[str, int], dict[str, Any]]] = {}
    for slot in _slots(chat.body):
        part = _retyped(slot) if slot.kind in ("image_url", "input_audio") else None
        if part is not None:
            changed.setdefault(slot.message, {})[slot.name, slot.number] = part
    if not changed:
        return chat
    messages = [
        _changed(message, changed[number]) if number in changed else message
        for number, message in enumerate(chat.body["messages"])
    ]
    return replace(chat, body={**chat.body, "messages": messages})


def shown_type(data: str) -> str | None:
    """The media type of what is base64, by its beginning; None when that is nothing we know."""
    text = data[:BEGINNING].encode("ascii", "replace").translate(URL_SAFE, b" \t\r\n\f\v").rstrip(b"=")
    text = text + b"=" * (-len(text) % 4) if len(data) <= BEGINNING else text[: len(text) // 4 * 4]
    return kind_of(binascii.a2b_base64(text, strict_mode=True))


def _retyped(slot: _Slot) -> dict[str, Any] | None:
    """The part as it should be; None where it is so, or holds no bytes. Raises UpstreamRejected."""
    value, comma = slot.value, -1
    if value[:5].lower() == "data:":
        comma = value.find(",", 0, LONGEST_HEAD)
    elif slot.kind == "image_url":
        return None
    head, data = value[: max(0, comma)], value[comma + 1 : comma + 2 + BEGINNING]
    try:
        is_base64 = comma < 0 or head.lower().endswith(";base64")
        found = shown_type(data) if is_base64 else kind_of(unquote_to_bytes(data))
    except (binascii.Error, ValueError):
        raise _rejected(slot, "The data is not valid base64.") from None
    if slot.kind == "input_audio":
        return _sound(slot, found)
    if found not in PICTURES:
        raise _rejected(slot, f"{found or 'This kind of data'} is not accepted here.")
    if head[5:].partition(";")[0].strip().lower() == found:
        return None
    url = f"data:{found}{';base64' if is_base64 else ''}{value[comma:]}"
    return {"type": slot.kind, slot.kind: {**slot.held, "url": url}}


def _sound(slot: _Slot, found: str | None) -> dict[str, Any] | None:
    said = str(slot.held.get("format") or "").lower()
    said = ALIKE.get(said, said)
    if found not in SOUNDS:
        if found in (None, PLAIN) and said not in MARKED and not (found and said == "mp3"):
            return None
        raise _rejected(slot, f"{found or 'This kind of data'} is not accepted here.")
    suffix = FORMATS.get(found) or found.partition("/")[2]
    if found not in AUDIO or suffix == said or said not in NAMED:
        return None
    return {"type": slot.kind, slot.kind: {**slot.held, "format": suffix}}


def _changed(message: Mapping[str, Any], parts: Mapping[tuple[str, int], dict[str, Any]]) -> dict[str, Any]:
    lists = {name: list(message[name]) for name, _ in parts}
    for (name, number), part in parts.items():
        # What else a part says stays, such as cache_control.
        lists[name][number] = {**lists[name][number], **part}
    return {**message, **lists}


def _slots(body: Mapping[str, Any]) -> Iterator[_Slot]:
    for at, message in enumerate(body["messages"]):
        # `images`: what a model drew in an earlier turn, in OpenRouter's form.
        for name in ("content", "images"):
            parts = message.get(name)
            for number, part in enumerate(parts if isinstance(parts, list) else ()):
                kind = part.get("type") if isinstance(part, dict) else None
                held = part.get(kind) if isinstance(kind, str) and kind in FIELDS else None
                if isinstance(kind, str) and isinstance(held, dict) and held.get(FIELDS[kind]):
                    yield _Slot(at, name, number, kind, held)


def _rules() -> Rules:
    return Rules(
        ports=settings.FETCH_PORTS,
        max_bytes=settings.FETCH_MAX_BYTES,
        seconds=settings.FETCH_SECONDS,
        private_hosts=settings.FETCH_PRIVATE_HOSTS,
    )


async def _fetched(slots: list[_Slot], accepted: Accepted, rules: Rules, budget: Budget) -> dict[str, Embedded]:
    """By address; one that stands in several parts is fetched once."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(slot: _Slot) -> Embedded:
        async with gate:
            try:
                return _embedded(await fetch(slot.value, accepted[slot.kind], rules, budget))
            except FetchError as error:
                raise _rejected(slot, error.message) from None

    wanted = {slot.value: slot for slot in slots}
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {url: group.create_task(one(slot)) for url, slot in wanted.items()}
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return {url: task.result() for url, task in tasks.items()}


def _embedded(found: Fetched) -> Embedded:
    return Embedded(found.mime_type, base64.b64encode(found.data).decode())


def _read(slot: _Slot, accepted: Container[str], rules: Rules, budget: Budget) -> Embedded:
    """What the request itself holds. Raises UpstreamRejected."""
    declared, data = _decoded(slot)
    try:
        budget.take(len(data))
    except FetchError as error:
        raise _rejected(slot, error.message) from None
    if len(data) > rules.max_bytes:
        raise _rejected(slot, f"The file is larger than {rules.max_bytes} bytes.")
    kind = settled(data, declared)
    if kind is None or kind not in accepted:
        raise _rejected(slot, f"{kind or 'This kind of data'} is not accepted here.")
    return _embedded(Fetched(kind, data))


def _decoded(slot: _Slot) -> tuple[str, bytes]:
    """The declared type and the bytes of a data: URL, or of bare base64 where that is usual."""
    head, comma, data = slot.value.partition(",")
    if head[:5].lower() != "data:" or not comma:
        if slot.kind not in ("input_audio", "file"):
            raise _rejected(slot, "Expected a data: URL, or an address that begins with http:// or https://.")
        head, data = "data:;base64", slot.value
    if not head.lower().endswith(";base64"):
        if len(data) > MAX_QUOTED:
            raise _rejected(slot, f"More than {MAX_QUOTED} characters must be base64.")
        return head[5:], unquote_to_bytes(data)
    try:
        # Line breaks, the URL-safe alphabet and missing padding are usual in the wild.
        text = data.encode("ascii").translate(URL_SAFE, b" \t\r\n\f\v").rstrip(b"=")
        return head[5:], binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        raise _rejected(slot, "The data is not valid base64.") from None


def _rejected(slot: _Slot, why: str) -> UpstreamRejected:
    code = "invalid_image_url" if slot.kind == "image_url" else "invalid_value"
    return UpstreamRejected(f"Invalid '{slot.path}': {why}", code=code, param=slot.path)
