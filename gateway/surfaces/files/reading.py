"""The text of a bucket, piece by piece: what waits is fetched and converted first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial

from gateway.surfaces.files.listening import Listener
from gateway.surfaces.files.threads import alone, reading, storing, through
from media import buckets, downloads
from media.convert import refine
from media.convert.markdown import shown
from media.models import Bucket, Document

PIECE = 256 * 1024
# More than this is not made shorter in one go.
MAX_REFINED = 20 * 1024 * 1024
CUT = "\n[Cut here: the files hold more text than is made shorter in one go.]\n"


@dataclass(frozen=True, slots=True)
class Downloaded:
    """So many pages have been fetched."""

    count: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the text. `refined`: made shorter."""

    text: str
    refined: bool = False


@dataclass(frozen=True, slots=True)
class Listening:
    """This recording is being written down."""

    label: str


Progress = Downloaded | Listening | Piece


async def read(bucket: Bucket, listener: Listener, refined: bool = False) -> AsyncGenerator[Progress, None]:
    """Everything in it, each file framed with its name. Raises GatewayError."""
    found = await reading(partial(buckets.documents, bucket))
    async with aclosing(_all(bucket, found, listener)) as pieces:
        if not refined:
            async for piece in pieces:
                yield piece
            return
        whole: list[str] = []
        size = 0
        async for piece in pieces:
            if not isinstance(piece, Piece):
                yield piece
                continue
            whole.append(piece.text)
            size += len(piece.text)
            if size > MAX_REFINED:
                break
    shorter = refine.refined("".join(whole)[:MAX_REFINED])
    while (text := await reading(partial(next, shorter, ""))) != "":
        yield Piece(text, refined=True)
    if size > MAX_REFINED:
        yield Piece(CUT, refined=True)


async def _all(bucket: Bucket, documents: list[Document], listener: Listener) -> AsyncGenerator[Progress, None]:
    for document in documents:
        if document.kind == Document.Kind.DOWNLOADS and document.state == Document.State.WAITING:
            async with aclosing(_download(bucket, document)) as counts:
                async for count in counts:
                    yield Downloaded(count)
    for document in documents:
        if document.kind == Document.Kind.MEDIA and document.state == Document.State.WAITING and not listener.tired:
            yield Listening(document.label)
            await listener.write_down(bucket, document)
        async with aclosing(_pieces(await _read_now(bucket, document))) as pieces:
            async for piece in pieces:
                yield piece


async def _read_now(bucket: Bucket, document: Document) -> Document | None:
    """As it is once it has been read; another reader may have done it meanwhile."""
    if document.state != Document.State.WAITING:
        return document
    if document.kind == Document.Kind.TEXT:
        await through(_convert(bucket, document))
    return await reading(partial(buckets.fresh, document))


async def _convert(bucket: Bucket, document: Document) -> None:
    async with alone(document.pk, bucket.owner_id):
        found = await reading(partial(buckets.fresh, document))
        if found is not None and found.state == Document.State.WAITING:
            await storing(partial(buckets.read_waiting, bucket, found))


async def _download(bucket: Bucket, document: Document) -> AsyncGenerator[int, None]:
    async with alone(document.pk, bucket.owner_id):
        found = await reading(partial(buckets.fresh, document))
        if found is None or found.state != Document.State.WAITING:
            return
        wanted = await reading(partial(buckets.addresses, found))
        collected = downloads.Collected()
        async with aclosing(downloads.collect(wanted, collected)) as counts:
            async for count in counts:
                yield count
        await storing(partial(buckets.settle_downloads, bucket, found, collected))


async def _pieces(document: Document | None) -> AsyncGenerator[Piece, None]:
    """Archives and downloads hold frames of their own."""
    if document is None or not (document.text or document.note):
        return
    bare = document.kind == Document.Kind.DOWNLOADS or document.label.lower().endswith(".zip")
    before, after = ("", "") if bare else (f"<!-- File: {shown(document.shown)} -->\n", "\n<-- End -->\n\n")
    pieces = buckets.pieces(document, PIECE)
    take: Callable[[], str] = partial(next, pieces, "")
    try:
        # Nothing is said of a file before its storage has given something.
        yield Piece(before + await reading(take))
        while text := await reading(take):
            yield Piece(text)
    finally:
        # Of a reader who left, a thread may be in it yet: with its last reference it closes the file by itself.
        with suppress(ValueError):
            pieces.close()
    if after:
        yield Piece(after)
