"""The chat page's ways to keep, find, share and move chats, each in a real browser over the real API."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from conversations import tree
from conversations.models import Conversation, MemoryItem, Prompt, SharedChat
from tests.browser.chatting import Chatting
from tests.browser.test_admin import browser  # noqa: F401 - a fixture
from tests.browser.test_chat import check, held, provider  # noqa: F401 - a fixture
from tests.support.answers import stream
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Download

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
LOOKS = [(390, "dark")]
if os.environ.get("SCREENSHOTS"):
    LOOKS += [(1440, "dark"), (390, "light"), (1440, "light")]


@pytest.fixture
def chatting(gateway: LiveGateway, browser: Browser, provider: ScriptedProvider) -> Iterator[Chatting]:  # noqa: F811
    made = Chatting(browser, gateway, "alice")
    yield made
    assert made.complaints == []


def kept(title: str, **fields: Any) -> Conversation:
    """A chat of alice's with a question and an answer."""
    alice = User.objects.get(username="alice")
    made = tree.create_conversation(alice, title=title, model="alpha", **fields)
    with tree.locked(made) as row:
        asked = tree.append(row, None, "user", f"Question about {title}")
        tree.append(row, asked.pk, "assistant", f"An **answer** about {title}.", model="alpha", provider="Rack")
    return made


class Ordering(Chatting):
    """A user who keeps chats in order."""

    def open(self, chat: Conversation) -> None:
        self.go(f"/chat/{chat.pk}/")
        self.answers.first.wait_for()

    def command(self, name: str) -> None:
        """By the palette."""
        self.page.keyboard.press("Control+k")
        self.page.get_by_role("combobox").fill(name)
        self.page.get_by_role("option", name=name).click()

    def show(self, entry: str) -> None:
        """Chooses in the menu of the list."""
        self.page.get_by_role("button", name="Show chats: archive").click()
        self.page.get_by_role("menuitem", name=entry).click()

    def saved(self, entry: str) -> str:
        with self.page.expect_download() as waiting:
            self.menu(entry)
        return text_of(waiting.value)


def text_of(download: Download) -> str:
    return Path(download.path()).read_text(encoding="utf-8")


@pytest.fixture
def ordering(gateway: LiveGateway, browser: Browser, provider: ScriptedProvider) -> Iterator[Ordering]:  # noqa: F811
    made = Ordering(browser, gateway, "alice")
    yield made
    assert made.complaints == []


def test_a_chat_is_shared_read_renewed_continued_and_ended(
    gateway: LiveGateway,
    browser: Browser,  # noqa: F811
    ordering: Ordering,
) -> None:
    page = ordering.page
    ordering.open(kept("Herons", system_prompt="Be brief."))
    page.get_by_role("button", name="Share this chat").click()
    page.get_by_role("region", name="What readers see").get_by_text("Question about Herons").wait_for()
    page.get_by_label("How long the link works").select_option(label="For a week")
    page.get_by_role("button", name="Make a link").click()
    url = page.get_by_label("Link", exact=True).input_value()
    assert (SharedChat.objects.get().expires_at - SharedChat.objects.get().created_at).days in (6, 7)  # type: ignore[operator]
    assert "Be brief." not in SharedChat.objects.get().body
    page.get_by_label("Show the instructions, too").check()
    page.get_by_role("button", name="Update copy").click()
    page.get_by_text("The link shows the chat as it is now.").wait_for()
    assert "Be brief." in SharedChat.objects.get().body
    reader = browser.new_context().new_page()
    reader.goto(url)
    reader.get_by_text("An answer about Herons.").wait_for()
    reader.get_by_role("link", name="Continue in a chat of your own").click()
    reader.get_by_label("Password").wait_for()
    other = Ordering(browser, gateway, "bob")
    other.page.goto(reader.url.split("?")[0].replace("/accounts/login/", f"/chat/?continue={url.rsplit('/', 1)[1]}"))
    assert Conversation.objects.count() == 1
    other.page.get_by_text("becomes a chat of your own").wait_for()
    other.page.keyboard.press("Enter")
    other.answers.get_by_text("An answer about Herons.").wait_for()
    assert Conversation.objects.get(owner__username="bob").title == "Herons"
    page.get_by_role("button", name="End link").click()
    page.get_by_role("button", name="Make a link").wait_for()
    assert reader.goto(url).status == 404  # type: ignore[union-attr]
    assert other.complaints == []


def test_chats_are_filed_archived_binned_and_brought_back(ordering: Ordering) -> None:
    page = ordering.page
    one, *_ = [kept(f"Chat {number}") for number in range(3)]
    ordering.open(one)
    ordering.menu("Move to folder")
    page.get_by_role("combobox").fill("Work")
    page.keyboard.press("Enter")
    page.locator(".shown").get_by_role("button", name="Work").click()
    page.get_by_role("link", name="Chat 1").wait_for(state="detached")
    ordering.listed.first.wait_for()
    assert ordering.listed.count() == 1
    ordering.menu("Tags")
    page.get_by_role("combobox").fill("birds")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="All chats").click()
    page.locator(".shown").get_by_role("button", name="birds").wait_for()
    ordering.menu("Archive")
    page.get_by_role("link", name="Chat 0").wait_for(state="detached")
    one.refresh_from_db()
    assert (one.folder, one.tags, one.archived) == ("Work", ["birds"], True)
    ordering.show("Select chats")
    page.get_by_label("Chat 1").check()
    page.get_by_label("Chat 2").check()
    page.get_by_role("button", name="Delete selected").click()
    page.get_by_text("2 chats are in the bin.").wait_for()
    assert Conversation.objects.filter(deleted_at=None).count() == 1
    ordering.show("Bin")
    ordering.listed.nth(1).wait_for()
    ordering.listed.filter(has_text="Chat 1").hover()
    page.get_by_role("button", name="Options of Chat 1").click()
    page.get_by_role("menuitem", name="Restore").click()
    page.get_by_role("link", name="Chat 1").wait_for(state="detached")
    ordering.show("Empty the bin")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("No chats here.").wait_for()
    assert sorted(Conversation.objects.values_list("title", flat=True)) == ["Chat 0", "Chat 1"]


def test_chats_leave_as_files_and_come_back_with_a_report(ordering: Ordering) -> None:
    page = ordering.page
    ordering.open(kept("Herons"))
    assert "An **answer** about Herons." in ordering.saved("Save as Markdown")
    whole = ordering.saved("Save as JSON")
    page.evaluate("void (window.print = () => (window.printed = true))")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    ordering.menu("Print or PDF")
    page.locator("#sheet .prose strong", has_text="answer").wait_for(state="attached")
    for _ in range(50):
        if page.evaluate("window.printed"):
            break
        page.wait_for_timeout(100)
    assert page.evaluate("window.printed")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.emulate_media(media="print")
    ordering.picture("order-print")
    assert page.locator("#sheet").is_visible()
    assert not page.locator("#app").is_visible()
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#sheet").count() == 0
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    Conversation.objects.all().delete()
    ordering.go("/chat/")
    ordering.command("Import and export")
    parts = [json.loads(whole), {"something": "else"}]
    file = {"name": "two.json", "mimeType": "application/json", "buffer": json.dumps(parts).encode()}
    page.get_by_label("File to import").set_input_files([file])  # type: ignore[list-item]
    report = page.get_by_role("region", name="Report")
    report.get_by_text("1 imported, 1 failed.").wait_for()
    report.get_by_role("link", name="Herons").click()
    ordering.answers.get_by_text("An answer about Herons.").wait_for()


def test_memory_is_seen_changed_and_switched(ordering: Ordering) -> None:
    page = ordering.page
    ordering.command("Memory")
    page.get_by_label("Something to remember").fill("I live in Graz.")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Change: I live in Graz.").click()
    page.get_by_label("What is remembered").fill("I live in Linz.")
    page.keyboard.press("Enter")
    page.get_by_role("listitem").get_by_text("I live in Linz.").wait_for()
    page.get_by_role("switch").check()
    page.get_by_text("1 of").wait_for()
    page.get_by_label("Search memory").fill("Graz")
    page.get_by_text("Nothing with “Graz”.").wait_for()
    page.get_by_label("Search memory").fill("Linz")
    assert MemoryItem.objects.get().text == "I live in Linz."
    page.get_by_role("button", name="Forget: I live in Linz.").click()
    page.get_by_text("0 of").wait_for()
    assert MemoryItem.objects.count() == 0


def test_a_temporary_chat_has_parameters_and_another_models_answer(
    ordering: Ordering,
    provider: ScriptedProvider,  # noqa: F811
) -> None:
    page = ordering.page
    page.get_by_role("button", name="Temporary chat").click()
    page.get_by_role("button", name="Instructions for this chat").click()
    page.get_by_text("Parameters").click()
    page.get_by_label("Temperature").fill("0.3")
    page.get_by_label("Reasoning effort").select_option("low")
    page.get_by_role("button", name="Save").click()
    ordering.ask("Quietly")
    page.get_by_role("button", name="Options of this answer").click()
    page.get_by_role("menuitem", name="Answer with another model").click()
    page.get_by_role("combobox").fill("beta")
    page.keyboard.press("Enter")
    page.get_by_role("group", name="Versions of this answer").get_by_text("2/2").wait_for()
    first, second = (chat.json for chat in provider.chats)
    assert (first["temperature"], first["reasoning_effort"], first["model"], second["model"]) == (
        0.3,
        "low",
        "alpha",
        "beta",
    )
    page.get_by_text("No chats yet.").wait_for()
    assert Conversation.objects.get().temporary


def test_models_answer_side_by_side_and_one_is_kept(ordering: Ordering, provider: ScriptedProvider) -> None:  # noqa: F811
    page, gate = ordering.page, threading.Event()
    provider.on("alpha", stream("From alpha."))
    provider.on("beta", held("From beta, ", "never said", gate))
    page.get_by_role("button", name="Compare models").click()
    for name in ("alpha", "beta"):
        page.get_by_role("option", name=name).click()
    page.get_by_role("dialog").get_by_role("button", name="Compare").click()
    ordering.ask("Who are you?")
    alpha, beta = (page.locator(".lane").filter(has_text=name) for name in ("alpha", "beta"))
    alpha.get_by_text("From alpha.").wait_for()
    beta.get_by_text("From beta,").wait_for()
    assert ordering.page.get_by_role("button", name="Send").is_disabled()
    found = check(ordering, "order-compare")
    page.get_by_role("button", name="Stop beta").click()
    beta.get_by_text("Stopped.").wait_for()
    gate.set()
    page.get_by_role("button", name="Keep the answer of alpha").click()
    versions = page.get_by_role("group", name="Versions of this answer")
    versions.get_by_text("1/2").wait_for()
    assert ordering.answers.count() == 1
    page.get_by_role("button", name="Options of this answer").click()
    page.get_by_role("menuitem", name="Versions side by side").click()
    beta.get_by_text("From beta,").wait_for()
    page.get_by_role("button", name="Keep the answer of beta").click()
    versions.get_by_text("2/2").wait_for()
    ordering.menu("Branch map")
    page.get_by_text("2 branches.").wait_for()
    found += check(ordering, "order-branches")
    page.get_by_role("button", name="From alpha.").click()
    versions.get_by_text("1/2").wait_for()
    assert found == []


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_every_dialog_is_accessible_and_fits(
    gateway: LiveGateway,
    browser: Browser,  # noqa: F811
    provider: ScriptedProvider,  # noqa: F811
    width: int,
    scheme: str,
) -> None:
    for number in range(4):
        kept(f"Chat {number}", folder="Work" if number < 2 else "", tags=["sql"] if number == 3 else [])
    made = Ordering(browser, gateway, "alice", width=width, scheme=scheme)
    page, found = made.page, []
    made.open(Conversation.objects.get(title="Chat 1"))
    for command in (
        "Choose a model",
        "Instructions for this chat",
        "Share this chat",
        "Shared links",
        "Import and export",
        "Memory",
    ):
        made.command(command)
        page.get_by_role("dialog").wait_for()
        found += check(made, f"order-{width}-{scheme}-{command}")
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
    made.menu("Move to folder")
    page.get_by_role("combobox").wait_for()
    found += check(made, f"order-{width}-{scheme}-folder")
    page.keyboard.press("Escape")
    if width < 1024:
        page.get_by_role("button", name="Show chats", exact=True).click()
    made.show("Select chats")
    page.get_by_role("toolbar").get_by_role("button", name="All").click()
    found += check(made, f"order-{width}-{scheme}-select")
    assert found + made.complaints == []


def test_prompts_are_kept_called_by_a_slash_and_filled_in(ordering: Ordering) -> None:
    page, found = ordering.page, []
    ordering.command("Prompts")
    page.get_by_role("button", name="New prompt").click()
    page.get_by_label("Name").fill("Sum")
    page.get_by_label("Title").fill("In short")
    page.get_by_label("Text").fill("In {{words}} words:\n{{text}}")
    found += check(ordering, "prompts-edit")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Change: sum").click()
    page.get_by_label("Title").fill("In a few words")
    page.get_by_label("Title").press("Enter")
    page.get_by_text("In a few words").wait_for()
    found += check(ordering, "prompts-library")
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    Prompt.objects.create(owner=User.objects.get(username="alice"), name="fix", text="Correct my spelling.")
    ordering.box.click()
    page.keyboard.type("/")
    page.get_by_role("option", name="/fix", selected=True).wait_for()
    assert page.locator("#message").get_attribute("aria-activedescendant") == "slash-0"
    found += check(ordering, "prompts-slash")
    page.keyboard.press("ArrowDown")
    page.get_by_role("option", name="/sum", selected=True).wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("listbox").wait_for(state="detached")
    page.locator("#message").press_sequentially("f")
    assert page.get_by_role("listbox").count() == 0
    ordering.box.fill("")
    ordering.box.press_sequentially("/su")
    page.get_by_role("option", name="/fix").wait_for(state="detached")
    page.get_by_role("option", name="/sum", selected=True).wait_for()
    page.keyboard.press("Enter")
    page.get_by_label("words").fill("ten")
    page.get_by_label("text").fill("Herons {{fish}}.")
    found += check(ordering, "prompts-fill")
    page.keyboard.press("Control+Enter")
    page.get_by_role("dialog").wait_for(state="detached")
    expect(ordering.box).to_have_value("In ten words:\nHerons {{fish}}.")
    expect(ordering.box).to_be_focused()
    ordering.command("Prompts")
    page.get_by_role("button", name="/fix").click()
    expect(ordering.box).to_have_value("In ten words:\nHerons {{fish}}.\n\nCorrect my spelling.")
    ordering.command("Prompts")
    page.get_by_role("button", name="Delete: sum").click()
    page.get_by_text("1 of 200 prompts").wait_for()
    assert found == []
