"""A file as an HTTP answer: whole or a range of it, with validators, and so that it can run nothing in a browser.

What is sent is read piece by piece in threads of its own and waits for its client between two pieces, so that neither a
large file nor a slow reader holds more than one piece of memory, and no thread.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, NamedTuple

from asgiref.sync import SyncToAsync
from django.core.files.storage import default_storage
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.cache import get_conditional_response
from django.utils.http import content_disposition_header, http_date, parse_http_date_safe

from media.errors import FileMissing, StorageAway
from media.kinds import AUDIO, IMAGES, VIDEOS
from media.models import Blob, StoredFile
from media.thumbnails import thumbnail_of

PIECE = 256 * 1024
FOREVER = "private, max-age=31536000, immutable"
# Shown where they are opened. Everything else might run something: it is for the disk.
SHOWN = IMAGES | AUDIO | VIDEOS | {"audio/webm", "video/ogg", "audio/opus"}
# As browsers and servers name them.
SENT_AS = {"audio/mp3": "audio/mpeg", "video/avi": "video/x-msvideo"}
RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,18})[ \t]*-[ \t]*(\d{0,18})\Z", re.ASCII)
SEVERAL = re.compile(r"bytes[ \t]*=[^,]*,")
_readers = ThreadPoolExecutor(16, thread_name_prefix="media-reads")


class Span(NamedTuple):
    start: int
    size: int


class Unsatisfiable(Exception):
    """The range begins behind the end, or there are several."""


def answer(request: HttpRequest, stored: StoredFile, *, thumbnail: bool = False) -> HttpResponseBase:
    """The response to a GET or HEAD by somebody who may see the file. Blocks: for a view in a thread.

    Raises FileMissing when its bytes are gone, StorageAway, StorageFull.
    """
    blob = thumbnail_of(stored) if thumbnail else stored.blob
    small = blob.pk != stored.blob_id
    etag, modified = f'"{blob.sha256}"', int(stored.created_at.timestamp())
    headers = {
        "Content-Type": _sent_as(blob.content_type if small else stored.content_type),
        "Content-Disposition": _disposition(stored, small),
        "ETag": etag,
        "Last-Modified": http_date(modified),
        "Accept-Ranges": "bytes",
        "Cache-Control": FOREVER,
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    empty = HttpResponse(headers=headers)
    settled: HttpResponseBase | None = get_conditional_response(request, etag, modified, empty)
    if settled is not empty and settled is not None:
        return settled
    try:
        span = _span(request, blob.size, etag, modified)
    except Unsatisfiable:
        # Of this question, not of the file.
        headers |= {"Content-Range": f"bytes */{blob.size}", "Cache-Control": "no-store"}
        return HttpResponse(status=416, headers=headers)
    return _sent(request, blob, span, headers)


def _sent(request: HttpRequest, blob: Blob, span: Span | None, headers: dict[str, str]) -> HttpResponseBase:
    status = 200
    if span is not None:
        status = 206
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.size - 1}/{blob.size}"
    span = span or Span(0, blob.size)
    headers["Content-Length"] = str(span.size)
    if request.method == "HEAD":
        check_there(blob)
        return HttpResponse(status=status, headers=headers)
    file = opened_part(blob, span)
    _free_database()
    return StreamingHttpResponse(Pieces(file, span.size), status=status, headers=headers)


def _free_database() -> None:
    """Django would hold this request's connection until the last byte is sent: a few slow readers would take all."""
    if not connection.in_atomic_block:
        connection.close()


def check_there(blob: Blob) -> None:
    """Without asking for the bytes. Raises FileMissing, StorageAway."""
    try:
        there = default_storage.exists(blob.path)
    except Exception as error:
        raise StorageAway("The file cannot be read now. Try again later.") from error
    if not there:
        raise FileMissing


def opened_part(blob: Blob, span: Span) -> IO[bytes]:
    """Raises FileMissing, StorageAway."""
    try:
        part: IO[bytes] = default_storage.part(blob.path, *span)  # type: ignore[attr-defined]
    except FileNotFoundError:
        raise FileMissing from None
    except Exception as error:
        raise StorageAway("The file cannot be read now. Try again later.") from error
    return part


def _free_thread() -> None:
    """Django keeps the thread in which a view ran until the last byte is sent; the few steps after it get a new one."""
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context is not None else None
    if executor is not None:
        executor.shutdown(wait=False)


class Pieces:
    """What is left of a file, for Django to iterate; it closes the file, also when nobody reads it to the end."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        _free_thread()
        try:
            while self._left:
                piece = await loop.run_in_executor(_readers, self._file.read, min(PIECE, self._left))
                if not piece:
                    # The length was promised: the connection is cut, so that no client takes a part for the whole.
                    raise ConnectionAbortedError("the file ended early")
                self._left -= len(piece)
                yield piece
        finally:
            self.close()

    def close(self) -> None:
        """In a thread: a read that is still under way holds the file until it is over."""
        try:
            _readers.submit(self._file.close)
        except RuntimeError:  # the process is ending
            self._file.close()


def _span(request: HttpRequest, size: int, etag: str, modified: int) -> Span | None:
    """The one range that was asked for; None: send all. Raises Unsatisfiable, also for several at once."""
    asked = request.headers.get("Range", "").strip()
    match = RANGE.match(asked)
    if not (match or SEVERAL.match(asked)) or not _still(request.headers.get("If-Range"), etag, modified):
        return None
    if match is None:
        raise Unsatisfiable
    first, last = match.groups()
    if not first:
        if not last:
            return None
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
    if start >= size:
        raise Unsatisfiable
    return Span(start, end - start + 1)


def _still(if_range: str | None, etag: str, modified: int) -> bool:
    """Whether the client's first part is of what is here now."""
    if if_range is None:
        return True
    return if_range.strip() == etag or parse_http_date_safe(if_range) == modified


def _sent_as(content_type: str) -> str:
    content_type = SENT_AS.get(content_type, content_type)
    return f"{content_type}; charset=utf-8" if content_type.startswith("text/") else content_type


def _disposition(stored: StoredFile, small: bool) -> str:
    name = f"{stored.label.rpartition('.')[0] or stored.label}.webp" if small else stored.label
    return str(content_disposition_header(stored.content_type not in SHOWN, name))


def find(name: str, **whose: Any) -> StoredFile:
    """Raises FileMissing, for what is not there and for what is another's alike."""
    found = StoredFile.objects.select_related("blob__thumbnail").filter(name=name, **whose).first()
    if found is None:
        raise FileMissing
    return found
