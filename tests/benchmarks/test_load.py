"""The load generator calls every wrong answer an error, and ends whatever the server does."""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.traffic import Gateway, build, measure, send, simulator

pytestmark = pytest.mark.skipif(not (shutil.which("cc") and shutil.which("taskset")), reason="needs cc and taskset")

Answer = Callable[[int], bytes]
CHUNKS = 3


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tools"))


def with_head(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def plain(number: int, *, usage: str = '"total_tokens"') -> bytes:
    return with_head(b'{"content":"#OK-sim:%d: fox","usage":{%s:52}}' % (number, usage.encode()))


def chunk(number: int, index: int) -> str:
    return json.dumps({"content": f"#{index}:{time.monotonic_ns() // 1000}:{number};"})


def stream(number: int, order: tuple[int, ...] = (0, 1, 2), tail: str = "finish usage done") -> bytes:
    ends = {"finish": '{"finish_reason": "stop"}', "usage": '{"total_tokens": 22}', "done": "[DONE]"}
    events = [*(chunk(number, index) for index in order), *(ends[name] for name in tail.split())]
    return with_head("".join(f"data: {event}\n\n" for event in events).encode())


@contextmanager
def server(answer: Answer, then: Callable[[socket.socket], None] | None = None) -> Iterator[Gateway]:
    """Answers each request with these bytes, given its number; `then` may do something to the connection after."""

    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                found = re.search(rb" i=(\d+)", data)
                assert found is not None
                connection.sendall(answer(int(found.group(1))))
                if then is not None:
                    then(connection)
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield Gateway("scripted", f"http://127.0.0.1:{listener.getsockname()[1]}", "key", None)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def counted(
    tools: Path, answer: Answer, options: str, then: Callable[[socket.socket], None] | None = None
) -> dict[str, Any]:
    with server(answer, then) as gateway:
        return send(tools, gateway, f"{options} -c 1 -t 5 -w 0 -N 3 -g 1", timeout=20)


def test_right_answers_are_no_errors(tools: Path) -> None:
    for answer, options in ((plain, ""), (stream, f"-s -n {CHUNKS}")):
        found = counted(tools, answer, options)
        assert (found["ok"], found["err"], found["unfinished"]) == (3, 0, 0), found


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda _: with_head(b"{}", "500 Oh"), "e_status"),
        (lambda _: with_head(b'{"error":{}}'), "e_content"),
        (lambda _: with_head(b""), "e_content"),
        (lambda number: plain(number, usage='"none"'), "e_content"),
        (lambda number: plain(number) + b"more", "e_content"),
        (lambda number: plain(number)[:-1] + b"#", "e_content"),
        (lambda number: plain(number + 1), "e_order"),
    ],
    ids=["status", "error", "empty", "no usage", "more than asked for", "cut", "another's answer"],
)
def test_a_wrong_plain_answer_is_an_error(tools: Path, answer: Answer, kind: str) -> None:
    found = counted(tools, answer, "")
    assert (found["ok"], found[kind]) == (0, 3), found


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda number: stream(number, (0, 2)), "e_order"),
        (lambda number: stream(number, (0, 1)), "e_order"),
        (lambda number: stream(number, (0, 2, 1)), "e_order"),
        (lambda number: stream(number, (0, 1, 1, 2)), "e_order"),
        (lambda number: stream(number + 1), "e_order"),
        (lambda number: stream(number, tail="finish usage done done"), "e_order"),
        (lambda number: stream(number, tail="usage done"), "e_content"),
        (lambda number: stream(number, tail="finish done"), "e_content"),
        (lambda number: stream(number, tail="finish usage"), "e_content"),
    ],
    ids=["lost", "lost at the end", "reordered", "doubled", "another's", "two ends", "no finish", "no usage", "no end"],
)
def test_a_wrong_stream_is_an_error(tools: Path, answer: Answer, kind: str) -> None:
    found = counted(tools, answer, f"-s -n {CHUNKS}")
    assert (found["ok"], found[kind]) == (0, 3), found


def test_an_answer_that_is_cut_off_is_an_error(tools: Path) -> None:
    found = counted(tools, lambda number: plain(number)[:-5], "", lambda connection: connection.close())
    assert (found["ok"], found["e_conn"]) == (0, 3), found


def test_a_server_that_closes_without_a_word_is_an_error(tools: Path) -> None:
    found = counted(tools, lambda _: b"", "", lambda connection: connection.close())
    assert (found["ok"], found["e_conn"]) == (0, 3), found


def test_silence_is_an_error_and_no_hang(tools: Path) -> None:
    began = time.monotonic()
    found = counted(tools, lambda _: b"", "-S 0.5")
    assert (found["ok"], found["e_stall"]) == (0, 3), found
    assert time.monotonic() - began < 5


def test_what_is_open_at_the_end_is_named(tools: Path) -> None:
    with server(lambda _: b"") as gateway:
        found = send(tools, gateway, "-c 2 -t 0.3 -w 0 -g 0.3", timeout=20)
    assert (found["ok"], found["unfinished"]) == (0, 2), found


def test_a_kept_connection_closed_between_requests_is_no_error(tools: Path) -> None:
    found = counted(tools, plain, "", lambda connection: connection.close())
    assert (found["ok"], found["err"]) == (3, 0), found


def test_simulator_and_load_generator_agree(tools: Path) -> None:
    with simulator(tools) as provider:
        plain_run = measure(tools, provider, "-c 8 -t 0.3 -w 0.1", provider)
        streamed = measure(tools, provider, "-s -n 20 -d 1 -c 50 -t 0.3 -w 0.2 -g 2", provider)
    assert plain_run["ok"] > 100
    assert streamed["chunks_total"] == 20 * streamed["ok"] > 0
    assert plain_run["err"] == streamed["err"] == streamed["unfinished"] == 0
