"""Pollinations (https://gen.pollinations.ai): OpenAI's chat form with differences of its own. Not seen live.

Written from the published documentation. The base URL is the host, because pictures and speech have paths of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

from gateway.adapters import openai_events, openai_pictures
from gateway.adapters.failures import from_reply
from gateway.adapters.openai_audio import OpenAIAudio
from gateway.adapters.openai_dialect import plain_body
from gateway.adapters.pictures import Drawing, picture_from, repeated
from gateway.adapters.translated import UNREADABLE, AnswerReader, TranslatedAdapter
from gateway.adapters.unsupported import effort_of, refuse
from gateway.chat import ChatRequest
from gateway.errors import UpstreamBroken
from gateway.events import Event
from gateway.pictures import PictureRequest
from gateway.targets import Target
from gateway.upstream import Upstream

CHAT = "/v1/chat/completions"
# The first would be dropped without a word; the other has no event.
REFUSED = ("n", "logprobs", "top_logprobs")
# Of a picture that is asked for by its address.
IN_QUERY = (
    "seed",
    "negative_prompt",
    "quality",
    "guidance_scale",
    "enhance",
    "safe",
    "transparent",
    "nologo",
    "private",
)
# Said in other words, or ours alone.
REPLACED = frozenset(("max_completion_tokens", "reasoning", "stream_options"))


class PollinationsAdapter(OpenAIAudio, TranslatedAdapter):
    label = "Pollinations"
    audio_path = "/v1/audio"

    async def draw(self, upstream: Upstream, target: Target, request: PictureRequest) -> Drawing:
        """One picture a request: more than one is left out without a word."""
        return await repeated(request, lambda number: _drawn(upstream, target, _single(request, number)))

    def path(self, target: Target, chat: ChatRequest) -> str:
        return CHAT

    def body(self, target: Target, chat: ChatRequest) -> Mapping[str, Any]:
        refuse(target, chat, REFUSED)
        said = chat.body if chat.raw else plain_body(target, chat)
        body = {name: value for name, value in said.items() if name not in REPLACED}
        # What is not private is shown to everybody in a public feed.
        if body.get("private") is None:
            body["private"] = True
        if chat.max_tokens() is not None:
            body["max_tokens"] = chat.max_tokens()
        body |= _reasoning(target, chat)
        if chat.stream:
            body["stream"] = True
            if target.asks_usage:
                body["stream_options"] = {"include_usage": True}
        return {**body, "model": target.upstream_model}

    def answer(self, target: Target, body: Mapping[str, Any]) -> Sequence[Event]:
        try:
            return openai_events.answer(target, _with_media(body, "message"))
        except UNREADABLE:
            raise UpstreamBroken(f"{target.provider} sent an answer that cannot be read.") from None

    def reader(self, target: Target) -> AnswerReader:
        return Chunks(target)


def _single(request: PictureRequest, number: int) -> PictureRequest:
    """The `number`th of several pictures: the same seed would give the same picture."""
    body = {name: value for name, value in request.body.items() if name != "n"}
    if number and body.get("seed") is not None:
        body["seed"] += number
    if body.get("private") is None:
        body["private"] = True
    return replace(request, body=body)


async def _drawn(upstream: Upstream, target: Target, request: PictureRequest) -> Drawing:
    try:
        return await openai_pictures.draw(upstream, target, request, "/v1")
    except openai_pictures.NoRoute:
        if request.pictures:
            raise
    # The older way: a picture is the answer itself.
    reply = await upstream.get(target, _image_path(target, request))
    if reply.status != 200:
        raise from_reply(target, reply)
    return Drawing([picture_from(target, reply.body)])


def _image_path(target: Target, request: PictureRequest) -> str:
    size = request.size()
    said = {"width": size[0], "height": size[1]} if size else {}
    said |= {name: request.body[name] for name in IN_QUERY if request.body.get(name) is not None}
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in said.items()}
    prompt = quote(request.prompt.encode("utf-8", "replace"), safe="")
    return f"/image/{prompt}?{urlencode({'model': target.upstream_model, **texts})}"


class Chunks(openai_events.ChunkEvents):
    def take(self, name: str, data: Mapping[str, Any]) -> Sequence[Event]:
        return super().take(name, _with_media(data, "delta"))


def _reasoning(target: Target, chat: ChatRequest) -> dict[str, Any]:
    """OpenRouter's form in Pollinations' words; its own `reasoning_effort` passes as it is."""
    asked = chat.body.get("reasoning")
    if asked is None:
        return {}
    effort = effort_of(target, chat)
    if isinstance(effort, str):
        return {"reasoning_effort": effort}
    if effort is False:
        return {"reasoning_effort": "none"}
    return {"thinking_budget": asked["max_tokens"]} if asked.get("max_tokens") else {}


def _with_media(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The body with what its `content_blocks` hold put where other providers have it."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not any(_blocks(choice, key) for choice in choices):
        return body
    return {
        **body,
        "choices": [
            {**choice, key: _moved(choice[key], blocks)} if (blocks := _blocks(choice, key)) else choice
            for choice in choices
        ],
    }


def _blocks(choice: Any, key: str) -> list[dict[str, Any]]:
    message = choice.get(key) if isinstance(choice, dict) else None
    blocks = message.get("content_blocks") if isinstance(message, dict) else None
    found = [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []
    # In streams the new part of a block stands inside of it.
    return [block["delta"] if isinstance(block.get("delta"), dict) else block for block in found]


def _moved(message: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    urls = [url for block in blocks if (url := _url(block))]
    thoughts = "".join(_strings(blocks, "thinking"))
    # Texts are usually said twice, in the message and in its blocks.
    text = message.get("content") or "".join(_strings(blocks, "text"))
    linked = "".join(f"\n[![image]({url})]({url})\n" for url in urls if not url.startswith("data:"))
    moved = {**message, "images": [{"image_url": {"url": url}} for url in urls]}
    if text or linked:
        moved["content"] = (text if isinstance(text, str) else "") + linked
    if thoughts and not message.get("reasoning_content"):
        moved["reasoning_content"] = thoughts
    return moved


def _strings(blocks: Sequence[Mapping[str, Any]], key: str) -> Iterator[str]:
    return (block[key] for block in blocks if isinstance(block.get(key), str))


def _url(block: Mapping[str, Any]) -> str:
    held = block.get("image_url")
    url = held.get("url") if isinstance(held, dict) else None
    return url if isinstance(url, str) and url.startswith(("data:", "http://", "https://")) else ""
