"""Asking in a conversation over a real server: what is told, what is kept, who may, and how an answer ends."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from conversations.models import Conversation, Generation, Message
from conversations.quota import lock_owner
from gateway.models import Price, ProviderModel, UsageEvent, UserLimits
from tests.people import person
from tests.support.answers import Hold, chunk, error, events_of, sse, stream, tool_deltas
from tests.support.browser import PATH, Browser, Refused
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider
from tests.support.running import until


@pytest.fixture
def browser(gateway: LiveGateway, provider: ScriptedProvider) -> Iterator[Browser]:
    gateway.add_provider(provider, "scripted", "other")
    made = Browser(gateway.url, gateway.key)
    yield made
    made.close()


def usage_rows(count: int) -> list[UsageEvent]:
    until(lambda: UsageEvent.objects.count() >= count, 10)
    return list(UsageEvent.objects.order_by("id"))


class TestWhatIsTold:
    def test_the_order_of_events(self, browser: Browser, provider: ScriptedProvider):
        provider.on("scripted", stream("Hel", "lo"))
        seen = browser.ask("hi")
        assert seen.text == "Hello"
        assert seen.types == [
            "provider", "parameters", "generation", "provider", "content", "conversation", "finish", "usage", "log",
            "end",
        ]  # fmt: skip
        assert seen.numbers == list(range(1, len(seen.events) + 1))
        assert seen.events[0]["provider"]["name"] == "AnyProvider"
        assert seen.events[3]["provider"] == {"name": "Scripted", "url": "", "label": "Scripted", "model": "scripted"}
        assert seen.one("finish")["finish"] == {"reason": "stop"}
        usage = seen.one("usage")
        assert usage["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        assert (usage["model"], usage["provider"]) == ("scripted", "Scripted")
        assert seen.state == "done"
        assert seen.one("log")["log"] == "Scripted/scripted: answered"

    def test_reasoning_and_its_end(self, browser: Browser, provider: ScriptedProvider):
        deltas = [{"reasoning_content": "Let me "}, {"reasoning_content": "see"}, {"content": "42"}]
        provider.on("scripted", sse(events_of(deltas)))
        seen = browser.ask("hi")
        thought = [event for event in seen.events if event["type"] == "reasoning"]
        assert "".join(event["token"] or "" for event in thought) == "Let me see"
        assert thought[-1] == {"type": "reasoning", "token": None, "status": ""}
        assert Message.objects.get(role="assistant").reasoning == "Let me see"

    def test_tool_calls_and_the_answer_to_their_results(self, browser: Browser, provider: ScriptedProvider):
        calls = sse(events_of(tool_deltas("add", ['{"a":', "1}"]), finish="tool_calls"))
        provider.enqueue(calls, stream("It is 1"))
        tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
        conversation, body = str(uuid.uuid4()), browser.body("add 1")
        first = browser.send({**body, "tools": [tool], "id": "17", "conversation_id": conversation})
        pieces = [piece for event in first.events if event["type"] == "tool_calls" for piece in event["tool_calls"]]
        assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"a":1}'
        assert first.one("finish")["finish"] == {"reason": "tool_calls"}
        call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
        told = [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "1"},
        ]
        # Pages go on under the same id.
        messages = [*body["messages"], *told]
        second = browser.send({**body, "messages": messages, "id": "17", "conversation_id": conversation})
        assert second.text == "It is 1"
        assert [row.role for row in Message.objects.order_by("seq")] == ["user", "assistant", "tool", "assistant"]
        assert provider.chats[1].json["messages"][1]["tool_calls"][0]["id"] == "call_1"

    def test_a_provider_that_is_passed_over_is_told(
        self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider
    ):
        gateway.add_provider(provider, "other", name="Second", priority=20)
        provider.enqueue(error(500), stream("from the second"))
        seen = browser.ask("hi", model="other")
        assert seen.text == "from the second"
        names = [event["provider"]["name"] for event in seen.events if event["type"] == "provider"]
        assert names == ["AnyProvider", "Scripted", "Second"]
        assert seen.one("message")["error"] == "UpstreamBroken"
        logged = [event["log"] for event in seen.events if event["type"] == "log"]
        assert logged == ["Scripted/other: 502 provider_not_working", "Second/other: answered"]

    def test_what_the_provider_is_sent_and_says_is_told_to_staff_who_ask(
        self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider
    ):
        staff = Browser(gateway.url, gateway.make_key(person("operator", is_staff=True)))
        seen = staff.ask("hi", debug_mode=True)
        staff.close()
        assert seen.one("request")["request"]["model"] == "scripted"
        assert any(event["type"] == "response" for event in seen.events)
        assert not {"request", "response"} & set(browser.ask("hi", debug_mode=True).types)

    def test_many_pieces_are_told_in_few(self, browser: Browser, provider: ScriptedProvider):
        words = [f"w{at} " for at in range(400)]
        provider.on("scripted", sse(events_of([{"content": word} for word in words]), gap=0.002))
        started = time.monotonic()
        seen = browser.ask("hi")
        assert seen.text == "".join(words)
        told = len([event for event in seen.events if event["type"] == "content"])
        assert told <= (time.monotonic() - started) * 30 + 2


class TestFailures:
    def test_an_unknown_model_is_an_event(self, browser: Browser):
        seen = browser.ask("hi", model="nobody-has-it")
        failure = seen.one("error")
        assert failure["error"] == "ModelNotFound"
        assert failure["message"].startswith("ModelNotFound: ")
        assert seen.state == "error"
        assert Message.objects.get(role="assistant").error["code"] == "model_not_found"

    def test_an_unknown_provider_is_a_404(self, browser: Browser):
        with pytest.raises(Refused) as refused:
            browser.ask("hi", provider="Nobody")
        assert refused.value.response.status_code == 404
        assert refused.value.response.json()["error"]["code"] == "provider_not_found"
        assert not Conversation.objects.exists()

    def test_a_refused_credential_is_an_auth_event(self, browser: Browser, provider: ScriptedProvider):
        provider.on("scripted", error(401))
        assert browser.ask("hi").one("auth")["auth"] == "UpstreamRefused"

    def test_an_answer_that_breaks_off_keeps_what_was_said(self, browser: Browser, provider: ScriptedProvider):
        provider.on("scripted", sse([chunk({"content": "half"}), {"error": {"message": "broke"}}]))
        seen = browser.ask("hi")
        assert seen.text == "half"
        assert seen.one("error")
        row = Message.objects.get(role="assistant")
        assert (row.state, row.content) == ("error", "half")
        [used] = usage_rows(1)
        assert (used.status, used.surface) == ("error", "backend.conversation")

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"{", 400), (b"[]", 400), (b"{}", 400), (b'{"messages":[]}', 400), (b'{"messages":"hi"}', 400),
            (b'{"messages":[{"role":"user","content":5}]}', 400),
            (b'{"messages":[{"role":"user","content":"hi"}],"action":"dance"}', 400),
            (b'{"messages":[{"role":"user","content":"hi"}],"conversation_id":5}', 400),
            (b'{"messages":[{"role":"user","content":"hi"}],"id":[]}', 400),
            (b'{"messages":[{"role":"user","content":"hi"}],"ignored":"x"}', 400),
            (b'{"messages":[{"role":"user","content":"hi"}],"temperature":9}', 422),
            (b'{"messages":[{"role":"user","content":"hi"}],"parent_id":"x"}', 400),
            (b'{"messages":[{"role":"user","content":"hi"}],"version":"x"}', 400),
            (b'{"messages":0,"conversation_id":"x","parent_id":"00000000-0000-0000-0000-000000000000"}', 400),
            (b'{"conversation_id":"x","parent_id":"00000000-0000-0000-0000-000000000000"}', 404),
            (b'{"messages":[{"role":"assistant","content":"hi"}],"action":"variant"}', 400),
        ],
    )  # fmt: skip
    def test_what_is_malformed_is_refused(self, browser: Browser, body: bytes, status: int):
        refused = browser.http.post(PATH, content=body, headers={"content-type": "application/json"})
        assert refused.status_code == status
        assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
        assert not Conversation.objects.exists()

    def test_strangers_get_nothing(self, gateway: LiveGateway, browser: Browser):
        for method, path in (("POST", PATH), ("GET", f"{PATH}/x/stream"), ("POST", f"{PATH}/x/stop")):
            assert gateway.http.request(method, path, json={}).status_code == 401

    def test_other_methods_are_told_which(self, browser: Browser):
        refused = browser.http.put(PATH, json={})
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST, OPTIONS")
        assert browser.http.delete(f"{PATH}/x/stream").headers["allow"] == "GET, HEAD, OPTIONS"


class TestWhatIsKept:
    def test_a_conversation_and_its_usage(self, browser: Browser, provider: ScriptedProvider):
        provider.on("scripted", stream("Hello"))
        conversation = str(uuid.uuid4())
        seen = browser.ask("hi there", conversation_id=conversation, id="1")
        assert seen.headers["x-conversation-id"] == conversation
        row = Conversation.objects.get()
        assert (str(row.pk), row.title, row.temporary) == (conversation, "hi there", False)
        question, answer = row.messages.order_by("seq")
        assert (question.role, question.content, question.state) == ("user", "hi there", "done")
        assert (answer.content, answer.state, answer.parent_id) == ("Hello", "done", question.pk)
        assert (answer.provider, answer.model, answer.finish_reason) == ("Scripted", "scripted", "stop")
        assert str(answer.pk) == seen.ids["message_id"]
        assert row.active_leaf == answer.pk
        assert Generation.objects.get().state == "done"
        [used] = usage_rows(1)
        assert (used.status, used.surface, used.prompt_tokens) == ("ok", "backend.conversation", 7)

    def test_it_goes_on(self, browser: Browser, provider: ScriptedProvider):
        conversation = str(uuid.uuid4())
        provider.enqueue(stream("One"), stream("Two"))
        browser.ask("first", conversation_id=conversation)
        browser.ask("first", "One", "second", conversation_id=conversation)
        texts = list(Message.objects.order_by("seq").values_list("content", flat=True))
        assert texts == ["first", "One", "second", "Two"]
        assert [message["content"] for message in provider.chats[1].json["messages"]] == ["first", "One", "second"]

    def test_another_answer_is_a_sibling(self, browser: Browser, provider: ScriptedProvider):
        conversation = str(uuid.uuid4())
        provider.enqueue(stream("One"), stream("Another"))
        browser.ask("first", conversation_id=conversation)
        browser.ask("first", conversation_id=conversation, action="variant")
        question, one, another = Message.objects.order_by("seq")
        assert one.parent_id == another.parent_id == question.pk

    def test_an_answer_is_continued(self, browser: Browser, provider: ScriptedProvider):
        conversation = str(uuid.uuid4())
        provider.enqueue(stream("One", finish="length"), stream(" and two"))
        browser.ask("count", conversation_id=conversation)
        browser.ask("count", "One", conversation_id=conversation, action="continue")
        _, one, rest = Message.objects.order_by("seq")
        assert (one.content, rest.content, rest.parent_id) == ("One", " and two", one.pk)
        sent = provider.chats[1].json["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "user"]
        assert "Continue" in sent[2]["content"]

    def test_only_what_is_new_is_sent_under_a_parent(self, browser: Browser, provider: ScriptedProvider):
        conversation = str(uuid.uuid4())
        provider.enqueue(stream("One"), stream("Two"))
        system = {"role": "system", "content": "Be brief."}
        body = browser.body("first", conversation_id=conversation)
        first = browser.send({**body, "messages": [system, *body["messages"]]})
        browser.ask("second", conversation_id=conversation, parent_id=first.ids["message_id"])
        said = [message["content"] for message in provider.chats[1].json["messages"]]
        assert said == ["Be brief.", "first", "One", "second"]
        assert Conversation.objects.get().system_prompt == "Be brief."

    def test_an_old_version_is_refused(self, browser: Browser):
        conversation = str(uuid.uuid4())
        browser.ask("first", conversation_id=conversation)
        with pytest.raises(Refused) as refused:
            browser.ask("first", conversation_id=conversation, version=1)
        assert refused.value.response.status_code == 409

    def test_without_a_conversation_it_is_temporary(self, browser: Browser):
        browser.ask("hi")
        assert Conversation.objects.get().temporary

    def test_the_same_request_again_is_the_same_answer(self, browser: Browser, provider: ScriptedProvider):
        first = browser.ask("hi", id="5", conversation_id="mine")
        again = browser.ask("hi", id="5", conversation_id="mine")
        assert again.text == first.text
        assert again.ids == first.ids
        assert len(provider.chats) == 1

    def test_an_idempotency_key(self, browser: Browser, provider: ScriptedProvider):
        rest, key = threading.Event(), {"idempotency-key": "k1"}
        provider.on("scripted", sse([chunk({"content": "on"}), Hold(rest), *events_of([{"content": "ce"}])]))
        seen = browser.send(None, most=5, json=browser.body("hi"), headers=key)
        with pytest.raises(Refused) as early:
            browser.send(None, json=browser.body("hi"), headers=key)
        assert (early.value.response.status_code, early.value.response.headers["retry-after"]) == (409, "1")
        rest.set()
        assert until(lambda: Generation.objects.filter(state="done").exists())
        again = browser.send(None, json=browser.body("hi"), headers=key)
        assert (again.text, again.ids) == ("once", seen.ids)
        assert again.headers["idempotent-replayed"] == "true"
        with pytest.raises(Refused) as other:
            browser.send(None, json=browser.body("other"), headers=key)
        assert other.value.response.status_code == 422
        assert (
            browser.http.post(PATH, json=browser.body("hi"), headers={"idempotency-key": "x" * 256}).status_code == 400
        )
        assert len(provider.chats) == 1

    def test_a_key_of_what_nobody_was_asked_for_may_run_again(self, browser: Browser, provider: ScriptedProvider):
        key = {"idempotency-key": "k1"}
        provider.enqueue(error(500))
        assert browser.send(None, json=browser.body("hi"), headers=key).state == "error"
        assert browser.send(None, json=browser.body("hi"), headers=key).text == "hi"

    def test_fifty_at_once_are_one(self, browser: Browser, gateway: LiveGateway, provider: ScriptedProvider):
        key, found = gateway.key, []

        def once() -> None:
            one = Browser(gateway.url, key)
            found.append(one.ask("hi", id="5").ids["message_id"])
            one.close()

        threads = [threading.Thread(target=once) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(found) == 20
        assert len(set(found)) == 1
        assert len(provider.chats) == 1
        assert len(usage_rows(1)) == 1


class TestStopping:
    def test_the_provider_sees_it_and_the_text_stays(self, browser: Browser, provider: ScriptedProvider):
        never = threading.Event()
        provider.on("scripted", sse([chunk({"content": "so far"}), Hold(never)]))
        conversation = str(uuid.uuid4())
        seen = browser.ask("hi", most=5, conversation_id=conversation)
        started = time.monotonic()
        stopped = browser.stop(conversation)
        assert stopped.json() == {"stopped": [seen.ids["message_id"]]}
        assert provider.chats[0].left.wait(5)
        assert time.monotonic() - started < 2
        while not browser.rejoin(conversation, seen):
            pass
        assert (seen.state, seen.text) == ("stopped", "so far")
        row = Message.objects.get(role="assistant")
        assert (row.state, row.content, row.finish_reason) == ("stopped", "so far", "stopped")
        [used] = usage_rows(1)
        assert used.status == "cancelled"
        assert browser.stop(conversation).json() == {"stopped": []}

    def test_what_is_stopped_early_has_used_what_was_estimated(
        self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider
    ):
        UserLimits.objects.create(user=User.objects.get(), tokens_per_minute=100)
        gateway.reload()
        never, conversation = threading.Event(), str(uuid.uuid4())
        provider.on("scripted", sse([Hold(never)]))
        body = {**browser.body("hi"), "max_tokens": 80}
        browser.send({**body, "conversation_id": conversation}, most=4)
        assert until(lambda: provider.chats, 5)
        browser.stop(conversation)
        assert until(lambda: Generation.objects.filter(state="stopped").exists(), 5)
        assert browser.send(body).one("error")["code"] == "rate_limit_exceeded"

    def test_who_leaves_does_not_end_it(self, browser: Browser, provider: ScriptedProvider):
        rest = threading.Event()
        provider.on("scripted", sse([chunk({"content": "one "}), Hold(rest), *events_of([{"content": "two"}])]))
        conversation = str(uuid.uuid4())
        seen = browser.ask("hi", most=5, conversation_id=conversation)
        rest.set()
        assert until(lambda: Message.objects.filter(state="done", content="one two").exists())
        assert browser.rejoin(conversation, seen)
        assert seen.text == "one two"
        assert seen.numbers == list(range(1, len(seen.numbers) + 1))

    def test_what_begins_after_its_time_is_made_all_the_same(self, browser: Browser, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("conversations.generation.threads.SECONDS", 0.5)
        with transaction.atomic():
            lock_owner(User.objects.get(username="caller").pk)
            with pytest.raises(Refused) as refused:
                browser.ask("hi", id="mine")
            assert refused.value.response.status_code == 503
        # Nobody would make it otherwise, and who asks again would wait for the end of its lease.
        assert until(lambda: Generation.objects.filter(state="done").exists(), 10)
        assert browser.ask("hi", id="mine").state == "done"
        assert Generation.objects.count() == 1

    def test_only_so_many_at_once(self, browser: Browser, provider: ScriptedProvider, settings):
        settings.MAX_STREAMS_PER_KEY = 2
        provider.on("scripted", sse([chunk({"content": "one"}), Hold(threading.Event())]))
        for name in ("a", "b"):
            browser.ask("hi", most=5, conversation_id=name)
        with pytest.raises(Refused) as refused:
            browser.ask("hi", conversation_id="c")
        assert refused.value.response.status_code == 429
        assert refused.value.response.json()["error"]["code"] == "too_many_streams"
        browser.stop("a")
        assert until(lambda: Message.objects.filter(state="stopped").exists())
        browser.ask("hi", most=5, conversation_id="c")

    def test_nobody_is_waited_for_for_ever(self, browser: Browser, provider: ScriptedProvider, settings):
        settings.GENERATION_SECONDS = 1
        provider.on("scripted", sse([chunk({"content": "one"}), Hold(threading.Event())]))
        browser.ask("hi", most=5, conversation_id="mine")
        assert provider.chats[0].left.wait(10)
        assert until(lambda: Message.objects.filter(state="stopped", content="one").exists())


class TestEnds:
    def test_what_costs_more_than_any_column_holds(
        self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider
    ):
        model = ProviderModel.objects.get(public_id="scripted")
        Price.objects.create(model=model, input=10**15, output=0, valid_from=timezone.now())
        gateway.reload()
        usage = {"prompt_tokens": 10**12, "completion_tokens": 1, "total_tokens": 10**12 + 1}
        said = events_of([{"content": "dear"}], usage=None, done=False)
        provider.on("scripted", sse([*said, chunk(None, usage=usage)]))
        seen = browser.ask("hi")
        assert (seen.text, seen.state) == ("dear", "done")
        assert Message.objects.get(role="assistant").state == "done"

    def test_viewers_are_told_whatever_goes_wrong_at_the_end(
        self, browser: Browser, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
    ):
        def broken(*_: object) -> bool:
            raise ValueError("not foreseen")

        monkeypatch.setattr("conversations.generation.rows.end", broken)
        seen = browser.ask("hi")
        assert (seen.types[-1], seen.state) == ("end", "interrupted")


class TestOthers:
    def test_two_users_never_meet(self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider):
        provider.on("scripted", stream("the otter's secret"))
        conversation = str(uuid.uuid4())
        seen = browser.ask("my otter", conversation_id=conversation)
        stranger = Browser(gateway.url, gateway.make_key(person("stranger")))
        missing = str(uuid.uuid4())
        asked = [
            (stranger.http.get(f"{PATH}/{at}/stream"), stranger.http.post(f"{PATH}/{at}/stop"))
            for at in (conversation, missing)
        ]
        for theirs, none in zip(*asked, strict=True):
            assert theirs.status_code == none.status_code == 404
            assert theirs.json() == none.json()
        for more in ({}, {"parent_id": seen.ids["message_id"]}):
            with pytest.raises(Refused) as refused:
                stranger.ask("what was it?", conversation_id=conversation, **more)
            assert refused.value.response.status_code == 404
        own = stranger.ask("mine", conversation_id=missing)
        with pytest.raises(Refused):
            stranger.ask("what?", conversation_id=own.ids["conversation_id"], parent_id=seen.ids["message_id"])
        assert stranger.http.get(f"{PATH}/{missing}/stream?message_id={seen.ids['message_id']}").status_code == 404
        stranger.close()
        assert Message.objects.filter(conversation_id=conversation).count() == 2
        assert not any("otter" in str(chat.json) for chat in provider.chats[1:])

    def test_a_revoked_key_ends_what_it_asked(self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider):
        from gateway.models import ApiKey

        provider.on("scripted", sse([chunk({"content": "one"}), Hold(threading.Event())]))
        seen = browser.ask("hi", most=5, conversation_id="mine")
        ApiKey.objects.update(revoked_at="2020-01-01T00:00:00Z")
        gateway.reload()
        assert provider.chats[0].left.wait(10)
        assert until(lambda: Message.objects.filter(pk=seen.ids["message_id"], state="error").exists())
