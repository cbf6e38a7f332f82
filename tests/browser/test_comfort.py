"""What the menu lets one choose: contrast, the language, and a word about an answer that ended while nobody looked."""

from __future__ import annotations

import threading

import pytest

from tests.browser.chatting import Chatting
from tests.browser.test_admin import browser  # noqa: F401 - a fixture
from tests.browser.test_chat import chatting, check, held, provider  # noqa: F401 - fixtures
from tests.support.provider import ScriptedProvider

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
# A headless browser has nobody to tell, and its pages are never hidden.
TOLD = """() => {
  window.told = [];
  window.Notification = class extends Notification {
    constructor(title, options) { super(title, options); window.told.push([title, options.body]); }
  };
  Object.defineProperty(document, "hidden", { get: () => true });
}"""


def test_the_menu_chooses_the_language(chatting: Chatting) -> None:  # noqa: F811
    page = chatting.page
    for entry, name, code in (("Language English", "Deutsch", "de"), ("Deutsch", "简体中文", "zh-Hans")):
        page.locator(".me").click()
        page.get_by_role("menuitem", name=entry).click()
        page.get_by_role("menuitem", name=name, exact=True).click()
        page.locator(f":root[lang={code}] .me").wait_for()
    assert page.url.endswith("/chat/")


def test_high_contrast_and_notifications(chatting: Chatting, provider: ScriptedProvider) -> None:  # noqa: F811
    page = chatting.page

    def choose(entry: str) -> None:
        page.locator(".me").click()
        page.get_by_role("menuitem", name=entry).click()

    choose("High contrast")
    page.reload()
    page.locator(":root[data-contrast=more]").wait_for()
    chatting.box.wait_for()
    assert check(chatting, "contrast") == []
    chatting.context.grant_permissions(["notifications"])
    choose("Notify me of answers")
    page.get_by_text("You’ll be told of answers").wait_for()
    gate = threading.Event()
    provider.on("alpha", held("Begun, ", "done.", gate))
    chatting.ask("A long question")
    page.get_by_text("Begun,").wait_for()
    page.evaluate(TOLD)
    gate.set()
    page.get_by_role("button", name="Answer again").wait_for()
    for _ in range(100):
        if page.evaluate("window.told.length"):
            break
        page.wait_for_timeout(50)
    assert page.evaluate("window.told") == [["An answer is there", "A long question"]]
