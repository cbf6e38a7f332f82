"""Clients for Node, really installed, against a demo and a scripted provider: OpenAI's own and Vercel's AI SDK."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.clients import core
from tests.people import person
from tests.support.answers import Answer, Pause, chunk, error, reply, sse
from tests.support.gateway import LiveGateway
from tests.support.pictures import GPT_USAGE, b64, events, images, picture
from tests.support.provider import Recorded, ScriptedProvider
from tests.support.sounds import MP3, pieces, transcribing, wav

pytestmark = [pytest.mark.node, pytest.mark.slow]


def run(gateway: LiveGateway, model: str, script: str = "client.test.mjs", **environment: str) -> str:
    """Runs a script and returns its report; fails with the report when one of its tests failed."""
    surroundings = {
        "GATEWAY_URL": gateway.url,
        "GATEWAY_KEY": gateway.key,
        "GATEWAY_MODEL": model,
        "GATEWAY_NARROW_KEY": gateway.make_key(person("narrow"), models=["another"]),
        "PATH": os.environ["PATH"],
        **environment,
    }
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", script],
        cwd=Path(__file__).parent,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def passed(report: str) -> int:
    found = re.search(r"^# pass (\d+)$", report, re.MULTILINE)
    assert found
    return int(found[1])


def test_it_works_with_the_demo_provider(gateway: LiveGateway) -> None:
    gateway.add_demo()
    assert passed(run(gateway, "demo")) == 12


def test_it_works_with_a_scripted_provider(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    limited = {"retry-after": "1"}
    first = iter([error(429, "slow down", headers=limited)])

    def slow_down(_: Recorded) -> Answer:
        return next(first, reply("after a while"))

    provider.on("org/capable", core.capable)
    provider.on("fails-400", error(400, "too long", code="context_length_exceeded"))
    provider.on("fails-401", error(401))
    provider.on("fails-429", error(429, headers=limited))
    provider.on("fails-500", error(500))
    provider.on("slow-down", slow_down)
    provider.on("breaks-midway", sse([chunk({"role": "assistant", "content": "Hel"}), Pause(0.1), "{broken"]))
    gateway.add_provider(provider, *(name for name in provider.models if name != "scripted"))
    assert passed(run(gateway, "org/capable", GATEWAY_SCRIPTED="1")) == 15


def test_the_ai_sdk_works_with_the_demo_provider(gateway: LiveGateway) -> None:
    gateway.add_demo()
    assert passed(run(gateway, "demo", "ai.test.mjs")) == 14


def test_the_ai_sdk_works_with_a_scripted_provider(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("org/capable", core.capable)
    provider.on("fails-429", error(429, "slow down", headers={"retry-after": "1"}))
    gateway.add_provider(provider, "org/capable", "fails-429")
    assert passed(run(gateway, "org/capable", "ai.test.mjs", GATEWAY_SCRIPTED="1")) == 16


def test_it_speaks_and_listens(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("tts", pieces(MP3[:3000], Pause(0.1), MP3[3000:], Pause(0.1), MP3))
    provider.on("ears", transcribing)
    heard = [{"type": "transcript.text.delta", "delta": "Hi"}, {"type": "transcript.text.done", "text": "Hi"}]
    provider.on("piecewise", sse(heard))
    provider.on("fails-500", error(500))
    gateway.add_provider(provider, "tts", "ears", "piecewise", "fails-500")
    sound = base64.b64encode(wav(0.2)).decode()
    assert passed(run(gateway, "tts", "audio.test.mjs", SOUND=sound)) == 12


def pictured(request: Recorded) -> Answer:
    """A red picture for each that was asked for; in streams a blue one before."""
    if not request.body.startswith(b"{") or not request.json.get("stream"):
        wanted = request.json.get("n") or 1 if request.body.startswith(b"{") else 1
        return images(*[picture("red")] * wanted)
    about = {"created_at": 1, "size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"}
    kinds = [("partial_image", "blue", {"partial_image_index": 0}), ("completed", "red", {"usage": GPT_USAGE})]
    return events(
        *(
            {"type": f"image_generation.{kind}", "b64_json": b64(picture(colour)), **about, **more}
            for kind, colour, more in kinds
        )
    )


@pytest.mark.parametrize("where", ["demo", "scripted"])
def test_it_makes_and_edits_pictures(gateway: LiveGateway, provider: ScriptedProvider, where: str) -> None:
    given = {"PICTURE": b64(picture("green", size=(64, 64))), "GATEWAY_SCRIPTED": str(int(where == "scripted"))}
    if where == "demo":
        gateway.add_demo()
    else:
        # Forms name their model in no JSON: what has no programme is drawn as well.
        provider.on("draws", pictured)
        provider.on("", pictured)
        gateway.add_provider(provider, "draws")
    assert passed(run(gateway, "demo" if where == "demo" else "draws", "images.test.mjs", **given)) == 5
