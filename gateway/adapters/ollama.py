"""Ollama's own chat protocol (POST /api/chat, newline-delimited JSON): https://docs.ollama.com/api/chat."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.adapters.calls import Embedded, texts_of, vectors_of
from gateway.adapters.failures import from_object
from gateway.adapters.inline_media import data_url, mime_of
from gateway.adapters.inputs import inlined
from gateway.adapters.translated import UNREADABLE, AnswerReader, LineSplitter, TranslatedAdapter, decoded, written
from gateway.adapters.unsupported import content_path, effort_of, is_asked, number_of, refuse, switch_of
from gateway.calls import CallRequest
from gateway.chat import ChatRequest, ImagePart, Message, OtherPart, ReasoningPart, TextPart, ToolCall
from gateway.errors import UnsupportedParameter, UpstreamBroken
from gateway.events import Event, Finished, MediaOutput, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from gateway.nested import object_of
from gateway.targets import Target
from gateway.tokens import count
from gateway.upstream import Upstream
from media.kinds import IMAGES

# Ours and Ollama's names of what a model is run with.
OPTIONS = (
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("min_p", "min_p"),
    ("seed", "seed"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
    ("repetition_penalty", "repeat_penalty"),
)
REFUSED = ("n", "logprobs", "top_logprobs", "logit_bias", "modalities", "functions")
# OpenAI has more steps than Ollama.
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
ROLES = {"developer": "system", "function": "tool"}
REASONS = {"length": "length"}


class OllamaAdapter(TranslatedAdapter):
    label = "Ollama"
    splitter = LineSplitter
    takes_bytes = True
    # It offers tools and cannot ask for a call, or for one at most.
    obeys_choice = False

    def path(self, target: Target, chat: ChatRequest) -> str:
        return "/api/chat"

    async def prepared(self, upstream: Upstream, target: Target, chat: ChatRequest) -> ChatRequest:
        return await inlined(chat, {"image_url": IMAGES})

    def body(self, target: Target, chat: ChatRequest) -> Mapping[str, Any]:
        refuse(target, chat, REFUSED)
        body = {
            "model": target.upstream_model,
            "messages": _messages(target, chat),
            "stream": chat.stream,
            "tools": _tools(target, chat),
            "format": _format(chat),
            "think": _think(target, chat),
            "options": _options(target, chat),
            "keep_alive": _keep_alive(target, chat),
        }
        return {name: value for name, value in body.items() if value is not None}

    def answer(self, target: Target, body: Mapping[str, Any]) -> Sequence[Event]:
        reader = AnswerLines(target)
        try:
            events = reader.take("", body)
        except UNREADABLE:
            raise UpstreamBroken(f"{target.provider} sent an answer that cannot be read.") from None
        if not reader.done:
            raise UpstreamBroken(f"{target.provider} sent an answer without its end.")
        return events

    def reader(self, target: Target) -> AnswerReader:
        return AnswerLines(target)

    async def embed(self, upstream: Upstream, target: Target, request: CallRequest) -> Embedded:
        """https://docs.ollama.com/api/embed. A text that is too long is cut there, unless `truncate` is false."""
        texts, asked = texts_of(target, request), request.body
        body = {
            "model": target.upstream_model,
            "input": texts,
            "dimensions": asked.get("dimensions"),
            "truncate": switch_of(target, request, "truncate"),
            "keep_alive": _keep_alive(target, request),
        }
        sent = {name: value for name, value in body.items() if value is not None}
        reply = await upstream.call(target, "/api/embed", written(target, sent))
        if reply.status != 200:
            raise self.failure(target, reply)
        found = decoded(target, reply.body)
        vectors = vectors_of(target, found.get("embeddings"), len(texts))
        return Embedded(vectors, count(found.get("prompt_eval_count")))


def _messages(target: Target, chat: ChatRequest) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    found = []
    for number, (message, item) in enumerate(zip(chat.messages(), chat.body["messages"], strict=True)):
        names.update((call.id, call.name) for call in message.tool_calls)
        said = _message(target, number, message)
        if said["role"] == "tool":
            # Results are told apart by the tool's name; the id is read by newer servers.
            name = names.get(message.tool_call_id or "") or item.get("name")
            said |= {"tool_name": name} if name and isinstance(name, str) else {}
            said |= {"tool_call_id": message.tool_call_id} if message.tool_call_id else {}
        found.append(said)
    return found


def _message(target: Target, number: int, message: Message) -> dict[str, Any]:
    texts, images, thoughts = [], [], []
    for position, part in enumerate(message.parts):
        match part:
            case TextPart(text):
                texts.append(text)
            case ImagePart(url):
                images.append(_image(target, url, content_path(number, message, position)))
            case ReasoningPart(text):
                thoughts.append(text)
            case OtherPart("refusal", held) if isinstance(held.get("refusal"), str):
                texts.append(held["refusal"])
            case _:
                path = content_path(number, message, position)
                raise UnsupportedParameter(target.provider, path, "only text and images can be sent.")
    said: dict[str, Any] = {"role": ROLES.get(message.role, message.role), "content": "".join(texts)}
    if images:
        said["images"] = images
    if any(thoughts):
        said["thinking"] = "".join(thoughts)
    if message.tool_calls:
        said["tool_calls"] = [
            _call(target, call, f"messages[{number}].tool_calls[{index}]")
            for index, call in enumerate(message.tool_calls)
        ]
    return said


def _image(target: Target, url: str, path: str) -> str:
    """Only bytes can be sent: what stands behind other URLs is put in their place before (`prepared`)."""
    found = data_url(url)
    if found is None:
        wanted = "only images given as base64 in a data: URL can be sent."
        raise UnsupportedParameter(target.provider, f"{path}.image_url.url", wanted)
    return found[1]


def _call(target: Target, call: ToolCall, path: str) -> dict[str, Any]:
    arguments = object_of(call.arguments)
    if arguments is None:
        raise UnsupportedParameter(target.provider, f"{path}.function.arguments", "expected the JSON of an object.")
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _tools(target: Target, chat: ChatRequest) -> list[dict[str, Any]] | None:
    for index, tool in enumerate(chat.body.get("tools") or ()):
        if tool.get("type", "function") != "function":
            raise UnsupportedParameter(target.provider, f"tools[{index}].type", "only functions can be tools.")
    choice, tools = chat.tool_choice(), chat.tools()
    if choice not in (None, "auto", "none"):
        raise UnsupportedParameter(target.provider, "tool_choice", "a model cannot be made to call a tool.")
    if not tools or choice == "none":
        return None
    refuse(target, chat, ("parallel_tool_calls",))
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or {"type": "object", "properties": {}},
            },
        }
        for tool in tools
    ]


def _format(chat: ChatRequest) -> Any:
    if not is_asked(chat, "response_format"):
        return None
    asked = chat.answer_format()
    if asked.kind == "json_schema":
        return asked.schema or "json"
    return "json" if asked.kind == "json_object" else None


def _think(target: Target, chat: ChatRequest) -> bool | str | None:
    """A level for models that have levels; to others each of them means yes."""
    own = chat.body.get("think")
    if isinstance(own, bool):
        return own
    if own is not None and own not in EFFORTS.values():
        raise UnsupportedParameter(target.provider, "think", "expected true, false, low, medium or high.")
    effort = own or effort_of(target, chat)
    if effort is None or isinstance(effort, bool):
        return effort
    if effort == "none":
        return False
    if effort not in EFFORTS:
        raise UnsupportedParameter(target.provider, "reasoning_effort", "expected none, low, medium or high.")
    return EFFORTS[effort]


def _options(target: Target, chat: ChatRequest) -> dict[str, Any] | None:
    options: dict[str, Any] = {theirs: number_of(target, chat, ours) for ours, theirs in OPTIONS}
    options["num_predict"] = chat.max_tokens()
    options["stop"] = list(chat.stops()) or None
    # Without it a server reserves a few thousand tokens, whatever the model could take, and cuts the rest.
    options["num_ctx"] = target.context_length
    return {name: value for name, value in options.items() if value is not None} or None


def _keep_alive(target: Target, chat: ChatRequest) -> str | int | float | None:
    value = chat.body.get("keep_alive")
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, bool)):
        return value
    raise UnsupportedParameter(target.provider, "keep_alive", "expected seconds, or a duration such as 5m.")


class AnswerLines(AnswerReader):
    """The lines of one stream; a plain answer is one line that is also the last."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._calls = 0

    def take(self, name: str, data: Mapping[str, Any]) -> Sequence[Event]:
        if data.get("error"):
            raise from_object(self.target, data["error"])
        message = data.get("message")
        if not isinstance(message, dict) and not data.get("done"):
            raise UpstreamBroken(f"{self.target.provider} sent a line that is no answer.")
        found = list(self._said(message or {}))
        if data.get("done"):
            self.done = True
            found.extend(self._ending(data))
        return found

    def _said(self, message: Mapping[str, Any]) -> Iterator[Event]:
        thinking, text = message.get("thinking"), message.get("content")
        if thinking and isinstance(thinking, str):
            yield ReasoningDelta(thinking)
        if text and isinstance(text, str):
            yield TextDelta(text)
        for image in message.get("images") or ():
            if isinstance(image, str):
                yield MediaOutput(mime_of(image, "image/png"), image)
        for call in message.get("tool_calls") or ():
            yield self._called(call)

    def _called(self, call: Mapping[str, Any]) -> ToolCallDelta:
        """A call comes whole. Older servers give it no id, and clients need one to answer to."""
        function = call.get("function") or {}
        name, arguments = function.get("name"), function.get("arguments")
        if not name or not isinstance(name, str):
            raise UpstreamBroken(f"{self.target.provider} called a tool without a name.")
        position, self._calls = self._calls, self._calls + 1
        given = call.get("id")
        own = given if given and isinstance(given, str) else f"call_{os.urandom(12).hex()}"
        written = arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode()
        return ToolCallDelta(position, own, name, written)

    def _ending(self, data: Mapping[str, Any]) -> Iterator[Event]:
        prompt, completion = count(data.get("prompt_eval_count")), count(data.get("eval_count"))
        if prompt is not None or completion is not None:
            yield Usage(prompt or 0, completion or 0)
        # `load` and `unload` answer requests without messages: nothing was said, and that is all.
        reason = REASONS.get(str(data.get("done_reason")), "stop")
        yield Finished("tool_calls" if self._calls and reason == "stop" else reason)
