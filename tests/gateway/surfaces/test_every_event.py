"""No event is forgotten: what each encoder of each surface makes of every kind of event, as one table.

The kinds are those of the union in `gateway.events` and the encoders those that the surfaces' modules have, so whoever
adds one of either has to say here what becomes of it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import orjson
import pytest

from gateway import events, surfaces
from gateway.audio import TranscriptionRequest
from gateway.chat import ChatRequest
from gateway.completions import CompletionRequest, chat_body
from gateway.errors import UpstreamBroken
from gateway.events import (
    Citation,
    Event,
    Failed,
    Finished,
    MediaOutput,
    RawChunks,
    RawClosing,
    RawReply,
    ReasoningDelta,
    ReasoningSignature,
    Refusal,
    Sound,
    Started,
    TextDelta,
    ToolCallDelta,
    Transcript,
    Usage,
)
from gateway.pictures import PictureRequest
from gateway.surfaces.anthropic.encoder import MessageStream
from gateway.surfaces.anthropic.reply import MessageReply
from gateway.surfaces.audio.speech import SoundEncoder, SoundEventEncoder
from gateway.surfaces.audio.transcripts import TranscriptEncoder, TranscriptStreamEncoder
from gateway.surfaces.backend.create import TextEncoder
from gateway.surfaces.openai.calls import CallEncoder
from gateway.surfaces.openai.completions import TextChunkEncoder, TextReplyEncoder
from gateway.surfaces.openai.conversing import TellingChunks, TellingReply
from gateway.surfaces.openai.encoder import ChunkEncoder, ReplyEncoder
from gateway.surfaces.openai.pictures import PictureReply, PictureStream
from gateway.surfaces.responses.encoder import ResponseCollector, ResponseEncoder
from gateway.surfaces.responses.parser import parse_response

KINDS: tuple[type, ...] = get_args(Event)
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
MARK = "mArk"
HELD = [{"index": 0, "delta": {}, "message": {"content": MARK}, "text": MARK, "finish_reason": MARK}]
WHOLE = {"type": "made.completed", "id": MARK, "choices": HELD, "data": [{"b64_json": MARK}]}
SAMPLES: dict[type, Event] = {
    Started: Started("Provider", MARK),
    TextDelta: TextDelta(MARK),
    ReasoningDelta: ReasoningDelta(MARK),
    ReasoningSignature: ReasoningSignature(MARK),
    Citation: Citation(f"https://example.com/{MARK}"),
    MediaOutput: MediaOutput("image/png", MARK),
    Refusal: Refusal(MARK),
    ToolCallDelta: ToolCallDelta(0, MARK, "f", "{}"),
    Usage: Usage(4141, 4242, characters=7, images=7),
    Finished: Finished("length"),
    Failed: Failed(UpstreamBroken(MARK)),
    RawChunks: RawChunks(b'data: {"id":"' + MARK.encode() + b'"}\n\n'),
    RawClosing: RawClosing(WHOLE, f'data: {{"id":"{MARK}"}}'.encode(), None, b""),
    RawReply: RawReply(orjson.dumps(WHOLE), WHOLE),
    Sound: Sound(MARK.encode(), "audio/mp3"),
    Transcript: Transcript(MARK),
}

# What becomes of an event: its content is in what is sent; it is booked as the usage; the end says it; its error is
# raised, so that the whole request fails; it is no event of such an answer, so a bug, and said to be one; or the answer
# has no place for it, and it is dropped.
SAID, BOOKED, ENDS, RAISED, A_BUG, DROPPED = "said", "booked", "ends", "raised", "a bug", "dropped"


@dataclass(frozen=True)
class Row:
    """`ends`: how OpenAI's `length` is spelled at the end of this answer."""

    make: Callable[[], Any]
    becomes: dict[type, str]
    ends: str = "length"


CONTENT = (TextDelta, ReasoningDelta, ReasoningSignature, Citation, MediaOutput, Refusal, ToolCallDelta)
RAW = (RawChunks, RawClosing, RawReply)
OTHERS = (Sound, Transcript)


def all_are(what: str, *kinds: type) -> dict[type, str]:
    return dict.fromkeys(kinds, what)


CHAT = {**all_are(SAID, Started, *CONTENT), Usage: BOOKED, Finished: ENDS, **all_are(A_BUG, *OTHERS)}
STREAM = {**CHAT, Failed: SAID, **all_are(SAID, RawChunks, RawClosing), RawReply: A_BUG}
PLAIN = {**CHAT, Failed: RAISED, RawReply: SAID, **all_are(A_BUG, RawChunks, RawClosing)}
# A legacy completion is text.
TEXT = all_are(DROPPED, ReasoningDelta, ReasoningSignature, Citation, MediaOutput, ToolCallDelta)
# One body that the adapter made, or pieces of such.
BODY = {**all_are(DROPPED, *CONTENT, Finished, RawChunks, RawClosing, *OTHERS), Usage: BOOKED, RawReply: SAID}
HEARD = {
    **all_are(DROPPED, *CONTENT, Finished, RawClosing, RawReply, Sound),
    **all_are(SAID, Transcript),
    Usage: BOOKED,
}
SPOKEN = {**all_are(DROPPED, Started, *CONTENT, Finished, *RAW, Transcript), Usage: BOOKED, Sound: SAID}


def chat() -> ChatRequest:
    return ChatRequest("m", None, True, False, {"messages": MESSAGES})


class Kept:
    """A conversation that hears what its encoders are given."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    def take(self, event: Event) -> None:
        self.heard.append(event)

    def told(self) -> dict[str, Any]:
        return {"conversation_id": "c", "message_id": "m"}


KEPT: Any = Kept()


def legacy() -> CompletionRequest:
    asked = {"prompt": "hi"}
    return CompletionRequest("m", None, True, False, chat_body(asked), legacy=asked)


def response() -> Any:
    return parse_response(b'{"model":"m","input":"hi","include":["reasoning.encrypted_content"]}')


def heard() -> TranscriptionRequest:
    return TranscriptionRequest("m", None, True, False, {"response_format": "json"})


def drawn() -> PictureRequest:
    return PictureRequest("m", None, False, False, {"prompt": "hi"}, form="b64_json")


ROWS: dict[type, Row] = {
    ChunkEncoder: Row(lambda: ChunkEncoder(chat()), STREAM),
    ReplyEncoder: Row(lambda: ReplyEncoder(chat()), PLAIN),
    TellingChunks: Row(lambda: TellingChunks(chat(), KEPT), STREAM),
    TellingReply: Row(lambda: TellingReply(chat(), KEPT), PLAIN),
    TextChunkEncoder: Row(lambda: TextChunkEncoder(legacy()), STREAM | TEXT),
    TextReplyEncoder: Row(lambda: TextReplyEncoder(legacy()), PLAIN | TEXT),
    MessageStream: Row(lambda: MessageStream(chat()), STREAM | {RawClosing: A_BUG}, "max_tokens"),
    MessageReply: Row(lambda: MessageReply(chat()), PLAIN, "max_tokens"),
    ResponseEncoder: Row(lambda: ResponseEncoder(response()), STREAM | all_are(A_BUG, *RAW), "max_output_tokens"),
    ResponseCollector: Row(lambda: ResponseCollector(response()), PLAIN | all_are(A_BUG, *RAW), "max_output_tokens"),
    PictureReply: Row(lambda: PictureReply(drawn()), BODY | {Started: SAID, Failed: RAISED}),
    PictureStream: Row(PictureStream, BODY | {Started: DROPPED, Failed: SAID}),
    CallEncoder: Row(CallEncoder, BODY | {Started: DROPPED, Failed: RAISED}),
    TranscriptEncoder: Row(
        lambda: TranscriptEncoder(heard()), HEARD | {Started: SAID, RawChunks: DROPPED, Failed: RAISED}
    ),
    TranscriptStreamEncoder: Row(
        lambda: TranscriptStreamEncoder(heard()),
        HEARD | {Started: SAID, TextDelta: SAID, RawChunks: SAID, Failed: SAID},
    ),
    # A sound has no word for a failure: the surface cuts the connection.
    SoundEncoder: Row(SoundEncoder, SPOKEN | {Failed: DROPPED}),
    SoundEventEncoder: Row(SoundEventEncoder, SPOKEN | {Failed: SAID}),
    # Pictures are told by the surface as addresses; sources are named where a search has found some.
    TextEncoder: Row(
        lambda: TextEncoder(chat()),
        {
            **all_are(DROPPED, Started, *CONTENT, *RAW, *OTHERS),
            **all_are(SAID, TextDelta, Refusal),
            Usage: BOOKED,
            Finished: ENDS,
            Failed: RAISED,
        },
    ),
}
# What an answer cannot do without, so that it can be looked at with any event.
NEEDED: dict[type, Event] = {
    PictureReply: SAMPLES[RawReply],
    TranscriptEncoder: Transcript("x"),
    TranscriptStreamEncoder: Transcript("x"),
}


def sent(encoder: Any, *found: Event) -> bytes:
    """Everything that the caller gets."""
    if hasattr(encoder, "encode"):
        return b"".join([*(encoder.encode(event) for event in found), encoder.end()])
    for event in found:
        encoder.take(event)
    body = encoder.body()
    assert isinstance(body, bytes)
    return body


def test_every_kind_is_in_every_row() -> None:
    assert set(SAMPLES) == set(KINDS)
    for encoder, row in ROWS.items():
        assert set(row.becomes) == set(KINDS), encoder


def test_every_encoder_has_a_row() -> None:
    modules = pkgutil.walk_packages(surfaces.__path__, f"{surfaces.__name__}.")
    classes = {
        item
        for module in modules
        for _, item in inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        if item.__module__.startswith(surfaces.__name__)
        and "Protocol" not in {base.__name__ for base in item.__bases__}
    }
    assert {
        item for item in classes if {"encode", "end"} <= set(dir(item)) or {"take", "body"} <= set(dir(item))
    } == set(ROWS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("encoder", ROWS, ids=lambda encoder: encoder.__name__)
def test_what_becomes_of_it(encoder: type, kind: type) -> None:
    row, event = ROWS[encoder], SAMPLES[kind]
    made, what = row.make(), row.becomes[kind]
    needed = [NEEDED[encoder]] if encoder in NEEDED and kind is not type(NEEDED[encoder]) else []
    around = [] if kind is Started or (kind in RAW and what == SAID) else [Started("Provider", "model")]
    if what in (RAISED, A_BUG):
        with pytest.raises(UpstreamBroken if what == RAISED else TypeError):
            sent(made, *around, event, *needed)
        return
    # Who tells of an answer's model or of a text does so with what follows.
    after: list[Event] = [] if kind in (Finished, *RAW, Failed) or needed else [TextDelta("x"), Finished("stop")]
    text = sent(made, *around, event, *needed, *after)
    if what == BOOKED:
        assert made.usage is event
    elif what == ENDS:
        assert row.ends.encode() in text
    elif encoder is SoundEventEncoder and kind is Sound:
        assert b'"bUFyaw=="' in text
    elif needed and kind is not Started:
        # What was needed has the mark too.
        blank = sent(row.make(), *around, *needed, *after)
        assert (text == blank) is (what == DROPPED)
    else:
        assert (MARK.encode() in text) is (what == SAID), text


def test_the_union_is_what_adapters_emit() -> None:
    """Every class of the module is of the union, a part of one that is, or told here."""
    parts = {events.Segment, events.Word}
    made = {item for _, item in inspect.getmembers(events, inspect.isclass) if item.__module__ == events.__name__}
    assert made - parts == set(KINDS)
