"""GET /backend-api/v2/create?prompt=...: a question in an address, its answer as plain text or a picture.

It spends what its caller has, so a browser that another site sent is refused before anything is looked up.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import aclosing
from dataclasses import astuple
from typing import Any

import orjson
from django.conf import settings

from gateway.answer_cache import Source
from gateway.answer_cache import answers as kept_answers
from gateway.answer_store import Owner
from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.errors import GatewayError
from gateway.events import Citation, Event, Failed, Finished, MediaOutput, RawReply, Refusal, Started, TextDelta, Usage
from gateway.limiter import limiter, limits_of
from gateway.pictures import IMAGES, PictureRequest
from gateway.routing import candidates, may_chat, targets_of
from gateway.snapshot import store
from gateway.surfaces import kept
from gateway.surfaces.audio.synthesize import caller_of
from gateway.surfaces.backend.parser import Created, parse_create
from gateway.surfaces.exchange import Exchange
from gateway.surfaces.openai.consumer import OpenAISurface
from gateway.surfaces.openai.encoder import estimated
from gateway.surfaces.openai.errors import limit_headers
from gateway.surfaces.pipeline import StreamEncoder, note
from gateway.surfaces.searching import search
from gateway.targets import Target
from gateway.upstream import upstream
from gateway.usage import Tally
from media.links import base_of

TEXT_HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"x-accel-buffering", b"no"),
]
# A block of code: what stands behind its back-ticks, and what is in it.
FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})([^\n`]*)\n(.*?)(?:^[ \t]*\1|\Z)", re.MULTILINE | re.DOTALL)


def without_markdown(text: str, fence: str) -> str:
    """The inside of the first block of code that says its language, the whole text where there is none; or, where
    a language is asked for, of the first whose language is in what was asked for, nothing where there is none."""
    for found in FENCE.finditer(text):
        label = found[2].strip().split(" ")[0].lower()
        if label and (fence == "*" or label in fence.lower()):
            return found[3].strip("\n")
    return text if fence == "*" else ""


class TextEncoder:
    """What was said as bytes; how it ended where that is not by itself."""

    def __init__(self, chat: ChatRequest) -> None:
        self.usage: Usage | None = None
        self.chunks = 0
        self.said: list[str] = []
        # Pictures and sounds: their types and their bytes in base64.
        self.media: list[MediaOutput] = []
        self.provider = self.model = ""
        self._chat = chat
        self._cited: set[str] = set()
        self._reason = "stop"

    def encode(self, event: Event) -> bytes:
        """Raises the error of a Failed event: there is no word for it in a text."""
        match event:
            case Started(provider, model):
                self.provider, self.model = provider, model
            case TextDelta(text) | Refusal(text):
                self.chunks += 1
                self.said.append(text)
                return text.encode("utf-8", "replace")
            case MediaOutput():
                self.media.append(event)
            case Citation(url):
                self._cited.add(url)
            case RawReply(_, body):
                self._take_pictures(body)
            case Usage():
                self.usage = event
            case Finished(reason):
                self._reason = reason
            case Failed(error):
                raise error
            case _:
                pass
        return b""

    def _take_pictures(self, body: dict[str, Any]) -> None:
        kind = f"image/{body.get('output_format') or 'png'}"
        self.media += [MediaOutput(kind, item["b64_json"]) for item in body.get("data") or () if item.get("b64_json")]

    def end(self) -> bytes:
        self.usage = self.usage or estimated(self._chat, self.chunks)
        last = self._sources()
        if self._reason != "stop":
            last += f" [{self._reason}]" if self.said or last else f"[{self._reason}]"
        if not last:
            return b""
        self.said.append(last)
        return last.encode()

    def _sources(self) -> str:
        """Under the text, with the numbers that stand in it."""
        found = enumerate(self._chat.citations, 1)
        lines = [f"[{number}] {source.title} {source.url}" for number, source in found if source.url in self._cited]
        return "\n\n" + "\n".join(lines) if lines else ""


class Create(OpenAISurface):
    name = "create"
    method = "GET"

    async def _ask(self, exchange: Exchange) -> None:
        scope = exchange.scope
        principal = await caller_of(scope)
        await exchange.body()
        asked = parse_create(scope["query_string"])
        picture = _draws(asked, principal)
        request = asked.request(picture)
        targets = targets_of(store.current, request, principal, IMAGES if picture else "chat")
        name = _name(asked, principal) if asked.cache else ""
        if name and (answer := await kept_answers.store().get(name)) is not None:
            await self._give_again(exchange, principal, request, orjson.loads(answer))
            return
        tally = Tally(scope["g4f.request_id"], principal, request, f"backend.{self.name}")
        scope["g4f.created"] = asked, name
        await self._serve(exchange, principal, request, targets, tally)

    async def _give_again(
        self, exchange: Exchange, principal: Principal, request: ChatRequest, answer: dict[str, Any]
    ) -> None:
        """It counts as a request, and as nothing that was used."""
        admission = await limiter.admit(limits_of(principal), request)
        admission.settle(None)
        admission.leave()
        exchange.limit_headers = limit_headers(admission.standings)
        await self._reply(exchange, request, answer, ((b"x-gateway-cache", b"hit"),))

    async def _attach(self, exchange: Exchange, chat: ChatRequest, principal: Principal) -> None:
        """Without the comments that break a stream's silence: here they would be text."""
        await search(chat, principal)

    def stream_encoder(self, chat: ChatRequest) -> TextEncoder:
        return TextEncoder(chat)

    async def _plain(
        self,
        exchange: Exchange,
        principal: Principal,
        chat: ChatRequest,
        targets: tuple[Target, ...],
        tally: Tally,
        source: Source,
    ) -> None:
        asked, name = exchange.scope["g4f.created"]
        encoder = TextEncoder(chat)
        events = await source.complete(upstream, chat, targets, tally)
        try:
            for event in events:
                encoder.encode(event)
            encoder.end()
        finally:
            tally.usage = encoder.usage
        answer = await _answer(exchange, principal, asked, encoder)
        tally.end("ok", 200)
        if not encoder.media or _addresses_last():
            _keep(name, principal, answer)
        await self._reply(exchange, chat, answer)

    async def _reply(
        self, exchange: Exchange, chat: ChatRequest, answer: dict[str, Any], more: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        headers = [*TEXT_HEADERS, *more, *self.answer_headers(exchange, chat)]
        if "url" in answer:
            await exchange.reply(302, [*headers, (b"location", answer["url"].encode())], b"")
        else:
            await exchange.reply(200, headers, answer["text"].encode("utf-8", "replace"))

    async def _stream(
        self,
        exchange: Exchange,
        principal: Principal,
        chat: ChatRequest,
        targets: tuple[Target, ...],
        tally: Tally,
        source: Source,
        encoder: StreamEncoder,
    ) -> None:
        """The text as it comes. No comments break its silences: they would be text."""
        assert isinstance(encoder, TextEncoder)
        exchange.begin([*TEXT_HEADERS, *self.answer_headers(exchange, chat)])
        async with aclosing(source.stream(upstream, chat, targets, tally)) as events:
            async for event in events:
                data = encoder.encode(event)
                if data and not exchange.wrote(data):
                    await exchange.write(data)
        asked, name = exchange.scope["g4f.created"]
        last = encoder.end() + await _links(exchange, principal, asked, encoder)
        tally.usage = encoder.usage
        tally.end("ok", 200)
        if not encoder.media:
            _keep(name, principal, {"text": "".join(encoder.said)})
        await exchange.end_stream(last)

    async def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        if exchange.started and not exchange.over:
            # There is no word for it in a text: the edge cuts the connection, so that nobody takes a part for all.
            note(exchange.scope, error)
            raise error
        await super()._refuse(exchange, error)

    def estimated(self, chat: ChatRequest, chunks: int) -> Usage:
        if isinstance(chat, PictureRequest):
            return Usage(chat.estimated_tokens(), 0, estimated=True, images=1)
        return super().estimated(chat, chunks)


def _draws(asked: Created, principal: Principal) -> bool:
    """Whether the model that was named makes pictures and nothing else. Raises what routing raises."""
    provider = asked.providers[0] if len(asked.providers) == 1 else None
    found = candidates(store.current, asked.model, provider, principal)
    return bool(found) and all(item.model.flags.get("image") and not may_chat(item.model) for item in found)


async def _answer(exchange: Exchange, principal: Principal, asked: Created, encoder: TextEncoder) -> dict[str, Any]:
    """`text`, or the `url` of the one thing that was made."""
    text = "".join(encoder.said)
    if encoder.media:
        urls = await _addresses(exchange, principal, asked, encoder)
        if len(urls) == 1 and not text.strip() and not urls[0].startswith("data:"):
            return {"url": urls[0]}
        return {"text": "\n".join([*([text] if text.strip() else []), *urls])}
    return {"text": without_markdown(text, asked.fence) if asked.fence else text}


async def _links(exchange: Exchange, principal: Principal, asked: Created, encoder: TextEncoder) -> bytes:
    if not encoder.media:
        return b""
    return "".join(f"\n{url}" for url in await _addresses(exchange, principal, asked, encoder)).encode()


async def _addresses(exchange: Exchange, principal: Principal, asked: Created, encoder: TextEncoder) -> list[str]:
    """Where what was made can be had; itself as a data: URL where it cannot be kept."""
    whole = [f"data:{item.mime_type};base64,{item.data}" for item in encoder.media]
    if principal.user_id is None or any(not item.mime_type.startswith("image/") for item in encoder.media):
        return whole
    about = kept.About(
        principal.user_id, base_of(exchange.scope), asked.prompt[: kept.MAX_PROMPT], encoder.provider, encoder.model
    )
    names = await kept.names([item.data for item in encoder.media], about)
    return [kept.address(name, about.base) or data for name, data in zip(names, whole, strict=True)]


def _name(asked: Created, principal: Principal) -> str:
    """Empty where nobody may have it again: strangers cannot be told apart."""
    if principal.user_id is None or not settings.ANSWER_CACHE_SECONDS:
        return ""
    parts = ["create", principal.user_id, principal.key.id if principal.key else 0, astuple(asked)]
    return "create-" + hashlib.sha256(orjson.dumps(parts)).hexdigest()


def _addresses_last() -> bool:
    """Whether what is kept would not lead to addresses that are over."""
    return bool(settings.MEDIA_URL_SECONDS >= settings.ANSWER_CACHE_SECONDS)


def _keep(name: str, principal: Principal, answer: dict[str, Any]) -> None:
    data = orjson.dumps(answer)
    if name and principal.user_id is not None and len(data) <= settings.ANSWER_CACHE_BYTES // 16:
        owner = Owner(principal.user_id, principal.key.id if principal.key else 0)
        kept_answers.store().put(name, owner, data)


create = Create()
