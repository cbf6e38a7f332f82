"""The engines that can be asked: a SearXNG instance of the operator's, and public ones through the library ddgs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson
from django.conf import settings

from media.fetch import PORTS, FetchError, Rules, fetch

SECONDS = 8
MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_TITLE = 200
MAX_SNIPPET = 600
MAX_URL = 2000
# Halves of surrogate pairs are in JSON what no body can be written with.
SPACES = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]+")
_threads = ThreadPoolExecutor(4, thread_name_prefix="websearch")


class SearchError(Exception):
    """Why nothing was found, in a sentence for the log."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What an engine says of a page. All of it is strangers' words."""

    url: str
    title: str
    snippet: str = ""


async def hits(query: str, count: int) -> list[Hit]:
    """At most `count`, in the engine's order, each address once. Raises SearchError."""
    ask = {"searxng": _searxng, "ddgs": _ddgs}[settings.WEB_SEARCH]
    found: dict[str, Hit] = {}
    for hit in _cleaned(await ask(query, count)):
        found.setdefault(hit.url, hit)
    return list(found.values())[:count]


async def _searxng(query: str, count: int) -> Iterable[Mapping[str, Any]]:
    """SearXNG's search API (docs.searxng.org, "Search API"); its settings have to allow the format json."""
    place = urlsplit(settings.SEARXNG_URL)
    url = f"{settings.SEARXNG_URL.rstrip('/')}/search?{urlencode({'q': query, 'format': 'json'})}"
    rules = Rules(
        ports=frozenset({place.port or PORTS[place.scheme]}),
        max_bytes=MAX_ANSWER_BYTES,
        seconds=SECONDS,
        max_redirects=0,
        # The operator named it, so it may be on this machine or in the operator's network.
        private_hosts=frozenset({(place.hostname or "").lower()}),
    )
    try:
        fetched = await fetch(url, {"application/json", "text/plain"}, rules)
        body = orjson.loads(fetched.data)
    except FetchError as error:
        raise SearchError(f"SearXNG: {error.message}") from None
    except orjson.JSONDecodeError:
        raise SearchError("SearXNG did not answer in JSON: its settings have to list the format json.") from None
    results = body.get("results") if isinstance(body, dict) else None
    if not isinstance(results, list):
        raise SearchError("SearXNG did not answer with results.")
    return ({**item, "body": item.get("content")} for item in results if isinstance(item, dict))


async def _ddgs(query: str, count: int) -> Iterable[Mapping[str, Any]]:
    work = asyncio.get_running_loop().run_in_executor(_threads, partial(_asked_ddgs, query, count))
    try:
        async with asyncio.timeout(2 * SECONDS):
            found = await work
    except TimeoutError:
        raise SearchError("The engines did not answer in time.") from None
    return ({**item, "url": item.get("href")} for item in found)


def _asked_ddgs(query: str, count: int) -> list[dict[str, Any]]:
    try:
        # Of the extra `search`: nobody else loads it.
        from ddgs import DDGS

        return list(DDGS(timeout=SECONDS).text(query, max_results=count))
    except ImportError:
        raise SearchError("The extra `search` is not installed.") from None
    except Exception as error:  # noqa: BLE001 - whatever went wrong there, the chat goes on without
        # "No results found" is an exception as well.
        raise SearchError(f"ddgs: {type(error).__name__}") from None


def _cleaned(items: Iterable[Mapping[str, Any]]) -> Iterable[Hit]:
    for item in items:
        url = item.get("url")
        if isinstance(url, str) and url.startswith(("http://", "https://")) and len(url) <= MAX_URL:
            try:
                host = urlsplit(url).netloc
            except ValueError:
                continue
            if SPACES.search(url):
                continue
            title = _line(item.get("title"), MAX_TITLE) or host
            yield Hit(url, title, _line(item.get("body"), MAX_SNIPPET))


def _line(text: Any, size: int) -> str:
    return SPACES.sub(" ", text).strip()[:size] if isinstance(text, str) else ""
