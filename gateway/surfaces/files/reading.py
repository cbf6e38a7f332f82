"""The text of a bucket, piece by piece: what waits is fetched and converted first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from gateway.surfaces.files.threads import reading, storing
from media import buckets, downloads
from media.convert import refine
from media.convert.markdown import shown
from media.models import Bucket, Document

PIECE = 256 * 1024
# More than this is not made shorter in one go.
MAX_REFINED = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Downloaded:
    """So many pages have been fetched."""

    count: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of the text. `refined`: made shorter."""

    text: str
    refined: bool = False


Progress = Downloaded | Piece


async def read(bucket: Bucket, refined: bool = False) -> AsyncGenerator[Progress, None]:
    """Everything in it, each file framed with its name. Raises GatewayError."""
    found = await reading(partial(buckets.documents, bucket))
    async with aclosing(_all(bucket, found)) as pieces:
        if not refined:
            async for piece in pieces:
                yield piece
            return
        whole: list[str] = []
        size = 0
        async for piece in pieces:
            if isinstance(piece, Downloaded):
                yield piece
            elif size < MAX_REFINED:
                whole.append(piece.text)
                size += len(piece.text)
    shorter = refine.refined("".join(whole))
    while (text := await reading(partial(next, shorter, ""))) != "":
        yield Piece(text, refined=True)


async def _all(bucket: Bucket, documents: list[Document]) -> AsyncGenerator[Progress, None]:
    for document in documents:
        if document.kind == Document.Kind.DOWNLOADS and document.state == Document.State.WAITING:
            async with aclosing(_download(bucket, document)) as counts:
                async for count in counts:
                    yield Downloaded(count)
    for document in documents:
        if document.kind == Document.Kind.TEXT and document.state == Document.State.WAITING:
            await storing(partial(buckets.read_waiting, bucket, document))
        if document.kind != Document.Kind.MEDIA and document.text is not None:
            async with aclosing(_pieces(document)) as pieces:
                async for piece in pieces:
                    yield piece


async def _download(bucket: Bucket, document: Document) -> AsyncGenerator[int, None]:
    wanted = await reading(partial(buckets.addresses, document))
    collected = downloads.Collected()
    async with aclosing(downloads.collect(wanted, collected)) as counts:
        async for count in counts:
            yield count
    await storing(partial(buckets.settle_downloads, bucket, document, collected))


async def _pieces(document: Document) -> AsyncGenerator[Piece, None]:
    """Archives and downloads hold frames of their own."""
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
        pieces.close()
    if after:
        yield Piece(after)
