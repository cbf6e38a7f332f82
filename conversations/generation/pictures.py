"""Pictures and sounds of a conversation: kept as files of its owner, told by their addresses, and handed to providers
as bytes. What is another's is as missing as what never was."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseError

from conversations.generation.placing import BESIDE
from conversations.generation.threads import off_the_loop
from conversations.models import Message
from gateway.errors import BadRequest, GatewayError
from gateway.surfaces.multipart import Form, Upload
from media import links, store
from media.errors import MediaError
from media.fetch import Budget, FetchError, Rules, fetch
from media.kinds import AUDIO, IMAGES
from media.models import StoredFile
from media.pictures import thumbnail
from media.serving import find

log = logging.getLogger(__name__)

Part = dict[str, Any]
FORMATS = {"audio/mp4": "m4a"}
PREFIX = "/media/"
MAX_ADDRESSES = 20
FETCHED_AT_ONCE = 4
GONE: Part = {"type": "text", "text": "[A file that was here is no longer there.]"}


async def received(form: Form, owner: int) -> list[Part]:
    """The files and addresses of a form as attachments. Raises BadRequest for those that no model can look at."""
    uploads = form.uploads("files")
    addresses = form.texts("media_url")
    if len(addresses) > MAX_ADDRESSES:
        raise BadRequest(
            f"'media_url' has more than {MAX_ADDRESSES} items.", code="array_above_max_length", param="media_url"
        )
    found: list[Part] = []
    try:
        for upload in uploads:
            # One by one: those before one that fails are to be dropped.
            found.append(await off_the_loop(partial(_uploaded, upload, owner), files=True))  # noqa: PERF401
        for data in await _all_fetched(addresses):
            found.append(await off_the_loop(partial(_kept, data, owner, "media", StoredFile.Source.UPLOAD), files=True))  # noqa: PERF401
    except GatewayError:
        with suppress(GatewayError):
            await off_the_loop(partial(drop, found, owner), files=True)
        raise
    return found


def digest(form: Form) -> str:
    """What the files and addresses of a form add to the digest of its request; empty for none. In a thread."""
    marks = [*form.texts("media_url")]
    for upload in form.uploads("files"):
        upload.file.seek(0)
        marks.append(hashlib.file_digest(upload.file, "sha256").hexdigest())  # type: ignore[arg-type]
        upload.file.seek(0)
    return hashlib.sha256("\n".join(marks).encode()).hexdigest() if marks else ""


def drop(attachments: Sequence[Part], owner: int) -> None:
    """Files that came with a request that was refused, or answered before."""
    for item in attachments:
        with suppress(MediaError):
            find(unquote(item["url"].removeprefix(PREFIX)), owner_id=owner).delete()


async def _all_fetched(addresses: Sequence[str]) -> list[bytes]:
    """In their order, a few at a time. Raises BadRequest for the first that cannot be had; the others are given up."""
    rules = Rules(
        ports=settings.FETCH_PORTS, max_bytes=settings.FETCH_MAX_BYTES, seconds=settings.FETCH_SECONDS,
        private_hosts=settings.FETCH_PRIVATE_HOSTS,
    )  # fmt: skip
    budget, places = Budget(2 * settings.FETCH_MAX_BYTES), asyncio.Semaphore(FETCHED_AT_ONCE)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_fetched(url, rules, budget, places)) for url in addresses]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _fetched(url: str, rules: Rules, budget: Budget, places: asyncio.Semaphore) -> bytes:
    try:
        async with places:
            return (await fetch(url, IMAGES | AUDIO, rules, budget)).data
    except FetchError as error:
        raise BadRequest(f"Invalid or disallowed media_url: {url[:200]}. {error.message}", param="media_url") from None


def _uploaded(upload: Upload, owner: int) -> Part:
    try:
        found = _kept(upload.file, owner, upload.filename or "file", StoredFile.Source.UPLOAD)
    except GatewayError as error:
        error.param = error.param or "files"
        raise
    return found


def _kept(data: Any, owner: int, label: str, source: str) -> Part:
    """Raises MediaError, and BadRequest 415 for what is neither a picture nor a sound; that is not kept."""
    stored = store.keep(owner, data, label=label, source=source)
    part = _part(stored)
    if part is None:
        kind = stored.content_type
        stored.delete()
        raise BadRequest(
            f"A file of type {kind} cannot be put into a message. Put documents into a bucket (/files/BUCKET).",
            status=415,
            code="unsupported_media_type",
            param="files",
        )
    url = links.session_path(stored)
    return {
        "name": stored.label, "url": url, "content_type": stored.content_type, "size": stored.size,
        "width": stored.width, "height": stored.height, BESIDE: True, "part": part,
    }  # fmt: skip


def _part(stored: StoredFile) -> Part | None:
    url = links.session_path(stored)
    if stored.content_type in IMAGES:
        return {"type": "image_url", "image_url": {"url": url}}
    if stored.content_type in AUDIO:
        kind = FORMATS.get(stored.content_type, stored.content_type.removeprefix("audio/"))
        return {"type": "input_audio", "input_audio": {"data": url, "format": kind}}
    return None


def _slots(messages: Sequence[Part]) -> Iterator[tuple[list[Any], int, Part, str]]:
    """The parts that hold a picture or a sound: their list, their place in it, the object that holds it, its key."""
    for message in messages:
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for index, part in enumerate(content):
            for kind, key in (("image_url", "url"), ("input_audio", "data")):
                held = part.get(kind) if isinstance(part, dict) and part.get("type") == kind else None
                if isinstance(held, dict) and isinstance(held.get(key), str):
                    yield content, index, held, key


def keep_written(messages: list[Part], owner: int, conversation: UUID | None) -> list[Part]:
    """Pictures that stand in the messages become files; returned are the attachments that remember them.

    One that was sent before is the same file again, so that messages that are sent again are found in the tree.
    """
    slots = [slot for slot in _slots(messages) if _is_written(slot[2][slot[3]], slot[3])]
    if not slots:
        return []
    known = _known(owner, conversation)
    made: dict[str, Part] = {}
    decoded = [(content, index, _decoded(held[key])) for content, index, held, key in slots]
    for content, index, data in decoded:
        mark = hashlib.sha256(data).hexdigest()
        item = made.get(mark) or known.get(mark)
        if item is None:
            try:
                item = {**_kept(data, owner, "picture", StoredFile.Source.UPLOAD), BESIDE: False, "sha256": mark}
            except (GatewayError, MediaError):
                drop(list(made.values()), owner)
                raise
            made[mark] = item
        content[index] = item["part"]
    return list(made.values())


def _is_written(value: str, key: str) -> bool:
    """Sounds have no addresses but ours; the base64 of many begins with a slash."""
    return not value.startswith((PREFIX,) if key == "data" else ("http://", "https://", "/"))


def _known(owner: int, conversation: UUID | None) -> dict[str, Part]:
    if conversation is None:
        return {}
    rows = Message.objects.filter(conversation_id=conversation, owner_id=owner).values_list("attachments", flat=True)
    return {item["sha256"]: item for row in rows for item in row if "sha256" in item and "part" in item}


def _decoded(value: str) -> bytes:
    data = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("A picture or sound among the messages is not base64.", param="messages") from None


def with_bytes(messages: list[Part], owner: int, base: str) -> None:
    """Puts the files that messages name by our addresses into them. The messages are changed, their parts are not."""
    left = int(settings.MAX_BODY_BYTES)
    for content, index, held, key in list(_slots(messages)):
        path = held[key].removeprefix(base)
        if not path.startswith(PREFIX):
            continue
        part = content[index]
        name = unquote(urlsplit(path).path.removeprefix(PREFIX))
        try:
            # No database is asked for what none can hold.
            stored = find(name.replace("\x00", "?"), owner_id=owner)
            left -= stored.size
            if left < 0:
                raise BadRequest("The files together are too large.", status=413, code="request_too_large")
            with store.opened(stored) as file:
                data = base64.b64encode(file.read()).decode()
        except MediaError:
            content[index] = GONE
            continue
        whole = data if key == "data" else f"data:{stored.content_type};base64,{data}"
        content[index] = {**part, part["type"]: {**held, key: whole}}


async def glimpse(data: str) -> str | None:
    """A small picture of one that is on its way, as a data: URL: it is kept nowhere. None for what is no picture."""
    small = BytesIO()
    try:
        source = BytesIO(base64.b64decode(data, validate=True))
        found = await off_the_loop(partial(thumbnail, source, small))
    except (GatewayError, MediaError, OSError, ValueError):
        return None
    return f"data:{found.content_type};base64,{base64.b64encode(small.getvalue()).decode()}"


async def made(kind: str, data: str, owner: int, about: dict[str, str]) -> str | None:
    """The address of a picture or sound that a provider made; None where it could not be kept, whatever the reason.

    What was made is paid for: that there is no room for it here is no reason not to hand it over.
    """
    try:
        work = partial(_address, base64.b64decode(data, validate=True), owner, kind, about)
        return await off_the_loop(work, files=True)
    except (GatewayError, DatabaseError, OSError, ValueError) as error:
        log.warning("what was made is handed over without being kept: %s", type(error).__name__)
        return None


def _address(data: bytes, owner: int, kind: str, about: dict[str, str]) -> str:
    label = "image" if kind.startswith("image/") else "sound"
    stored = store.keep(
        owner, data, label=label, source=StoredFile.Source.GENERATED, content_type=kind,
        prompt=about["prompt"], provider=about["provider"], model=about["model"],
    )  # fmt: skip
    return links.session_path(stored)
