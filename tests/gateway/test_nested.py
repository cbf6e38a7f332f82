"""JSON that is nested deeper than can be written again: a model's, a provider's, and the deepest of a caller."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.adapters import ADAPTERS
from gateway.adapters.anthropic.content import _input
from gateway.adapters.openai_chat import ChunkReader
from gateway.chat import ChatRequest
from gateway.errors import BadRequest, UpstreamBroken
from gateway.events import Finished, RawReply, Started, TextDelta, ToolCallDelta
from gateway.models import UsageEvent
from gateway.nested import object_of
from gateway.prompted_tools import ToolFilter
from gateway.surfaces.anthropic.parser import parse_messages
from gateway.surfaces.anthropic.reply import MessageReply
from gateway.surfaces.openai.encoder import ReplyEncoder
from gateway.surfaces.openai.parser import MAX_DEPTH, parse_chat
from gateway.targets import Endpoint, Target
from gateway.usage import writer
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

DEEP = '{"a":' * 400 + "1" + "}" * 400
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
TARGET = Target("openai_chat", 1, "Acme", 1, "m", "m", Endpoint("Acme", "http://127.0.0.1:1/v1"))


def nested(levels: int) -> Any:
    found: Any = {}
    for _ in range(levels - 1):
        found = {"a": found}
    return found


def chat(**body: Any) -> ChatRequest:
    return ChatRequest("m", None, False, False, {"messages": [{"role": "user", "content": "hi"}], **body}, raw=False)


@pytest.mark.parametrize("levels", [240, 246, 247, 250, 254, 255, 400, 1000])
def test_arguments_that_are_taken_can_be_written_inside_of_a_body(levels: int) -> None:
    text = orjson.dumps(nested(1)).decode().join(['{"a":' * (levels - 1), "}" * (levels - 1)])
    found = object_of(text)
    assert found is None or orjson.dumps({"content": [{"input": found}]})
    assert (found is None) is (levels > 246)


def test_a_models_deep_arguments_stay_text() -> None:
    encoder = MessageReply(chat())
    for event in (Started("Acme", "m"), ToolCallDelta(0, "c", "f", DEEP), Finished("tool_calls")):
        encoder.take(event)
    assert orjson.loads(encoder.body())["content"][0]["input"] == {"arguments": DEEP}
    assert _input(DEEP) == {"arguments": DEEP}


@pytest.mark.parametrize("choice", ["auto", {"type": "function", "function": {"name": "f"}}])
@pytest.mark.parametrize("said", [DEEP, f'{{"name": "f", "arguments": {DEEP}}}'])
def test_a_call_in_text_that_is_nested_too_deep_is_text(said: str, choice: Any) -> None:
    filtering = ToolFilter(chat(tools=[TOOL], tool_choice=choice))
    events = [passed for event in (TextDelta(said), Finished("stop")) for passed in filtering.take(event)]
    assert events == [TextDelta(said), Finished("stop")]


def test_a_providers_deep_answer_is_broken_where_it_must_be_changed() -> None:
    body = {"choices": [{"index": 0, "message": {"content": "x"}}], "more": orjson.loads(DEEP)}
    encoder = ReplyEncoder(chat())
    with pytest.raises(UpstreamBroken):
        encoder.take(RawReply(b"{}", body))
        encoder.body()
    with pytest.raises(UpstreamBroken):
        ChunkReader(TARGET).feed(b"event: message\ndata: " + DEEP.encode() + b"\n\n")


@pytest.mark.parametrize(("deep", "status"), [(DEEP, 502), ('{"a": 1}', 200)])
def test_such_an_answer_is_502_and_booked(
    gateway: LiveGateway, provider: ScriptedProvider, deep: str, status: int
) -> None:
    provider.on("m", answers.raw(orjson.dumps(answers.completion("Hi"))[:-1] + b',"more":' + deep.encode() + b"}"))
    gateway.add_provider(provider, "m")
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "usage": {"include": True}}
    response = gateway.http.post("/v1/chat/completions", json=asked, headers=gateway.auth())
    assert response.status_code == status
    writer.flush()
    assert UsageEvent.objects.get().prompt_tokens == 7


@pytest.mark.parametrize("adapter", ["openai_chat", "openai_responses", "anthropic", "gemini", "ollama"])
def test_the_deepest_body_of_a_caller_can_be_said_in_every_protocol(adapter: str) -> None:
    wrapped = {"type": "function", "function": {"name": "f", "parameters": nested(MAX_DEPTH - 4)}}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [wrapped]}
    asked = parse_chat(orjson.dumps(body))
    target = Target(adapter, 1, "Acme", 1, "m", "m", Endpoint("Acme", "http://127.0.0.1:1/v1"))
    made: Any = ADAPTERS[adapter]
    assert orjson.dumps(made.body(target, asked) if hasattr(made, "body") else dict(asked.body))


def test_the_deepest_call_of_a_conversation_becomes_text() -> None:
    call = {"type": "tool_use", "id": "c", "name": "f", "input": nested(MAX_DEPTH - 5)}
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": [call]}]
    body = {"model": "m", "max_tokens": 9, "messages": messages}
    asked = parse_messages(orjson.dumps(body))
    with pytest.raises(BadRequest, match="nested"):
        parse_messages(
            orjson.dumps({**body, "messages": [*messages, {"role": "user", "content": [[nested(MAX_DEPTH - 3)]]}]})
        )
    assert orjson.loads(asked.messages()[1].tool_calls[0].arguments) == call["input"]
