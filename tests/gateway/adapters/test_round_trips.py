"""A request of OpenAI's survives the way to each protocol's words and back, and so does what is answered.

Ways back are written here, after the providers' documentation, and know nothing of the adapters. Gemini's and
Anthropic's have files of their own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.adapters.copilot import Conversations, FoldingSplitter, request_body
from gateway.adapters.ollama import OllamaAdapter
from gateway.adapters.openai_responses import OpenAIResponsesAdapter
from gateway.adapters.pollinations import PollinationsAdapter
from gateway.adapters.translated import Records, TranslatedAdapter
from gateway.chat import ChatRequest
from gateway.events import Event, Started, Usage
from gateway.surfaces.openai.encoder import ChunkEncoder, ReplyEncoder
from gateway.surfaces.openai.parser import parse_chat
from tests.support import protocols
from tests.support.gemini import call, function

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORDS = st.text('abc é\n{"☃', min_size=1, max_size=12)
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True)
JSON = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS | st.lists(WORDS, max_size=2)
OBJECTS = st.dictionaries(WORDS, JSON, max_size=3)
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FORMS = st.sampled_from(
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}},
    ]
)
LIMITS = {"temperature": st.sampled_from([0, 0.5, 2]), "top_p": st.sampled_from([0.1, 1])}
TOOLS = st.lists(NAMES, min_size=1, max_size=3, unique=True).map(
    lambda names: [function(name, SCHEMA, description="d", strict=False) for name in names]
)


@st.composite
def conversations(draw: st.DrawFn, *, pictures: bool = True, calls: bool = True) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if draw(st.booleans()):
        found.append({"role": "system", "content": draw(WORDS)})
    for turn in range(draw(st.integers(0, 2))):
        found.append({"role": "user", "content": draw(WORDS)})
        made = draw(st.lists(st.tuples(NAMES, OBJECTS), max_size=2)) if calls else []
        asked = [call(f"call_{turn}_{at}", name, _json(args)) for at, (name, args) in enumerate(made)]
        said = draw(WORDS) if not asked or draw(st.booleans()) else None
        found.append({"role": "assistant", "content": said, **({"tool_calls": asked} if asked else {})})
        found += [{"role": "tool", "tool_call_id": one["id"], "content": draw(WORDS)} for one in asked]
    last = draw(WORDS)
    parts = [{"type": "text", "text": last}, PICTURE] if pictures and draw(st.booleans()) else last
    found.append({"role": "user", "content": parts})
    return found


def asked_of(draw: Any, messages: Any, tools: Any, fields: dict[str, Any], choices: Sequence[str]) -> dict[str, Any]:
    asked = {"messages": messages, **fields}
    if tools:
        choice = draw(st.none() | st.sampled_from(choices))
        named = {"type": "function", "function": {"name": tools[0]["function"]["name"]}}
        asked |= {"tools": tools, **({"tool_choice": named if choice == "named" else choice} if choice else {})}
    return asked


def chat(asked: dict[str, Any], *, stream: bool = False) -> ChatRequest:
    return parse_chat(orjson.dumps({"model": "m", "stream": stream, **asked}))


def sent(adapter: TranslatedAdapter, asked: dict[str, Any]) -> dict[str, Any]:
    there: dict[str, Any] = json.loads(orjson.dumps(adapter.body(protocols.target("x"), chat(asked))))
    assert there.pop("model") == "upstream-m"
    return there


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def comparable(asked: dict[str, Any]) -> dict[str, Any]:
    """Arguments as the objects that they are: their spelling is nobody's concern."""
    messages = []
    for said in asked["messages"]:
        held = {name: value for name, value in said.items() if value not in (None, "")}
        if "tool_calls" in held:
            held["tool_calls"] = [
                (one["id"], one["function"]["name"], json.loads(one["function"]["arguments"]))
                for one in held["tool_calls"]
            ]
        messages.append(held)
    return {**asked, "messages": messages}


# OpenAI Responses (https://platform.openai.com/docs/api-reference/responses/create).


def from_responses(there: dict[str, Any]) -> dict[str, Any]:
    assert there.pop("store") is False
    found: dict[str, Any] = {"messages": _messages_of_items(there.pop("input"))}
    text, reasoning = there.pop("text", {}), there.pop("reasoning", {})
    there.pop("include", None)
    if form := text.get("format"):
        kind = form.pop("type")
        found["response_format"] = {"type": kind, **({"json_schema": form} if form else {})}
    if reasoning:
        found["reasoning_effort"] = reasoning["effort"]
    if tools := there.pop("tools", None):
        found["tools"] = [{"type": tool.pop("type"), "function": tool} for tool in tools]
        choice = there.pop("tool_choice", None)
        named = isinstance(choice, dict) and {"type": "function", "function": {"name": choice["name"]}}
        found |= {"tool_choice": named or choice} if choice else {}
    renamed = {"max_output_tokens": "max_completion_tokens"}
    return found | {renamed.get(name, name): value for name, value in there.items()}


def _messages_of_items(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for item in items:
        if item["type"] == "function_call_output":
            found.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        elif item["type"] == "function_call":
            if not found or found[-1]["role"] != "assistant":
                found.append({"role": "assistant"})
            made = call(item["call_id"], item["name"], item["arguments"])
            found[-1].setdefault("tool_calls", []).append(made)
        else:
            assert item["type"] == "message"
            content = item["content"] if isinstance(item["content"], str) else [_part(part) for part in item["content"]]
            alone = not isinstance(content, str) and len(content) == 1 and content[0].get("text")
            found.append({"role": item["role"], "content": alone or content})
    return found


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "input_text":
        return {"type": "text", "text": part["text"]}
    assert part["type"] == "input_image"
    return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part["detail"]}}


RESPONSES_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        **LIMITS,
        "max_completion_tokens": st.integers(1, 9999),
        "user": NAMES,
        "metadata": st.dictionaries(NAMES, NAMES, min_size=1, max_size=2),
        "response_format": FORMS,
        "reasoning_effort": st.sampled_from(["minimal", "low", "medium", "high"]),
    },
)


@QUICK
@given(conversations(), RESPONSES_FIELDS, st.none() | TOOLS, st.data())
def test_a_request_survives_the_way_to_responses_and_back(messages: Any, fields: Any, tools: Any, data: Any) -> None:
    asked = asked_of(data.draw, messages, tools, fields, ("auto", "none", "required", "named"))
    assert comparable(from_responses(sent(OpenAIResponsesAdapter(), asked))) == comparable(asked)


# Ollama (https://docs.ollama.com/api/chat).


def from_ollama(there: dict[str, Any]) -> dict[str, Any]:
    assert there.pop("stream") is False
    found: dict[str, Any] = {"messages": [_from_ollama(message) for message in there.pop("messages")]}
    form = there.pop("format", None)
    if form is not None:
        held = {"name": "answer", "schema": form, "strict": True}
        schema = {"type": "json_schema", "json_schema": held}
        found["response_format"] = {"type": "json_object"} if form == "json" else schema
    if "think" in there:
        think = there.pop("think")
        found["reasoning_effort"] = think or "none"
    if tools := there.pop("tools", None):
        found["tools"] = [{**tool, "function": {**tool["function"], "strict": False}} for tool in tools]
    renamed = {"num_predict": "max_tokens"}
    options = there.pop("options", {})
    assert not there
    return found | {renamed.get(name, name): value for name, value in options.items()}


def _from_ollama(message: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message["role"], "content": message["content"]}
    if images := message.get("images"):
        parts: list[dict[str, Any]] = [{"type": "text", "text": message["content"]}]
        urls = [{"url": f"data:image/png;base64,{image}", "detail": "auto"} for image in images]
        found["content"] = parts + [{"type": "image_url", "image_url": url} for url in urls]
    if calls := message.get("tool_calls"):
        found["tool_calls"] = [
            call(one["id"], one["function"]["name"], _json(one["function"]["arguments"])) for one in calls
        ]
    if message["role"] == "tool":
        assert message["tool_name"]
        found["tool_call_id"] = message["tool_call_id"]
    return found


OLLAMA_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        **LIMITS,
        "max_tokens": st.integers(1, 9999),
        "seed": st.integers(0, 2**31 - 1),
        "top_k": st.integers(1, 99),
        "presence_penalty": st.sampled_from([-1, 0.5]),
        "frequency_penalty": st.sampled_from([-1, 0.5]),
        "stop": st.lists(WORDS, min_size=1, max_size=3),
        "response_format": FORMS,
        "reasoning_effort": st.sampled_from(["none", "low", "medium", "high"]),
    },
)


@QUICK
@given(conversations(), OLLAMA_FIELDS, st.none() | TOOLS)
def test_a_request_survives_the_way_to_ollama_and_back(messages: Any, fields: Any, tools: Any) -> None:
    asked = {"messages": messages, **fields, **({"tools": tools} if tools else {})}
    assert comparable(from_ollama(sent(OllamaAdapter(), asked))) == comparable(asked)


# Pollinations (https://gen.pollinations.ai/docs): OpenAI's words; `private` keeps a request out of the public feed.

POLLINATIONS_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        **LIMITS,
        "max_tokens": st.integers(1, 9999),
        "seed": st.integers(0, 2**31 - 1),
        "stop": st.lists(WORDS, min_size=1, max_size=3),
        "user": NAMES,
        "response_format": FORMS,
        "reasoning_effort": st.sampled_from(["low", "medium", "high"]),
    },
)


@QUICK
@given(conversations(), POLLINATIONS_FIELDS, st.none() | TOOLS, st.data())
def test_a_request_survives_the_way_to_pollinations_and_back(messages: Any, fields: Any, tools: Any, data: Any) -> None:
    asked = asked_of(data.draw, messages, tools, fields, ("auto", "none", "required", "named"))
    there = sent(PollinationsAdapter(), asked)
    assert there.pop("private") is True
    assert comparable(there) == comparable(asked)


# Copilot (https://learn.microsoft.com/microsoft-365-copilot/extensibility/api/ai-services/chat/copilotconversation-chat).

ROLES = {
    "Instructions for the answer": "system",
    "What the user said earlier": "user",
    "What was answered earlier": "assistant",
}


@QUICK
@given(conversations(pictures=False, calls=False))
def test_a_request_survives_the_way_to_copilot_and_back(messages: Any) -> None:
    there = request_body(protocols.target("copilot"), chat({"messages": messages}))
    earlier = [
        {"role": ROLES[said["description"]], "content": said["text"]} for said in there.get("additionalContext", ())
    ]
    assert [*earlier, {"role": "user", "content": there["message"]["text"]}] == messages
    assert there["locationHint"] == {"timeZone": "UTC"}


# Answers: what was said in a provider's words is what OpenAI's clients get, plain and streamed.

COUNT = st.integers(0, 10_000)
ANSWERS = st.fixed_dictionaries(
    {
        "reasoning": st.lists(WORDS, max_size=2),
        "text": st.lists(WORDS, max_size=3),
        "calls": st.lists(st.tuples(NAMES, OBJECTS), max_size=3),
        "cut": st.booleans(),
        "usage": st.tuples(COUNT, COUNT),
    }
)


def told(events: Sequence[Event]) -> Any:
    """The message, the end and the usage that OpenAI's clients get."""
    encoder = ReplyEncoder(chat({"messages": [{"role": "user", "content": "hi"}]}))
    for event in (Started("Acme", "m"), *events):
        encoder.take(event)
    body = orjson.loads(encoder.body())
    (choice,) = body["choices"]
    message = choice["message"]
    calls = [
        (one["function"]["name"], json.loads(one["function"]["arguments"])) for one in message.get("tool_calls", ())
    ]
    used = body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]
    return message.get("reasoning_content") or "", message["content"] or "", calls, choice["finish_reason"], used


def told_streamed(events: Sequence[Event]) -> Any:
    """The same, put together of chunks."""
    asked = chat(
        {"messages": [{"role": "user", "content": "hi"}], "stream_options": {"include_usage": True}}, stream=True
    )
    encoder = ChunkEncoder(asked)
    data = b"".join(encoder.encode(event) for event in (Started("Acme", "m"), *events)) + encoder.end()
    chunks = [orjson.loads(line[6:]) for line in data.split(b"\n\n") if line and line != b"data: [DONE]"]
    whole, calls, reason = {"content": "", "reasoning_content": ""}, {}, None
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        for name in whole:
            whole[name] += choice["delta"].get(name) or ""
        for piece in choice["delta"].get("tool_calls", ()):
            held = calls.setdefault(piece["index"], {"name": "", "arguments": ""})
            for name in held:
                held[name] += piece["function"].get(name) or ""
        reason = choice["finish_reason"] or reason
    made = [(one["name"], json.loads(one["arguments"])) for _, one in sorted(calls.items())]
    used = chunks[-1]["usage"]
    both = used["prompt_tokens"], used["completion_tokens"]
    return whole["reasoning_content"], whole["content"], made, reason, both


def wanted(said: dict[str, Any]) -> Any:
    reason = "length" if said["cut"] else "tool_calls" if said["calls"] else "stop"
    return "".join(said["reasoning"]), "".join(said["text"]), said["calls"], reason, said["usage"]


def check(adapter: TranslatedAdapter, plain: Any, stream: bytes, said: dict[str, Any]) -> None:
    at = protocols.target("x")
    assert told(adapter.answer(at, plain)) == wanted(said)
    assert told_streamed(protocols.read_stream(adapter, at, stream, packet=37)) == wanted(said)


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def _calls(said: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(f"call_{at}", name, _json(args)) for at, (name, args) in enumerate(said["calls"])]


@QUICK
@given(ANSWERS)
def test_an_answer_survives_the_way_back_from_responses(said: dict[str, Any]) -> None:
    output: list[dict[str, Any]] = []
    stream = b""
    if said["reasoning"]:
        item: dict[str, Any] = {"type": "reasoning", "id": "rs_1"}
        stream += _event("response.output_item.added", output_index=0, item={**item, "summary": []})
        for text in said["reasoning"]:
            stream += _event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta=text)
        output.append({**item, "summary": [{"type": "summary_text", "text": "".join(said["reasoning"])}]})
        stream += _event("response.output_item.done", output_index=0, item=output[-1])
    if said["text"]:
        at, item = len(output), {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        stream += _event("response.output_item.added", output_index=at, item={**item, "content": []})
        for text in said["text"]:
            stream += _event("response.output_text.delta", output_index=at, content_index=0, delta=text)
        output.append({**item, "content": [{"type": "output_text", "text": "".join(said["text"]), "annotations": []}]})
        stream += _event("response.output_item.done", output_index=at, item=output[-1])
    for call_id, name, args in _calls(said):
        at, item = len(output), {"type": "function_call", "id": f"fc_{call_id}", "call_id": call_id, "name": name}
        stream += _event("response.output_item.added", output_index=at, item={**item, "arguments": ""})
        for begin in range(0, len(args), 5):
            stream += _event("response.function_call_arguments.delta", output_index=at, delta=args[begin : begin + 5])
        output.append({**item, "arguments": args})
        stream += _event("response.output_item.done", output_index=at, item=output[-1])
    prompt, completion = said["usage"]
    status = "incomplete" if said["cut"] else "completed"
    usage = {"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion}
    details = {"incomplete_details": {"reason": "max_output_tokens"}} if said["cut"] else {}
    whole = {"object": "response", "status": status, "output": output, "usage": usage, **details}
    check(OpenAIResponsesAdapter(), whole, stream + _event(f"response.{status}", response=whole), said)


@QUICK
@given(ANSWERS)
def test_an_answer_survives_the_way_back_from_ollama(said: dict[str, Any]) -> None:
    calls = [
        {"id": call_id, "function": {"index": at, "name": name, "arguments": json.loads(args)}}
        for at, (call_id, name, args) in enumerate(_calls(said))
    ]
    prompt, completion = said["usage"]
    used = {"prompt_eval_count": prompt, "eval_count": completion}
    last = protocols.over("length" if said["cut"] else "stop", **used)
    spoken = [protocols.said(thinking=text) for text in said["reasoning"]]
    spoken += [protocols.said(text) for text in said["text"]]
    spoken += [protocols.said(tool_calls=[one]) for one in calls]
    whole = {"role": "assistant", "content": "".join(said["text"]), "thinking": "".join(said["reasoning"])}
    stream = b"".join(orjson.dumps(line) + b"\n" for line in (*spoken, last))
    check(OllamaAdapter(), {**last, "message": {**whole, "tool_calls": calls}}, stream, said)


@QUICK
@given(ANSWERS)
def test_an_answer_survives_the_way_back_from_pollinations(said: dict[str, Any]) -> None:
    prompt, completion = said["usage"]
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    calls = [call(*one) for one in _calls(said)]
    reason = "length" if said["cut"] else "tool_calls" if calls else "stop"
    blocks = [{"type": "thinking", "thinking": "".join(said["reasoning"])}] if said["reasoning"] else []
    message = {"role": "assistant", "content": "".join(said["text"]) or None, "tool_calls": calls}
    choice = {"index": 0, "finish_reason": reason, "message": {**message, "content_blocks": blocks}}
    deltas: list[dict[str, Any]] = [
        {"content_blocks": [{"index": 0, "delta": {"type": "thinking", "thinking": text}}]}
        for text in said["reasoning"]
    ]
    deltas += [{"content": text} for text in said["text"]]
    deltas += [{"tool_calls": [{"index": at, **one}]} for at, one in enumerate(calls)]
    pieces = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks: list[Any] = [
        {"choices": [piece]} for piece in (*pieces, {"index": 0, "delta": {}, "finish_reason": reason})
    ]
    stream = b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in (*chunks, {"choices": [], "usage": usage}))
    whole = {"id": "x", "model": "m", "choices": [choice], "usage": usage}
    check(PollinationsAdapter(), whole, stream + b"data: [DONE]\n\n", said)


@QUICK
@given(st.lists(WORDS.filter(str.strip), min_size=1, max_size=4), WORDS)
def test_an_answer_survives_the_way_back_from_copilot(words: list[str], question: str) -> None:
    """Each state of a stream has the whole text so far. There are no counts, so usage is estimated."""
    at, text = protocols.target("copilot"), "".join(words)
    asked = {"id": "q", "text": question, "attributions": []}
    whole = {"turnCount": 1, "displayName": "x", "messages": [asked, {"id": "a", "text": text, "attributions": []}]}
    states: list[Any] = [
        {"turnCount": 0, "messages": [{"id": "a", "text": "".join(words[: n + 1]), "attributions": []}]}
        for n in range(len(words))
    ]
    data = b"".join(b"data: %b\n\n" % orjson.dumps(state) for state in (*states, whole))
    records = Records(at, Conversations(at, question), FoldingSplitter())
    streamed = [*records.feed(data), *(() if records.done else records.end())]
    for events, form in ((Conversations(at, question).whole(whole), told), (streamed, told_streamed)):
        assert not any(isinstance(event, Usage) for event in events)
        assert form(events)[:4] == ("", text, [], "stop")


def test_the_ways_back_see_what_is_lost() -> None:
    """The comparisons themselves: one field less is seen."""
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "temperature": 0.5}
    for adapter, back, hidden in (
        (OpenAIResponsesAdapter(), from_responses, ()),
        (OllamaAdapter(), from_ollama, ("options",)),
    ):
        there = sent(adapter, asked)
        assert comparable(back(json.loads(_json(there)))) == comparable(asked)
        holder = there
        for step in hidden:
            holder = holder[step]
        del holder["temperature"]
        assert comparable(back(there)) != comparable(asked)
