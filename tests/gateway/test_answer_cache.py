"""Answers given again: whose they are, what is kept and for how long, counted by what reaches a scripted provider."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from gateway import answer_cache, packing
from gateway.events import (
    Citation,
    Event,
    Failed,
    Finished,
    MediaOutput,
    RawChunks,
    RawClosing,
    RawReply,
    ReasoningDelta,
    ReasoningSignature,
    Refusal,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gateway.models import ApiKey, ProviderModel, UsageEvent
from gateway.surfaces.pipeline import Surface
from gateway.usage import writer
from tests.gateway.test_limits_redis import RedisServer
from tests.support import answers, anthropic_answers, services
from tests.support.gateway import GatewayProcess, LiveGateway, raw_request
from tests.support.provider import ScriptedProvider

CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES: dict[str, Any] = {**CHAT, "max_tokens": 50}
# Every surface that gives answers again, and how it is asked.
SURFACES = {
    "chat": ("/v1/chat/completions", CHAT),
    "chat stream": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "chat of a provider": ("/api/Scripted/chat/completions", CHAT),
    "completions": ("/v1/completions", {"model": "scripted", "prompt": "hi"}),
    "completions stream": ("/v1/completions", {"model": "scripted", "prompt": "hi", "stream": True}),
    "responses": ("/v1/responses", {"model": "scripted", "input": "hi"}),
    "responses stream": ("/v1/responses", {"model": "scripted", "input": "hi", "stream": True}),
    "messages": ("/v1/messages", MESSAGES),
    "messages stream": ("/v1/messages", {**MESSAGES, "stream": True}),
}
OWN = ("id", "item_id", "created", "created_at", "completed_at")
VECTOR = {"object": "list", "model": "scripted", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]}


@pytest.fixture(autouse=True)
def _forget(settings: Settings) -> Iterator[None]:
    """Rows have the same ids in each test. Those about Redis have one of their own."""
    settings.REDIS_URL = ""
    answer_cache.answers.memory.keep(lambda _: False)
    yield
    answer_cache.answers.memory.keep(lambda _: False)


@pytest.fixture
def ready(gateway: LiveGateway, provider: ScriptedProvider) -> LiveGateway:
    gateway.add_provider(provider)
    return gateway


@pytest.fixture
def key(ready: LiveGateway, alice: User) -> str:
    return ready.make_key(alice, cache_answers=True)


Gateway = LiveGateway | GatewayProcess


def ask(gateway: Gateway, key: str, path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
    body = {**(CHAT if path == "/v1/chat/completions" else {}), **more}
    return gateway.http.post(path, json=body, headers=gateway.auth(key))


def marks(*found: httpx.Response) -> list[str | None]:
    return [response.headers.get("x-gateway-cache") for response in found]


def told(response: httpx.Response) -> list[Any]:
    """The answer's bodies without what each answer has of its own."""
    lines = [line.partition("data: ")[2] or line for line in response.text.split("\n") if "{" in line]
    return [_anonymous(json.loads(line)) for line in lines]


def _anonymous(value: Any) -> Any:
    if isinstance(value, list):
        return [_anonymous(item) for item in value]
    if isinstance(value, dict):
        return {name: _anonymous(item) for name, item in value.items() if name not in OWN}
    return value


def test_nothing_is_kept_unless_somebody_switched_it_on(ready: LiveGateway, provider: ScriptedProvider) -> None:
    found = [ask(ready, ready.key), ask(ready, ready.key, cache=True)]
    assert marks(*found) == [None, None]
    assert "warning" not in found[1].headers
    assert len(provider.chats) == 2
    assert "cache" not in provider.chats[1].json


@pytest.mark.parametrize("surface", SURFACES)
def test_the_same_request_gets_the_same_answer(
    ready: LiveGateway, provider: ScriptedProvider, key: str, surface: str
) -> None:
    path, body = SURFACES[surface]
    first, second = (ask(ready, key, path, **body) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200), second.text
    assert marks(first, second) == ["miss", "hit"]
    assert len(provider.chats) == 1
    assert "age" not in first.headers
    assert 0 <= int(second.headers["age"]) < 10
    assert told(second) == told(first)
    assert second.text != first.text
    assert first.headers["content-type"] == second.headers["content-type"]


def test_embeddings_too(ready: LiveGateway, provider: ScriptedProvider, key: str) -> None:
    provider.on("scripted", answers.reply_json({**VECTOR, "usage": {"prompt_tokens": 4, "total_tokens": 4}}))
    client = ready.client(key)
    for text in ("a", "a", "b"):
        found = client.embeddings.create(model="scripted", input=text)
        assert found.data[0].embedding == [0.5, 1.0]
        assert found.usage.total_tokens == 4
    assert len(provider.requests) == 2


def test_the_official_client_streams_a_kept_answer(ready: LiveGateway, provider: ScriptedProvider, key: str) -> None:
    provider.enqueue(answers.stream("Hel", "lo"))
    ids = set()
    for include in (False, True):
        options: Any = {"stream_options": {"include_usage": True}} if include else {}
        chunks = list(ready.client(key).chat.completions.create(**CHAT, stream=True, **options))
        assert (chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 10) is include
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello"
        assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
        assert abs(chunks[0].created - time.time()) < 10 or not ids
        ids.add(chunks[0].id)
    assert len(ids) == 2
    assert all(name.startswith("chatcmpl-") for name in ids)
    assert len(provider.chats) == 1


def test_tool_calls_and_unknown_fields_come_back(ready: LiveGateway, provider: ScriptedProvider, key: str) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    provider.enqueue(answers.reply(None, message=said, finish_reason="tool_calls", service_tier="flex", ümlaut="ü✓"))
    first, second = ask(ready, key), ask(ready, key)
    assert marks(first, second) == ["miss", "hit"]
    assert second.json() == {**first.json(), "id": second.json()["id"], "created": second.json()["created"]}
    assert second.json()["ümlaut"] == "ü✓"
    assert second.json()["id"] != first.json()["id"]


def test_an_anthropic_provider_and_its_own_client(ready: LiveGateway, provider: ScriptedProvider, key: str) -> None:
    ready.add_provider(provider, "claude", name="Claude", adapter="anthropic")
    provider.enqueue(anthropic_answers.played("text"), anthropic_answers.said("text"))
    client = anthropic.Anthropic(api_key=key, base_url=ready.url, max_retries=0)
    asked: Any = {"model": "claude", "max_tokens": 99, "messages": CHAT["messages"]}
    found = []
    for _ in range(2):
        with client.messages.stream(**asked) as stream:
            found.append(stream.get_final_message())
        found.append(client.messages.create(**asked))
    assert len(provider.requests) == 2
    assert found[0].content == found[2].content
    assert found[1].content == found[3].content
    assert found[0].usage == found[2].usage
    assert len({message.id for message in found}) == 4
    # Through OpenAI's surface it is another request, which the provider hears in other words.
    provider.enqueue(anthropic_answers.said("text"))
    assert marks(ask(ready, key, model="claude"), ask(ready, key, model="claude")) == ["miss", "hit"]


def test_a_stream_and_a_plain_answer_are_two_requests(ready: LiveGateway, provider: ScriptedProvider, key: str) -> None:
    assert marks(ask(ready, key), ask(ready, key, stream=True), ask(ready, key)) == ["miss", "miss", "hit"]
    # What only says how the answer is written out is no other request.
    usage = {"stream": True, "usage": {"include": True}}
    priced = ask(ready, key, **usage)
    assert marks(priced) == ["hit"]
    assert '"cost":0.0' in priced.text


def test_the_model_may_be_switched_on_instead_of_the_key(ready: LiveGateway, provider: ScriptedProvider) -> None:
    row = ProviderModel.objects.get()
    row.cache_answers = True
    row.save()
    ready.reload()
    assert marks(ask(ready, ready.key), ask(ready, ready.key)) == ["miss", "hit"]
    row.cache_answers = False
    row.save()
    ready.reload()
    assert marks(ask(ready, ready.key)) == [None]
    assert len(provider.chats) == 2


def test_owners_share_nothing(ready: LiveGateway, provider: ScriptedProvider, key: str, alice: User, bob: User) -> None:
    others = [ready.make_key(bob, cache_answers=True), ready.make_key(alice, "another", cache_answers=True)]
    assert marks(*(ask(ready, name) for name in (key, *others))) == ["miss"] * 3
    assert len(provider.chats) == 3
    assert marks(*(ask(ready, name) for name in (key, *others))) == ["hit"] * 3


def test_strangers_share_nothing(
    ready: LiveGateway, provider: ScriptedProvider, settings: Settings, alice: User
) -> None:
    settings.ANONYMOUS_ACCESS = True
    ProviderModel.objects.update(cache_answers=True)
    ready.reload()
    found = [ready.http.post("/v1/chat/completions", json=CHAT) for _ in range(2)]
    assert [response.status_code for response in found] == [200, 200], found[0].text
    assert marks(*found) == [None, None]
    assert len(provider.chats) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"temperature": 0.5},
        {"messages": [{"role": "user", "content": "ho"}]},
        {"user": "somebody"},
        {"provider": {"order": ["Scripted"]}},
        {"models": ["scripted"]},
        {"model": "Scripted/scripted"},
        {"tool_emulation": False},
        {"unknown": 1},
    ],
    ids=json.dumps,
)
def test_another_request_is_asked(
    ready: LiveGateway, provider: ScriptedProvider, key: str, other: dict[str, Any]
) -> None:
    assert marks(ask(ready, key), ask(ready, key, **other), ask(ready, key, **other)) == ["miss", "miss", "hit"]
    assert len(provider.chats) == 2


def test_fields_in_another_order_are_the_same_request(ready: LiveGateway, key: str) -> None:
    ask(ready, key, temperature=0, seed=1)
    assert marks(ask(ready, key, seed=1, temperature=0)) == ["hit"]


def test_the_caller_may_refuse_but_not_switch_on(ready: LiveGateway, provider: ScriptedProvider, key: str) -> None:
    found = [ask(ready, key, cache=False), ask(ready, key, cache=True), ask(ready, key, cache=False)]
    assert marks(*found) == ["bypass", "miss", "bypass"]
    assert len(provider.chats) == 3
    assert "cache" not in provider.chats[0].json
    provider.enqueue(answers.reply("newer"))
    renewed = ask(ready, key, cache={"no-cache": True})
    assert marks(renewed) == ["miss"]
    again = ask(ready, key, cache={"no-store": False})
    assert (marks(again), again.json()["choices"][0]["message"]["content"]) == (["hit"], "newer")
    assert marks(ask(ready, key, cache={"no-store": True}, seed=1), ask(ready, key, seed=1)) == ["miss", "miss"]
    assert not any("warning" in response.headers for response in (*found, renewed, again))


@pytest.mark.parametrize("value", ["today", 3, ["no-cache"], {"ttl": 5}, {"no-cache": "yes"}], ids=json.dumps)
def test_what_is_not_understood_is_named(ready: LiveGateway, key: str, value: Any) -> None:
    found = ask(ready, key, cache=value)
    assert found.status_code == 200
    assert found.headers["warning"] == '299 g4fsite "ignored: cache"'


def test_an_answer_grows_old(ready: LiveGateway, provider: ScriptedProvider, key: str, settings: Settings) -> None:
    settings.ANSWER_CACHE_SECONDS = 1
    assert marks(ask(ready, key), ask(ready, key)) == ["miss", "hit"]
    time.sleep(1.05)
    assert marks(ask(ready, key)) == ["miss"]
    assert len(provider.chats) == 2
    settings.ANSWER_CACHE_SECONDS = 0
    ready.reload()
    assert marks(ask(ready, key)) == [None]


def _faulty() -> dict[str, Any]:
    frames = answers.events_of([{"content": "Hel"}], finish=None, usage=None, done=False)
    return {
        "an error": (False, answers.error(500)),
        "a refusal": (False, answers.error(400)),
        "a filtered answer": (False, answers.reply("x", finish_reason="content_filter")),
        "an answer without an end": (False, answers.reply("x", finish_reason=None)),
        "a stream that is cut": (True, answers.sse([*frames, answers.Close()], chunked=False)),
        "a stream that is reset": (True, answers.sse([*frames, answers.Reset()])),
        "a stream with an error": (True, answers.sse([*frames, {"error": {"message": "no"}}])),
        "a stream without a reason": (True, answers.sse([*frames, answers.DONE])),
        "a filtered stream": (True, answers.stream("x", finish="content_filter")),
    }


@pytest.mark.parametrize("fault", _faulty())
def test_only_whole_answers_are_kept(ready: LiveGateway, provider: ScriptedProvider, key: str, fault: str) -> None:
    stream, answer = _faulty()[fault]
    provider.enqueue(answer)
    ask(ready, key, stream=stream)
    found = ask(ready, key, stream=stream)
    assert (found.status_code, marks(found)) == (200, ["miss"])
    assert len(provider.chats) == 2
    assert marks(ask(ready, key, stream=stream)) == ["hit"]


def test_a_stream_that_its_caller_left_is_not_kept(ready: LiveGateway, provider: ScriptedProvider, key: str) -> None:
    provider.enqueue(answers.sse([*answers.events_of([{"content": "Hel"}])[:2], answers.Stall()]))
    connection = raw_request(ready.url, key, {**CHAT, "stream": True})
    heard = b""
    while b"Hel" not in heard:
        heard += connection.recv(65536)
    connection.close()
    assert provider.wait_for(1).left.wait(5)
    assert marks(ask(ready, key, stream=True)) == ["miss"]


def test_another_target_may_have_answered(ready: LiveGateway, provider: ScriptedProvider, key: str) -> None:
    with ScriptedProvider() as second:
        ready.add_provider(second, name="Second")
        provider.enqueue(answers.error(500))
        first = ask(ready, key)
        assert (marks(first), first.json()["provider"]) == (["miss"], "Second")
        again = ask(ready, key)
        assert (marks(again), again.json()["provider"]) == (["hit"], "Second")
        assert "x-gateway-attempts" in first.headers
        assert "x-gateway-attempts" not in again.headers


def test_a_hit_is_booked_and_costs_nothing(ready: LiveGateway, key: str) -> None:
    for stream in (False, False, True, True):
        ask(ready, key, stream=stream)
    writer.flush()
    rows = list(UsageEvent.objects.order_by("created_at"))
    assert [row.status for row in rows] == ["ok"] * 4
    assert [row.prompt_tokens for row in rows] == [7, 0, rows[2].prompt_tokens, 0]
    for row in (rows[1], rows[3]):
        assert (row.completion_tokens, row.cost, row.price_id, row.first_token_ms) == (0, 0, None, None)
        assert row.attempts == [{"provider": "Scripted", "model": "scripted", "ms": 0, "cached": True}]
        assert (row.provider_name, row.model, row.requested_model) == ("Scripted", "scripted", "scripted")


def test_a_hit_is_a_request_and_uses_no_tokens(ready: LiveGateway, provider: ScriptedProvider, alice: User) -> None:
    key = ready.make_key(alice, cache_answers=True, requests_per_minute=3, tokens_per_minute=1000)
    found = [ask(ready, key) for _ in range(4)]
    assert [response.status_code for response in found] == [200, 200, 200, 429]
    assert marks(*found[:3]) == ["miss", "hit", "hit"]
    assert found[2].headers["x-ratelimit-remaining-requests"] == "0"
    assert found[2].headers["x-ratelimit-remaining-tokens"] == found[1].headers["x-ratelimit-remaining-tokens"]
    assert len(provider.chats) == 1


def test_a_key_takes_its_answers_with_it(ready: LiveGateway, alice: User, bob: User) -> None:
    kept = answer_cache.answers.memory
    keys = [ready.make_key(user, cache_answers=True) for user in (alice, bob)]
    for key in keys:
        ask(ready, key)
    assert len(kept) == 2
    ApiKey.objects.get(user=alice).revoke()
    ready.reload()
    assert len(kept) == 1
    assert ask(ready, keys[0]).status_code == 401
    bob.is_active = False
    bob.save()
    ready.reload()
    assert len(kept) == 0


def test_other_rights_ask_anew(ready: LiveGateway, provider: ScriptedProvider, key: str) -> None:
    ask(ready, key)
    row = ApiKey.objects.get()
    row.models = ["scripted"]
    row.save()
    ready.reload()
    assert marks(ask(ready, key)) == ["miss"]


def test_no_more_is_kept_than_the_limit(
    ready: LiveGateway, provider: ScriptedProvider, key: str, settings: Settings
) -> None:
    settings.ANSWER_CACHE_BYTES = 20_000
    provider.on("scripted", lambda request: answers.reply("x" * int(request.json["user"])))
    for seed in range(30):
        ask(ready, key, user="500", seed=seed)
    assert 10 < len(answer_cache.answers.memory) < 25
    assert marks(ask(ready, key, user="500", seed=29), ask(ready, key, user="500", seed=0)) == ["hit", "miss"]
    # One answer may not drive out all others.
    ask(ready, key, user="5000")
    assert marks(ask(ready, key, user="5000")) == ["miss"]


EVENTS: list[Event] = [
    Started("Acme", "m"),
    TextDelta("ü", 1),
    ReasoningDelta("hm"),
    ReasoningSignature("s", redacted=True),
    Citation("https://x", "t", 1, 2),
    MediaOutput("image/png", "aGk="),
    Refusal("no"),
    ToolCallDelta(0, "c", "f", "{}"),
    Usage(1, 2, 3, 4, True, 5),
    Finished("stop", 1, "END"),
    RawChunks('data: {"x":"ü"}\n\nevent: ping\ndata: {"y":1}\n\n'.encode()),
    RawClosing({"choices": []}, b'data: {"choices":[]}', {"usage": {}}, b'data: {"usage":{}}'),
    RawReply(b'{"a":1}', {"a": 1}),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_comes_back(event: Event) -> None:
    data = packing.packed([event])
    assert data is not None
    assert packing.unpacked(data) == [event]


def test_what_cannot_be_written_is_not_kept() -> None:
    assert {type(event).__name__ for event in EVENTS} == {*packing.KINDS, "RawReply"}
    assert packing.packed([TextDelta("a"), Failed(ValueError())]) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("choices", [None, 5, [None], ["x"], [{"finish_reason": ["stop"]}], []])
def test_an_answer_of_odd_choices_is_not_whole(choices: Any) -> None:
    assert not packing.is_whole([RawReply(b"{}", {"choices": choices, "data": []})])


def test_one_filtered_answer_of_two_spoils_their_stream() -> None:
    def piece(index: int, reason: str) -> bytes:
        body = {"choices": [{"index": index, "delta": {}, "finish_reason": reason}]}
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    end = RawClosing({"choices": [{"index": 1, "finish_reason": "stop"}]}, piece(1, "stop"), None, b"")
    assert packing.is_whole([RawChunks(piece(0, "length")), end])
    assert not packing.is_whole([RawChunks(piece(0, "content_filter")), end])


def test_nobody_pays_twice() -> None:
    data = packing.packed([RawReply(b'{"usage":{"total_tokens":3,"cost":0.25}}', {})])
    assert data is not None
    (found,) = packing.unpacked(data)
    assert isinstance(found, RawReply)
    assert found.body["usage"] == {"total_tokens": 3, "cost": 0}


def test_only_surfaces_that_say_so_give_answers_again() -> None:
    def below(kind: type[Surface]) -> set[type[Surface]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    saying = {kind.__name__ for kind in below(Surface) if kind.gives_again}
    assert saying == {"ChatCompletions", "Completions", "Call", "Responses", "Messages", "CountTokens"}


def test_ids_and_times_are_new() -> None:
    data = packing.packed([RawReply(b'{"id":"abc","created":1}', {}), RawReply(b'{"id":"msg_1"}', {})])
    assert data is not None
    first, second = packing.unpacked(data)
    assert isinstance(first, RawReply)
    assert isinstance(second, RawReply)
    assert first.body["id"] != "abc"
    assert second.body["id"].startswith("msg_")
    assert abs(first.body["created"] - time.time()) < 5
    assert json.loads(second.data) == second.body


def test_another_requests_answer_is_not_taken() -> None:
    data = answer_cache.Kept.written("name", 1, EVENTS[:2])
    assert data is not None
    found = answer_cache.Kept.read("name", data)
    assert found is not None
    assert (found.model_id, found.events) == (1, EVENTS[:2])
    for name, damaged in (
        ("other", data),
        ("name", b""),
        ("name", data[:-3]),
        ("name", data[20:]),
        ("name", b"[]\n[]"),
    ):
        assert answer_cache.Kept.read(name, damaged) is None


@pytest.fixture
def redis(tmp_path: Any) -> Iterator[RedisServer]:
    services.require("redis server")
    made = RedisServer(tmp_path)
    made.start()
    yield made
    made.kill()


def until_hit(gateway: Gateway, key: str, **more: Any) -> httpx.Response:
    """Nobody waits for an answer to be written to Redis."""
    for _ in range(50):
        found = ask(gateway, key, **more)
        if marks(found) == ["hit"]:
            return found
        time.sleep(0.02)
    raise AssertionError("it was never kept")


def test_redis_keeps_them(
    redis: RedisServer, ready: LiveGateway, provider: ScriptedProvider, alice: User, settings: Settings
) -> None:
    import redis as client_of

    settings.REDIS_URL = redis.url
    key = ready.make_key(alice, cache_answers=True)
    first = ask(ready, key, messages=[{"role": "user", "content": "unseen words"}])
    again = until_hit(ready, key, messages=[{"role": "user", "content": "unseen words"}])
    assert again.json()["choices"] == first.json()["choices"]
    assert len(answer_cache.answers.memory) == 0
    with client_of.from_url(redis.url) as client:
        names = [name.decode() for name in client.scan_iter("*")]
        assert len([name for name in names if "answers" in name]) == 4
        assert not any("unseen" in name or "alice" in name for name in names)
        assert all(0 < client.ttl(name) <= 7200 for name in names if "answers" in name)
    settings.ANSWER_CACHE_BYTES = 12_000
    for seed in range(20):
        ask(ready, key, seed=seed)
    time.sleep(0.2)
    with client_of.from_url(redis.url) as client:
        assert int(client.get(next(client.scan_iter("*:sum")))) <= 12_000
        assert len(list(client.scan_iter("*answers*"))) - 3 == client.zcard(next(client.scan_iter("*:ends"))) < 20
    assert marks(ask(ready, key, seed=0)) == ["miss"]
    assert marks(ask(ready, key, seed=19)) == ["hit"]


def test_without_redis_answers_go_on(
    redis: RedisServer, ready: LiveGateway, provider: ScriptedProvider, key: str, settings: Settings
) -> None:
    settings.REDIS_URL = redis.url
    redis.kill()
    begun = time.monotonic()
    assert marks(ask(ready, key), ask(ready, key)) == ["miss", "miss"]
    assert time.monotonic() - begun < 2


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_workers_share_one_cache(
    redis: RedisServer, provider: ScriptedProvider, gateway_process: Callable[..., GatewayProcess]
) -> None:
    process = gateway_process("--workers", "2", wait=False, REDIS_URL=redis.url)
    options = ["--adapter", "openai_chat", "--base-url", provider.base_url, "--auth-style", "none"]
    added = process.manage("provider", "add", "Near", *options, "--model", "scripted:cache_answers")
    assert added.returncode == 0, added.stderr
    deadline = time.monotonic() + 50
    while True:
        try:
            if marks(ask(process, process.key, seed=1)) == ["hit"]:
                break
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, process.output
        time.sleep(0.1)
    time.sleep(1.5)
    asked = len(provider.chats)
    until_hit(process, process.key, seed=2)
    # A connection of its own each time, so that both workers are asked.
    found = [
        httpx.post(
            f"{process.url}/v1/chat/completions", json={**CHAT, "seed": 2}, headers=process.auth(), timeout=20
        ).headers["x-gateway-cache"]
        for _ in range(20)
    ]
    assert found == ["hit"] * 20
    assert len(provider.chats) <= asked + 3
