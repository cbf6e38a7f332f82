"""`downloads.json`: addresses whose pages become the text of a bucket, fetched by the guarded fetcher.

A list of `{"url": ...}` or `{"urls": [...], "max_depth": 1}`. Links of a page are followed, as deep as asked, on the
same host only. Bounded in addresses, depth, pages, bytes and time.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from html import unescape
from itertools import islice
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from django.conf import settings

from media import kinds
from media.convert.errors import ConversionError
from media.convert.markdown import MAX_CHARS, cut_note, framed, markdown_of
from media.fetch import Budget, Fetched, FetchError, Rules, fetch

NAME = "downloads.json"
MAX_BYTES = 256 * 1024
MAX_ADDRESSES = 50
MAX_DEPTH = 2
MAX_PAGES = 100
AT_ONCE = 5
SECONDS = 120
# Of a page: links that are followed, tags that are looked at, and bytes in which they are looked for.
MAX_LINKS = 1000
MAX_TAGS = 5000
LINK_BYTES = 512 * 1024
# Together: what one page may have is FETCH_MAX_BYTES.
TOTAL_BYTES = 100 * 1024 * 1024
ACCEPTED = kinds.TEXTS | {kinds.PDF, "application/xhtml+xml", "application/zip"}
# A tag ends where the next begins, so that no page is gone over twice, whatever it holds.
TAG = re.compile(rb"(?i)<a\s([^<>]{1,4000})>")
HREF = re.compile(rb"""(?i)(?<![^\s"'])href\s*=\s*(?:"([^"]{1,2000})"|'([^']{1,2000})')""")
# Not the loop's own threads: names of providers are resolved in those.
READERS = ThreadPoolExecutor(4, thread_name_prefix="downloads")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Addresses, each with the number of links that may be followed from it."""

    addresses: tuple[tuple[str, int], ...] = ()


@dataclass(slots=True)
class Collected:
    """What has come so far, of texts no more than one document may have."""

    texts: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    pages: int = 0
    left: int = MAX_CHARS

    @property
    def text(self) -> str:
        """Long: not for an event loop."""
        return "".join(self.texts)

    def take(self, text: str) -> None:
        self.pages += 1
        self.texts.append(text[: self.left])
        self.left -= len(text)
        if self.left < 0:
            self.left = 0
            self.texts.append(cut_note())


def parsed(data: bytes) -> Wanted | None:
    """None for what is no such list: then the file is a text like others."""
    try:
        items = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(items, list) or not items:
        return None
    found: dict[str, int] = {}
    for item in items:
        if not isinstance(item, dict):
            return None
        urls = item.get("urls", [item.get("url")])
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            return None
        found |= dict.fromkeys(urls, _depth(item.get("max_depth")))
    return Wanted(tuple(found.items())[:MAX_ADDRESSES])


def _depth(value: Any) -> int:
    return min(max(value, 0), MAX_DEPTH) if isinstance(value, int) else 0


async def collect(wanted: Wanted, collected: Collected) -> AsyncGenerator[int, None]:
    """Fetches page after page, level by level, into `collected`; gives how many there are after each."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SECONDS
    budget = Budget(TOTAL_BYTES)
    seen: set[str] = set()
    level = list(wanted.addresses)
    while level and collected.pages < MAX_PAGES and collected.left:
        level = [(url, depth) for url, depth in dict(level).items() if not (url in seen or seen.add(url))]  # type: ignore[func-returns-value]
        following: list[tuple[str, int]] = []
        level = level[: MAX_PAGES - collected.pages]
        for start in range(0, len(level), AT_ONCE):
            if loop.time() > deadline:
                collected.failed.append(f"Not everything was fetched within {SECONDS} seconds.")
                return
            batch = level[start : start + AT_ONCE]
            for result in await asyncio.gather(*(_page(url, depth, budget) for url, depth in batch)):
                _take(result, collected, following)
            yield collected.pages
            if not collected.left:
                return
        level = following


@dataclass(frozen=True, slots=True)
class _Page:
    url: str
    text: str = ""
    problem: str = ""
    links: tuple[tuple[str, int], ...] = ()


def _take(page: _Page, collected: Collected, following: list[tuple[str, int]]) -> None:
    if page.problem:
        collected.failed.append(f"{page.url[:200]}: {page.problem}")
        return
    if collected.left:
        collected.take(page.text)
        following += page.links


async def _page(url: str, depth: int, budget: Budget) -> _Page:
    try:
        fetched = await fetch(url, ACCEPTED, rules(), budget)
        return await asyncio.get_running_loop().run_in_executor(READERS, partial(_read, fetched, url, depth))
    except (FetchError, ConversionError) as error:
        return _Page(url, problem=error.message)


def _read(fetched: Fetched, url: str, depth: int) -> _Page:
    return _Page(url, framed(url, text_of(fetched, url)), links=_links(fetched, url, depth))


def rules(max_bytes: int | None = None) -> Rules:
    """Of addresses that callers give, as the settings have them."""
    return Rules(
        ports=settings.FETCH_PORTS,
        max_bytes=min(settings.FETCH_MAX_BYTES, max_bytes or settings.FETCH_MAX_BYTES),
        seconds=settings.FETCH_SECONDS,
        private_hosts=settings.FETCH_PRIVATE_HOSTS,
    )


def text_of(fetched: Fetched, url: str) -> str:
    """A page or a file as Markdown; not for an event loop. Raises ConversionError."""
    endings = {"text/html": ".html", "text/csv": ".csv", kinds.PDF: ".pdf", "application/zip": ".zip"}
    page = fetched.data.lstrip()[:200].lower()
    ending = endings.get(fetched.mime_type, ".html" if page.startswith((b"<!doctype html", b"<html")) else ".txt")
    return markdown_of(fetched.data, f"page{ending}")


def _links(fetched: Fetched, url: str, depth: int) -> tuple[tuple[str, int], ...]:
    """Of a page, on its own host, in their order."""
    if not depth or fetched.mime_type not in ("text/html", kinds.PLAIN):
        return ()
    host = urlsplit(url).netloc.lower()
    found: dict[str, int] = {}
    for tag in islice(TAG.finditer(fetched.data[:LINK_BYTES]), MAX_TAGS):
        match = HREF.search(tag[1])
        link = _joined(url, (match[1] or match[2]).decode("utf-8", "replace")) if match else ""
        if link and urlsplit(link).netloc.lower() == host:
            found[link] = depth - 1
        if len(found) >= MAX_LINKS:
            break
    return tuple(found.items())


def _joined(url: str, link: str) -> str:
    """An http(s) address without its fragment, or nothing."""
    try:
        joined = urldefrag(urljoin(url, unescape(link).strip())).url
        parts = urlsplit(joined)
    except ValueError:
        return ""
    return joined if parts.scheme in ("http", "https") and parts.netloc else ""
