"""The real command, `manage.py api`, in a process of its own: how it starts, answers, stops and dies."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import openai
import pytest

from tests.clients.core import QUESTION
from tests.support.answers import Hold, chunk, events_of, sse
from tests.support.gateway import GatewayProcess
from tests.support.provider import ScriptedProvider

Start = Callable[..., GatewayProcess]
pytestmark = pytest.mark.slow


def connect(process: GatewayProcess, provider: ScriptedProvider) -> None:
    added = process.manage(
        "provider", "add", "Scripted", "--adapter", "openai_chat", "--base-url", provider.base_url, "--api-key-stdin",
        "--model", "scripted", text="sk-upstream-0001\n",
    )  # fmt: skip
    assert added.returncode == 0, added.stderr


def held_stream(client: openai.OpenAI, provider: ScriptedProvider, gate: threading.Event) -> openai.Stream:
    first, *rest = events_of([{"content": "later"}])
    provider.on("scripted", sse([first, chunk({"content": "now"}), Hold(gate), *rest]))
    return client.chat.completions.create(model="scripted", messages=QUESTION, stream=True)


def test_it_answers_and_ends_on_sigterm(gateway_process: Start) -> None:
    process = gateway_process("--demo")
    with process.client() as client:
        demo = client.models.list().data
        assert demo, "a fresh start answers"
        answer = client.chat.completions.create(model=demo[0].id, messages=QUESTION)
        assert "demo" in (answer.choices[0].message.content or "").lower()
    assert process.key not in process.output
    assert process.stop(signal.SIGTERM) == 0
    assert "Traceback" not in process.output


def test_ctrl_c_ends_it_cleanly(gateway_process: Start) -> None:
    process = gateway_process()
    assert process.stop(signal.SIGINT) == 0
    assert "Traceback" not in process.output


def test_commands_take_effect_while_it_runs(gateway_process: Start, provider: ScriptedProvider) -> None:
    process = gateway_process()
    connect(process, provider)
    client = process.client(max_retries=8)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="unheard-of", messages=QUESTION)
    # Within five seconds; asking for a list does not depend on retries.
    pause = threading.Event()
    for _ in range(50):
        if "scripted" in [model.id for model in client.models.list()]:
            break
        pause.wait(0.1)
    answer = client.chat.completions.create(model="scripted", messages=QUESTION)
    assert answer.choices[0].message.content == QUESTION[0]["content"]


def test_answers_under_way_end_before_it_does(gateway_process: Start, provider: ScriptedProvider) -> None:
    process, gate = gateway_process(), threading.Event()
    connect(process, provider)
    threading.Event().wait(1.5)
    parts = iter(held_stream(process.client(), provider, gate))
    assert any(next(parts).choices[0].delta.content == "now" for _ in range(2))
    assert process.process
    process.process.send_signal(signal.SIGTERM)
    threading.Timer(1, gate.set).start()
    assert "later" in [part.choices[0].delta.content for part in parts if part.choices]
    assert process.wait(10) == 0


def test_several_workers_need_redis(gateway_process: Start) -> None:
    process = gateway_process("--workers", "2", wait=False)
    assert process.wait() not in {0, None}
    assert "REDIS_URL" in process.output
    assert "Traceback" not in process.output


@pytest.mark.redis
@pytest.mark.postgres
def test_several_workers_serve(gateway_process: Start, postgres_url: str, redis_url: str) -> None:
    process = gateway_process("--demo", "--workers", "2", DATABASE_URL=postgres_url, REDIS_URL=redis_url)
    with process.client() as client:
        assert client.models.list().data
    assert process.stop() == 0


def test_a_taken_port_is_one_sentence(gateway_process: Start) -> None:
    first = gateway_process()
    second = gateway_process("--bind", f"127.0.0.1:{first.port}", wait=False)
    assert second.wait() == 1
    assert str(first.port) in second.output
    assert "Traceback" not in second.output
