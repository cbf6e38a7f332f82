"""The chat page as an installed app: what browsers want of one, and what it shows where the server is not reached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from conversations import installable
from tests import people
from tests.browser.chatting import Chatting
from tests.browser.test_admin import browser  # noqa: F401 - a fixture
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
KEPT = """async () => {
  const kept = {};
  for (const name of await caches.keys()) {
    const cache = await caches.open(name);
    for (const request of await cache.keys()) {
      kept[new URL(request.url).pathname] = await (await cache.match(request, { ignoreVary: true })).text();
    }
  }
  return kept;
}"""
ACTIVE = "() => navigator.serviceWorker.ready.then(({ scope, active }) => [scope, active.scriptURL])"
CONTROLLED = "() => navigator.serviceWorker.controller?.state"


@pytest.fixture
def installed(
    gateway: LiveGateway,
    browser: Browser,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Chatting]:
    # As where file names have hashes.
    monkeypatch.setattr(installable, "ManifestFilesMixin", object)
    with ScriptedProvider(models=["alpha"]) as scripted:
        gateway.add_provider(scripted, "alpha", name="Rack")
        people.alice()
        gateway.reload()
        yield Chatting(browser, gateway, "alice", workers="allow")


def holds(page: Page, nothing: bool) -> None:
    """Waits until the browser keeps nothing of the page, or its shell."""
    for _ in range(100):
        kept = page.evaluate(KEPT)
        if (not kept) if nothing else "/chat/offline/" in kept:
            return
        page.wait_for_timeout(50)
    raise AssertionError(sorted(kept))


def test_the_page_can_be_installed_and_opens_without_a_server(installed: Chatting) -> None:
    page = installed.page
    # Chrome's own list of what keeps it from being installed; windows of tests are private ones.
    session = installed.context.new_cdp_session(page)
    told = session.send("Page.getAppManifest")
    assert told["errors"] == []
    assert json.loads(told["data"])["start_url"] == "/chat/"
    against = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert {fault["errorId"] for fault in against} <= {"in-incognito"}
    assert page.evaluate(ACTIVE) == [f"{installed.url}/chat/", f"{installed.url}/chat/worker.js"]
    page.reload()
    installed.ask("A secret question")
    page.get_by_role("button", name="Answer again").wait_for()
    assert page.evaluate(CONTROLLED) == "activated"
    kept = page.evaluate(KEPT)
    assert {"/chat/offline/", "/static/conversations/chat/app.js"} <= kept.keys()
    assert [path for path in kept if not path.startswith("/static/") and path != "/chat/offline/"] == []
    private = ("alice", "csrfmiddlewaretoken", "secret question")
    assert [path for path, text in kept.items() if any(word in text.lower() for word in private)] == []
    assert installed.complaints == []

    installed.context.set_offline(True)
    page.reload()
    page.get_by_role("heading", name="You’re offline.").wait_for(timeout=5000)
    assert page.get_by_role("heading").count() == 1
    installed.picture("offline")
    assert installed.faults() == []
    installed.context.set_offline(False)
    installed.questions.get_by_text("A secret question").wait_for()

    page.get_by_role("button", name="Alice").click()
    page.get_by_role("menuitem", name="Sign out").click()
    page.locator("#id_login").wait_for()
    holds(page, nothing=True)
    installed.sign_in("alice", "/chat/")
    installed.box.wait_for()
    holds(page, nothing=False)
