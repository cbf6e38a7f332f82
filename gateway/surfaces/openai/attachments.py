"""Parts of messages without a type, as g4f's clients send them: `{"text"}` gets one, `{"bucket_id"}` becomes a bucket's
text, `{"bucket_id", "name"}` a file of its media.

Only the caller's own buckets count; another's is as missing as none.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import aclosing, closing
from functools import partial
from typing import Any

from django.conf import settings

from gateway.authentication import Principal
from gateway.chat import ChatRequest, has_media
from gateway.errors import BadRequest, GatewayError, NotAuthenticated
from gateway.surfaces.files.listening import Listener
from gateway.surfaces.files.reading import Piece, read
from gateway.surfaces.files.threads import reading
from media import buckets, store
from media.models import StoredFile

MAX_PARTS = 50
# Of all buckets' texts in one request together: more than any model reads.
MAX_CHARACTERS = 4_000_000
GONE = {"type": "text", "text": "[A file that was here is no longer there.]"}
CUT = "\n\n[Cut here: the files hold more text than one request takes.]\n"
AUDIO_FORMATS = {"audio/wav": "wav", "audio/mp3": "mp3", "audio/flac": "flac", "audio/aac": "aac", "audio/ogg": "ogg"}


async def attach(chat: ChatRequest, principal: Principal, *, kept: bool = False) -> None:
    """Changes the request's messages. Raises BadRequest, with the path of the part that cannot be had.

    `kept`: those before the last come from a conversation, which goes on without files that were deleted meanwhile.
    """
    found = list(_parts(chat.body["messages"]))
    if len(found) > MAX_PARTS:
        raise BadRequest(f"More than {MAX_PARTS} parts name buckets.", code="array_above_max_length", param="messages")
    if not found:
        return
    if principal.user_id is None:
        raise NotAuthenticated("Buckets belong to users: send an API key as `Authorization: Bearer KEY`.")
    room = _Room(principal, principal.user_id)
    for parts, index, at in found:
        part = parts[index]
        try:
            made = await (room.file(part, at) if part.get("name") else room.text(part["bucket_id"]))
        except GatewayError as error:
            if kept and error.status == 404 and parts is not chat.body["messages"][-1].get("content"):
                parts[index] = GONE
                continue
            named = bool(part.get("name")) and error.code == "file_not_found"
            error.param = error.param or f"{at}.{'name' if named else 'bucket_id'}"
            raise
        parts[index] = made
    if has_media(chat.body["messages"]):
        chat.plain = False


def _parts(messages: list[dict[str, Any]]) -> Iterator[tuple[list[dict[str, Any]], int, str]]:
    """Those that name a bucket: the list that holds each, its place there, and its path. Texts get their type."""
    for number, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for index, part in enumerate(content):
            if part.get("type") is not None:
                continue
            if "bucket_id" in part:
                yield content, index, f"messages[{number}].content[{index}]"
            else:
                content[index] = {**part, "type": "text"}


class _Room:
    """What one request may take from buckets, and what it has taken."""

    def __init__(self, principal: Principal, owner: int) -> None:
        self._owner = owner
        self._listener = Listener(principal)
        self._characters = MAX_CHARACTERS
        self._bytes = int(settings.MAX_BODY_BYTES)
        self._texts: dict[str, str] = {}

    async def text(self, label: str) -> dict[str, Any]:
        """A bucket that is named again takes its room again: the provider gets it twice."""
        if label in self._texts:
            return {"type": "text", "text": self._taken(self._texts[label])}
        self._texts[label] = await self._read(label)
        return {"type": "text", "text": self._texts[label]}

    async def _read(self, label: str) -> str:
        bucket = await reading(partial(buckets.find, self._owner, label))
        parts: list[str] = []
        async with aclosing(read(bucket, self._listener)) as progress:
            async for step in progress:
                if isinstance(step, Piece):
                    parts.append(self._taken(step.text))
                    if parts[-1] != step.text:
                        break
        return "".join(parts)

    def _taken(self, text: str) -> str:
        """As much of it as there is room for."""
        taken = text[: self._characters]
        self._characters -= len(taken)
        return taken if len(taken) == len(text) else taken + CUT

    async def file(self, part: dict[str, Any], at: str) -> dict[str, Any]:
        label, name = part["bucket_id"], part["name"]
        await reading(partial(buckets.find, self._owner, label))
        kind, data = await reading(partial(self._loaded, label, name, at))
        if kind.startswith("image/"):
            return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
        if kind in AUDIO_FORMATS:
            return {"type": "input_audio", "input_audio": {"data": data, "format": AUDIO_FORMATS[kind]}}
        raise BadRequest(f"A file of type {kind} cannot be put into a message.", param=f"{at}.name")

    def _loaded(self, label: str, name: str, at: str) -> tuple[str, str]:
        stored = buckets.media_file(self._owner, label, name)
        self._take(stored, at)
        with closing(store.opened(stored)) as file:
            return stored.content_type, base64.b64encode(file.read()).decode()

    def _take(self, stored: StoredFile, at: str) -> None:
        self._bytes -= stored.size
        if self._bytes < 0:
            limit = settings.MAX_BODY_BYTES
            raise BadRequest(
                f"The files together have more than {limit} bytes.", status=413, code="request_too_large", param=at
            )
