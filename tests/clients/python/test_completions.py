"""The official Python client's legacy completions: over a provider that has them, and asked as chats elsewhere."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import openai
import pytest

from gateway.models import Price, ProviderModel, UsageEvent
from gateway.usage import writer
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check, check_error, sse_payloads
from tests.support.provider import Recorded, ScriptedProvider

LOGPROBS = {"tokens": ["Hi"], "token_logprobs": [-0.1], "top_logprobs": [{"Hi": -0.1}], "text_offset": [0]}


def native(request: Recorded) -> answers.Answer:
    """A provider with the route: vLLM and llama.cpp answer so."""
    assert request.path == "/v1/completions"
    body = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "up"}
    choice = {"index": 0, "text": "Hi", "logprobs": LOGPROBS, "finish_reason": "stop"}
    if not request.json.get("stream"):
        return answers.reply_json({**body, "choices": [choice], "usage": answers.USAGE, "extra": 1})
    chunks = [{**body, "choices": [{**choice, "text": text, "finish_reason": None}]} for text in ("H", "i")]
    end = [{**body, "choices": [{**choice, "text": "", "finish_reason": "length"}]}]
    return answers.sse([*chunks, *end, {**body, "choices": [], "usage": answers.USAGE}, answers.DONE])


def check_texts(chunks: list[Any]) -> str:
    """The chunks of one answer; until the last, OpenAI sends null for the reason that its document requires."""
    for chunk in chunks:
        known = [{**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in chunk["choices"]]
        check("CreateCompletionResponse", {**chunk, "choices": known})
        assert chunk["object"] == "text_completion"
    assert len({chunk["id"] for chunk in chunks}) == 1
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])


def streamed(client: openai.OpenAI, **fields: Any) -> list[Any]:
    answer = client.completions.create(model="m", stream=True, **fields)
    return [chunk.model_dump(exclude_unset=True) for chunk in answer]


def test_a_provider_with_the_route_gets_the_body_and_its_answer_passes(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    provider.on("up", native)
    gateway.add_provider(provider, {"public_id": "m", "upstream_name": "up"}, completions=True)
    given: dict[str, Any] = {
        "prompt": [[1, 2], [3]], "suffix": "s", "echo": True, "logprobs": 2, "best_of": 3, "n": 2, "max_tokens": 0
    }  # fmt: skip
    answer = gateway.client().completions.create(model="m", **given)
    assert (answer.choices[0].text, answer.choices[0].logprobs.tokens) == ("Hi", ["Hi"])  # type: ignore[union-attr]
    assert answer.model_extra == {"extra": 1}
    check("CreateCompletionResponse", answer.model_dump(exclude_unset=True))
    assert provider.requests[0].json == {**given, "model": "up"}
    writer.flush()
    row = UsageEvent.objects.get()
    assert (row.surface, row.prompt_tokens, row.completion_tokens) == ("v1.completions", 7, 3)


@pytest.mark.parametrize("asked", [False, True])
def test_its_stream_passes_chunk_by_chunk(gateway: LiveGateway, provider: ScriptedProvider, asked: bool) -> None:
    provider.on("m", native)
    gateway.add_provider(provider, "m", completions=True)
    options = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = streamed(gateway.client(), prompt="x", **options)
    assert check_texts(chunks) == "Hi"
    assert chunks[-1]["usage"]["total_tokens"] == 10
    assert (chunks[-1]["choices"] == []) is asked
    assert provider.requests[0].json == {
        "model": "m", "prompt": "x", "stream": True, "stream_options": {"include_usage": True}
    }  # fmt: skip


def test_a_first_word_is_not_held_back(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    chunk = {"id": "c", "object": "text_completion", "created": 1, "model": "m"}
    first = {**chunk, "choices": [{"index": 0, "text": "one", "logprobs": None, "finish_reason": None}]}
    provider.on("m", answers.sse([first, answers.Stall()]))
    gateway.add_provider(provider, "m", completions=True)
    with gateway.client().completions.create(model="m", prompt="x", stream=True) as stream:
        assert next(iter(stream)).choices[0].text == "one"


def test_elsewhere_a_prompt_is_asked_as_a_chat(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("m", answers.reply("Hi", finish_reason="length"))
    gateway.add_provider(provider, "m")
    answer = gateway.client().completions.create(
        model="m", prompt="Say hi", max_tokens=5, stop=["x"], temperature=0.5, seed=1, user="u"
    )
    body = answer.model_dump(exclude_unset=True)
    check("CreateCompletionResponse", body)
    assert body["choices"] == [{"index": 0, "text": "Hi", "logprobs": None, "finish_reason": "length"}]
    assert answer.usage
    assert answer.usage.total_tokens == 10
    assert provider.requests[0].path == "/v1/chat/completions"
    assert provider.requests[0].json == {
        "model": "m", "messages": [{"role": "user", "content": "Say hi"}], "max_tokens": 5, "stop": ["x"],
        "temperature": 0.5, "seed": 1, "user": "u",
    }  # fmt: skip


@pytest.mark.parametrize("asked", [False, True])
def test_such_a_chat_streams_texts(gateway: LiveGateway, provider: ScriptedProvider, asked: bool) -> None:
    provider.on("m", answers.stream("He", "llo"))
    gateway.add_provider(provider, "m")
    options = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = streamed(gateway.client(), prompt="x", echo=True, **options)
    assert check_texts(chunks) == "xHello"
    assert chunks[-1]["usage"]["total_tokens"] == 10
    assert (chunks[-1]["choices"] == []) is asked
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert (reasons[-1], set(reasons[:-1])) == ("stop", {None})


def test_several_prompts_are_several_chats_of_one_answer(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "m")
    client = gateway.client()
    answer = client.completions.create(model="m", prompt=["a", "b c"], echo=True)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "aa"), (1, "b cb c")]
    assert answer.usage
    assert answer.usage.total_tokens == 20
    chunks = streamed(client, prompt=["a", "b c"])
    texts = {0: "", 1: ""}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        texts[choice["index"]] += choice["text"]
    assert texts == {0: "a", 1: "b c"}
    assert sum(1 for chunk in chunks if chunk.get("usage")) == 1
    assert len(provider.chats) == 4


def test_the_demo_continues_texts_with_several_choices(gateway: LiveGateway) -> None:
    gateway.add_demo()
    answer = gateway.client().completions.create(model="demo", prompt=["a", "b"], n=2, max_tokens=3)
    check("CreateCompletionResponse", answer.model_dump(exclude_unset=True))
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1], [2]]}, "prompt"),
        ({"prompt": ["x"] * 21}, "prompt"),
        ({"prompt": "x", "suffix": "s"}, "suffix"),
        ({"prompt": "x", "logprobs": 0}, "logprobs"),
        ({"prompt": "x", "best_of": 2}, "best_of"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_chat_cannot_say_names_its_parameter(
    gateway: LiveGateway, provider: ScriptedProvider, given: Any, param: str, stream: bool
) -> None:
    gateway.add_provider(provider, "m")
    body = {"model": "m", "stream": stream, **given}
    response = gateway.http.post("/v1/completions", json=body, headers=gateway.auth())
    assert response.status_code == 400
    error = check_error(response.json())
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")
    assert not provider.requests


def test_a_provider_that_can_is_asked_instead(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "m", name="Chats", priority=1)
    with ScriptedProvider() as other:
        other.on("m", native)
        gateway.add_provider(other, "m", name="Completes", priority=2, completions=True)
        assert gateway.client().completions.create(model="m", prompt=[1, 2]).choices[0].text == "Hi"
    assert not provider.requests


@pytest.mark.parametrize(
    ("given", "status", "param"),
    [
        ({}, 400, "prompt"),
        ({"prompt": None}, 400, "prompt"),
        ({"prompt": 1}, 400, "prompt"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": "x", "echo": 1}, 400, "echo"),
        ({"prompt": "x", "stream": "yes"}, 400, "stream"),
        ({"prompt": "x", "suffix": 1}, 400, "suffix"),
        ({"prompt": "x", "logprobs": True}, 400, "logprobs"),
        ({"prompt": "x", "logprobs": 6}, 422, "logprobs"),
        ({"prompt": "x", "best_of": 21}, 422, "best_of"),
        ({"prompt": "x", "n": 0}, 422, "n"),
        ({"prompt": "x", "max_tokens": -1}, 422, "max_tokens"),
        ({"prompt": "x", "temperature": 3}, 422, "temperature"),
        ({"prompt": "x", "stream_options": []}, 400, "stream_options"),
    ],
)
def test_faults_name_their_parameter(
    gateway: LiveGateway, provider: ScriptedProvider, given: Any, status: int, param: str
) -> None:
    gateway.add_provider(provider, "m")
    response = gateway.http.post("/v1/completions", json={"model": "m", **given}, headers=gateway.auth())
    assert (response.status_code, check_error(response.json())["param"]) == (status, param)


def test_a_stream_that_breaks_off_says_so(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("m", answers.sse([*answers.events_of([{"content": "a"}], finish=None, done=False), answers.Reset()]))
    gateway.add_provider(provider, "m")
    body = {"model": "m", "prompt": "x", "stream": True}
    response = gateway.http.post("/v1/completions", json=body, headers=gateway.auth())
    last = sse_payloads(response.content)[-1]
    assert last["error"]["code"] == "provider_not_working"
    assert json.dumps("[DONE]") not in response.text


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_answered_prompts_used_is_booked_when_a_later_one_fails(
    gateway: LiveGateway, provider: ScriptedProvider, stream: bool
) -> None:
    gateway.add_provider(provider, "m")
    good = answers.stream("Hi") if stream else answers.reply("Hi")
    provider.enqueue(good, good, answers.error(500))
    with pytest.raises(openai.APIError):
        list(gateway.client(max_retries=0).completions.create(model="m", prompt=["a", "b", "c"], stream=stream))
    writer.flush()
    row = UsageEvent.objects.get()
    assert (row.status, row.prompt_tokens, row.completion_tokens, row.estimated) == ("error", 14, 6, False)


def test_a_second_provider_is_booked_beside_what_the_first_one_used(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    first, second = (gateway.add_provider(provider, "m", name=name) for name in ("First", "Second"))
    for row, price in ((first, 1_000_000_000), (second, 10_000_000_000)):
        model = ProviderModel.objects.get(provider=row)
        Price.objects.create(model=model, input=price, output=0, valid_from="2020-01-01T00:00:00Z")
    gateway.reload()
    provider.enqueue(answers.reply("a"), answers.error(500), answers.reply("a"), answers.reply("b"))
    answer = gateway.client().completions.create(model="m", prompt=["a", "b"])
    assert answer.usage
    assert answer.usage.total_tokens == 20
    writer.flush()
    booked = UsageEvent.objects.get()
    assert (booked.status, booked.provider_name) == ("ok", "Second")
    # Each attempt by the price of its own provider.
    assert (booked.prompt_tokens, booked.completion_tokens, booked.cost) == (21, 9, 7 * 1_000 + 14 * 10_000)


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_answered_prompts_used_is_booked_when_the_caller_leaves(
    gateway: LiveGateway, provider: ScriptedProvider, stream: bool
) -> None:
    gateway.add_provider(provider, "m")
    good = answers.stream("Hi") if stream else answers.reply("Hi")
    last = (
        answers.sse([*answers.events_of([{"content": "a"}] * 5)[:6], answers.Stall()]) if stream else answers.silent()
    )
    provider.enqueue(good, good, last)
    body = {"model": "m", "prompt": ["a", "b", "long " * 8], "stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{gateway.url}/v1/completions", json=body, headers=gateway.auth(), timeout=1)
    assert provider.wait_for(3).left.wait(5)
    deadline = time.monotonic() + 5
    while not (rows := list(UsageEvent.objects.all())) and time.monotonic() < deadline:
        writer.flush()
        time.sleep(0.02)
    (row,) = rows
    assert (row.status, row.estimated) == ("cancelled", True)
    # Two that were answered with 7 and 3, and the one that was being answered: ten words' worth of its prompt.
    assert row.prompt_tokens == 14 + 10
    assert 6 <= row.completion_tokens <= (12 if stream else 6)
