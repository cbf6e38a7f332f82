"""OpenAI's Responses protocol (POST /responses): a request as items, an answer as items or typed events.

Nothing is stored at the provider. Reasoning comes encrypted where the caller wants any, and goes back as it came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.adapters.failures import from_object, masked
from gateway.adapters.openai_audio import OpenAIAudio
from gateway.adapters.translated import AnswerReader, TranslatedAdapter
from gateway.chat import (
    AudioPart,
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    OtherPart,
    Part,
    ReasoningPart,
    TextPart,
)
from gateway.errors import UnsupportedParameter, UpstreamBroken, UpstreamError, UpstreamRejected
from gateway.events import (
    Citation,
    Event,
    Finished,
    MediaOutput,
    ReasoningDelta,
    ReasoningSignature,
    Refusal,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gateway.targets import Target
from gateway.tokens import count

Item = dict[str, Any]
ENCRYPTED = "reasoning.encrypted_content"
# The same word in both protocols.
SAME = ("temperature", "top_p", "user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key")
# Chat's words that this protocol lacks, and the values by which they ask for nothing. `seed` binds nobody: left out.
LACKING: dict[str, tuple[Any, ...]] = {
    "stop": (None, "", []),
    "n": (None, 1),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "audio": (None,),
    "prediction": (None,),
    "top_k": (None,),
}
# Budgets of tokens for thinking, as the efforts that come nearest.
EFFORTS = ((2048, "low"), (8192, "medium"))
# Codes of an answer's own error that lay it at the caller's door.
REJECTED = ("invalid_prompt", "context_length_exceeded", "bio_policy", "invalid_request_error")
REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


class OpenAIResponsesAdapter(OpenAIAudio, TranslatedAdapter):
    label = "OpenAI Responses"

    def path(self, target: Target, chat: ChatRequest) -> str:
        return "/responses"

    def body(self, target: Target, chat: ChatRequest) -> Mapping[str, Any]:
        for name, silent in LACKING.items():
            if chat.body.get(name) not in silent:
                raise UnsupportedParameter(target.provider, name)
        said = {
            "model": target.upstream_model,
            "input": [item for message in chat.messages() for item in _items(target, message)],
            "store": False,
            "stream": chat.stream or None,
            "max_output_tokens": chat.max_tokens(),
            "text": _text(chat),
            "truncation": chat.hint("truncation"),
            **{name: chat.body.get(name) for name in SAME},
            **_reasoning(chat),
            **_tools(target, chat),
        }
        return {name: value for name, value in said.items() if value is not None}

    def answer(self, target: Target, body: Mapping[str, Any]) -> Sequence[Event]:
        return list(_whole(target, body))

    def reader(self, target: Target) -> AnswerReader:
        return ResponseEvents(target)


def _items(target: Target, message: Message) -> Iterator[Item]:
    if message.role == "tool":
        parts = [_input_part(target, part) for part in message.parts]
        texts = all(part["type"] == "input_text" for part in parts)
        output: Any = "".join(part["text"] for part in parts) if texts else parts
        yield {"type": "function_call_output", "call_id": message.tool_call_id or "", "output": output}
    elif message.role == "assistant":
        yield from _assistant_items(target, message)
    elif message.role in ("system", "developer", "user"):
        content = [_input_part(target, part) for part in message.parts]
        yield {"type": "message", "role": message.role, "content": content}
    else:
        raise UnsupportedParameter(target.provider, "messages", f"there is no role {message.role!r}.")


def _assistant_items(target: Target, message: Message) -> Iterator[Item]:
    content: list[Item] = []
    for part in message.parts:
        if isinstance(part, ReasoningPart):
            # Thoughts of another provider's model are no business of this one's.
            if part.signature:
                summary = [{"type": "summary_text", "text": part.text}] if part.text else []
                yield {"type": "reasoning", "summary": summary, "encrypted_content": part.signature}
        else:
            content.append(_output_part(target, part))
    if content:
        texts = all(part["type"] == "output_text" for part in content)
        # Parts of an answer want the ids of that answer; a text wants nothing.
        said = "".join(part["text"] for part in content) if texts else content
        yield {"type": "message", "role": "assistant", "content": said}
    for call in message.tool_calls:
        yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _output_part(target: Target, part: Part) -> Item:
    if isinstance(part, TextPart):
        return {"type": "output_text", "text": part.text}
    if isinstance(part, OtherPart) and part.type == "refusal":
        return {"type": "refusal", "refusal": str(part.body.get("refusal") or "")}
    raise UnsupportedParameter(target.provider, "messages", "an assistant's message holds text alone.")


def _input_part(target: Target, part: Part) -> Item:
    match part:
        case TextPart(text):
            return {"type": "input_text", "text": text}
        case ImagePart(url, detail):
            return {"type": "input_image", "image_url": url, "detail": detail or "auto"}
        case FilePart(data, name, id):
            held = {"file_data": data, "filename": name, "file_id": id}
            return {"type": "input_file", **{key: value for key, value in held.items() if value}}
        case AudioPart():
            raise UnsupportedParameter(target.provider, "messages", "it does not listen to sounds.")
        case _:
            kind = part.type if isinstance(part, OtherPart) else "reasoning"
            raise UnsupportedParameter(target.provider, "messages", f"it knows no part {kind[:60]!r}.")


def _text(chat: ChatRequest) -> Item | None:
    wanted, said = chat.answer_format(), chat.body.get("response_format") or {}
    text: Item = {"verbosity": chat.body["verbosity"]} if chat.body.get("verbosity") else {}
    if wanted.kind == "json_schema":
        described = said["json_schema"].get("description")
        form = {"name": wanted.name or "answer", "schema": wanted.schema, "strict": wanted.strict}
        text["format"] = {"type": "json_schema", **form} | ({"description": described} if described else {})
    elif wanted.kind != "text":
        text["format"] = {"type": wanted.kind}
    return text or None


def _reasoning(chat: ChatRequest) -> Item:
    """`reasoning` of a chat body is OpenRouter's, which asks to be shown; a caller of Responses says so apart."""
    routed = chat.body.get("reasoning")
    routed = routed if isinstance(routed, dict) else {}
    effort = chat.body.get("reasoning_effort") or routed.get("effort") or _effort(routed.get("max_tokens"))
    summary = chat.hint("reasoning_summary") or ("auto" if routed and not routed.get("exclude") else None)
    asked = {name: value for name, value in (("effort", effort), ("summary", summary)) if value}
    # Models that do not reason refuse to be asked for it.
    wanted = chat.hint("encrypted_reasoning") or (asked and effort != "none")
    return {"reasoning": asked or None, "include": [ENCRYPTED] if wanted else None}


def _effort(budget: Any) -> str | None:
    if isinstance(budget, bool) or not isinstance(budget, int):
        return None
    return next((effort for limit, effort in EFFORTS if budget <= limit), "high")


def _tools(target: Target, chat: ChatRequest) -> Item:
    """Functions in their flat form; tools that the provider runs itself go as the caller named them."""
    tools: list[Any] = [
        {
            "type": "function",
            "name": tool.name,
            **({"description": tool.description} if tool.description else {}),
            "parameters": tool.parameters or {"type": "object", "properties": {}},
            # Left out it would mean true, which chat does not mean.
            "strict": bool(tool.strict),
        }
        for tool in chat.tools()
    ]
    for index, tool in enumerate(chat.body.get("tools") or ()):
        if tool.get("type", "function") == "custom":
            raise UnsupportedParameter(target.provider, f"tools[{index}].type")
        if tool.get("type", "function") != "function":
            tools.append(tool)
    if not tools:
        return {}
    return {
        "tools": tools,
        "tool_choice": _tool_choice(chat),
        "parallel_tool_calls": chat.body.get("parallel_tool_calls"),
    }


def _tool_choice(chat: ChatRequest) -> Any:
    choice = chat.tool_choice()
    if choice is None or not choice.startswith("="):
        return choice
    return {"type": "function", "name": choice[1:]}


def _failure(target: Target, error: Any) -> UpstreamError:
    """An answer's own `error`, by its class."""
    if isinstance(error, Mapping):
        code = str(error.get("code") or "")
        if code in REJECTED or "image" in code:
            said = masked(str(error.get("message") or ""), target.credential)
            return UpstreamRejected(
                said or f"{target.provider} refused the request.", code=masked(code, target.credential)[:200]
            )
    return from_object(target, error)


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    prompt, completion = count(value.get("input_tokens")), count(value.get("output_tokens"))
    if prompt is None and completion is None:
        return None
    read, made = value.get("input_tokens_details"), value.get("output_tokens_details")
    return Usage(
        prompt or 0,
        completion or 0,
        cached_tokens=count(read.get("cached_tokens")) if isinstance(read, dict) else None,
        reasoning_tokens=count(made.get("reasoning_tokens")) if isinstance(made, dict) else None,
        cache_write_tokens=count(read.get("cache_write_tokens")) if isinstance(read, dict) else None,
    )


def _whole(target: Target, body: Mapping[str, Any]) -> Iterator[Event]:
    if body.get("error") or body.get("status") == "failed":
        raise _failure(target, body.get("error"))
    output = body.get("output")
    if not isinstance(output, list) or body.get("status", "completed") not in ("completed", "incomplete"):
        raise UpstreamBroken(f"{target.provider} sent an answer that is not a finished response.")
    calls = 0
    for item in output:
        if not isinstance(item, dict):
            raise UpstreamBroken(f"{target.provider} sent an answer with an item that is not an object.")
        if item.get("type") == "function_call":
            yield _call(item, calls)
            calls += 1
        else:
            yield from _item(item)
    yield from _ending(body, calls)


def _item(item: Mapping[str, Any]) -> Iterator[Event]:
    """A whole item that is not a call. What the provider's own tools did is not told."""
    kind = item.get("type")
    if kind == "message":
        for part in _objects(item.get("content")):
            yield from _part(part)
    elif kind == "reasoning":
        thoughts = [_said(part, "text") for part in (*_objects(item.get("summary")), *_objects(item.get("content")))]
        thoughts = [text for text in thoughts if text]
        if thoughts:
            yield ReasoningDelta("\n\n".join(thoughts))
        yield from _signature(item, bool(thoughts))
    elif kind == "image_generation_call":
        yield from _picture(item)


def _part(part: Mapping[str, Any]) -> Iterator[Event]:
    if text := _said(part, "text"):
        yield TextDelta(text)
    if refusal := _said(part, "refusal"):
        yield Refusal(refusal)
    for note in _objects(part.get("annotations")):
        yield from _citation(note)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _said(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) else ""


def _call(item: Mapping[str, Any], position: int) -> ToolCallDelta:
    call_id = _said(item, "call_id") or _said(item, "id") or None
    return ToolCallDelta(position, call_id, _said(item, "name") or None, _said(item, "arguments"))


def _signature(item: Mapping[str, Any], told: bool) -> Iterator[Event]:
    if encrypted := _said(item, "encrypted_content"):
        yield ReasoningSignature(encrypted, redacted=not told)


def _citation(note: Any) -> Iterator[Event]:
    url = _said(note, "url") if isinstance(note, dict) else ""
    if url:
        yield Citation(url, _said(note, "title"), count(note.get("start_index")), count(note.get("end_index")))


def _picture(item: Mapping[str, Any]) -> Iterator[Event]:
    if result := _said(item, "result"):
        yield MediaOutput(f"image/{_said(item, 'output_format') or 'png'}", result)


def _ending(body: Mapping[str, Any], calls: int) -> Iterator[Event]:
    details = body.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    if body.get("status") == "incomplete":
        yield Finished(REASONS.get(str(reason), "length"))
    else:
        yield Finished("tool_calls" if calls else "stop")
    usage = _usage(body.get("usage"))
    if usage is not None:
        yield usage


class ResponseEvents(AnswerReader):
    """The typed events of one stream. Items that came without deltas are told when they are done."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        # Positions of calls by their place in the output, in the order in which they began.
        self._calls: dict[Any, int] = {}
        # Places of which something was told already.
        self._told: set[Any] = set()
        # Places whose notes came as events of their own.
        self._noted: set[Any] = set()

    def take(self, name: str, data: Mapping[str, Any]) -> Sequence[Event]:
        kind = data.get("type") or name
        if kind == "error" or (not kind and data.get("error")):
            raise _failure(self.target, data.get("error") or data)
        if kind in ("response.completed", "response.incomplete"):
            self.done = True
            return self._end(data.get("response"), kind.removeprefix("response."))
        if kind in ("response.failed", "response.cancelled"):
            raise _failure(self.target, (data.get("response") or {}).get("error"))
        at = data.get("output_index")
        if not isinstance(at, (int, str, type(None))):
            raise UpstreamBroken(f"{self.target.provider} sent an event without a place.")
        return list(self._grown(str(kind), data, at))

    def _end(self, response: Any, status: str) -> Sequence[Event]:
        if not isinstance(response, dict):
            return [Finished("tool_calls" if self._calls else "stop")]
        return list(_ending({**response, "status": response.get("status") or status}, len(self._calls)))

    def _grown(self, kind: str, data: Mapping[str, Any], at: Any) -> Iterator[Event]:
        delta = _said(data, "delta")
        match kind:
            case "response.output_text.delta":
                yield from self._piece(at, TextDelta(delta), delta)
            case "response.refusal.delta":
                yield from self._piece(at, Refusal(delta), delta)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                yield from self._piece(at, ReasoningDelta(delta), delta)
            case "response.reasoning_summary_part.added":
                # Thoughts are one text here, and their parts paragraphs.
                if at in self._told:
                    yield ReasoningDelta("\n\n")
            case "response.function_call_arguments.delta":
                if at in self._calls:
                    yield from self._piece(at, ToolCallDelta(self._calls[at], arguments=delta), delta)
            case "response.output_text.annotation.added":
                self._noted.add(at)
                yield from _citation(data.get("annotation"))
            case "response.output_item.added" | "response.output_item.done":
                item = data.get("item")
                if isinstance(item, dict):
                    yield from self._item(item, at, kind.endswith("done"))

    def _piece(self, at: Any, event: Event, delta: str) -> Iterator[Event]:
        if delta:
            self._told.add(at)
            yield event

    def _item(self, item: Mapping[str, Any], at: Any, done: bool) -> Iterator[Event]:
        if item.get("type") == "function_call":
            yield from self._call(item, at, done)
        elif not done:
            return
        elif item.get("type") == "reasoning" and at in self._told:
            yield from _signature(item, True)
        else:
            yield from self._rest(item, at)

    def _rest(self, item: Mapping[str, Any], at: Any) -> Iterator[Event]:
        """What of a whole item was not told piece by piece."""
        for event in _item(item):
            if at not in (self._noted if isinstance(event, Citation) else self._told):
                yield event

    def _call(self, item: Mapping[str, Any], at: Any, done: bool) -> Iterator[Event]:
        if at not in self._calls:
            self._calls[at] = len(self._calls)
            begun = _call(item, self._calls[at])
            if begun.arguments:
                self._told.add(at)
            yield begun
        elif done and at not in self._told and _said(item, "arguments"):
            self._told.add(at)
            yield ToolCallDelta(self._calls[at], arguments=_said(item, "arguments"))
