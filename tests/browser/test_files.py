"""Files in a real browser: the admin's list, and that nothing a file holds runs when it is opened."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from playwright.sync_api import expect

from media.links import signed_url
from media.store import keep
from tests import people
from tests.browser.test_admin import Watched, browser  # noqa: F401 - a fixture
from tests.support.gateway import LiveGateway

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SCRIPT = b"<!doctype html><title>quiet</title><script>document.title = 'ran'</script>"
FRAMED = """address => {
  const frame = document.createElement("iframe");
  frame.src = address;
  document.body.append(frame);
}"""
DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg"><script>document.title = "ran"</script></svg>'


def photo(colour: str) -> bytes:
    made = BytesIO()
    Image.new("RGB", (900, 600), colour).save(made, "JPEG")
    return made.getvalue()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_admins_list_shows_ones_own_pictures(
    gateway: LiveGateway,
    browser: Browser,  # noqa: F811
    width: int,
    scheme: str,
) -> None:
    charlie, alice = people.charlie(), people.alice()
    gateway.reload()
    own = keep(charlie.pk, photo("teal"), label="a-holiday-by-the-sea-with-a-long-name.jpg", source="upload")
    keep(alice.pk, photo("red"), label="hers.jpg", source="generated")
    keep(alice.pk, b"words", label="notes.txt", source="upload")
    watched = Watched(browser, gateway.url, width, scheme)
    watched.sign_in("charlie")
    paths = (
        "/admin/media/storedfile/",
        f"/admin/media/storedfile/{own.pk}/change/",
        f"/admin/auth/user/{alice.pk}/change/",
    )
    for path in paths:
        watched.go(path)
        wide = watched.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 1, f"{path} is {wide} px too wide"
        if "storedfile" in path:
            assert watched.page.locator("img.preview").count() == 1
            # Not by a function that the page waits for: its policy lets nobody evaluate texts.
            expect(watched.page.locator("img.preview")).to_have_js_property("naturalWidth", 400)
        if folder := os.environ.get("SCREENSHOTS"):
            name = path.strip("/").replace("/", "-")
            watched.page.screenshot(path=Path(folder) / f"{name}-{scheme}.png", full_page=True)
    assert watched.complaints == []


def test_nothing_in_a_file_runs(gateway: LiveGateway, browser: Browser) -> None:  # noqa: F811
    alice = people.alice()
    gateway.reload()
    watched = Watched(browser, gateway.url)
    for data, declared in ((SCRIPT, "text/html"), (DRAWING, "image/svg+xml"), (DRAWING, "text/xml")):
        stored = keep(alice.pk, data, label="open-me.html", source="upload", content_type=declared)
        with watched.page.expect_download() as download:
            watched.page.evaluate("address => { location.href = address }", signed_url(stored, gateway.url))
        assert Path(download.value.path()).read_bytes() == data
        assert "ran" not in watched.page.title()
        # Put into a page of our own it does not run either.
        watched.go("/accounts/login/")
        watched.page.evaluate(FRAMED, signed_url(stored, ""))
        assert "ran" not in watched.page.title()
    shown = keep(alice.pk, photo("teal"), label="a.jpg", source="upload")
    answer = watched.page.goto(signed_url(shown, gateway.url))
    assert answer is not None
    assert answer.status == 200
    assert watched.page.evaluate("document.images[0].naturalWidth") == 900
