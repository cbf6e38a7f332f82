"""What the tests of the chat page share: a user at the page over a scripted provider, and what axe says of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversations.models import Conversation, Message
from tests.browser.test_admin import Watched
from tests.support.gateway import LiveGateway

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from playwright.sync_api import Browser, Locator

AXE = Path(__file__).parent / "vendor/axe-core-4.14.1/axe.min.js"
RUN_AXE = """async () => {
  const found = await axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] });
  return found.violations.map(({ id, nodes }) => id + ": " + nodes.map((node) => node.html + " " +
    node.any.map((check) => check.message).join("; ")).join(" | "));
}"""


def long_chat(owner: User, count: int) -> list[Message]:
    """A chat of `owner` in which questions and answers take turns, message 0 first."""
    chat = Conversation.objects.create(owner=owner, title="A long talk")
    rows: list[Message] = []
    for number in range(count):
        text = f"Message number {number}." + (f"\n\n```python\nprint({number})\n```\n" if number % 10 == 9 else "")
        asked = {"role": "assistant", "model": "alpha"} if number % 2 else {"role": "user"}
        parent = rows[-1] if rows else None
        row = Message(conversation=chat, owner_id=owner.pk, parent=parent, seq=number + 1, content=text, **asked)
        row.text = text
        rows.append(row)
    Message.objects.bulk_create(rows)
    chat.active_leaf = rows[-1].pk
    chat.save()
    return rows


class Chatting(Watched):
    """A user at the chat page."""

    def __init__(self, browser: Browser, gateway: LiveGateway, name: str, **options: Any) -> None:
        super().__init__(browser, gateway.url, **options)
        self.sign_in(name, "/chat/")
        self.box.wait_for()

    @property
    def box(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message", exact=True)

    @property
    def answers(self) -> Locator:
        return self.page.locator("article:not(.ask)")

    @property
    def questions(self) -> Locator:
        return self.page.locator("article.ask")

    @property
    def listed(self) -> Locator:
        return self.page.locator(".side .list .item")

    def ask(self, words: str) -> None:
        """Writes it, and sends it once the page can."""
        self.box.fill(words)
        self.page.locator(".go[aria-label=Send]:enabled").wait_for()
        self.box.press("Enter")

    def menu(self, entry: str) -> None:
        """Chooses in the menu of the chat that is open."""
        self.page.get_by_role("button", name="Options of this chat").click()
        self.page.get_by_role("menuitem", name=entry).click()

    def faults(self) -> list[str]:
        """What axe finds. Evaluated from outside, so that the page's policy stays as it is."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        return list(self.page.evaluate(RUN_AXE))

    def picture(self, name: str) -> None:
        """With SCREENSHOTS=folder: for who wants to look."""
        if folder := os.environ.get("SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png")
