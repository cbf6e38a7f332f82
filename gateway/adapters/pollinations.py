"""Pollinations (https://gen.pollinations.ai): OpenAI's chat form with differences of its own. Not seen live.

Written from the published documentation. The base URL is the host, because pictures and speech have paths of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.adapters import openai_events
from gateway.adapters.openai_audio import OpenAIAudio
from gateway.adapters.openai_dialect import plain_body
from gateway.adapters.translated import UNREADABLE, AnswerReader, TranslatedAdapter
from gateway.adapters.unsupported import effort_of, refuse
from gateway.chat import ChatRequest
from gateway.errors import UpstreamBroken
from gateway.events import Event
from gateway.targets import Target

CHAT = "/v1/chat/completions"
# The first would be dropped without a word; the other has no event.
REFUSED = ("n", "logprobs", "top_logprobs")
# Said in other words, or ours alone.
REPLACED = frozenset(("max_completion_tokens", "reasoning", "stream_options"))


class PollinationsAdapter(OpenAIAudio, TranslatedAdapter):
    label = "Pollinations"
    audio_path = "/v1/audio"

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
