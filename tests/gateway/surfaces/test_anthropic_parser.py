"""What callers of Anthropic's surface may send, what it becomes, and that the way there and back loses nothing."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.anthropic import AnthropicAdapter
from gateway.adapters.anthropic.answers import read_answer
from gateway.adapters.anthropic.requests import message_body
from gateway.adapters.openai_dialect import plain_body
from gateway.chat import ChatRequest
from gateway.errors import BadRequest, UnsupportedParameter, UpstreamRejected
from gateway.events import (
    Event,
    Finished,
    ReasoningDelta,
    ReasoningSignature,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gateway.surfaces.anthropic.counting import prompt_tokens
from gateway.surfaces.anthropic.errors import speaks_anthropic
from gateway.surfaces.anthropic.parser import parse_messages
from gateway.surfaces.anthropic.reply import MessageReply
from gateway.surfaces.openai.parser import parse_chat
from gateway.targets import Endpoint, Target

TARGET = Target("anthropic", 1, "Acme", 1, "m", "claude-x", Endpoint("Acme", "http://127.0.0.1:1/v1"))
BODY: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}


def parsed(**fields: Any) -> ChatRequest:
    return parse_messages(orjson.dumps({**BODY, **fields}))


def asked(*blocks: Any, role: str = "user") -> Any:
    return parsed(messages=[{"role": role, "content": list(blocks)}]).body["messages"]


def test_the_callers_own_words_stay_with_the_request() -> None:
    chat = parsed(provider="Acme", something_new=1, stream=True)
    assert (chat.model, chat.provider, chat.stream, chat.raw) == ("m", "Acme", True, False)
    assert chat.native is not None
    assert chat.native.body == {name: value for name, value in BODY.items() if name != "model"} | {
        "something_new": 1,
        "stream": True,
    }
    assert "something_new" not in chat.body


def test_what_steers_the_gateway_stays_here() -> None:
    secrets = {"api_key": "sk-1", "cookies": {"a": "b"}, "extra_headers": {"x": "y"}, "base_url": "https://a.test"}
    chat = parsed(**secrets, models=["n"], provider={"only": ["Acme"]})
    assert chat.native is not None
    assert chat.native.body == {name: value for name, value in BODY.items() if name != "model"}
    assert set(chat.warnings) == set(secrets)
    assert chat.fallbacks == ("n",)
    assert chat.preferences is not None
    assert chat.preferences.only == {"acme"}


def test_the_provider_in_the_path_wins() -> None:
    assert parse_messages(orjson.dumps({**BODY, "provider": "a"}), "b").provider == "b"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 1}, "model", "invalid_type"),
        ({"model": "x" * 300}, "model", "invalid_value"),
        ({"max_tokens": None}, "max_tokens", "missing_required_parameter"),
        ({"max_tokens": "9"}, "max_tokens", "invalid_type"),
        ({"max_tokens": True}, "max_tokens", "invalid_type"),
        ({"max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": {}}, "messages", "invalid_type"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": ["x"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "invalid_type"),
        ({"system": 1}, "system", "invalid_type"),
        ({"system": [{"type": "image", "source": {"type": "url", "url": "u"}}]}, "system", "invalid_value"),
        ({"tools": {}}, "tools", "invalid_type"),
        ({"tools": [1]}, "tools[0]", "invalid_type"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{"type": "function"}]}, "tools[0].type", "invalid_value"),
        ({"system": [{"type": "text", "text": 0}]}, "system[0].text", "invalid_type"),
        ({"models": "m"}, "models", "invalid_type"),
        ({"tools": [{"name": "w"}]}, "tools[0].input_schema", "missing_required_parameter"),
        ({"tool_choice": "auto"}, "tool_choice", "invalid_type"),
        ({"tool_choice": {"type": "all"}}, "tool_choice.type", "invalid_value"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name", "missing_required_parameter"),
        ({"temperature": 1.1}, "temperature", "invalid_value"),
        ({"top_k": 1.5}, "top_k", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stop_sequences": "x"}, "stop_sequences", "invalid_type"),
        ({"stop_sequences": [1]}, "stop_sequences", "invalid_type"),
        ({"metadata": []}, "metadata", "invalid_type"),
        ({"metadata": {"user_id": 1}}, "metadata.user_id", "invalid_type"),
        ({"thinking": 1}, "thinking", "invalid_type"),
        ({"thinking": {"type": "on"}}, "thinking.type", "invalid_value"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "missing_required_parameter"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.budget_tokens", "invalid_value"),
        ({"output_config": 1}, "output_config", "invalid_type"),
        (
            {"output_config": {"format": {"type": "json_schema"}}},
            "output_config.format.schema",
            "missing_required_parameter",
        ),
        ({"provider": 1}, "provider", "invalid_type"),
    ],
)
def test_each_fault_is_400_and_names_its_place(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadRequest) as failure:
        parsed(**fields)
    assert (failure.value.status, failure.value.param, failure.value.code) == (400, param, code)


@pytest.mark.parametrize(
    ("block", "place"),
    [
        (1, ""),
        ({}, ".type"),
        ({"type": "text"}, ".text"),
        *(({"type": "text", "text": odd}, ".text") for odd in ([], {}, 0, False)),
        ({"type": []}, ".type"),
        ({"type": "image", "source": {"type": {}}}, ".source.type"),
        ({"type": "image"}, ".source"),
        ({"type": "image", "source": {"type": "base64", "data": "x"}}, ".source.media_type"),
        ({"type": "document", "source": {"type": "content", "content": [1]}}, ".source.content[0]"),
        ({"type": "tool_use", "id": "a", "name": "w", "input": "x"}, ".input"),
        ({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text"}]}, ".content[0].text"),
        ({"type": "tool_result", "tool_use_id": "a", "is_error": "x"}, ".is_error"),
        ({"type": "search_result", "source": "s"}, ".title"),
        ({"type": "thinking"}, ".thinking"),
        ({"type": "redacted_thinking", "data": 1}, ".data"),
    ],
)
def test_each_faulty_block_is_named(block: Any, place: str) -> None:
    with pytest.raises(BadRequest) as failure:
        asked(block)
    assert failure.value.param == f"messages[0].content[0]{place}"


PICTURE = [{"type": "image_url", "image_url": {"url": "u:"}}]
FILE = [{"type": "file", "file": {"file_id": "f"}}]


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"type": "image", "source": {"type": "url", "url": "u:"}}, PICTURE),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, FILE),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, FILE),
        ({"type": "document", "title": "", "source": {"type": "text", "data": "d"}}, [{"type": "text", "text": "d"}]),
        ({"type": "document", "source": {"type": "content", "content": "d"}}, [{"type": "text", "text": "d"}]),
        (
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}},
            [{"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,QQ=="}}],
        ),
        (
            {"type": "search_result", "title": "T", "source": "s", "content": [{"type": "text", "text": "c"}]},
            [{"type": "text", "text": "T\ns"}, {"type": "text", "text": "c"}],
        ),
    ],
)  # fmt: skip
def test_blocks_become_parts(block: Any, parts: Any) -> None:
    assert asked(block) == [{"role": "user", "content": parts}]


def test_counting_needs_no_limit() -> None:
    body = {name: value for name, value in BODY.items() if name != "max_tokens"}
    assert parse_messages(orjson.dumps(body), counting=True).max_tokens() is None


def test_openais_own_servers_get_the_newer_name_of_the_limit() -> None:
    openai = Target("openai_chat", 1, "OpenAI", 1, "m", "gpt", Endpoint("OpenAI", "https://api.openai.com/v1"))
    body = plain_body(openai, parsed(output_config={"effort": "max"}))
    assert (body["max_completion_tokens"], body["reasoning_effort"]) == (9, "high")
    assert "max_tokens" not in body


def test_a_tool_of_anthropics_cannot_be_said_elsewhere() -> None:
    with pytest.raises(UnsupportedParameter, match="bash_20250124"):
        plain_body(TARGET, parsed(tools=[{"type": "bash_20250124", "name": "bash"}]))


@pytest.mark.parametrize(
    ("path", "speaks"),
    [
        ("/v1/messages", True),
        ("/v1/messages/count_tokens", True),
        ("/api/Acme/messages", True),
        ("/api/Acme/v1/messages/", True),
        ("/v1/chat/completions", False),
        ("/v1/messages/batches", False),
        ("/api/a/b/messages", False),
    ],
)
def test_which_paths_have_its_envelope(path: str, speaks: bool) -> None:
    assert speaks_anthropic(path) is speaks


ODD = st.sampled_from(
    [None, True, 0, 1.5, "x", [], {}, [None], [{}], [{"type": "text"}], [{"type": "text", "text": "t"}], {"type": 1},
     {"type": "auto"}, {"type": "base64"}, [{"type": "tool_result", "tool_use_id": "a", "content": 1}]]
)  # fmt: skip
BLOCK = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["text", "image", "document", "tool_use", "tool_result", "thinking", "search_result", "new"]
        )
    },
    optional=dict.fromkeys("text source id name input tool_use_id content title thinking".split(), ODD),
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": st.lists(BLOCK, max_size=3) | ODD}
)
FIELDS = st.dictionaries(
    st.sampled_from(
        "system tools tool_choice metadata thinking output_config output_format stop_sequences top_k top_p".split()
    ),
    ODD,
    max_size=4,
)


@given(st.lists(MESSAGE, max_size=3), FIELDS)
def test_whatever_is_sent_is_refused_or_is_a_request_of_openais(messages: Any, fields: Any) -> None:
    try:
        chat = parsed(messages=messages, **fields)
    except BadRequest:
        return
    parse_chat(orjson.dumps({"model": "m", **chat.body}))
    AnthropicAdapter().body(TARGET, chat)
    with contextlib.suppress(UpstreamRejected):
        message_body(TARGET, chat)
    with contextlib.suppress(UnsupportedParameter):
        plain_body(TARGET, chat)
    assert prompt_tokens(chat) > 0


WORDS = st.text("abc é\n{", min_size=1, max_size=8).filter(lambda text: text.strip() == text)
ARGUMENTS = st.dictionaries(WORDS, WORDS | st.integers(0, 9), max_size=2).map(
    lambda value: orjson.dumps(value).decode()
)
IDS = st.sampled_from(["call_1", "toolu_2", "x-3"])
CALLS = st.lists(st.tuples(IDS, WORDS, ARGUMENTS), min_size=1, max_size=3, unique_by=lambda call: call[0])
PARTS = st.lists(
    WORDS.map(lambda text: {"type": "text", "text": text})
    | st.just({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}})
    | st.just({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}})
    | st.just({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="}}),
    min_size=1,
    max_size=3,
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns that alternate, as they are when they come back."""
    found: list[dict[str, Any]] = []
    if draw(st.booleans()):
        found.append({"role": "system", "content": draw(WORDS)})
    for _ in range(draw(st.integers(1, 3))):
        found.append({"role": "user", "content": draw(PARTS)})
        answer: dict[str, Any] = {"role": "assistant", "content": draw(WORDS)}
        if draw(st.booleans()):
            details = [{"type": "reasoning.text", "text": draw(WORDS), "signature": "s"}]
            answer["reasoning_details"] = details
        found.append(answer)
        if draw(st.booleans()):
            calls = draw(CALLS)
            answer["tool_calls"] = [
                {"id": call, "type": "function", "function": {"name": name, "arguments": arguments}}
                for call, name, arguments in calls
            ]
            found += [{"role": "tool", "tool_call_id": call, "content": draw(WORDS)} for call, _, _ in calls]
    return found


SETTINGS = st.fixed_dictionaries(
    {"max_tokens": st.integers(1, 1000)},
    optional={
        "temperature": st.sampled_from([0, 0.5]),
        "top_p": st.sampled_from([0.1, 0.9]),
        "top_k": st.integers(1, 9),
        "stop": st.lists(WORDS, min_size=1, max_size=2),
        "user": WORDS,
    },
)
TOOL = {
    "type": "function",
    "function": {"name": "w", "description": "d", "parameters": {"type": "object", "properties": {}}},
}
CHOICE = st.sampled_from(["auto", "none", "required", {"type": "function", "function": {"name": "w"}}])


@given(conversations(), SETTINGS, st.none() | CHOICE)
def test_a_request_survives_the_way_to_anthropic_and_back(messages: Any, settings: Any, choice: Any) -> None:
    body = {"messages": messages, **settings, **({"tools": [TOOL], "tool_choice": choice} if choice else {})}
    there = AnthropicAdapter().body(TARGET, ChatRequest("m", None, False, False, body))
    back = parse_messages(orjson.dumps(dict(there)))
    assert back.model == "claude-x"
    assert _plain(back.body) == _plain(body)


def _plain(body: dict[str, Any]) -> dict[str, Any]:
    """Texts alone are said as a string or as one part."""
    messages = []
    for message in body["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        messages.append({**message, "content": parts})
    return {**body, "messages": messages}


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    found: list[Event] = []
    if draw(st.booleans()):
        found += [ReasoningDelta(draw(WORDS)), ReasoningSignature("s")]
    if draw(st.booleans()):
        found.append(TextDelta(draw(WORDS)))
    for position, (call, name, arguments) in enumerate(draw(st.just([]) | CALLS)):
        found += [ToolCallDelta(position, call, name), ToolCallDelta(position, arguments=arguments)]
    reason = "tool_calls" if any(isinstance(event, ToolCallDelta) for event in found) else "stop"
    cached, written = draw(st.integers(0, 9)), draw(st.integers(1, 9))
    return [*found, Usage(cached + written + 1, 3, cached, 2, cache_write_tokens=written), Finished(reason)]


@given(answers())
def test_an_answer_survives_the_way_back(events: list[Event]) -> None:
    encoder = MessageReply(ChatRequest("m", None, False, False, {"messages": []}, raw=False))
    for event in events:
        encoder.take(event)
    assert list(read_answer(TARGET, orjson.loads(encoder.body()))) == events
