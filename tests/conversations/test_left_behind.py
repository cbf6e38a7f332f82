"""What dead processes, bad rows and a stopping server leave behind, and what viewers and callers are told of it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from conversations.editing import purge
from conversations.generation import rows, saving
from conversations.generation.alive import Mark, dead
from conversations.generation.keeper import Keeper
from conversations.generation.redis_log import RedisLog
from conversations.generation.rows import Progress
from conversations.generation.threads import with_own_connection
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
def test_what_is_said_is_saved_between_others_who_write_all_the_time(alice: User):
    """Who waits for SQLite looks ever more rarely: with others at it without a pause he would hardly come to write."""
    made = [Making(begun(alice, "host:1:me"), seq) for seq in (3, 4)]
    other, over, written = Conversation.objects.create(owner=alice), threading.Event(), []

    def work() -> None:
        with transaction.atomic():
            Conversation.objects.filter(pk=other.pk).update(title="written")
            time.sleep(0.05)
        written.append(1)

    def write() -> None:
        while not over.is_set():
            with_own_connection(work)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for thread in writers:
        thread.start()
    try:
        worst = 0.0
        for seq in range(3, 13):
            began = time.monotonic()
            moved = [Progress(item.generation, item.progress().message, seq, f"said {seq}", "") for item in made]
            assert saving.save(moved, "host:1:me") == {item.generation for item in made}
            worst = max(worst, time.monotonic() - began)
    finally:
        over.set()
        for thread in writers:
            thread.join()
    assert written
    assert {row.text for row in Message.objects.all()} == {"said 12"}
    assert worst < 3


@pytest.mark.django_db(transaction=True)
def test_a_late_lease_is_not_taken_from_who_lives(alice: User, tmp_path: Path, settings: Settings):
    settings.WORKERS_DIR = tmp_path
    names = ["host:1:me", "host:2:alive", "host:3:elsewhere"]
    made = [begun(alice, name) for name in (*names, names[0])]
    Generation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    keeper, marks = Keeper(), [Mark(tmp_path, name) for name in names[:2]]
    keeper.worker = names[0]
    keeper.add(Making(made[0], 1))
    for mark in marks:
        mark.hold()
    keeper._bury(late=True)
    # What it does not make itself nobody else will mark, and of another machine the lease alone tells.
    states = dict(Generation.objects.values_list("pk", "state"))
    assert [states[row.pk] for row in made] == ["streaming", "streaming", "interrupted", "interrupted"]
    assert marks[1]._fd is not None
    os.close(marks[1]._fd)
    keeper._bury(late=False)
    assert Generation.objects.get(pk=made[1].pk).state == "interrupted"
    marks[0].release()


@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_the_log_of_a_deleted_answer_goes_with_it(alice: User, redis_url: str, settings: Settings):
    settings.REDIS_URL = redis_url
    made = [begun(alice, "host:1:me") for _ in range(2)]
    keys = [RedisLog(redis_url)._key(row.pk) for row in made]
    with redis.Redis.from_url(redis_url) as client:
        for key in keys:
            client.xadd(key, {"f": b"said"}, id="1-0")
        with pytest.raises(RuntimeError), transaction.atomic():
            purge([made[1].conversation])
            raise RuntimeError("it is not deleted after all")
        assert client.exists(*keys) == 2
        purge([made[0].conversation])
        assert [client.exists(key) for key in keys] == [0, 1]
        made[1].owner.delete()
        assert not client.exists(*keys)


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
