"""What a request with an `Idempotency-Key` says, as a digest, and how the answer of the first one is given again."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import orjson

from gateway.idempotency import Given, digest_of
from gateway.surfaces.exchange import Exchange
from gateway.surfaces.multipart import Form, Upload

REPLAYED = (b"idempotent-replayed", b"true")
CHUNK_BYTES = 1024 * 1024


async def of_json(raw: bytes, where: Any) -> str:
    """Of a body that is known to be JSON, sent to `where`, which is what the path says."""
    return await asyncio.to_thread(lambda: digest_of(["json", where, orjson.loads(raw)]))


async def of_form(form: Form, where: Any, name: Callable[[Upload], str]) -> str:
    """Of a form by its parts, because boundaries differ each time. `name` is what counts of a file beside its bytes."""
    return await asyncio.to_thread(partial(_of_form, form, where, name))


def _of_form(form: Form, where: Any, name: Callable[[Upload], str]) -> str:
    files = [[upload.name, name(upload), _sha256(upload)] for upload in form.files]
    return digest_of(["form", where, form.fields, files])


def _sha256(upload: Upload) -> str:
    found = hashlib.sha256()
    upload.file.seek(0)
    while data := upload.file.read(CHUNK_BYTES):
        found.update(data)
    upload.file.seek(0)
    return found.hexdigest()


async def give_again(
    exchange: Exchange, given: Given, headers: Iterable[tuple[bytes, bytes]], body: bytes | None = None
) -> None:
    """`body` in the place of the one that was kept."""
    more = [REPLAYED, (b"x-should-retry", b"false")] if given.status >= 400 else [REPLAYED]
    await exchange.reply(given.status, [*headers, *more], given.body if body is None else body)
