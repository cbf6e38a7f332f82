"""Two tabs of one user, and a page whose socket is refused: what happens in one place is seen in the others."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests import people
from tests.browser.chatting import Chatting
from tests.browser.test_admin import browser  # noqa: F401 - a fixture
from tests.support.answers import Hold, events_of, sse, stream
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]


def test_another_tab_sees_it_come_and_one_without_a_socket_looks(
    gateway: LiveGateway,
    provider: ScriptedProvider,
    browser: Browser,  # noqa: F811
) -> None:
    alice = people.alice()
    gateway.add_provider(provider, "alpha")
    hold = threading.Event()
    told = events_of([{"content": "So far"}, {"content": " and on."}])
    provider.enqueue(stream("First."), sse([*told[:2], Hold(hold), *told[2:]]))
    first = Chatting(browser, gateway, "alice")
    second = first.page.context.new_page()
    second.goto(f"{gateway.url}/chat/")
    third = first.page.context.new_page()
    third.route_web_socket("**/ws/", lambda socket: socket.close(code=4000))
    third.goto(f"{gateway.url}/chat/")
    second.get_by_role("textbox", name="Message", exact=True).wait_for()

    first.ask("What is new?")
    expect(first.answers).to_contain_text("First.")
    # A chat that began elsewhere is in the list, and opens.
    listed = second.locator(".side .list .item")
    expect(listed).to_have_count(1, timeout=15_000)
    listed.locator("a").click()
    expect(second.locator("article:not(.ask)")).to_contain_text("First.")
    # An answer that begins elsewhere is seen while it comes, and a new name at once.
    first.ask("And now?")
    expect(second.locator("article.live")).to_contain_text("So far", timeout=15_000)
    hold.set()
    expect(second.locator("article:not(.ask)").last).to_contain_text("So far and on.", timeout=15_000)
    chat = first.page.url.rstrip("/").rsplit("/", 1)[-1]
    renamed = gateway.http.patch(
        f"/backend-api/v2/conversations/{chat}", json={"title": "Named elsewhere"},
        headers=gateway.auth(gateway.make_key(alice)),
    )  # fmt: skip
    assert renamed.status_code == 200
    for page in (first.page, second):
        expect(page.locator(".side .list .item .cut")).to_have_text("Named elsewhere", timeout=15_000)
        expect(page.locator("h1")).to_have_text("Named elsewhere")
    expect(third.locator(".side .list .item .cut")).to_have_text("Named elsewhere", timeout=30_000)
