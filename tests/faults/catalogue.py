"""Every fault of a provider that the rig knows: how it is played, and what a caller may see of it.

A fault is played by the first provider of a model alone; a healthy one behind it must hide it, unless words of
the answer had already been sent.
"""

from __future__ import annotations

import email.utils
import gzip
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.cases import FIRST_EVENT, Script
from tests.support import answers
from tests.support.answers import DONE, Answer, Close, Pause, Reset, Send, Stall, Step, chunk, completion


@dataclass(frozen=True, slots=True)
class Failure:
    """What the caller gets where no other provider hides it: as a status, or as the error event of a stream."""

    status: int
    code: str


WHOLE = None
BROKEN = Failure(502, "provider_not_working")
LATE = Failure(504, "provider_timeout")
CREDENTIAL = Failure(502, "provider_credential_refused")
LIMITED = Failure(429, "rate_limit_exceeded")
REJECTED = "provider_rejected_request"

Expected = Failure | None


@dataclass(frozen=True, slots=True)
class Fault:
    """`plain` and `stream` list what may come; None stands for the whole answer.

    `mid`: a stream may have begun, so that a healthy provider cannot hide it. `counted`: whether the provider's
    own numbers of tokens can be believed.
    """

    plain: tuple[Expected, ...]
    stream: tuple[Expected, ...]
    play: Callable[[Script, bool], Answer] | None = None
    mid: bool = False
    counted: bool = True


def usage(script: Script) -> dict[str, int]:
    return {"prompt_tokens": 7, "completion_tokens": script.words, "total_tokens": 7 + script.words}


Event = dict[str, Any] | str | bytes | Step


def events(script: Script, *, said: Any = ..., done: bool = True) -> list[Event]:
    """The whole stream; `said` in place of the usage, None for none."""
    told = usage(script) if said is ... else said
    found = [chunk({"role": "assistant", "content": ""})]
    found += [chunk({"content": piece}) for piece in script.pieces]
    found.append(chunk({}, "stop"))
    if told is not None:
        found.append(chunk(None, usage=told))
    # Letters as they are and not escaped, so that packets cut through them.
    texts: list[Event] = [json.dumps(event, ensure_ascii=False) for event in found]
    return [*texts, DONE] if done else texts


def healthy(script: Script, stream: bool) -> Answer:
    return answers.sse(events(script)) if stream else answers.reply_json(whole(script))


def whole(script: Script, said: Any = ...) -> dict[str, Any]:
    body = completion("".join(script.pieces), usage=usage(script) if said is ... else said)
    if said is None:
        del body["usage"]
    return body


def plain_bytes(script: Script) -> bytes:
    return json.dumps(whole(script), ensure_ascii=False).encode()


def _mid(*steps: Event, plain: Sequence[Step] = (), cut: bool = True) -> Callable[[Script, bool], Answer]:
    """These steps after `at` pieces of a stream, or after part of a plain body; `cut`: nothing comes after them."""

    def play(script: Script, stream: bool) -> Answer:
        if stream:
            found = events(script)
            rest = [] if cut else found[script.at + 1 :]
            return answers.sse([*found[: script.at + 1], *steps, *rest])
        body = plain_bytes(script)
        head = answers.raw(body).head
        return Answer(head, (Send(body[: len(body) // 2]), *plain), keep_alive=False)

    return play


def _first(*steps: Event, plain: Answer | None = None) -> Callable[[Script, bool], Answer]:
    """A stream of these events alone."""
    return lambda _, stream: answers.sse([*steps]) if stream or plain is None else plain


def _always(answer: Answer) -> Callable[[Script, bool], Answer]:
    return lambda *_: answer


def _wire(head: bytes, *steps: Step) -> Callable[[Script, bool], Answer]:
    return _always(Answer(head, steps, keep_alive=False))


def _status(status: int, **headers: str) -> Callable[[Script, bool], Answer]:
    def play(script: Script, stream: bool) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return answers.error(status, f"refused for {script.mark}", headers=sent)

    return play


def _dated(script: Script, stream: bool) -> Answer:
    return _status(429, retry_after=email.utils.formatdate(time.time() + 7, usegmt=True))(script, stream)


def _in_stream(make: Callable[[Script], Iterable[Event]], **options: Any) -> Callable[[Script, bool], Answer]:
    """A stream made of these events; a plain answer is the usual one."""

    def play(script: Script, stream: bool) -> Answer:
        return answers.sse(make(script), **options) if stream else healthy(script, False)

    return play


def _with_usage(said: Any) -> Callable[[Script, bool], Answer]:
    def play(script: Script, stream: bool) -> Answer:
        return answers.sse(events(script, said=said)) if stream else answers.reply_json(whole(script, said))

    return play


def _wrong_type(script: Script, stream: bool) -> Answer:
    if stream:
        return answers.sse(events(script), content_type="text/plain")
    return answers.raw(plain_bytes(script), content_type="text/html")


def _body_for_the_other(script: Script, stream: bool) -> Answer:
    return healthy(script, not stream)


def _bomb(script: Script, stream: bool) -> Answer:
    body = gzip.compress(b" " * 20_000_000)
    kind = "text/event-stream" if stream else "application/json"
    return answers.raw(body, content_type=kind, headers={"content-encoding": "gzip"})


def _length(extra: int, *, status: int = 200) -> Callable[[Script, bool], Answer]:
    """A body whose length is promised wrongly by this many bytes; what is too much stays in the connection."""

    def play(script: Script, stream: bool) -> Answer:
        body = b"".join(map(answers.frame, events(script))) if stream else plain_bytes(script)  # type: ignore[arg-type]
        kind = "text/event-stream" if stream else "application/json"
        wrong = answers.raw(
            body, status=status, content_type=kind, headers={"content-length": str(max(1, len(body) + extra))}
        )
        after = (Close(),) if extra > 0 else ()
        return Answer(wrong.head, (Send(body), *after), keep_alive=extra < 0)

    return play


def _two_answers(script: Script, stream: bool) -> Answer:
    """A second answer that nobody asked for, right behind the first one."""
    second = answers.reply_json(whole(script))
    again = second.head + b"".join(step.data for step in second.body if isinstance(step, Send))
    first = healthy(script, stream)
    parts = [step.data for step in first.body if isinstance(step, Send)]
    if first.chunked:
        parts = [*map(answers.chunk_frame, parts), b"0\r\n\r\n"]
    return Answer(first.head, (Send(b"".join([*parts, again])),))


def _dripping(script: Script, stream: bool) -> Answer:
    if stream:
        return answers.sse(events(script), gap=0.04)
    body = plain_bytes(script)
    step = len(body) // 8 + 1
    parts = [body[start : start + step] for start in range(0, len(body), step)]
    steps = [each for part in parts for each in (Send(part), Pause(0.05))]
    return Answer(answers.raw(body).head, tuple(steps))


def _slow_head(script: Script, stream: bool) -> Answer:
    answer = healthy(script, stream)
    step = len(answer.head) // 5 + 1
    parts = [answer.head[start : start + step] for start in range(0, len(answer.head), step)]
    chunks = [Send(answers.chunk_frame(s.data)) if answer.chunked else s for s in answer.body if isinstance(s, Send)]
    last = [Send(b"0\r\n\r\n")] if answer.chunked else []
    steps = [each for part in parts for each in (Send(part), Pause(0.05))]
    return Answer(b"", (*steps, *chunks, *last))


def _informed(script: Script, stream: bool) -> Answer:
    answer = healthy(script, stream)
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    return Answer(hints + answer.head, answer.body, answer.chunked, answer.keep_alive)


def _broken_frame(script: Script, stream: bool) -> Answer:
    if not stream:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        return Answer(head, (Send(b'5\r\n{"id"\r\nnot a size\r\n'), Close()), keep_alive=False)
    answer = answers.sse(events(script)[: script.at + 1])
    steps = [Send(answers.chunk_frame(step.data)) for step in answer.body if isinstance(step, Send)]
    return Answer(answer.head, (*steps, Send(b"zz\r\nnot a size\r\n"), Close()), keep_alive=False)


def _comments(script: Script) -> list[Event]:
    between = [b": still here\n\n", b"event: ping\ndata: {}\n\n", b"id: 7\nretry: 10\n\n"]
    return [each for event in events(script) for each in (*between, event)]


def _large(script: Script) -> list[Event]:
    return [*events(script)[: script.at + 1], chunk({"content": script.mark * 420_000}), DONE]


HTML = {400: Failure(400, REJECTED), 404: Failure(404, REJECTED), 429: LIMITED, 504: LATE}
JSON = {code: Failure(code, REJECTED) for code in (400, 404, 409, 413, 415, 422)} | {408: LATE, 504: LATE}
CUT_BODY = (Close(),)
SERVER_ERROR = {"error": {"message": "the model is overloaded", "type": "server_error"}}

FAULTS: dict[str, Fault] = {
    "none": Fault((WHOLE,), (WHOLE,), healthy),
    # Connections.
    "reset-before-head": Fault((BROKEN,), (BROKEN,), _wire(b"", Reset())),
    "close-before-head": Fault((BROKEN,), (BROKEN,), _wire(b"", Close())),
    "close-in-head": Fault((BROKEN,), (BROKEN,), _wire(b"HTTP/1.1 200 OK\r\ncontent-ty", Close())),
    "reset-after-head": Fault((BROKEN,), (BROKEN,), _wire(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n", Reset())),
    "stall-before-head": Fault((LATE,), (LATE,), _wire(b"", Stall())),
    "stall-after-head": Fault((LATE,), (LATE,), _wire(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n", Stall())),
    "stall-mid": Fault((LATE,), (LATE,), _mid(Stall(), plain=(Stall(),)), mid=True),
    "reset-mid": Fault((BROKEN,), (BROKEN,), _mid(Reset(), plain=(Reset(),)), mid=True),
    "close-mid": Fault((BROKEN,), (BROKEN,), _mid(Close(), plain=CUT_BODY), mid=True),
    "early-end": Fault((BROKEN,), (BROKEN,), _mid(plain=CUT_BODY), mid=True),
    "slow-head": Fault((WHOLE,), (WHOLE,), _slow_head),
    "drip": Fault((WHOLE,), (WHOLE,), _dripping),
    # HTTP.
    "bad-head": Fault((BROKEN,), (BROKEN,), _wire(b"\x16\x03\x01 what is this\r\n\r\n", Close())),
    "long-head": Fault(
        (BROKEN,), (BROKEN,), _wire(b"HTTP/1.1 200 OK\r\nx-a: " + b"a" * 100_000 + b"\r\n\r\n", Close())
    ),
    "bad-frame": Fault((BROKEN,), (BROKEN,), _broken_frame, mid=True),
    "length-too-long": Fault((BROKEN,), (WHOLE, BROKEN), _length(50), mid=True),
    "length-too-short": Fault((BROKEN,), (WHOLE, BROKEN), _length(-40), mid=True),
    "error-length-too-short": Fault((BROKEN,), (BROKEN,), _length(-40, status=500)),
    "two-answers": Fault((WHOLE,), (WHOLE,), _two_answers),
    "informed": Fault((WHOLE,), (WHOLE,), _informed),
    "redirect": Fault((BROKEN,), (BROKEN,), _always(answers.redirect("http://127.0.0.1:9/"))),
    "no-content": Fault((BROKEN,), (BROKEN,), _wire(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", Close())),
    "empty": Fault((BROKEN,), (BROKEN,), _always(answers.raw(b""))),
    "gzip": Fault((BROKEN,), (BROKEN,), _bomb),
    "wrong-type": Fault((WHOLE,), (WHOLE,), _wrong_type),
    "wrong-form": Fault((BROKEN,), (BROKEN,), _body_for_the_other),
    # Refusals.
    **{
        f"html-{status}": Fault((HTML.get(status, BROKEN),), (HTML.get(status, BROKEN),), _always(answers.html(status)))
        for status in (200, 400, 404, 418, 429, 500, 502, 503, 504, 529)
    },
    **{
        f"error-{status}": Fault((JSON.get(status, BROKEN),), (JSON.get(status, BROKEN),), _status(status))
        for status in (400, 404, 408, 409, 413, 422, 500, 502, 503, 504)
    },
    "limited-seconds": Fault((LIMITED,), (LIMITED,), _status(429, retry_after="2")),
    "limited-date": Fault((LIMITED,), (LIMITED,), _dated),
    "limited-nonsense": Fault((LIMITED,), (LIMITED,), _status(429, retry_after="soon")),
    "unavailable-later": Fault((BROKEN,), (BROKEN,), _status(503, retry_after="1")),
    **{f"refused-{status}": Fault((CREDENTIAL,), (CREDENTIAL,), _status(status)) for status in (401, 402, 403)},
    # Contents.
    "not-json": Fault((BROKEN,), (BROKEN,), _first(b"data: {oops\n\n", plain=answers.raw(b"{oops"))),
    "not-json-mid": Fault((BROKEN,), (BROKEN,), _mid(b"data: {oops\n\n", plain=CUT_BODY, cut=False), mid=True),
    "not-utf8": Fault((BROKEN,), (BROKEN,), _first(b'data: {"a":"\xff"}\n\n', plain=answers.raw(b'{"a":"\xff"}'))),
    "garbage": Fault((BROKEN,), (BROKEN,), _first(bytes(range(1, 256)) * 8, plain=answers.raw(bytes(range(256))))),
    "garbage-mid": Fault(
        (BROKEN,), (BROKEN,), _mid(b"data: " + bytes(range(14, 256)) + b"\n\n", plain=CUT_BODY), mid=True
    ),
    "json-list": Fault((BROKEN,), (BROKEN,), _first(b"data: [1, 2]\n\n", plain=answers.raw(b"[1, 2]"))),
    "json-null": Fault((BROKEN,), (BROKEN,), _first(b"data: null\n\n", plain=answers.raw(b"null"))),
    "odd-choices": Fault((BROKEN,), (BROKEN,), _first({"choices": [3]}, plain=answers.reply_json({"choices": "none"}))),
    "deep": Fault(
        (BROKEN,), (BROKEN,), _first(b"data: " + b"[" * 5000 + b"\n\n", plain=answers.raw(b"[" * 5000 + b"]" * 5000))
    ),
    "error-inside": Fault((BROKEN,), (BROKEN,), _first(SERVER_ERROR, DONE, plain=answers.reply_json(SERVER_ERROR))),
    "error-mid": Fault((BROKEN,), (BROKEN,), _mid(SERVER_ERROR, plain=CUT_BODY, cut=False), mid=True),
    "error-event": Fault(
        (BROKEN,), (BROKEN,), _mid(b'event: error\ndata: {"message": "no"}\n\n', plain=CUT_BODY), mid=True
    ),
    "large-event": Fault((WHOLE,), (BROKEN,), _in_stream(_large), mid=True),
    "carriage-returns": Fault((WHOLE,), (WHOLE,), _in_stream(events, newline=b"\r\n", packet=7)),
    "comments": Fault((WHOLE,), (WHOLE,), _in_stream(_comments)),
    "comments-only": Fault(
        (WHOLE,), (LATE,), _in_stream(lambda _: [b": wait\n\n", Pause(0.5)] * (2 * FIRST_EVENT + 4))
    ),
    "small-packets": Fault((WHOLE,), (WHOLE,), _in_stream(events, packet=31)),
    "no-end-mark": Fault((WHOLE,), (WHOLE,), _in_stream(lambda script: events(script, done=False))),
    "no-usage": Fault((WHOLE,), (WHOLE,), _with_usage(None), counted=False),
    "huge-usage": Fault(
        (WHOLE,), (WHOLE,), _with_usage({"prompt_tokens": 2**62, "completion_tokens": 10**18}), counted=False
    ),
    "odd-usage": Fault((WHOLE,), (WHOLE,), _with_usage({"prompt_tokens": "7", "completion_tokens": -3}), counted=False),
}

# Played by the proxy between gateway and provider, which answers as if nothing were wrong.
PROXY_FAULTS: dict[str, Fault] = {
    "proxy-reset": Fault((BROKEN,), (BROKEN,)),
    "proxy-stall": Fault((LATE,), (LATE,)),
    "proxy-slow": Fault((WHOLE,), (WHOLE,)),
    "proxy-cut": Fault((WHOLE, BROKEN), (WHOLE, BROKEN), mid=True),
    "proxy-garbage": Fault((WHOLE, BROKEN, LATE), (WHOLE, BROKEN, LATE), mid=True),
}

ALL = {**FAULTS, **PROXY_FAULTS, "refused": Fault((BROKEN,), (BROKEN,))}


def answer(script: Script, stream: bool, credential: str) -> Answer:
    """A healthy credential never meets a fault; nor does a request whose fault is somebody else's to play."""
    fault = FAULTS.get(script.fault)
    if fault is None or fault.play is None or "healthy" in credential:
        return healthy(script, stream)
    return fault.play(script, stream)
