"""What pages of a `downloads.json` may cost: time of the loop, threads that others need, memory."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from media import downloads
from media.fetch import Fetched

URL = "http://a.test/x/"


def links(data: bytes) -> list[str]:
    return [url for url, _ in downloads._links(Fetched("text/html", data), URL, 1)]


def test_links_of_a_page() -> None:
    page = (
        b'<a href=\'one\'>1</a><A class="href" HREF = "/two?a=1&amp;b=2#x">2</A><a\nhref="//else.test/">e</a>'
        b"<a data-href='/no'>n</a><a href='mailto:x@a.test'>m</a><abbr href='/no'><a href='http://[bad'>"
    )
    assert links(page) == ["http://a.test/x/one", "http://a.test/two?a=1&b=2"]


@pytest.mark.parametrize(
    "page",
    [
        b"<a " * 500_000, b"<a href='" * 200_000, b"<a " + b" href=" * 300_000, b"<a " + b"href= " * 300_000 + b">",
        b"<a " + b" " * 2_000_000, b"<a href='//else.test/'>" * 100_000, (b"<a " + b" href='" * 600 + b">") * 400,
    ],
)  # fmt: skip
def test_no_page_takes_long_to_look_through(page: bytes) -> None:
    begun = time.process_time()
    assert len(links(page)) <= downloads.MAX_LINKS
    assert time.process_time() - begun < 1


def collected(monkeypatch: pytest.MonkeyPatch, pages: int, size: int) -> tuple[downloads.Collected, set[str]]:
    """What is kept of so many pages of a size, and the threads in which they were read."""
    threads: set[str] = set()
    real = downloads._links

    async def fetched(url: str, *given: Any) -> Fetched:
        return Fetched("text/plain", b"x" * size)

    def noted(*given: Any) -> Any:
        threads.add(threading.current_thread().name)
        return real(*given)

    monkeypatch.setattr(downloads, "fetch", fetched)
    monkeypatch.setattr(downloads, "_links", noted)
    found = downloads.Collected()

    async def run() -> None:
        wanted = downloads.Wanted(tuple((f"http://a.test/{at}", 0) for at in range(pages)))
        async for _ in downloads.collect(wanted, found):
            pass

    asyncio.run(run())
    return found, threads


def test_pages_are_read_in_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's own resolve the names of providers."""
    found, threads = collected(monkeypatch, 3, 10)
    assert found.pages == 3
    assert all(name.startswith("downloads") for name in threads)


def test_no_more_text_is_taken_than_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = collected(monkeypatch, 50, 3 * 1024 * 1024)
    held = sum(len(text) for text in found.texts)
    assert downloads.MAX_CHARS < held < downloads.MAX_CHARS + 100
    assert found.text.endswith("[Cut here: the text is longer than 10 MB.]\n")
    assert found.pages < 10
