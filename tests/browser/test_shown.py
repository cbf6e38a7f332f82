"""Blocks that are shown as what they say: a page in a sandbox, a diagram as a picture, a table to take away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.chatting import Chatting
from tests.browser.test_admin import browser  # noqa: F401 - a fixture
from tests.browser.test_chat import chatting, check, provider  # noqa: F401 - fixtures
from tests.support.answers import stream
from tests.support.provider import ScriptedProvider

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
SAID = """A page:

```html
<h1>A page</h1><p id="told">nothing</p>
<script>
const tries = [() => document.cookie, () => localStorage.length, () => parent.document.title, () => top.location.href];
const refused = tries.filter((attempt) => { try { attempt(); return false; } catch { return true; } }).length;
fetch("/v1/models").then(() => "reached", () => "not reached").then((reached) => {
  document.getElementById("told").textContent = refused + " refused, server " + reached + ", " + origin;
});
</script>
```

```mermaid
graph LR
  A[Ask] --> B{Who?}
  B --> C[Answer]
```

| name | cost |
|---|--:|
| a, "b" | -1.5 |
| =SUM(A1) | 2 |
"""


def test_pages_diagrams_and_tables(chatting: Chatting, provider: ScriptedProvider, tmp_path: Path) -> None:  # noqa: F811
    page = chatting.page
    provider.on("alpha", stream(SAID))
    chatting.ask("Show me")
    page.get_by_role("button", name="Preview").click()
    inside = page.frame_locator("iframe.preview")
    inside.get_by_role("heading", name="A page").wait_for()
    inside.get_by_text("4 refused, server not reached, null").wait_for()
    picture = page.locator("img.drawn")
    picture.wait_for()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth > 100)")
    # Its colours are in the picture, so it is drawn anew when light becomes dark.
    from playwright.sync_api import expect

    light = str(picture.get_attribute("src"))
    page.emulate_media(color_scheme="dark")
    expect(picture).not_to_have_attribute("src", light)
    page.emulate_media(color_scheme="light")
    found = check(chatting, "shown")
    page.get_by_role("button", name="Text").click()
    page.locator("pre", has_text="graph LR").wait_for()
    page.get_by_role("button", name="Close preview").click()
    assert page.locator("iframe.preview").count() == 0
    page.locator(".tbl").hover()
    with page.expect_download() as taken:
        page.get_by_role("button", name="CSV").click()
    taken.value.save_as(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text("utf-8-sig") == 'name,cost\n"a, ""b""",-1.5\n\'=SUM(A1),2\n'
    assert found == []
    # The sandbox tells of what it refuses, in its own document and not in the page's.
    chatting.complaints[:] = [text for text in chatting.complaints if "/v1/models" not in text]
