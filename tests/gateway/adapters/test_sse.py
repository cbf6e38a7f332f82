"""Cutting bytes into events, whatever the packets look like."""

from __future__ import annotations

import random
import time

import pytest

from gateway.adapters.sse import MAX_EVENT_BYTES, EventSplitter, EventTooLarge, payload

TEXT = 'data: {"a": "grüße 漢字 🙂"}\n\n: comment\n\nevent: x\ndata: 1\n\ndata: [DONE]\n\n'.encode()
EVENTS = ['data: {"a": "grüße 漢字 🙂"}'.encode(), b": comment", b"event: x\ndata: 1", b"data: [DONE]"]


def cut(data: bytes, ends: list[int]) -> list[bytes]:
    splitter, found, start = EventSplitter(), [], 0
    for end in [*ends, len(data)]:
        found += splitter.feed(data[start:end])
        start = end
    return found + splitter.end()


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_it_gives_the_same_events_however_packets_are_cut(newline: bytes) -> None:
    data = TEXT.replace(b"\n", newline)
    for end in range(len(data)):
        assert cut(data, [end]) == EVENTS
    chance = random.Random(7)
    for _ in range(300):
        assert cut(data, sorted(chance.sample(range(len(data)), 12))) == EVENTS


def test_it_drops_a_byte_order_mark() -> None:
    data = b"\xef\xbb\xbfdata: 1\n\n"
    for end in range(len(data)):
        assert cut(data, [end]) == [b"data: 1"]
    assert cut(data, [1, 2, 3]) == [b"data: 1"]
    # Once only, and nothing that merely begins like it is lost.
    assert cut(b"\xef\xbb", [1]) == [b"\xef\xbb"]
    assert cut(b"\xef\xbb\xbf" + data, [4]) == [data.strip()]


def test_it_gives_the_last_event_without_its_blank_line() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: 1") == []
    assert splitter.end() == [b"data: 1"]
    assert splitter.end() == []


def test_it_assembles_four_mebibytes_and_no_more() -> None:
    splitter = EventSplitter()
    piece = b"x" * 65536
    for _ in range(MAX_EVENT_BYTES // len(piece)):
        assert splitter.feed(piece) == []
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x")


@pytest.mark.parametrize(
    ("event", "name", "data"),
    [
        (b"data: {}", "", b"{}"),
        (b"data:{}", "", b"{}"),
        (b"event: error\ndata: {}", "error", b"{}"),
        (b"data: a\ndata: b", "", b"a\nb"),
        (b": ping", "", b""),
        (b"id: 7\nretry: 10", "", b""),
        (b"event: \xff\ndata: 1", "\ufffd", b"1"),
    ],
)
def test_it_reads_names_and_data(event: bytes, name: str, data: bytes) -> None:
    assert payload(event) == (name, data)


def test_a_large_event_in_small_packets_costs_its_length_once() -> None:
    """Quadratic, this takes minutes, in which nobody else is answered."""
    splitter, piece = EventSplitter(), b"x" * 64
    begun = time.process_time()
    for _ in range(MAX_EVENT_BYTES // len(piece)):
        assert splitter.feed(piece) == []
    assert time.process_time() - begun < 5
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x")
