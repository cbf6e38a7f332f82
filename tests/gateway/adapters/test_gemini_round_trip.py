"""A request of OpenAI's survives the way to Gemini's words and back, and so does what is answered.

The way back is written here, after Google's documentation of `generateContent`, and knows nothing of the adapter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.events import Event, Finished, Usage
from gateway.surfaces.openai.encoder import ChunkEncoder
from tests.support.gemini import ADAPTER, TARGET, body, call, chat, frame, function, message, streamed

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORDS = st.text('abc é\n{"☃', min_size=1, max_size=12)
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2), max_leaves=6
)
OBJECTS = st.dictionaries(WORDS, JSON, max_size=3)

MODES = {"AUTO": "auto", "NONE": "none", "ANY": "required"}
SETTINGS_BACK = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "candidateCount": "n",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
    "seed": "seed",
}
# What the documentation of thinking budgets calls them, as the efforts that OpenAI has.
EFFORTS = {0: "none", 512: "minimal", 1024: "low", 8192: "medium", 24576: "high"}
REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter"}

PIXEL, WAV, PDF = "iVBORw0KGgo=", "UklGRiQAAABXQVZFZm10IA==", "JVBERi0xLjcK"
PARTS = (
    WORDS.map(lambda text: {"type": "text", "text": text})
    | st.just({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}})
    | st.just({"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}})
    | st.just({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}})
)
# Nothing but blanks is an empty result there.
RESULTS = WORDS.filter(lambda text: bool(text.strip()) and not _is_object(text)) | OBJECTS.map(
    lambda value: orjson.dumps(value).decode()
)


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns that alternate, as they are when they come back."""
    found: list[dict[str, Any]] = []
    if draw(st.booleans()):
        found.append({"role": "system", "content": [{"type": "text", "text": draw(WORDS)}]})
    for turn in range(draw(st.integers(1, 3))):
        found.append({"role": "user", "content": draw(st.lists(PARTS, min_size=1, max_size=3))})
        made = [
            call(f"call_{turn}_{n}", draw(NAMES), orjson.dumps(draw(OBJECTS)).decode()) for n in range(draw(COUNTS))
        ]
        said = [{"type": "text", "text": draw(WORDS)}] if not made or draw(st.booleans()) else []
        found.append({"role": "assistant", "content": said, **({"tool_calls": made} if made else {})})
        found += [{"role": "tool", "tool_call_id": one["id"], "content": draw(RESULTS)} for one in made]
    found.append({"role": "user", "content": [{"type": "text", "text": draw(WORDS)}]})
    return found


COUNTS = st.integers(0, 3)
PROPERTIES = st.dictionaries(
    NAMES, st.sampled_from([{"type": "string", "description": "d"}, {"type": "array", "items": {"type": "integer"}}])
)
SCHEMAS = PROPERTIES.map(
    lambda found: {"type": "object", "properties": found, **({"required": sorted(found)} if found else {})}
)
TOOLS = st.lists(
    st.tuples(NAMES, SCHEMAS, st.none() | WORDS), min_size=1, max_size=3, unique_by=lambda tool: tool[0]
).map(lambda found: [function(n, schema, **({"description": d} if d else {})) for n, schema, d in found])
FORMS = st.just({"type": "json_object"}) | PROPERTIES.filter(bool).map(
    lambda found: {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {"type": "object", "properties": found}},
    }
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0, 0.5, 2]),
        "top_p": st.sampled_from([0.1, 1]),
        "top_k": st.integers(1, 99),
        "n": st.integers(1, 4),
        "presence_penalty": st.sampled_from([-1, 0.5]),
        "frequency_penalty": st.sampled_from([-1, 0.5]),
        "max_tokens": st.integers(1, 2**31 - 1),
        "stop": st.lists(WORDS, min_size=1, max_size=5),
        "seed": st.integers(0, 2**31 - 1),
        "response_format": FORMS,
        "reasoning_effort": st.sampled_from(sorted(EFFORTS.values())),
    },
)


@QUICK
@given(conversations(), FIELDS, st.none() | TOOLS, st.data())
def test_a_request_survives_the_way_to_gemini_and_back(messages: Any, fields: Any, tools: Any, data: Any) -> None:
    asked = {"messages": messages, **fields}
    if tools:
        named = {"type": "function", "function": {"name": tools[0]["function"]["name"]}}
        choice = data.draw(st.none() | st.sampled_from(["auto", "none", "required", named]))
        asked |= {"tools": tools, **({"tool_choice": choice} if choice else {})}
    there = body(*messages, **{name: value for name, value in asked.items() if name != "messages"})
    assert comparable(request_of(there)) == comparable(asked)


def comparable(asked: dict[str, Any]) -> dict[str, Any]:
    """Arguments and results that are objects as these: their spelling is nobody's concern."""
    messages = []
    for said in asked["messages"]:
        calls = [
            {**one, "function": {**one["function"], "arguments": orjson.loads(one["function"]["arguments"])}}
            for one in said.get("tool_calls", ())
        ]
        result = said["content"] if said["role"] == "tool" else None
        content = orjson.loads(result) if result is not None and _is_object(result) else said["content"]
        messages.append({**said, "content": content, **({"tool_calls": calls} if calls else {})})
    return {**asked, "messages": messages}


def request_of(there: dict[str, Any]) -> dict[str, Any]:
    """What somebody who reads Gemini's documentation takes the body for, as OpenAI's request."""
    assert set(there) <= {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}
    messages: list[dict[str, Any]] = []
    if "systemInstruction" in there:
        messages.append({"role": "system", "content": [_part(part) for part in there["systemInstruction"]["parts"]]})
    for turn in there["contents"]:
        messages += _model(turn["parts"]) if turn["role"] == "model" else _user(turn["parts"])
    return {"messages": messages, **_settings(there.get("generationConfig", {})), **_tools(there)}


def _user(parts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Results first; the rest of the turn is what a person says."""
    for part in parts:
        if "functionResponse" in part:
            held = part["functionResponse"]
            answer = held["response"]
            # Google's word for a result that is no object.
            is_text = set(answer) == {"result"} and isinstance(answer["result"], str)
            content = answer["result"] if is_text else orjson.dumps(answer).decode()
            yield {"role": "tool", "tool_call_id": held["id"], "content": content}
    said = [_part(part) for part in parts if "functionResponse" not in part]
    if said:
        yield {"role": "user", "content": said}


def _model(parts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    made = [part["functionCall"] for part in parts if "functionCall" in part]
    calls = [call(one["id"], one["name"], orjson.dumps(one["args"]).decode()) for one in made]
    said = [_part(part) for part in parts if "functionCall" not in part]
    yield {"role": "assistant", "content": said, **({"tool_calls": calls} if calls else {})}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if "text" in part:
        assert set(part) == {"text"}
        return {"type": "text", "text": part["text"]}
    kind, data = part["inlineData"]["mimeType"], part["inlineData"]["data"]
    if kind.startswith("audio/"):
        return {"type": "input_audio", "input_audio": {"data": data, "format": kind.partition("/")[2]}}
    url = f"data:{kind};base64,{data}"
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"file_data": url}}


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {SETTINGS_BACK[name]: config[name] for name in config if name in SETTINGS_BACK}
    left = set(config) - set(SETTINGS_BACK)
    assert left <= {"responseMimeType", "responseJsonSchema", "thinkingConfig"}
    if "responseJsonSchema" in config:
        held = {"name": "a", "schema": config["responseJsonSchema"]}
        found["response_format"] = {"type": "json_schema", "json_schema": held}
    elif "responseMimeType" in config:
        assert config["responseMimeType"] == "application/json"
        found["response_format"] = {"type": "json_object"}
    if "thinkingConfig" in config:
        budget = config["thinkingConfig"]["thinkingBudget"]
        assert config["thinkingConfig"]["includeThoughts"] is (budget > 0)
        found["reasoning_effort"] = EFFORTS[budget]
    return found


def _tools(there: dict[str, Any]) -> dict[str, Any]:
    if "tools" not in there:
        return {}
    (held,) = there["tools"]
    none = {"type": "object", "properties": {}}
    tools = [
        function(
            tool["name"],
            tool.get("parametersJsonSchema", none),
            **({"description": tool["description"]} if "description" in tool else {}),
        )
        for tool in held["functionDeclarations"]
    ]
    said = there.get("toolConfig", {}).get("functionCallingConfig")
    if said is None:
        return {"tools": tools}
    names = said.get("allowedFunctionNames")
    named = {"type": "function", "function": {"name": names[0]}} if names else MODES[said["mode"]]
    return {"tools": tools, "tool_choice": named}


COUNT = st.integers(0, 10_000)
ANSWERS = st.fixed_dictionaries(
    {
        "reasoning": st.lists(WORDS, max_size=2),
        "text": st.lists(WORDS, max_size=3),
        "calls": st.lists(st.tuples(NAMES, OBJECTS), max_size=3),
        "pictures": st.integers(0, 1),
        "reason": st.sampled_from(sorted(REASONS)),
        "usage": st.tuples(COUNT, COUNT, COUNT, COUNT),
    }
)


def record_of(said: dict[str, Any]) -> dict[str, Any]:
    """The answer in Gemini's words."""
    parts: list[dict[str, Any]] = [{"text": text, "thought": True} for text in said["reasoning"]]
    parts += [{"text": text} for text in said["text"]]
    parts += [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}] * said["pictures"]
    parts += [
        {"functionCall": {"id": f"c{n}", "name": name, "args": args}} for n, (name, args) in enumerate(said["calls"])
    ]
    prompt, cached, answered, thought = said["usage"]
    usage = {
        "promptTokenCount": prompt + cached,
        "cachedContentTokenCount": cached,
        "candidatesTokenCount": answered,
        "thoughtsTokenCount": thought,
        "totalTokenCount": prompt + cached + answered + thought,
    }
    return {"candidates": [{"content": {"parts": parts}, "finishReason": said["reason"]}], "usageMetadata": usage}


@QUICK
@given(ANSWERS)
def test_an_answer_survives_the_way_back(said: dict[str, Any]) -> None:
    """Plain and streamed, it is the same message with the same usage and the same reason to end."""
    record = record_of(said)
    plain, stream = ADAPTER.answer(TARGET, record), streamed(frame(record))
    for events in (plain, stream):
        told = message(events)
        assert (told["content"] or "") == "".join(said["text"])
        assert told.get("reasoning_content", "") == "".join(said["reasoning"])
        calls = [
            (one["function"]["name"], orjson.loads(one["function"]["arguments"])) for one in told.get("tool_calls", ())
        ]
        assert calls == said["calls"]
        assert len({one["id"] for one in told.get("tool_calls", ())}) == len(said["calls"])
        assert len(told.get("images", ())) == said["pictures"]
        (end,) = [event for event in events if isinstance(event, Finished)]
        wanted = REASONS[said["reason"]]
        assert end.reason == ("tool_calls" if said["calls"] and wanted == "stop" else wanted)
        usage = [event for event in events if isinstance(event, Usage)][-1]
        prompt, cached, answered, thought = said["usage"]
        assert (usage.prompt_tokens, usage.completion_tokens) == (prompt + cached, answered + thought)
        assert (usage.cached_tokens or 0, usage.reasoning_tokens or 0) == (cached, thought)
    assert joined(plain) == joined(stream)


def joined(events: list[Event] | tuple[Event, ...]) -> Any:
    """What a client puts together of the chunks, whose ids and times are left out."""
    encoder = ChunkEncoder(chat())
    data = b"".join(encoder.encode(event) for event in events) + encoder.end()
    pieces = [orjson.loads(line[6:]) for line in data.split(b"\n\n") if line and line != b"data: [DONE]"]
    whole: dict[str, Any] = {}
    for piece in pieces:
        for name, value in piece["choices"][0]["delta"].items():
            whole[name] = (whole.get(name) or "") + value if isinstance(value, str) else whole.get(name) or value
    calls = [one for piece in pieces for one in piece["choices"][0]["delta"].get("tool_calls", ())]
    return whole.get("content"), whole.get("reasoning_content"), [one["function"] for one in calls], pieces[-1]["usage"]


def test_the_way_back_sees_what_is_lost() -> None:
    """The comparison itself: one field less is seen."""
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "top_k": 3}
    there = body(*asked["messages"], top_k=3)
    assert comparable(request_of(there)) == comparable(asked)
    del there["generationConfig"]["topK"]
    assert comparable(request_of(there)) != comparable(asked)
