"""The pieces of running answers: the log and its readers, what Redis has of it, and rows of dead workers."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from conversations.generation import event_log, redis_log, rows, saving
from conversations.generation.browser_events import BrowserEncoder, joined
from conversations.generation.event_log import EventLog, KeptLogs, LogFull
from conversations.generation.keeper import Keeper
from conversations.generation.redis_log import RedisLog
from conversations.generation.small_model import read
from conversations.models import Conversation, Generation, Message
from gateway.events import ReasoningDelta, TextDelta, ToolCallDelta
from tests.support.running import until
from tests.support.services import REDIS_URL


def log_of(*texts: str, ended: bool = False) -> EventLog:
    log = EventLog(uuid.uuid4())
    for text in texts:
        log.append({"type": "content", "content": text})
    if ended:
        log.append({"type": "end", "state": "done"}, last=True)
    return log


async def all_of(log: EventLog, number: int = 0) -> bytes:
    return b"".join([data async for _, data in log.follow(number)])


class TestEventLog:
    def test_readers_wait_for_what_comes(self):
        async def run() -> None:
            log = log_of("a")
            readers = [asyncio.create_task(all_of(log, number)) for number in (0, 0, 1)]
            await asyncio.sleep(0)
            log.append({"type": "content", "content": "b"})
            await asyncio.sleep(0)
            log.append({"type": "end", "state": "done"}, last=True)
            first, second, third = await asyncio.gather(*readers)
            assert first == second
            assert first.endswith(third)
            assert first.count(b"\nid: ") == 3
            assert third.count(b"\nid: ") == 2

        asyncio.run(run())

    def test_beyond_the_end_there_is_nothing(self):
        async def run() -> None:
            assert await all_of(log_of("a", ended=True), 2) == b""
            assert await all_of(log_of("a", ended=True), 99) == b""

        asyncio.run(run())

    def test_a_batch_is_bounded_but_never_empty(self):
        async def run() -> None:
            log = log_of(*["x" * 1000] * 100, "y" * 100_000)
            assert len(log.after(0)) < 70
            assert len(log.after(100)) == 1

        asyncio.run(run())

    def test_it_has_room_for_the_end_alone(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(event_log, "MAX_BYTES", 200)

        async def run() -> None:
            log = log_of("a" * 100)
            with pytest.raises(LogFull):
                log.append({"type": "content", "content": "b" * 100})
            log.append({"type": "error", "error": "x"}, anyway=True)
            log.append({"type": "end", "state": "error"}, last=True)
            assert log.seq == 3

        asyncio.run(run())

    def test_old_ones_go(self, monkeypatch: pytest.MonkeyPatch):
        async def run() -> None:
            kept, first, second = KeptLogs(), log_of("a" * 100, ended=True), log_of("b" * 100, ended=True)
            monkeypatch.setattr(event_log, "KEPT_BYTES", first.size + second.size - 1)
            kept.add(first)
            kept.add(second)
            assert kept.get(first.generation) is None
            assert kept.get(second.generation) is second
            monkeypatch.setattr(event_log, "KEPT_SECONDS", 0)
            assert kept.get(second.generation) is None

        asyncio.run(run())


@pytest.mark.redis
class TestRedisLog:
    def test_what_redis_loses_it_gets_again(self):
        async def run() -> None:
            import redis.asyncio

            log, shared, client = log_of("a", "b"), RedisLog(REDIS_URL), redis.asyncio.from_url(REDIS_URL)
            key = shared._key(log.generation)
            copy = asyncio.create_task(shared.copy(log))
            while await client.xlen(key) < 2:  # noqa: ASYNC110 - another connection writes it
                await asyncio.sleep(0.01)
            await client.delete(key)
            # As when the connection is lost with the data.
            await shared.close()
            shared._url = "redis://127.0.0.1:1/0"
            log.append({"type": "content", "content": "c"})
            await asyncio.sleep(0.1)
            shared._url = REDIS_URL
            log.append({"type": "end", "state": "done"}, last=True)
            await asyncio.wait_for(copy, 10)
            found = [data async for _, data in shared.follow(log.generation, 0, running)]
            assert b"".join(found) == await all_of(log)
            assert 80_000 < await client.ttl(key) <= 24 * 3600
            assert [data async for _, data in shared.follow(log.generation, 2, running)] == [b"".join(log.after(2))]
            await client.delete(key)
            await client.aclose()
            await shared.close()

        asyncio.run(run())

    def test_an_answer_that_is_over_does_not_wait_for_redis_for_ever(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(redis_log, "GIVE_UP_SECONDS", 0.2)
        monkeypatch.setattr(redis_log, "RETRY_SECONDS", 0.05)

        async def run() -> None:
            log, shared = log_of("a"), RedisLog("redis://127.0.0.1:1/0")
            copy = asyncio.create_task(shared.copy(log))
            await asyncio.sleep(0.5)
            assert not copy.done()
            log.append({"type": "end", "state": "done"}, last=True)
            await asyncio.wait_for(copy, 5)
            await shared.close()

        asyncio.run(run())

    def test_a_hole_ends_the_reading(self):
        async def run() -> None:
            import redis.asyncio

            shared, client, generation = RedisLog(REDIS_URL), redis.asyncio.from_url(REDIS_URL), uuid.uuid4()
            await client.xadd(shared._key(generation), {"f": b"x"}, id="5-0")
            assert [data async for _, data in shared.follow(generation, 3, running)] == []
            await client.delete(shared._key(generation))
            await client.aclose()
            await shared.close()

        asyncio.run(run())

    def test_a_maker_that_died_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("conversations.generation.redis_log.DOUBT_SECONDS", 0.2)

        async def run() -> None:
            async def dead() -> bool:
                return False

            shared = RedisLog(REDIS_URL)
            found = [data async for _, data in shared.follow(uuid.uuid4(), 0, dead)]
            assert found == []
            await shared.close()

        asyncio.run(asyncio.wait_for(run(), 5))


async def running() -> bool:
    return True


class TestRows:
    def made(self, owner, worker: str = "w", late: bool = True) -> Generation:
        conversation = Conversation.objects.create(owner=owner)
        message = Message.objects.create(
            conversation=conversation, owner=owner, seq=1, role="assistant", content="so far", state="streaming"
        )
        until = timezone.now() + timedelta(seconds=-1 if late else 10)
        return Generation.objects.create(
            message=message, conversation=conversation, owner=owner, state="streaming", worker=worker, lease_until=until
        )

    def test_what_a_dead_worker_left_is_marked_once(self, alice):
        dead, alive = self.made(alice), self.made(alice, late=False)
        assert rows.reap() == [dead.pk]
        assert rows.reap() == []
        dead.refresh_from_db()
        assert (dead.state, dead.message.state, dead.message.content) == ("interrupted", "interrupted", "so far")
        assert dead.ended_at is not None
        alive.refresh_from_db()
        assert alive.state == "streaming"

    def test_who_lost_its_lease_closes_nothing(self, alice):
        mine = self.made(alice)
        rows.reap()
        assert rows.to_stop([mine.pk], "w") == {mine.pk}
        saving.save([rows.Progress(mine.pk, mine.message_id, 9, "more", "")], "w")
        assert not rows.end(mine.pk, mine.message_id, "w", rows.Outcome("done", 9, "all"))
        assert Message.objects.get(pk=mine.message_id).content == "so far"

    def test_who_asks_again_hears_that_it_has_closed(self, alice):
        mine, outcome = self.made(alice), rows.Outcome("done", 9, "all")
        for _ in range(2):
            assert rows.end(mine.pk, mine.message_id, "w", outcome)
        assert not rows.end(mine.pk, mine.message_id, "another", outcome)

    def test_what_goes_wrong_with_one_round_does_not_end_the_keeper(self):
        keeper, rounds = Keeper(), []

        class Broken:
            generation = uuid.uuid4()

            def progress(self) -> rows.Progress:
                rounds.append(1)
                raise ValueError("not foreseen")

            def lost(self) -> None: ...

        # The database is asked only for what comes later.
        keeper._renewed = time.monotonic()
        keeper.add(Broken())
        keeper.start()
        try:
            assert until(lambda: len(rounds) > 1, 5)
        finally:
            keeper.stop()

    def test_a_lease_is_renewed_by_its_holder_alone(self, alice):
        mine = self.made(alice)
        rows.renew([mine.pk], "somebody else")
        assert rows.reap() == [mine.pk]
        mine = self.made(alice)
        rows.renew([mine.pk], "w")
        assert rows.reap() == []

    def test_what_no_database_takes_is_left_out(self, alice):
        mine = self.made(alice)
        assert rows.end(mine.pk, mine.message_id, "w", rows.Outcome("done", 9, "a\x00b", "c\ud800d"))
        message = Message.objects.get(pk=mine.message_id)
        assert (message.content, message.text, message.reasoning, message.state) == ("ab", "ab", "cd", "done")


class TestEncoding:
    def test_neighbours_are_joined_and_others_are_not(self):
        encoder, items = BrowserEncoder(), []
        for event in (
            ReasoningDelta("a"), ReasoningDelta("b"), TextDelta("c"), TextDelta("d"),
            ToolCallDelta(0, "id", "f", "{"), ToolCallDelta(0, None, None, "}"), ToolCallDelta(1, "id2", "g", "{}"),
            TextDelta("of another choice", 1),
        ):  # fmt: skip
            for item in encoder.items(event):
                joined(items, item)
        assert [item["type"] for item in items] == ["reasoning", "reasoning", "content", "tool_calls", "tool_calls"]
        assert items[0]["token"] == "ab"
        assert items[2]["content"] == "cd" == encoder.text
        assert items[3]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
        assert [call["function"]["arguments"] for call in encoder.tool_calls] == ["{}", "{}"]


@pytest.mark.parametrize(
    ("text", "title", "suggestions"),
    [
        ("A title\nOne?\nTwo?", "A title", ["One?", "Two?"]),
        ('**"A title"**\n\n1. One?\n- Two?\n* Three?\nFour?\nFive?', "A title", ["One?", "Two?", "Three?", "Four?"]),
        ("only", "only", []),
    ],
)
def test_what_small_models_write_is_read(text: str, title: str, suggestions: list[str]):
    found = read(text)
    assert found is not None
    assert (found.title, found.suggestions) == (title, suggestions)


def test_nothing_is_nothing():
    assert read(" \n ") is None
