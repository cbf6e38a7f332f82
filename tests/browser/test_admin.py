"""An administrator's whole way in a real browser: no page may break the content security policy or log an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from gateway.models import ApiKey, Credential, Price, Provider, ProviderModel
from tests import people
from tests.support import services
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SECRET = "sk-marked-secret-0123456789-tail"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A microphone that beeps, and a user who lets pages hear it.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error("CSP " + event.violatedDirective + " " + event.blockedURI));
"""
PAGES = (
    "/admin/", "/admin/?period=7d", "/admin/gateway/provider/", "/admin/gateway/provider/add/?preset=groq",
    "/admin/gateway/providermodel/", "/admin/gateway/providermodel/add/", "/admin/gateway/modelalias/",
    "/admin/gateway/modelalias/add/", "/admin/gateway/apikey/", "/admin/gateway/apikey/add/",
    "/admin/gateway/usageevent/", "/admin/route/", "/admin/route/?model=default",
    "/admin/auth/user/", "/admin/auth/user/add/", "/admin/auth/group/add/", "/admin/password_change/", "/",
    "/accounts/password/change/", "/accounts/logout/", "/admin/media/storedfile/",
)  # fmt: skip

OBJECTS = {"provider": Provider, "providermodel": ProviderModel, "apikey": ApiKey}


class Watched:
    """A page whose complaints and contents are kept."""

    def __init__(
        self, browser: Browser, url: str, width: int = 1280, scheme: str = "light", workers: str = "block"
    ) -> None:
        self.url = url
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, service_workers=workers
        )
        self.context.add_init_script(WATCH)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.bodies: list[str] = []
        self.page.on(
            "console", lambda note: note.type == "error" and self.complaints.append(f"{self.page.url}: {note.text}")
        )
        self.page.on("pageerror", lambda fault: self.complaints.append(f"{self.page.url}: {fault}"))

    def go(self, path: str) -> None:
        self.page.goto(self.url + path)

    def press(self, name: str) -> None:
        """Clicks a button or link and waits for the page that it leads to."""
        with self.page.expect_navigation():
            self.page.locator(f"button:has-text('{name}'), input[value='{name}'], a:has-text('{name}')").first.click()

    def text(self) -> str:
        return self.page.content()

    def sign_in(self, name: str, to: str = "/admin/") -> None:
        self.go(f"/accounts/login/?next={to}")
        self.page.fill("#id_login", name)
        self.page.fill("#id_password", people.PASSWORD)
        self.press("Sign in")


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    services.require("browser")
    from playwright.sync_api import sync_playwright

    # Playwright's synchronous interface runs a loop in this thread; Django would refuse queries beside it.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=services.CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def test_an_admin_connects_a_provider_and_makes_a_key(gateway: LiveGateway, browser: Browser) -> None:
    people.charlie()
    gateway.reload()
    with ScriptedProvider(models=["alpha", "org/beta"]) as scripted:
        watched = Watched(browser, gateway.url)
        watched.sign_in("charlie")
        assert "No provider is connected yet." in watched.text()
        add_from_preset(watched, scripted)
        watched.press("Test connection")
        assert "works: 2 models listed" in watched.text()
        watched.press("Sync models")
        assert "2 added" in watched.text()
    no_secret_anywhere(watched)
    make_and_revoke_key(watched)
    assert watched.complaints == []


def add_from_preset(watched: Watched, scripted: ScriptedProvider) -> None:
    watched.press("Add a provider")
    watched.page.select_option("#preset", "vllm")
    watched.press("Fill in")
    watched.page.fill("#id_name", "Rack")
    watched.page.fill("#id_base_url", scripted.base_url)
    assert watched.page.is_checked("#id_allow_private")
    watched.page.fill("#id_credentials-0-new_secret", SECRET)
    watched.press("Save and continue editing")
    assert Provider.objects.get().preset == "vllm"
    assert Credential.objects.get().secret.reveal() == SECRET


def no_secret_anywhere(watched: Watched) -> None:
    pk = Provider.objects.get().pk
    paths = [f"/admin/gateway/provider/{pk}/{page}/" for page in ("change", "history", "delete")]
    for path in ("/admin/", "/admin/gateway/provider/", *paths):
        watched.go(path)
        assert SECRET not in watched.text()
    watched.go(paths[0])
    assert "ends in tail" in watched.text()


def make_and_revoke_key(watched: Watched) -> None:
    watched.go("/admin/gateway/apikey/add/")
    watched.page.locator(".select2-selection").click()
    watched.page.keyboard.type("charlie")
    watched.page.locator(".select2-results__option", has_text="charlie").click()
    watched.page.fill("#id_name", "laptop")
    watched.press("Save")
    plain = watched.page.locator("[data-secret]").inner_text()
    assert re.fullmatch(r"sk-gw-[0-9a-f]{8}-[\w-]{43}", plain)
    watched.press("saved it")
    assert plain not in watched.text()
    watched.press("laptop")
    assert plain not in watched.text()
    watched.press("Revoke")
    assert "is revoked" in watched.text()
    assert ApiKey.objects.get().revoked_at is not None


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_every_page_keeps_to_the_policy_and_fits(
    gateway: LiveGateway, browser: Browser, width: int, scheme: str
) -> None:
    key = gateway.make_key(people.charlie(), "laptop")
    with ScriptedProvider() as scripted:
        gateway.add_provider(scripted, "alpha", "organisation/a-model-with-quite-a-long-name:latest")
        assert gateway.client(key).chat.completions.create(model="alpha", messages=[{"role": "user", "content": "Hi"}])
    Price.objects.create(model=ProviderModel.objects.first(), input=1, output=1, valid_from="2026-01-01T00:00Z")
    watched = Watched(browser, gateway.url, width, scheme)
    watched.sign_in("charlie")
    rows = (f"/admin/gateway/{name}/{model.objects.first().pk}/change/" for name, model in OBJECTS.items())
    for path in (*PAGES, *rows):
        watched.go(path)
        assert watched.page.locator("h1").count() >= 1, path
        wide = watched.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 1, f"{path} is {wide} px too wide"
    assert watched.complaints == []


def test_the_theme_toggle_works(gateway: LiveGateway, browser: Browser) -> None:
    people.charlie()
    gateway.reload()
    watched = Watched(browser, gateway.url)
    watched.sign_in("charlie")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = watched.page.evaluate(colour)
    watched.page.locator("#user-tools .theme-toggle").click()
    assert watched.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert watched.page.evaluate(colour) != light
    watched.page.reload()
    assert watched.page.evaluate(colour) != light


def test_signing_in_and_out_works_without_scripts(gateway: LiveGateway, browser: Browser) -> None:
    people.alice()
    gateway.reload()
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(gateway.url + "/accounts/login/")
    page.fill("#id_login", "alice")
    page.fill("#id_password", people.PASSWORD)
    page.click("button[type=submit]")
    assert "Hello, alice" in page.content()
    page.click("text=Sign out")
    assert "Sign in to g4fsite" in page.content()
