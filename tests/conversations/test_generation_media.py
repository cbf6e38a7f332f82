"""Pictures and sounds in conversations: sent, seen again later, made by a model, and never another's."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from conversations.models import Conversation, Message
from gateway.models import ProviderModel, UsageEvent
from media.models import StoredFile
from tests.people import person
from tests.support import answers
from tests.support.answers import error, events_of, reply, sse, stream
from tests.support.browser import PATH, Browser, Refused, Seen
from tests.support.gateway import LiveGateway
from tests.support.pictures import b64, events, images, opened, picture
from tests.support.provider import ScriptedProvider
from tests.support.running import until
from tests.support.sounds import wav

RED, BLUE = picture("red"), picture("blue")


@pytest.fixture
def browser(gateway: LiveGateway, provider: ScriptedProvider) -> Iterator[Browser]:
    gateway.add_provider(provider, "scripted")
    made = Browser(gateway.url, gateway.key)
    yield made
    made.close()


def send(browser: Browser, body: Any, *files: tuple[str, bytes], **fields: Any) -> Seen:
    parts = [("files", (name, data, "application/octet-stream")) for name, data in files]
    return browser.send(None, data={"json": json.dumps(body), **fields}, files=parts or [("x", ("", b""))])


def colours(message: Any) -> list[tuple[int, ...]]:
    """Of the pictures in a message as a provider gets it."""
    found = []
    for part in message["content"]:
        if part["type"] == "image_url":
            data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
            found.append(opened(data).convert("RGB").getpixel((0, 0)))
    return found


class TestSent:
    def test_a_picture_beside_the_message(self, browser: Browser, provider: ScriptedProvider):
        conversation = str(uuid.uuid4())
        provider.enqueue(stream("A red one"), stream("Still red"))
        send(browser, browser.body("what is it?", conversation_id=conversation), ("a.png", RED))
        [message] = provider.chats[0].json["messages"]
        assert message["content"][0] == {"type": "text", "text": "what is it?"}
        assert colours(message) == [(255, 0, 0)]
        row = Message.objects.get(role="user")
        assert row.content == "what is it?"
        [attached] = row.attachments
        assert (attached["name"], attached["content_type"]) == ("a.png", "image/png")
        assert browser.http.get(attached["url"]).status_code == 200
        # The next question sends the words alone, and its model sees the picture all the same.
        browser.ask("what is it?", "A red one", "sure?", conversation_id=conversation)
        assert colours(provider.chats[1].json["messages"][0]) == [(255, 0, 0)]
        assert Message.objects.count() == 4

    def test_a_picture_in_the_message_is_kept_once(self, browser: Browser, provider: ScriptedProvider):
        conversation = str(uuid.uuid4())
        provider.enqueue(stream("One"), stream("Two"))
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(BLUE)}"}}
        first = {"role": "user", "content": [{"type": "text", "text": "and this?"}, part]}
        body = {"model": "scripted", "conversation_id": conversation}
        browser.send({**body, "messages": [first]})
        more = [{"role": "assistant", "content": "One"}, {"role": "user", "content": "more"}]
        browser.send({**body, "messages": [first, *more]})
        assert [row.role for row in Message.objects.order_by("seq")] == ["user", "assistant", "user", "assistant"]
        assert StoredFile.objects.count() == 1
        assert "base64" not in json.dumps(Message.objects.order_by("seq")[0].content)
        assert colours(provider.chats[1].json["messages"][0]) == [(0, 0, 255)]

    def test_a_sound(self, browser: Browser, provider: ScriptedProvider):
        send(browser, browser.body("listen"), ("a.wav", wav()))
        [message] = provider.chats[0].json["messages"]
        held = message["content"][1]["input_audio"]
        assert (held["format"], base64.b64decode(held["data"])[:4]) == ("wav", b"RIFF")

    @pytest.mark.parametrize("data", [b"just text", b"%PDF-1.4 x", b""])
    def test_what_is_neither_is_refused_and_not_kept(self, browser: Browser, data: bytes):
        with pytest.raises(Refused) as refused:
            send(browser, browser.body("read"), ("a.bin", data))
        assert refused.value.response.status_code in (400, 415, 422)
        assert not StoredFile.objects.exists()
        assert not Conversation.objects.exists()

    @pytest.mark.parametrize("url", ["http://127.0.0.1:1/x.png", "file:///etc/passwd", "gopher://x", "x"])
    def test_addresses_that_are_not_public(self, browser: Browser, url: str):
        with pytest.raises(Refused) as refused:
            send(browser, browser.body("look"), media_url=url)
        assert refused.value.response.status_code == 400
        assert refused.value.response.json()["error"]["message"].startswith("Invalid or disallowed media_url: ")

    @pytest.mark.parametrize("fields", [{}, {"json": "{"}, {"json": "[]"}])
    def test_a_form_without_a_question(self, browser: Browser, fields: dict[str, str]):
        refused = browser.http.post(PATH, data=fields, files=[("files", ("a.png", RED))])
        assert refused.status_code == 400
        assert not StoredFile.objects.exists()

    def test_what_came_with_a_refused_request_is_not_kept(self, browser: Browser):
        question = browser.body("what is it?")
        with pytest.raises(Refused) as stale:
            nowhere = {"conversation_id": str(uuid.uuid4()), "parent_id": str(uuid.uuid4())}
            send(browser, {**question, **nowhere}, ("a.png", RED))
        assert stale.value.response.status_code == 404
        with pytest.raises(Refused):
            send(browser, question, ("a.png", RED), ("b.txt", b"no picture"))
        written = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(BLUE)}"}}
        broken = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(b'no picture')}"}}
        with pytest.raises(Refused):
            browser.send({**question, "messages": [{"role": "user", "content": [written, broken]}]})
        assert StoredFile.objects.count() == 0

    def test_another_file_is_another_request(self, browser: Browser, provider: ScriptedProvider):
        body = browser.body("what is it?", id="17", conversation_id=str(uuid.uuid4()))
        first, again = (send(browser, body, ("a.png", RED)) for _ in range(2))
        other = send(browser, body, ("a.png", BLUE))
        assert first.ids == again.ids != other.ids
        assert [colours(chat.json["messages"][0]) for chat in provider.chats] == [[(255, 0, 0)], [(0, 0, 255)]]
        assert StoredFile.objects.count() == 2

    def test_anothers_picture_is_not_there(self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider):
        send(browser, browser.body("mine"), ("a.png", RED))
        url = Message.objects.get(role="user").attachments[0]["url"]
        stranger = Browser(gateway.url, gateway.make_key(person("stranger")))
        for spelling in (url, gateway.url + url, "/media/../media/" + url.rsplit("/", 1)[1], "/media/%00x"):
            part = {"type": "image_url", "image_url": {"url": spelling}}
            stranger.send({"model": "scripted", "messages": [{"role": "user", "content": [part]}]})
        stranger.close()
        for chat in provider.chats[1:]:
            assert "base64" not in json.dumps(chat.json)


class TestMade:
    def drawn(self, provider: ScriptedProvider) -> None:
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(RED)}"}}
        provider.on("scripted", sse(events_of([{"content": "Here:"}, {"images": [image]}])))

    def test_a_picture_is_kept_and_linked(self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider):
        self.drawn(provider)
        seen = browser.ask("Draw [a] fox")
        [told] = [event for event in seen.events if event.get("urls")]
        found = re.fullmatch(r"\n\[!\[Draw a fox\]\((/media/\S+)\)\]\(\1\)\n", told["content"])
        assert found
        assert told["urls"] == [found[1]]
        assert opened(browser.http.get(found[1]).content).getpixel((0, 0)) == (255, 0, 0)
        assert gateway.http.get(found[1]).status_code == 401
        assert Message.objects.get(role="assistant").content == seen.text
        kept = StoredFile.objects.get()
        assert (kept.source, kept.prompt, kept.provider, kept.model) == (
            "generated", "Draw [a] fox", "Scripted", "scripted",
        )  # fmt: skip

    def test_who_wants_nothing_kept_gets_it_whole(self, browser: Browser, provider: ScriptedProvider):
        self.drawn(provider)
        seen = browser.ask("Draw", download_media=False)
        assert f"data:image/png;base64,{b64(RED)}" in seen.text
        assert not StoredFile.objects.exists()


class TestSmallModel:
    def test_title_and_suggestions(
        self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider, settings: Any
    ):
        settings.SMALL_MODEL = "tiny"
        ProviderModel.objects.create(provider_id=ProviderModel.objects.get().provider_id, public_id="tiny")
        gateway.reload()
        provider.on("scripted", stream("Otters swim."))
        provider.on("tiny", reply('Title: "About otters"\n- Do they sleep?\n2. Where?\n\n3. Why?'))
        seen = browser.ask("Tell me about otters", conversation_id="mine")
        assert seen.one("title")["title"] == "About otters"
        assert seen.one("suggestions")["suggestions"] == ["Do they sleep?", "Where?", "Why?"]
        assert Conversation.objects.get().title == "About otters"
        assert "Otters swim." in provider.chats[1].json["messages"][0]["content"]
        until(lambda: UsageEvent.objects.count() == 2)
        assert sorted(UsageEvent.objects.values_list("surface", "status")) == [
            ("backend.conversation", "ok"), ("backend.suggestions", "ok"),
        ]  # fmt: skip

    def test_one_that_fails_is_not_missed(
        self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider, settings: Any
    ):
        settings.SMALL_MODEL = "tiny"
        ProviderModel.objects.create(provider_id=ProviderModel.objects.get().provider_id, public_id="tiny")
        gateway.reload()
        provider.on("tiny", answers.error(500))
        seen = browser.ask("hi", conversation_id="mine")
        assert seen.state == "done"
        assert not {"title", "suggestions", "error"} & set(seen.types)

    def test_what_can_be_spoken_is_told(self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider):
        ProviderModel.objects.create(
            provider_id=ProviderModel.objects.get().provider_id, public_id="voice", speech=True
        )
        gateway.reload()
        assert browser.ask("hi").one("synthesize")["synthesize"]["provider"] == "Scripted"


class TestDrawn:
    """`modalities: ["image"]`: pictures alone are asked for."""

    def test_a_picture_is_drawn_changed_and_refused(
        self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider
    ):
        ProviderModel.objects.update(image=True)
        gateway.reload()
        conversation = str(uuid.uuid4())
        wanted = {"conversation_id": conversation, "modalities": ["image"], "model": None}
        provider.enqueue(images(RED), images(BLUE), error(400, "No walruses."))
        seen = browser.ask("a red square", **wanted)
        assert seen.state == "done"
        assert {"type": "reasoning", "status": "Drawing"} in seen.events
        [address] = seen.one("content")["urls"]
        assert opened(browser.http.get(address).content).size == (32, 24)
        assert provider.wait_for(1, path="/images/generations").json["prompt"] == "a red square"
        assert StoredFile.objects.get().prompt == "a red square"
        send(browser, browser.body("bluer", **{**wanted, "conversation_id": str(uuid.uuid4())}), ("a.png", RED))
        edit = provider.wait_for(1, path="/images/edits")
        assert b'name="image' in edit.body
        assert b"bluer" in edit.body
        failed = browser.ask("a walrus", **{**wanted, "conversation_id": str(uuid.uuid4())})
        assert failed.state == "error"
        assert "No walruses." in str(failed.events)
        assert browser.ask("  ", **{**wanted, "conversation_id": str(uuid.uuid4())}).state == "error"
        assert until(lambda: sorted(filter(None, UsageEvent.objects.values_list("images", flat=True))) == [1, 1])
        assert provider.chats == []

    def test_what_is_not_finished_is_shown_where_it_is_wanted(
        self, gateway: LiveGateway, browser: Browser, provider: ScriptedProvider
    ):
        ProviderModel.objects.update(image=True)
        gateway.reload()
        steps = [("partial_image", b64(RED)), ("completed", b64(BLUE))]
        provider.enqueue(events(*({"type": f"image_generation.{step}", "b64_json": data} for step, data in steps)))
        seen = browser.ask("a square", modalities=["image"], model=None, partial_images=2, conversation_id="c")
        sent = provider.wait_for(1, path="/images/generations").json
        assert (sent["stream"], sent["partial_images"]) == (True, 2)
        [url] = seen.one("preview")["urls"]
        shown = opened(base64.b64decode(url.removeprefix("data:image/webp;base64,"))).convert("RGB")
        assert shown.getpixel((0, 0))[0] > 200
        assert seen.types.index("preview") < seen.types.index("content")
        [address] = seen.one("content")["urls"]
        assert opened(browser.http.get(address).content).getpixel((0, 0)) == (0, 0, 255)
        assert "preview" not in str(Message.objects.get(role="assistant").content)
        assert StoredFile.objects.count() == 1


def test_a_chat_goes_on_without_a_bucket_that_was_deleted(browser: Browser, provider: ScriptedProvider):
    files = {"files": ("notes.txt", b"The otter swims.")}
    assert browser.http.post("/backend-api/v2/files/zoo", files=files).status_code == 200
    conversation = str(uuid.uuid4())
    content = [{"bucket_id": "zoo"}, {"type": "text", "text": "What swims?"}]
    first = {"role": "user", "content": content}
    wanted = {"model": "scripted", "conversation_id": conversation}
    provider.enqueue(stream("An otter"), stream("It did"))
    seen = browser.send({**wanted, "messages": [first]})
    assert "otter" in provider.chats[0].json["messages"][0]["content"][0]["text"]
    assert browser.http.delete("/backend-api/v2/files/zoo").status_code == 200
    more = {"role": "user", "content": "Sure?"}
    again = browser.send({**wanted, "parent_id": seen.ids["message_id"], "messages": [more]})
    assert again.state == "done"
    assert "no longer there" in provider.chats[1].json["messages"][0]["content"][0]["text"]
    # What is asked about now has to be there.
    assert browser.send({**wanted, "parent_id": again.ids["message_id"], "messages": [first]}).state == "error"
