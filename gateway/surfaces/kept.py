"""Pictures of answers, kept in the media app and told as signed addresses. Off the loop, in threads of their own."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from django.db import Error as DatabaseError
from django.db import connection

from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.events import Event, MediaOutput, TextDelta
from gateway.surfaces.exchange import Exchange
from gateway.targets import Target
from media import links, store
from media.errors import MediaError
from media.models import StoredFile
from media.serving import find

log = logging.getLogger(__name__)

T = TypeVar("T")
SECONDS = 30.0
MAX_PROMPT = 2000
MAX_ALT = 100
# In a picture's own words they would end it, or be more than words.
NOT_IN_MARKDOWN = re.compile(r"[\x00-\x1f\x7f\[\]()<>\\`*_!|&\u202a-\u202e\u2066-\u2069]")
_threads = ThreadPoolExecutor(4, thread_name_prefix="pictures")


@dataclass(frozen=True, slots=True)
class About:
    """What is remembered of a picture beside its bytes, and `base`, where its address begins."""

    owner_id: int
    base: str
    prompt: str
    provider: str
    model: str


def address(name: str | None, base: str) -> str | None:
    """A signed URL of a file by its name; None for none."""
    return None if name is None else links.signed(links.path_of(name), base)


async def names(pictures: Sequence[str], about: About) -> list[str | None]:
    """Keeps pictures in base64, each under the name it gives; None for one that could not be kept, whatever the reason.

    What was made is paid for: that there is no room for it here is no reason not to hand it over.
    """
    found: list[str | None] = []
    for data in pictures:
        try:
            found.append(await off_the_loop(partial(_name, data, about)))
        except (MediaError, DatabaseError, OSError, binascii.Error, ValueError) as error:
            log.warning("a picture is handed over without being kept: %s", type(error).__name__)
            found.append(None)
    return found


async def linked(
    exchange: Exchange, chat: ChatRequest, principal: Principal, target: Target, event: MediaOutput
) -> Event:
    """A picture in an answer as Markdown with its address; whole, as it came, where it may or can not be kept."""
    if principal.user_id is None or not chat.keep_media or not event.mime_type.startswith("image/"):
        return event
    asked = next((message.text for message in reversed(chat.messages()) if message.role == "user"), "")
    about = About(
        principal.user_id, links.base_of(exchange.scope), asked[:MAX_PROMPT], target.provider, target.public_id
    )
    [name] = await names([event.data], about)
    url = address(name, about.base)
    if url is None:
        return event
    words = " ".join(NOT_IN_MARKDOWN.sub(" ", asked[:MAX_ALT]).split()) or "image"
    return TextDelta(f"\n[![{words}]({url})]({url})\n", event.index)


def _name(data: str, about: About) -> str:
    stored = store.keep(
        about.owner_id,
        base64.b64decode(data, validate=True),
        label="image",
        source=StoredFile.Source.GENERATED,
        prompt=about.prompt,
        provider=about.provider,
        model=about.model,
    )
    return stored.name


async def own(url: str, base: str, most: int) -> bytes | None:
    """The file behind a signed URL of ours; None for every other address.

    Whoever holds such an address may read it. Raises MediaError for one that is over, changed, or too large.
    """
    if not url.startswith(f"{base}/media/"):
        return None
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    given = [query.get(name, [""])[-1] for name in (links.EXPIRES, links.SIGNATURE)]
    return await off_the_loop(partial(_own, parts.path, *given, most=most)) if all(given) else None


def _own(path: str, expires: str, signature: str, *, most: int) -> bytes:
    links.check(path, expires, signature)
    stored = find(unquote(path.removeprefix("/media/")), owner__is_active=True)
    with store.opened(stored) as file:
        return file.read(most + 1)


async def off_the_loop(work: Callable[[], T]) -> T:
    async with asyncio.timeout(SECONDS):
        return await asyncio.get_running_loop().run_in_executor(_threads, _with_own_connection, work)


def _with_own_connection(work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        connection.close()
