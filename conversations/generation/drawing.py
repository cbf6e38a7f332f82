"""Pictures as an answer in a conversation: drawn as `/v1/images` draws, told and kept as any other answer."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import orjson
from django.conf import settings

from gateway import relay
from gateway.answer_cache import Source, Targets
from gateway.chat import ChatRequest, ImagePart
from gateway.errors import BadRequest
from gateway.events import Event, MediaOutput, RawReply
from gateway.pictures import IMAGES, MAX_INPUTS, Picture, PictureRequest
from gateway.surfaces.openai.picture_parser import inline_picture, parse_generation
from gateway.upstream import Upstream
from gateway.usage import Tally
from media.kinds import kind_of

__all__ = ["IMAGES", "Drawing", "Unfinished", "is_drawing", "request_of"]
# OpenAI's `modalities`: what an answer is to be made of. Pictures beside words are a chat's matter.
ONLY_PICTURES = ["image"]
# How many unfinished pictures are wanted before the one that was asked for; providers charge for them.
PARTIAL = "partial_images"


def is_drawing(chat: ChatRequest) -> bool:
    return chat.body.get("modalities") == ONLY_PICTURES


def request_of(chat: ChatRequest) -> PictureRequest:
    """What was asked last, as a request for pictures; those that came with it are to be edited. Raises BadRequest."""
    asked = next((message for message in reversed(chat.messages()) if message.role == "user"), None)
    if asked is None or not asked.text.strip():
        raise BadRequest("Say what is to be drawn.", code="missing_required_parameter", param="messages")
    given = {name: chat.body[name] for name in ("size", "quality", "aspect_ratio", PARTIAL) if name in chat.body}
    if given.get(PARTIAL):
        given["stream"] = True
    request = parse_generation(orjson.dumps({"model": chat.model, "prompt": asked.text, **given}), chat.provider)
    request.preferences = chat.preferences
    request.pictures = tuple(_pictures([part.url for part in asked.parts if isinstance(part, ImagePart)]))
    return request


def _pictures(urls: Sequence[str]) -> list[Picture]:
    if len(urls) > MAX_INPUTS:
        raise BadRequest(f"More than {MAX_INPUTS} pictures.", code="array_above_max_length", param="messages")
    found = (inline_picture(url, "messages", settings.MAX_FILE_BYTES) for url in urls)
    return [picture for picture in found if picture is not None]


class Unfinished(RawReply):
    """A picture on its way, in base64."""

    __slots__ = ("picture",)

    def __init__(self, picture: str) -> None:
        super().__init__(b"", {})
        self.picture = picture


class Drawing:
    """A source of events in the place of the relay; the request for pictures is what is sent."""

    async def complete(self, upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally) -> Sequence[Event]:
        events = await relay.complete(upstream, chat, targets, tally)
        return [made for event in events for made in _told(event)]

    async def stream(
        self, upstream: Upstream, chat: ChatRequest, targets: Targets, tally: Tally
    ) -> AsyncGenerator[Event, None]:
        if not chat.body.get(PARTIAL):
            for event in await self.complete(upstream, chat, targets, tally):
                yield event
            return
        async with aclosing(relay.stream(upstream, chat, targets, tally)) as events:
            async for event in events:
                yield _shown(event)


def _told(event: Event) -> Sequence[Event]:
    if not isinstance(event, RawReply):
        return [event]
    return [_picture(item["b64_json"]) for item in event.body["data"]]


def _shown(event: Event) -> Event:
    if not isinstance(event, RawReply):
        return event
    data = event.body["b64_json"]
    return Unfinished(data) if event.body["type"].endswith(".partial_image") else _picture(data)


def _picture(data: str) -> MediaOutput:
    return MediaOutput(kind_of(base64.b64decode(data[:64])) or "image/png", data)


_: Source = Drawing()
