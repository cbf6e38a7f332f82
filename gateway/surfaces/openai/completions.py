"""POST /v1/completions and /api/{provider}/completions (OpenAI API reference, "Completions", legacy)."""

from __future__ import annotations

import os
import time
from typing import Any

import orjson

from gateway.chat import ChatRequest
from gateway.completions import CompletionRequest, chat_body
from gateway.events import Finished, Usage
from gateway.nested import rewritten
from gateway.surfaces.openai.calls import check_integer, check_kind, check_texts
from gateway.surfaces.openai.consumer import OpenAISurface
from gateway.surfaces.openai.encoder import ChunkEncoder, ReplyEncoder, estimated, frame, priced, usage_body
from gateway.surfaces.openai.parser import CHECKS, addressed, decode, merged, without_tools
from gateway.surfaces.pipeline import StreamEncoder
from gateway.tokens import read_usage, summed
from gateway.usage import Tally

# Fields that mean and must be the same as in a chat.
AS_IN_CHAT = (
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop", "user", "logit_bias",
    "stream_options", "n",
)  # fmt: skip
INTEGERS = {"max_tokens": (0, 2**31), "best_of": (0, 20), "logprobs": (0, 5)}
# The legacy route does not know and did not check them.
CHAT_ALONE = {*CHECKS, "tools", "tool_choice", "messages"} - {*AS_IN_CHAT, "max_tokens", "logprobs"}
# OpenAI's legacy route knows no calls.
REASONS = {"tool_calls": "stop", "function_call": "stop"}


def parse_completion(raw: bytes, path_provider: str | None = None) -> CompletionRequest:
    """Raises BadRequest with the parameter's path."""
    body = merged(decode(raw))
    fields = without_tools(addressed(body, path_provider), body)
    check_texts(body, "prompt")
    check_kind(body, "suffix", str, "a string")
    for name in ("echo", "stream"):
        check_kind(body, name, bool, "a boolean")
    for name, (low, high) in INTEGERS.items():
        check_integer(body, name, low, high)
    for name in AS_IN_CHAT:
        if body.get(name) is not None:
            CHECKS[name](name, body[name])
    legacy = {name: value for name, value in fields["body"].items() if value is not None}
    stream = bool(body.get("stream"))
    options = body.get("stream_options") or {}
    return CompletionRequest(
        **fields
        | {
            "stream": stream,
            "include_usage": stream and options.get("include_usage") is True,
            "body": chat_body({name: legacy[name] for name in legacy if name not in CHAT_ALONE}),
        },
        raw=False,
        plain=False,
        legacy=legacy,
    )


class TextChunkEncoder(ChunkEncoder):
    """Streams `text_completion` chunks; a provider's own pass as they are."""

    prefix = "cmpl"

    def __init__(self, request: CompletionRequest) -> None:
        super().__init__(request)
        self._request = request

    def _delta(self, index: int, delta: dict[str, Any]) -> bytes:
        text = delta.get("content") or delta.get("refusal") or ""
        if index not in self._opened:
            self._opened.add(index)
            text = self._request.echoed(index) + text
        if not text:
            return b""
        self.chunks += 1
        return frame(self._chunk(index, {"content": text}, None))

    def _held(self, event: Finished) -> bytes:
        lead = b"" if event.index in self._opened else self._delta(event.index, {})
        return lead + super()._held(event)

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        chunk = super()._chunk(index, delta, reason)
        return {**chunk, "object": "text_completion", "choices": [_choice(index, delta.get("content") or "", reason)]}


class TextReplyEncoder(ReplyEncoder):
    """Collects one `text_completion`; a provider's own passes as it is."""

    def __init__(self, request: CompletionRequest) -> None:
        super().__init__(request)
        self._request = request

    def body(self) -> bytes:
        if self._raw is not None:
            return self._raw
        self.usage = self.usage or estimated(self._chat, self._tokens)
        return orjson.dumps(
            {
                "id": f"cmpl-{os.urandom(14).hex()}",
                "object": "text_completion",
                "created": int(time.time()),
                "model": self._model,
                "provider": self._provider,
                "choices": [self._text(self._choices[index]) for index in sorted(self._choices)],
                "usage": priced(usage_body(self.usage), self.usage, self.cost),
            }
        )

    def _text(self, choice: dict[str, Any]) -> dict[str, Any]:
        message, index = choice["message"], choice["index"]
        text = (message["content"] or "") + (message["refusal"] or "")
        return _choice(index, self._request.echoed(index) + text, choice["finish_reason"])

    def _raw_reply(self, data: bytes, body: dict[str, Any]) -> bytes:
        self.usage = read_usage(body.get("usage"))
        changed = self.usage is None
        if self.usage is None:
            said = sum(len(text) for choice in body["choices"] if isinstance(text := choice.get("text"), str))
            self.usage = estimated(self._chat, max(1, said // 4))
            body["usage"] = usage_body(self.usage)
        if self.cost is not None:
            body["usage"], changed = priced(body["usage"], self.usage, self.cost), True
        for choice in body["choices"]:
            if "logprobs" not in choice:
                choice["logprobs"], changed = None, True
        return rewritten(body) if changed else data


def _choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": REASONS.get(reason or "", reason)}


class Completions(OpenAISurface):
    name = "completions"
    gives_again = True

    def book_partial(self, tally: Tally, encoder: StreamEncoder | None, chat: ChatRequest) -> None:
        """What the answered prompts used is known; the one under way has used what was seen of it."""
        assert isinstance(chat, CompletionRequest)
        super().book_partial(tally, encoder, chat)
        if not chat.spent or (tally.usage is not None and not tally.usage.estimated):
            return
        known = summed(chat.spent)
        if len(chat.spent) >= len(chat.prompts):
            tally.usage = known
            return
        asked = max(1, len(chat.prompts[len(chat.spent)]) // 4)
        seen = max(0, (encoder.chunks if encoder else 0) - known.completion_tokens)
        tally.usage = summed([known, Usage(asked, seen, estimated=True)])

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> ChatRequest:
        return parse_completion(raw, parameters.get("provider"))

    def stream_encoder(self, chat: ChatRequest) -> TextChunkEncoder:
        assert isinstance(chat, CompletionRequest)
        return TextChunkEncoder(chat)

    def plain_encoder(self, chat: ChatRequest) -> TextReplyEncoder:
        assert isinstance(chat, CompletionRequest)
        return TextReplyEncoder(chat)


completions = Completions()
