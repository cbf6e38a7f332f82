"""A chat of a thousand messages: opened at its end, walked, jumped through, searched, and gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User

from tests.browser.chatting import Chatting, long_chat
from tests.browser.test_admin import browser  # noqa: F401 - a fixture
from tests.browser.test_chat import chatting, provider  # noqa: F401 - fixtures
from tests.support.provider import ScriptedProvider

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
IN_VIEW = """turn => {
  const [a, b] = [turn.getBoundingClientRect(), turn.closest(".log").getBoundingClientRect()];
  return a.bottom > b.top && a.top < b.bottom;
}"""

IN_THE_MIDDLE = """log => {
  const box = log.getBoundingClientRect();
  return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2).closest("[id^=m-]").id;
}"""


def test_a_thousand_messages(chatting: Chatting, provider: ScriptedProvider) -> None:  # noqa: F811
    rows = long_chat(User.objects.get(username="alice"), 1000)
    page = chatting.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("/conversations/")[2]))

    def turn(number: int) -> Locator:
        return page.locator(f"#m-{rows[number].pk}")

    page.goto(f"{chatting.url}/chat/{rows[0].conversation_id}/")
    turn(999).get_by_text("Message number 999.").wait_for()
    assert turn(999).evaluate(IN_VIEW)
    assert turn(900).count() == 0
    # Up by four hundred messages: more is fetched before it is reached, and the place of what is read is held.
    page.locator(".log").hover()
    for _ in range(200):
        if turn(600).count():
            break
        page.mouse.wheel(0, -600)
        page.wait_for_timeout(20)
    read = page.locator(".log").evaluate(IN_THE_MIDDLE)
    page.wait_for_timeout(200)
    assert page.locator(f"#{read}").evaluate(IN_VIEW)
    assert page.locator(".far").count() > 100
    assert page.locator("*").count() < 15_000
    # By the server's search to where nothing is loaded yet, in one request.
    before = len(asked)
    page.keyboard.press("Control+f")
    page.get_by_role("combobox", name="Find in this chat").fill("number 17.")
    page.get_by_role("option").get_by_text("number 17.").wait_for()
    page.keyboard.press("Enter")
    turn(17).get_by_text("Message number 17.").wait_for()
    turn(17).and_(page.locator("[data-found]")).wait_for()
    assert turn(17).evaluate(IN_VIEW)
    assert len([url for url in asked[before:] if "around=" in url]) == 1
    # Both ways from there.
    turn(0).wait_for(state="attached")
    page.mouse.wheel(0, 1500)
    turn(60).wait_for(state="attached")
    assert turn(999).count() == 0
    # What is asked now is asked at the end.
    chatting.ask("And now?")
    page.get_by_text("And now?", exact=True).last.wait_for()
    turn(998).wait_for(state="attached")
    provider.wait_for(1, 20)
    said = [message["content"] for message in provider.chats[0].json["messages"]]
    assert len(said) == 1001
    assert said[-2].startswith("Message number 999.")
