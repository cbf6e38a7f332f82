"""`conversation_id` on `/v1/chat/completions`: what was said comes along, and what is answered is kept, per owner."""

from __future__ import annotations

import base64
import threading
import uuid
from typing import Any

import httpx
import openai
import pytest
from django.contrib.auth.models import User

from conversations.generation.ask import conversation_id
from conversations.models import Conversation, Generation, Message
from gateway.models import UsageEvent
from tests.support.answers import Hold, chunk, error, events_of, reply, sse, stream, tool_deltas
from tests.support.browser import Browser
from tests.support.gateway import LiveGateway
from tests.support.pictures import picture
from tests.support.provider import ScriptedProvider
from tests.support.running import until

PATH = "/v1/chat/completions"
NAME = "conv-abc123"


class Caller:
    """One user's side: keeps no history of its own."""

    def __init__(self, gateway: LiveGateway, user: User) -> None:
        self.gateway, self.user, self.key = gateway, user, gateway.make_key(user)

    def post(self, *said: Any, path: str = PATH, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        messages = [item if isinstance(item, dict) else {"role": "user", "content": item} for item in said]
        body = {"model": "scripted", "messages": messages, **more}
        return self.gateway.http.post(path, json=body, headers={**self.gateway.auth(self.key), **(headers or {})})

    def say(self, *said: Any, **more: Any) -> dict[str, Any]:
        answer = self.post(*said, **{"conversation_id": NAME, **more})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@pytest.fixture
def ann(gateway: LiveGateway, provider: ScriptedProvider, alice: User) -> Caller:
    gateway.add_provider(provider)
    return Caller(gateway, alice)


def sent(provider: ScriptedProvider, number: int = -1) -> list[Any]:
    return [message["content"] for message in provider.chats[number].json["messages"]]


def kept(conversation: Any) -> list[tuple[str, Any, str]]:
    rows = Message.objects.filter(conversation_id=conversation)
    return [(row.role, row.content, row.state) for row in rows.order_by("seq")]


def test_what_was_said_comes_along_and_is_seen_in_the_browser(ann: Caller, provider: ScriptedProvider):
    """Plain and streamed, by the body, by the path, by the `conversation` of an answer, and by the browser's page."""
    provider.enqueue(reply("answer 1"), stream("ans", "wer 2"), reply("answer 3"), reply("answer 4"))
    provider.enqueue(stream("answer 5"))
    system = {"role": "system", "content": "Be brief."}
    first = ann.say(system, "one")
    place = str(conversation_id(NAME, ann.user.pk))
    last = Message.objects.get(role="assistant")
    assert first["conversation"] == {"conversation_id": place, "message_id": str(last.pk)}
    assert "conversation_id" not in provider.chats[0].json

    client = ann.gateway.client(ann.key).chat.completions
    asked: Any = {"model": "scripted", "messages": [{"role": "user", "content": "two"}], "stream": True}
    chunks = list(client.create(**asked, extra_body={"conversation_id": NAME}))
    assert "".join(piece.choices[0].delta.content or "" for piece in chunks) == "answer 2"
    told: Any = chunks[-1]
    assert (told.choices[0].finish_reason, told.conversation["conversation_id"]) == ("stop", place)
    assert sent(provider) == ["Be brief.", "one", "answer 1", "two"]

    answer = ann.post("three", path=f"/api/Scripted/{NAME}/chat/completions", conversation={"mine": 1})
    assert (answer.status_code, answer.headers["x-conversation-id"]) == (200, place)
    assert answer.json()["conversation"]["mine"] == 1
    assert "warning" not in answer.headers
    # What clients of g4f do; and instructions of this request alone.
    ann.say({"role": "developer", "content": "Shout."}, "four", conversation_id=None, conversation=told.conversation)
    assert sent(provider) == ["Shout.", "one", "answer 1", "two", "answer 2", "three", "answer 3", "four"]

    browser = Browser(ann.gateway.url, ann.key)
    parent = str(Conversation.objects.get(pk=place).active_leaf)
    seen = browser.send({"model": "scripted", "conversation_id": place, "parent_id": parent, "messages": [
        {"role": "user", "content": "five"},
    ]})  # fmt: skip
    browser.close()
    assert (seen.text, sent(provider)[0], sent(provider)[-2:]) == ("answer 5", "Be brief.", ["answer 4", "five"])
    ann.say("six")
    assert sent(provider)[-3:] == ["five", "answer 5", "six"]

    words = ("one", "two", "three", "four", "five", "six")
    rows = kept(place)
    assert [row for row in rows if row[0] == "user"] == [("user", word, "done") for word in words]
    assert [text for role, text, _ in rows if role == "assistant"][:5] == [f"answer {n}" for n in range(1, 6)]
    row = Message.objects.filter(role="assistant").first()
    assert row is not None
    assert (row.provider, row.model, row.finish_reason) == ("Scripted", "scripted", "stop")
    assert row.usage["total_tokens"] == 10
    listed = ann.gateway.http.get("/backend-api/v2/conversations", headers=ann.gateway.auth(ann.key)).json()
    assert [(item["id"], item["title"]) for item in listed["data"]] == [(place, "one")]
    until(lambda: UsageEvent.objects.count() == 6)
    doors = set(UsageEvent.objects.values_list("surface", flat=True))
    assert doors == {"v1.chat", "api.chat", "backend.conversation"}


def test_a_caller_that_keeps_the_conversation_gets_nothing_twice(ann: Caller, provider: ScriptedProvider):
    """Decision 13: messages that begin with what is stored are all there is; so are those that go back in it."""
    provider.enqueue(*(reply(f"a{number}") for number in range(1, 9)))
    turn = [{"role": "user", "content": "u1"}, {"role": "assistant", "content": "a1"}]
    ann.say("u1")
    ann.say(*turn, "u2")
    assert sent(provider) == ["u1", "a1", "u2"]
    ann.say(*turn, "u2 in other words")
    assert sent(provider) == ["u1", "a1", "u2 in other words"]
    # Examples that the caller made up are no answers of ours.
    example = [{"role": "user", "content": "ex"}, {"role": "assistant", "content": "ample"}]
    ann.say(*example, "v1", conversation_id="other")
    ann.say(*example, "v2", conversation_id="other")
    assert sent(provider) == ["ex", "ample", "v1", "a4", "ex", "ample", "v2"]
    # The same again is said again.
    ann.say("v2", conversation_id="other")
    assert sent(provider)[-3:] == ["v2", "a5", "v2"]


def test_nobody_reaches_anothers(ann: Caller, provider: ScriptedProvider, bob: User):
    ben = Caller(ann.gateway, bob)
    place = ann.say("a secret")["conversation"]["conversation_id"]
    before = list(Message.objects.values())
    for more in ({"conversation_id": place}, {"conversation": {"conversation_id": place}}, {"stream": True}):
        answer = ben.post("what was it?", **{"conversation_id": place, **more})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "conversation_not_found")
    answer = ben.post("what was it?", path=f"/api/Scripted/{place}/chat/completions")
    assert answer.status_code == 404
    assert len(provider.chats) == 1
    assert list(Message.objects.values()) == before
    # The same name is another conversation.
    ben.say("hello")
    assert sent(provider) == ["hello"]
    assert Conversation.objects.filter(owner=bob).count() == 1
    Conversation.objects.filter(pk=place).update(deleted_at="2026-01-01T00:00Z")
    assert ann.post("and now?", conversation_id=place).status_code == 404


def test_what_failed_leaves_nothing_and_what_broke_off_is_asked_again(ann: Caller, provider: ScriptedProvider):
    provider.enqueue(error(500), reply("there"))
    assert ann.post("hi", conversation_id=NAME).status_code == 502
    assert (Conversation.objects.count(), Message.objects.count()) == (0, 0)
    ann.say("hi")
    before = list(Message.objects.values("id", "seq", "role", "content", "state"))
    provider.enqueue(error(429))
    assert ann.post("more", conversation_id=NAME, stream=True).status_code == 429
    assert list(Message.objects.values("id", "seq", "role", "content", "state")) == before
    # A provider that breaks off, and a caller who leaves: both ask again.
    for state in ("error", "stopped"):
        hold = threading.Event()
        told = [chunk({"role": "assistant", "content": "so f"}), chunk({"content": "ar"})]
        end = ["{"] if state == "error" else [Hold(hold)]
        provider.enqueue(sse([*told, *end]))
        head = ann.gateway.auth(ann.key)
        body = {"model": "scripted", "messages": [{"role": "user", "content": "go on"}], "stream": True}
        with ann.gateway.http.stream("POST", PATH, json={**body, "conversation_id": NAME}, headers=head) as answer:
            for line in answer.iter_lines():
                if '"error"' in line or (state == "stopped" and '"ar"' in line):
                    break
        until(lambda: not Generation.objects.filter(state="streaming").exists())
        hold.set()
        rows = kept(conversation_id(NAME, ann.user.pk))
        assert rows[-1] == ("assistant", "so far", state)
        assert len([row for row in rows if row[1] == "go on"]) == 1
    provider.enqueue(reply("far"))
    ann.say("go on")
    assert sent(provider) == ["hi", "there", "go on"]
    provider.enqueue(reply("bye"))
    ann.say("end")
    assert sent(provider) == ["hi", "there", "go on", "far", "end"]


def test_a_key_gets_the_same_answer_and_one_at_a_time(ann: Caller, provider: ScriptedProvider):
    """Sent again under its key while it is made, after its caller left, and in the other form."""
    hold = threading.Event()
    calls = events_of([{"content": "Well"}, *tool_deltas("add", ["{}"])], finish="tool_calls")
    provider.enqueue(sse([*calls[:2], Hold(hold), *calls[2:]]))
    key: Any = {"headers": {"idempotency-key": "k-1"}}
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    headers = {**ann.gateway.auth(ann.key), **key["headers"]}
    with ann.gateway.http.stream("POST", PATH, json={**body, "conversation_id": NAME}, headers=headers) as answer:
        next(line for line in answer.iter_lines() if "Well" in line)
        again = ann.post("hi", conversation_id=NAME, **key)
        assert (again.status_code, again.json()["error"]["code"]) == (409, "request_in_progress")
        busy = ann.post("other", conversation_id=NAME)
        assert (busy.status_code, busy.json()["error"]["code"]) == (409, "conversation_busy")
        assert busy.headers["retry-after"]
    # It has left, and comes back.
    assert not provider.wait_for(1).left.wait(0.3)
    hold.set()
    until(lambda: Generation.objects.get().state == "done")
    again = ann.post("hi", conversation_id=NAME, **key)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    message = again.json()["choices"][0]["message"]
    assert (message["content"], message["tool_calls"][0]["function"]["name"]) == ("Well", "add")
    assert again.json()["choices"][0]["finish_reason"] == "tool_calls"
    other = ann.post("other", conversation_id=NAME, **key)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert len(provider.chats) == 1
    assert [row[0] for row in kept(conversation_id(NAME, ann.user.pk))] == ["user", "assistant"]
    # The calls and what they gave come along.
    provider.enqueue(reply("2"))
    ann.say({"role": "tool", "tool_call_id": "call_1", "content": "2"})
    assert [message["role"] for message in provider.chats[-1].json["messages"]] == ["user", "assistant", "tool"]
    assert provider.chats[-1].json["messages"][1]["tool_calls"][0]["id"] == "call_1"


def test_pictures_come_along_as_bytes_and_a_stop_from_the_browser_is_heard(ann: Caller, provider: ScriptedProvider):
    data = base64.b64encode(picture("red")).decode()
    shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    provider.enqueue(reply("A red one"), reply("Sure"))
    ann.say({"role": "user", "content": [{"type": "text", "text": "what is it?"}, shown]})
    row = Message.objects.get(role="user")
    assert row.content[1]["image_url"]["url"].startswith("/media/")
    ann.say("sure?")
    seen = provider.chats[-1].json["messages"][0]["content"][1]["image_url"]["url"]
    assert seen == f"data:image/png;base64,{data}"
    hold = threading.Event()
    provider.enqueue(sse([chunk({"content": "for e"}), Hold(hold)]))
    with pytest.raises(openai.APIError, match="stopped"):
        for _ in ann.gateway.client(ann.key).chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "go"}], stream=True,
            extra_body={"conversation_id": NAME},
        ):  # fmt: skip
            place = conversation_id(NAME, ann.user.pk)
            stop = f"/backend-api/v2/conversation/{place}/stop"
            assert len(ann.gateway.http.post(stop, headers=ann.gateway.auth(ann.key)).json()["stopped"]) == 1
    hold.set()
    until(lambda: kept(place)[-1] == ("assistant", "for e", "stopped"))


def test_what_makes_no_sense_is_refused_and_who_is_nobody_is_told(
    ann: Caller, provider: ScriptedProvider, settings: Any
):
    for wrong in (5, ["x"], {"a": 1}, True, "x" * 201):
        answer = ann.post("hi", conversation_id=wrong)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "conversation_id"), wrong
    assert ann.post("hi", conversation_id="x", conversation={"a": "x" * 70_000}).status_code == 400
    for odd in ("\x00", "../..", " ", "ü" * 200, str(uuid.UUID(int=0))):
        assert ann.post("a\x00b", conversation_id=odd).status_code == 200, odd
    rows = Message.objects.count()
    assert "conversation" not in ann.say("hi", conversation_id="")
    answer = ann.post("hi", conversation={"other": "thing"})
    assert (answer.status_code, answer.headers["warning"]) == (200, '299 g4fsite "ignored: conversation"')
    settings.ANONYMOUS_ACCESS = True
    said = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}]}
    nobody = ann.gateway.http.post(PATH, json={**said, "conversation_id": NAME})
    assert (nobody.status_code, nobody.headers["warning"]) == (200, '299 g4fsite "ignored: conversation_id"')
    assert Message.objects.count() == rows


def test_what_became_too_long_is_refused_and_leaves_nothing(ann: Caller, provider: ScriptedProvider) -> None:
    """Nor is the conversation taken: it goes on with what may be said."""
    ann.say(*["one"] * 1500)
    late = ann.post(*["two"] * 1500, conversation_id=NAME)
    assert (late.status_code, late.json()["error"]["code"]) == (400, "array_above_max_length")
    until(lambda: not Generation.objects.filter(state="streaming").exists())
    ann.say("three")
    assert sent(provider)[-2:] == ["one", "three"]


def test_what_was_said_is_read_up_to_a_size(ann: Caller, settings: Any) -> None:
    settings.MAX_BODY_BYTES = 2000
    ann.say("x" * 1200)
    ann.say("y" * 1200)
    late = ann.post("short", conversation_id=NAME)
    assert (late.status_code, late.json()["error"]["code"]) == (413, "request_too_large")


def test_answers_of_functions_in_the_older_form_go_along(ann: Caller, provider: ScriptedProvider) -> None:
    ann.say("hi", {"role": "function", "name": "clock", "content": "noon"})
    ann.say("and now?")
    said = provider.chats[-1].json["messages"]
    assert {"role": "function", "name": "clock", "content": "noon"} in said
