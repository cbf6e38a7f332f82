"""The official Python client's `responses` over providers of each protocol: what every one of them must give."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from django.contrib.auth.models import User

from gateway.models import ApiKey
from tests.clients import core
from tests.support import responses
from tests.support.answers import Stall, chunk, error, sse
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_events, check_items, check_response, typed_events
from tests.support.provider import Recorded, ScriptedProvider

QUESTION = "What is the weather in Oslo?"
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Current weather of a city",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
NAMED: Any = {"type": "function", "name": "get_weather"}
ADAPTERS: dict[str, Callable[[Recorded], Any]] = {"openai_chat": core.capable, "openai_responses": responses.capable}


@pytest.fixture(params=["demo", *ADAPTERS])
def model(request: pytest.FixtureRequest, gateway: LiveGateway, provider: ScriptedProvider) -> str:
    if request.param == "demo":
        gateway.add_demo()
        return "demo"
    provider.on("capable", ADAPTERS[request.param])
    gateway.add_provider(provider, "capable", adapter=request.param)
    return "capable"


@pytest.fixture
def client(gateway: LiveGateway, model: str) -> openai.OpenAI:
    return gateway.client()


def dumped(answer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.model_dump_json(exclude_unset=True))
    return found


def test_it_answers(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.create(model=model, input=QUESTION, instructions="Be brief.", metadata={"a": "b"})
    check_response(dumped(answer))
    assert answer.output_text
    assert (answer.status, answer.instructions, answer.metadata) == ("completed", "Be brief.", {"a": "b"})
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0


def test_it_streams_typed_events(client: openai.OpenAI, model: str) -> None:
    events = list(client.responses.create(model=model, input=QUESTION, stream=True))
    check_events([dumped(event) for event in events])
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last = events[-1]
    assert last.type == "response.completed"
    assert text == last.response.output_text != ""


def test_the_clients_own_accumulator_puts_a_stream_together(client: openai.OpenAI, model: str) -> None:
    with client.responses.stream(model=model, input=QUESTION) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text
    assert "response.output_text.delta" in kinds


def test_it_calls_a_tool_and_takes_its_result(client: openai.OpenAI, model: str) -> None:
    first = client.responses.create(model=model, input=QUESTION, tools=[WEATHER], tool_choice=NAMED)
    check_response(dumped(first))
    (call,) = first.output
    assert call.type == "function_call"
    assert isinstance(json.loads(call.arguments)["city"], str)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "4 degrees"}
    second = client.responses.create(model=model, input=[result], previous_response_id=first.id)
    assert second.output_text


def test_it_streams_a_call(client: openai.OpenAI, model: str) -> None:
    with client.responses.stream(model=model, input=QUESTION, tools=[WEATHER], tool_choice=NAMED) as stream:
        events = [dumped(event) for event in stream]
        (call,) = stream.get_final_response().output
    assert call.type == "function_call"
    assert call.arguments == "".join(
        event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"
    )
    assert isinstance(json.loads(call.arguments)["city"], str)


def test_it_parses_structured_output(client: openai.OpenAI, model: str) -> None:
    answer = client.responses.parse(model=model, input=QUESTION, text_format=core.Person)
    assert isinstance(answer.output_parsed, core.Person)


def test_what_was_kept_can_be_read_listed_and_deleted(client: openai.OpenAI, model: str) -> None:
    made = client.responses.create(model=model, input=QUESTION)
    found = client.responses.retrieve(made.id)
    assert dumped(found) == dumped(made)
    check_response(dumped(found))
    items = client.responses.input_items.list(made.id)
    check_items(dumped(items))
    assert items.data[0].content[0].text == QUESTION  # type: ignore[union-attr]
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.cancel(made.id)
    assert refused.value.code == "response_not_cancellable"
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.retrieve(made.id)
    assert caught.value.code == "response_not_found"


def test_one_provider_can_be_asked(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "shared", name="First")
    with ScriptedProvider() as other:
        other.on("shared", responses.capable)
        gateway.add_provider(other, "shared", name="Second", adapter="openai_responses")
        client = gateway.client(base_url=f"{gateway.url}/api/Second")
        made = client.responses.create(model="shared", input=QUESTION)
        assert made.provider == "Second"  # type: ignore[attr-defined]
        assert client.responses.retrieve(made.id).id == made.id
        assert client.responses.input_items.list(made.id).data


def test_a_failure_before_the_first_word_is_an_http_error(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("fails", error(400, "too long", code="context_length_exceeded", param="input"))
    gateway.add_provider(provider, "fails", adapter="openai_responses")
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            gateway.client().responses.create(model="fails", input="hi", stream=stream)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_failure_in_the_middle_is_the_streams_last_event(
    gateway: LiveGateway, provider: ScriptedProvider, adapter: str
) -> None:
    if adapter == "openai_chat":
        provider.on("breaks", sse([chunk({"role": "assistant", "content": "Hel"}), "{broken"]))
    else:
        provider.on("breaks", sse([*responses.response_events(responses.message("Hello"))[:3], "{broken"]))
    gateway.add_provider(provider, "breaks", adapter=adapter)
    body = {"model": "breaks", "input": "hi", "stream": True}
    answer = httpx.post(f"{gateway.url}/v1/responses", json=body, headers=gateway.auth(), timeout=20)
    events = typed_events(answer.content)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"]["code"] == "server_error"


def test_reasoning_goes_back_to_the_provider_that_signed_it(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    def thinks(request: Recorded) -> Any:
        return responses.answered(request, responses.reasoning("I think.", "gAAAA"), responses.message("Done."))

    provider.on("thinks", thinks)
    gateway.add_provider(provider, "thinks", adapter="openai_responses")
    client = gateway.client()
    first = client.responses.create(model="thinks", input="hi", reasoning={"effort": "low", "summary": "auto"})
    assert first.output[0].summary[0].text == "I think."  # type: ignore[union-attr]
    assert "gAAAA" not in first.model_dump_json()
    client.responses.create(model="thinks", input="go on", previous_response_id=first.id)
    assert provider.requests[0].json["reasoning"] == {"effort": "low", "summary": "auto"}
    assert provider.requests[1].json["input"] == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "I think."}], "encrypted_content": "gAAAA"},
        {"type": "message", "role": "assistant", "content": "Done."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go on"}]},
    ]


def test_a_right_that_is_lost_ends_a_stream_with_a_numbered_error(
    gateway: LiveGateway, provider: ScriptedProvider, alice: User
) -> None:
    provider.on("stalls", sse([chunk({"role": "assistant", "content": "Hel"}), Stall()]))
    gateway.add_provider(provider, "stalls")
    key = gateway.make_key(alice)
    body = {"model": "stalls", "input": "hi", "stream": True}
    with httpx.stream(
        "POST", f"{gateway.url}/v1/responses", json=body, headers=gateway.auth(key), timeout=20
    ) as answer:
        parts = answer.iter_bytes()
        data = next(parts)
        while b"output_text.delta" not in data:
            data += next(parts)
        ApiKey.objects.get(user=alice).revoke()
        events = typed_events(data + b"".join(parts))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "invalid_api_key")
