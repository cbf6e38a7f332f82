"""Files, pictures, sound and sources on the chat page, in a real browser over a real server."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import cache
from playwright.sync_api import expect

from media.models import Bucket
from tests import people
from tests.browser.chatting import Chatting
from tests.browser.test_admin import browser  # noqa: F401 - a fixture
from tests.support.answers import error, events_of, sse, stream, tool_deltas
from tests.support.gateway import LiveGateway
from tests.support.pictures import images, opened, picture
from tests.support.provider import ScriptedProvider
from tests.support.sounds import TEXT, form_of, speaking, transcribing, wav
from tests.support.web import Web, small_web

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
PASTE = """([text, picture]) => {
  const data = new DataTransfer();
  if (text) data.setData("text/plain", text);
  if (picture) {
    const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
    data.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
  }
  const box = document.getElementById("message");
  if (text) box.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
  else for (const name of ["dragover", "drop"])
    box.dispatchEvent(new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture
def provider(gateway: LiveGateway) -> Iterator[ScriptedProvider]:
    with ScriptedProvider(models=["alpha"]) as scripted:
        painter, ear, mouth = (
            {"public_id": "painter", "image": True},
            {"public_id": "ear", "transcription": True},
            {"public_id": "mouth", "speech": True},
        )
        gateway.add_provider(scripted, {"public_id": "alpha", "vision": True}, painter, ear, mouth, name="Rack")
        people.alice()
        gateway.reload()
        yield scripted


@pytest.fixture
def chatting(gateway: LiveGateway, browser: Browser, provider: ScriptedProvider) -> Iterator[Chatting]:  # noqa: F811
    made = Chatting(browser, gateway, "alice")
    yield made
    assert made.complaints == []


def looked_at(chatting: Chatting, name: str) -> list[str]:
    """What axe finds in light and dark, and on a phone what does not fit."""
    found = []
    for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light")):
        chatting.page.set_viewport_size({"width": width, "height": 900})
        chatting.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        chatting.page.wait_for_timeout(200)
        chatting.picture(f"{name}-{width}-{scheme}")
        wide = chatting.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        found += [f"{name} {width} {scheme}: {fault}" for fault in chatting.faults()]
        found += [f"{name} {width}: too wide"] if wide > 0 else []
    chatting.page.set_viewport_size({"width": 1280, "height": 900})
    chatting.page.emulate_media(color_scheme="light")
    return found


def a_file(name: str, data: bytes, kind: str = "text/plain") -> Any:
    return {"name": name, "mimeType": kind, "buffer": data}


def test_files_go_along_with_a_message(chatting: Chatting, provider: ScriptedProvider, settings: Any) -> None:
    page, chips = chatting.page, chatting.page.get_by_role("list", name="Attached files").get_by_role("listitem")
    field = page.locator("input[type=file]")
    chatting.box.wait_for()
    field.set_input_files(
        [
            a_file("fox.png", picture("teal", (640, 480)), "image/png"),
            a_file("notes.txt", b"The otter swims."),
            a_file("virus.exe", b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00" * 8),
            a_file("empty.txt", b""),
        ]
    )
    chips.filter(has_text="640 × 480").wait_for()
    chips.filter(has_text="of text").wait_for()
    chips.filter(has_text="empty.txt is empty.").wait_for()
    refused = chips.filter(has_text="virus.exe")
    refused.get_by_role("alert").wait_for()
    # The browser itself names the 415 of the API, and nothing else.
    assert all("415" in complaint for complaint in chatting.complaints)
    chatting.complaints.clear()
    page.evaluate(PASTE, ["x" * 20_001, ""])
    page.evaluate(PASTE, ["", base64.b64encode(picture("red", (90, 60))).decode()])
    chips.filter(has_text="pasted-").filter(has_text="of text").wait_for()
    chips.filter(has_text="90 × 60").wait_for()
    assert chatting.box.input_value() == ""
    assert looked_at(chatting, "files-draft") == []
    page.reload()
    expect(chips).to_have_count(4)
    page.get_by_role("button", name="Remove pasted-").click()
    expect(chips).to_have_count(3)
    chatting.ask("What swims, and what is red?")
    page.get_by_role("button", name="Answer again").wait_for()
    expect(chips).to_have_count(0)
    parts = provider.chats[0].json["messages"][-1]["content"]
    assert [part["type"] for part in parts] == ["image_url", "text", "image_url", "text"]
    assert "The otter swims." in parts[1]["text"]
    assert parts[3]["text"] == "What swims, and what is red?"
    seen_large(chatting)
    again_with_other_words(chatting, provider)
    assert Bucket.objects.count() == 3


@pytest.fixture
def web(settings: Any) -> Iterator[Web]:
    with small_web() as made:
        settings.WEB_SEARCH, settings.SEARXNG_URL = "searxng", made.url
        settings.FETCH_PORTS, settings.FETCH_PRIVATE_HOSTS = frozenset({made.port}), frozenset({"127.0.0.1"})
        found = [(f"Frog {number}", f"{made.url}/frog-{number}") for number in (1, 2, 3)]
        made.results = [{"url": url, "title": title, "content": "Frogs are small."} for title, url in found]
        cache.clear()
        yield made


def test_answers_have_sources_calls_and_pictures(web: Web, chatting: Chatting, provider: ScriptedProvider) -> None:
    page, asked = chatting.page, []
    page.on("request", lambda request: asked.append(request.url))
    call = tool_deltas("measure", ['{"what": "frog"}'])
    said = "It measures 7 mm [3], or 8 [1]. In code `[1]` stays, and [9] is nobody."
    provider.on("alpha", sse(events_of([{"content": said}, *call])))
    page.get_by_role("button", name="Search the web").click()
    chatting.ask("How small is the smallest frog?")
    page.get_by_role("button", name="Answer again").wait_for()
    marks = chatting.answers.locator(".prose a.cite")
    expect(marks).to_have_text(["3", "1"])
    assert marks.first.get_attribute("href") == f"{web.url}/frog-3"
    sources = page.get_by_role("region", name="Sources").get_by_role("link")
    expect(sources).to_have_text(["Frog 1", "Frog 3"])
    page.get_by_text("Called measure").click()
    page.get_by_text('"what": "frog"').wait_for()
    assert web.queries == ["How small is the smallest frog?"]
    assert [url for url in asked if not url.startswith(chatting.url)] == []
    page.reload()
    expect(marks).to_have_text(["3", "1"])
    assert looked_at(chatting, "sources") == []
    drawn(chatting, provider)


def drawn(chatting: Chatting, provider: ScriptedProvider) -> None:
    page = chatting.page
    provider.on("painter", images(picture("navy", (300, 200))))
    page.get_by_role("button", name="Make a picture").click()
    assert page.get_by_role("button", name="Search the web").get_attribute("aria-pressed") == "false"
    chatting.ask("A frog at night")
    page.get_by_role("button", name="Answer again").nth(1).wait_for()
    asked = provider.wait_for(1, path="/images/generations").json
    assert (asked["model"], asked["prompt"]) == ("painter", "A frog at night")
    shot = page.get_by_role("button", name="Open A frog at night")
    expect(shot.locator("img")).to_have_js_property("naturalWidth", 300)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download A frog at night").click()
    assert opened(Path(download.value.path()).read_bytes()).size == (300, 200)
    shot.click()
    expect(page.get_by_role("dialog").locator("img")).to_have_js_property("naturalWidth", 300)
    page.keyboard.press("Escape")
    assert looked_at(chatting, "drawn") == []


def test_voices_are_heard_and_speak(chatting: Chatting, provider: ScriptedProvider) -> None:
    page = chatting.page
    provider.on("ear", transcribing)
    chatting.box.fill("Write this:")
    page.get_by_role("button", name="Dictate").click()
    page.get_by_text("Listening").wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("Listening").wait_for(state="detached")
    assert chatting.box.evaluate("box => box === document.activeElement")
    page.get_by_role("button", name="Dictate").click()
    page.get_by_text("Listening").wait_for()
    assert looked_at(chatting, "dictating") == []
    # The false microphone is silent between two beeps.
    highest = "bars => Math.max(...bars.map((bar) => Number(bar.getAttribute('height'))))"
    deadline = time.monotonic() + 10
    while not (loud := page.locator(".meter rect").evaluate_all(highest) > 2) and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert loud
    page.get_by_role("button", name="Write it down").click()
    expect(chatting.box).to_have_value(f"Write this: {TEXT}")
    fields, file = form_of(provider.wait_for(1, path="/audio/transcriptions"))
    assert fields["model"] == ["ear"]
    assert file.get_payload(decode=True)[:4] == b"\x1a\x45\xdf\xa3"
    provider.on("ear", error(400, "Too quiet."))
    page.get_by_role("button", name="Dictate").click()
    page.get_by_text("0:02").wait_for()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Too quiet.")
    page.get_by_role("button", name="Close").click()
    assert all("400" in complaint for complaint in chatting.complaints)
    chatting.complaints.clear()
    read_aloud(chatting, provider)


def read_aloud(chatting: Chatting, provider: ScriptedProvider) -> None:
    page = chatting.page
    provider.on("mouth", speaking(wav(1), "audio/wav"))
    provider.on("alpha", stream("**Foxes** are red.\n\n```sh\nrm -r fox\n```\n" + "They run. " * 60))
    chatting.ask("And now?")
    page.get_by_role("button", name="Read aloud").click()
    stop = page.get_by_role("button", name="Stop reading aloud")
    stop.wait_for()
    said = [provider.wait_for(number, path="/audio/speech").json["input"] for number in (1, 2)]
    assert said[0].startswith("Foxes are red. They run.")
    assert "rm -r" not in said[0] + said[1]
    page.get_by_role("button", name="Read aloud").wait_for()
    page.get_by_role("button", name="Read aloud").click()
    stop.click()
    page.get_by_role("button", name="Read aloud").wait_for()


def seen_large(chatting: Chatting) -> None:
    shot = chatting.page.get_by_role("button", name="Open fox.png")
    expect(shot.locator("img")).to_have_js_property("naturalWidth", 400)
    shot.click()
    viewer = chatting.page.get_by_role("dialog")
    expect(viewer.locator("img")).to_have_js_property("naturalWidth", 640)
    chatting.page.keyboard.press("ArrowRight")
    expect(viewer.locator("img")).to_have_js_property("naturalWidth", 90)
    assert looked_at(chatting, "files-viewer") == []
    chatting.page.keyboard.press("Escape")
    viewer.wait_for(state="detached")
    assert shot.evaluate("button => button === document.activeElement")


def again_with_other_words(chatting: Chatting, provider: ScriptedProvider) -> None:
    """After a reload the files are there, and an edited question keeps them."""
    page = chatting.page
    page.reload()
    page.get_by_role("button", name="Open fox.png").wait_for()
    chatting.questions.get_by_text("notes.txt").wait_for()
    assert looked_at(chatting, "files-sent") == []
    chatting.questions.hover()
    page.get_by_role("button", name="Edit question").click()
    page.get_by_role("textbox", name="Question").fill("Only the fox")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_role("group", name="Versions of this question").get_by_text("2/2").wait_for()
    page.get_by_role("button", name="Answer again").wait_for()
    parts = provider.chats[1].json["messages"][-1]["content"]
    assert [part["type"] for part in parts] == ["image_url", "text", "image_url", "text"]
    assert parts[3]["text"] == "Only the fox"
