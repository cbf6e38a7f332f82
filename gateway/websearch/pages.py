"""Pages that were found, as the paragraphs that have most to do with the question."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import partial

from gateway.websearch.engines import Hit
from media.convert.errors import ConversionError
from media.downloads import ACCEPTED, READERS, rules, text_of
from media.fetch import Budget, Fetched, FetchError, fetch

MAX_PAGE_BYTES = 4 * 1024 * 1024
# Of everything a search reads together.
TOTAL_BYTES = 16 * 1024 * 1024
SECONDS = 8.0
MAX_EXCERPT = 3000
MAX_PARAGRAPH = 1500
# Longer ones are not looked through: what matters stands before.
MAX_TEXT = 400_000
WORD = re.compile(r"\w{3,}")
GAP = re.compile(r"\n\s*\n")
SPACES = re.compile(r"\s+")


async def excerpts(found: Sequence[Hit], query: str) -> list[str]:
    """For each page what it says to the query; the engine's snippet where it cannot be read."""
    budget = Budget(TOTAL_BYTES)
    return list(await asyncio.gather(*(_excerpt(hit, query, budget) for hit in found)))


async def _excerpt(hit: Hit, query: str, budget: Budget) -> str:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(SECONDS):
            fetched = await fetch(hit.url, ACCEPTED, rules(MAX_PAGE_BYTES), budget)
            said = await loop.run_in_executor(READERS, partial(_said, fetched, hit.url, query))
    except (FetchError, ConversionError, TimeoutError):
        return hit.snippet
    return said or hit.snippet


def _said(fetched: Fetched, url: str, query: str) -> str:
    return excerpt(text_of(fetched, url)[:MAX_TEXT], query)


def excerpt(text: str, query: str, size: int = MAX_EXCERPT) -> str:
    """The paragraphs that share most words with the query, in their order, of at most `size` characters together."""
    wanted = {word.casefold() for word in WORD.findall(query)}
    paragraphs = [SPACES.sub(" ", part).strip()[:MAX_PARAGRAPH] for part in GAP.split(text)]
    paragraphs = [part for part in paragraphs if part]
    ranked = sorted(range(len(paragraphs)), key=lambda place: (-_shared(paragraphs[place], wanted), place))
    chosen, left = [], size
    for place in ranked:
        if len(paragraphs[place]) <= left:
            chosen.append(place)
            left -= len(paragraphs[place]) + 1
    return "\n".join(paragraphs[place] for place in sorted(chosen))


def _shared(paragraph: str, wanted: set[str]) -> int:
    return len(wanted & {word.casefold() for word in WORD.findall(paragraph)})
