"""From the link that the first start prints to an answer that streams, in a browser alone."""

from __future__ import annotations

import io
import re
import threading
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command

from gateway.models import Credential, ModelAlias, Provider
from tests.browser.chatting import Chatting
from tests.browser.test_admin import Watched, browser  # noqa: F401 - a fixture
from tests.browser.test_chat import check, held
from tests.support.answers import error
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
SECRET = "sk-pasted-once-0123456789"
PASSWORD = "nine slow otters read"


class Newcomer(Chatting):
    """Nobody yet: has a terminal with a link in it."""

    def __init__(self, browser: Browser, gateway: LiveGateway, **options: object) -> None:  # noqa: F811
        Watched.__init__(self, browser, gateway.url, **options)  # type: ignore[arg-type]

    def choose_password(self) -> None:
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_label("The same again").fill(PASSWORD)
        self.press("Set password and sign in")

    def connect(self, address: str) -> None:
        self.page.get_by_role("radio", name="Something else").check()
        self.page.get_by_role("textbox", name="Address").fill(address)
        self.page.get_by_label("API key").fill(SECRET)
        self.press("Connect and test")


def printed_link(gateway: LiveGateway) -> str:
    told = io.StringIO()
    call_command("firstrun", stdout=told)
    gateway.reload()
    [path] = re.findall(r"(/setup/\S+/)$", told.getvalue(), re.MULTILINE)
    return str(path)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_printed_link_leads_to_a_streamed_answer(
    gateway: LiveGateway,
    browser: Browser,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    scheme: str,
    width: int,
) -> None:
    link = printed_link(gateway)
    me = Newcomer(browser, gateway, width=width, scheme=scheme)
    found: list[str] = []
    me.go(link)
    found += check(me, f"first-run-{width}-password")
    me.choose_password()
    me.page.get_by_role("heading", name="Connect a provider").wait_for()
    found += check(me, f"first-run-{width}-provider")
    with ScriptedProvider(models=["tiny", "grand"]) as scripted:
        # The model is really asked: one that is listed and refused is not kept.
        scripted.enqueue(error(401, "no such key"), error(401, "no such key"))
        me.connect(scripted.base_url)
        assert "refused the credential" in me.page.get_by_role("alert").inner_text()
        assert not Provider.objects.exclude(adapter="demo").exists()
        assert SECRET not in me.text()
        found += check(me, f"first-run-{width}-refused")
        me.connect(scripted.base_url)
        me.page.get_by_text("2 models found; tiny answered").wait_for()
        found += check(me, f"first-run-{width}-works")
        me.press("Continue to your first chat")
        gate = threading.Event()
        scripted.on("tiny", held("A first half, ", "and a second.", gate))
        me.ask("Hello")
        me.answers.get_by_text("A first half,").wait_for()
        gate.set()
        me.answers.get_by_text("A first half, and a second.").wait_for()
        me.page.get_by_role("button", name="Answer again").wait_for()
    assert Credential.objects.get().secret.reveal() == SECRET
    assert [str(target.model) for target in ModelAlias.objects.get(name="default").targets.all()]
    stranger = Newcomer(browser, gateway)
    stranger.go(link)
    stranger.page.get_by_role("heading", name="This link does not work").wait_for()
    stranger.go("/setup/provider/")
    assert "/accounts/login/" in stranger.page.url
    me.go("/setup/provider/")
    assert me.page.url.endswith("/chat/")
    assert link.split("/")[2] not in caplog.text
    assert (found, me.complaints) == ([], [])


def test_the_demo_answers_who_skips(gateway: LiveGateway, browser: Browser) -> None:  # noqa: F811
    me = Newcomer(browser, gateway)
    me.go(printed_link(gateway))
    me.choose_password()
    me.press("Skip: try it with the demo first")
    me.ask("Hello")
    me.page.get_by_role("button", name="Answer again").wait_for()
    assert "demo provider" in me.answers.inner_text()
    assert me.complaints == []
