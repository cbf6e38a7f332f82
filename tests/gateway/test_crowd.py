"""More callers than there is room for: a thousand who come back at once, and twice what can be served."""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import threading
from collections.abc import Iterator

import pytest

from tests.support import answers
from tests.support.crowd import Crowd, Told
from tests.support.openai_schema import check_error
from tests.support.provider import Recorded, ScriptedProvider
from tests.support.running import Start, begun, memory, rows, until

CALLERS = 1000
SHELL_FILES = 1024
UNDER_WAY = 50
ANSWER_SECONDS = 0.25
# Each request under way is one answer each quarter of a second.
SERVED_PER_SECOND = UNDER_WAY / ANSWER_SECONDS
OVERLOAD_SECONDS = float(os.environ.get("OVERLOAD_SECONDS", "5"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 2 * OVERLOAD_SECONDS)]


@pytest.fixture(autouse=True)
def files() -> Iterator[None]:
    """As many open files as a shell usually gives to what it starts, the server among that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SHELL_FILES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def make_room() -> None:
    """Both ends of every connection but the server's are in this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(20_000, hard), hard))


def check(told: Told) -> None:
    """Each has a whole answer with its own mark and no other, or a refusal that says when to come back."""
    assert told.status in {200, 429, 503}, told
    if told.status == 200:
        text = told.body.decode()
        assert text.count("mark-") == text.count(told.mark) == 1, told
        assert '"error"' not in text, told
        assert told.number % 2 == 0 or text.endswith("data: [DONE]\n\n"), told
    else:
        check_error(told.decoded)
        assert int(told.headers["retry-after"]) >= 1, told


def test_a_thousand_callers_come_back_at_once(gateway_process: Start, provider: ScriptedProvider) -> None:
    """Their server is killed in the middle of a thousand streams and started again."""
    provider.on("stalling", answers.sse([answers.chunk({"role": "assistant", "content": "one"}), answers.Stall()]))
    process = begun(gateway_process, provider, "stalling")
    make_room()
    process.arguments = ["sh", "-c", f'ulimit -S -n {SHELL_FILES} && exec "$@"', "sh", *process.arguments]
    held = Crowd(process.port, process.key, "stalling")
    crowd = Crowd(process.port, process.key)

    async def caller(number: int, streaming: asyncio.Semaphore) -> Told:
        reader, writer = await held.begun(2 * number + 1)
        streaming.release()
        try:
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        return await crowd.ask(number, patient=True)

    async def story() -> list[Told]:
        streaming = asyncio.Semaphore(0)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            callers = [group.create_task(caller(number, streaming)) for number in range(CALLERS)]
            for _ in callers:
                await streaming.acquire()
            process.kill()
            await asyncio.to_thread(process.start)
        return [task.result() for task in callers]

    told = asyncio.run(story())
    for one in told:
        check(one)
    served = [one for one in told if one.status == 200]
    assert len(served) > CALLERS / 2
    assert max(one.seconds for one in told) < 15
    assert memory(process, "VmHWM") < 200
    # Those that were cut off have their row, too.
    assert until(lambda: len(rows(process)) >= CALLERS + len(served))
    states = list(rows(process).values())
    assert states.count("interrupted") == CALLERS
    # One more: the request that found the server ready.
    assert states.count("ok") == len(served) + 1 == len(states) - CALLERS


class Gauge:
    """How many requests a provider has under way at once, which is what the gateway lets through."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def answer(self, request: Recorded) -> answers.Answer:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        said = answers.echo(request.json)

        def steps() -> Iterator[answers.Step]:
            yield answers.Pause(ANSWER_SECONDS)
            with self._lock:
                self.now -= 1
            yield from said.body

        return answers.Answer(said.head, steps(), said.chunked)


def test_twice_what_it_can_serve_harms_nobody_who_was_let_in(
    gateway_process: Start, provider: ScriptedProvider
) -> None:
    """Callers keep coming whether or not they are answered. `OVERLOAD_SECONDS=300` is the long run."""
    gauge = Gauge()
    provider.on("slow", gauge.answer)
    process = begun(gateway_process, provider, "slow", MAX_REQUESTS=str(UNDER_WAY))
    make_room()
    crowd = Crowd(process.port, process.key, "slow")
    peaks: list[float] = []

    async def story() -> list[Told]:
        loop = asyncio.get_running_loop()
        began, number, tasks = loop.time(), 0, []
        async with asyncio.TaskGroup() as group:
            while loop.time() < began + OVERLOAD_SECONDS:
                while number < (loop.time() - began) * SERVED_PER_SECOND * 2:
                    tasks.append(group.create_task(crowd.ask(number)))
                    number += 1
                peaks.append(memory(process))
                await asyncio.sleep(0.02)
        return [task.result() for task in tasks]

    told = asyncio.run(story())
    for one in told:
        check(one)
    served = [one for one in told if one.status == 200]
    refused = [one for one in told if one.status != 200]
    assert gauge.most <= UNDER_WAY
    assert len(served) > 0.6 * SERVED_PER_SECOND * OVERLOAD_SECONDS
    assert len(refused) > len(told) / 4
    assert {one.decoded["error"]["code"] for one in refused} == {"overloaded"}
    # Neither waits longer for the others' being there; what a busy machine adds is another matter.
    assert statistics.median(one.seconds for one in refused) < 0.25
    assert statistics.median(one.seconds for one in served) < ANSWER_SECONDS + 0.25
    middle = len(peaks) // 2
    assert max(peaks[middle:]) < max(peaks[:middle]) + 10
    # And it is over as soon as they are gone.
    assert [asyncio.run(crowd.ask(number)).status for number in range(10)] == [200] * 10
    assert until(lambda: len(rows(process)) >= len(served) + 11)
    assert list(rows(process).values()) == ["ok"] * (len(served) + 11)
