"""What dead processes, bad rows and a stopping server leave behind, and what viewers and callers are told of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from conversations.generation import rows
from conversations.generation.alive import Mark, dead
from conversations.generation.keeper import Keeper
from conversations.generation.rows import Progress
from conversations.models import Conversation, Generation, Message
from gateway.authentication import Principal
from gateway.errors import ServerStopping
from gateway.live import answers, ends_with_right
from tests.support.browser import Browser, Seen
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider


@pytest.fixture
def browser(gateway: LiveGateway, provider: ScriptedProvider) -> Iterator[Browser]:
    gateway.add_provider(provider, "scripted")
    made = Browser(gateway.url, gateway.key)
    yield made
    made.close()


def begun(owner: User, worker: str, text: str = "", seq: int = 0) -> Generation:
    """An answer that a worker is making."""
    conversation = Conversation.objects.create(owner=owner)
    message = Message.objects.create(
        conversation=conversation, owner=owner, seq=1, role="assistant", content=text, text=text, state="streaming"
    )
    return Generation.objects.create(
        message=message, conversation=conversation, owner=owner, state="streaming", worker=worker, seq=seq
    )


class Making:
    """An answer as its keeper sees it."""

    def __init__(self, row: Generation, seq: int) -> None:
        self.generation = row.pk
        self.stopped = False
        self._said = Progress(row.pk, row.message_id, seq, "said", "")

    def progress(self) -> Progress:
        return self._said

    def lost(self) -> None:
        self.stopped = True


@pytest.mark.django_db(transaction=True)
def test_one_answer_that_cannot_be_saved_holds_up_no_other(alice: User):
    keeper = Keeper()
    keeper.worker = "host:1:me"
    # No column takes the number of the first.
    made = [Making(begun(alice, keeper.worker), seq) for seq in (2**70, 5, 6)]
    Generation.objects.filter(pk=made[2].generation).update(stop_requested=True)
    for item in made:
        keeper.add(item)
    keeper._look_after(made)
    kept = {row.pk: (row.seq, row.message.text) for row in Generation.objects.select_related("message")}
    assert [kept[item.generation] for item in made] == [(0, ""), (5, "said"), (6, "said")]
    assert [item.stopped for item in made] == [False, False, True]


@pytest.mark.django_db(transaction=True)
def test_whoever_saw_more_than_was_kept_is_told_so(gateway: LiveGateway, browser: Browser):
    row = begun(User.objects.get(username="caller"), "host:1:dead", "as far as kept", seq=3)
    assert rows.left_by(["host:1:other"]) == []
    assert rows.left_by(["host:1:dead"]) == [row.pk]
    conversation, seen = str(row.conversation_id), Seen(numbers=[7])
    browser.rejoin(conversation, seen)
    assert [event["type"] for event in seen.events] == ["snapshot", "end"]
    assert (seen.events[0]["content"], seen.state) == ("as far as kept", "interrupted")
    # And once: a browser that comes back again is told that there is no more.
    assert browser.rejoin(conversation, seen)
    assert len(seen.events) == 2


@pytest.mark.django_db(transaction=True)
def test_a_key_whose_answer_was_interrupted_without_a_word_runs_again(browser: Browser, provider: ScriptedProvider):
    body = {"json": browser.body("hi"), "headers": {"idempotency-key": "one"}}
    first = browser.send(None, **body)
    Message.objects.filter(role="assistant").update(text="", content="", usage=None, state="interrupted")
    Generation.objects.update(state="interrupted")
    second = browser.send(None, **body)
    assert (second.state, second.text) == ("done", first.text)
    assert len(provider.chats) == 2
    assert browser.send(None, **body).ids == second.ids


def test_a_lock_tells_who_is_alive(tmp_path: Path):
    mine, other = Mark(tmp_path, "host:1:mine"), Mark(tmp_path, "host:2:other")
    mine.hold()
    other.hold()
    with dead(tmp_path) as found:
        assert found == []
    assert other._fd is not None
    # As the kernel does for a process that is killed.
    os.close(other._fd)
    with pytest.raises(RuntimeError), dead(tmp_path) as found:
        raise RuntimeError("the database was away")
    with dead(tmp_path) as found:
        assert found == ["host:2:other"]
    mine.release()
    assert list(tmp_path.iterdir()) == []


def test_what_is_asked_in_a_users_name_ends_with_the_server():
    async def ask() -> None:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(ServerStopping), ends_with_right(Principal(1, "ann", is_staff=False)):
            answers.end_all(ServerStopping)
            await asyncio.sleep(10)
        assert not task.cancelling()

    asyncio.run(ask())
    assert not len(answers)
