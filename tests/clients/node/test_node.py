"""Clients for Node, really installed: OpenAI's own and Vercel's AI SDK, over the demo provider, a scripted one, and an
obliging one of each protocol."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.clients import core
from tests.clients.conftest import Obliged
from tests.people import person
from tests.support.answers import Answer, Pause, chunk, error, reply, sse
from tests.support.dialects import PROTOCOLS, embeds
from tests.support.gateway import GatewayProcess, LiveGateway
from tests.support.pictures import GPT_USAGE, b64, events, images, picture
from tests.support.provider import Recorded, ScriptedProvider
from tests.support.sounds import MP3, pieces, transcribing, wav
from tests.support.tap import Tap, check_all

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(120)]
CLIENT, AI = "client.test.mjs", "ai.test.mjs"


def run(gateway: GatewayProcess | LiveGateway, models: Iterable[str], script: str, **environment: str) -> int:
    """How many tests of a script passed; fails with its report when one did not."""
    surroundings = {
        "GATEWAY_URL": gateway.url,
        "GATEWAY_KEY": gateway.key,
        "GATEWAY_MODELS": ",".join(models),
        "PATH": os.environ["PATH"],
        **environment,
    }
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", script],
        cwd=Path(__file__).parent,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert found
    return int(found[1])


def narrow(gateway: LiveGateway) -> dict[str, str]:
    return {"GATEWAY_NARROW_KEY": gateway.make_key(person("narrow"), models=["another"])}


def test_it_works_with_the_demo_provider(gateway: LiveGateway) -> None:
    gateway.add_demo()
    assert run(gateway, ["demo"], CLIENT, **narrow(gateway)) == 13


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
    assert run(gateway, ["org/capable"], CLIENT, GATEWAY_SCRIPTED="1", **narrow(gateway)) == 16


def test_the_ai_sdk_works_with_the_demo_provider(gateway: LiveGateway) -> None:
    gateway.add_demo()
    assert run(gateway, ["demo"], AI) == 21


def test_the_ai_sdk_works_with_a_scripted_provider(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("org/capable", core.capable)
    provider.on("fails-429", error(429, "slow down", headers={"retry-after": "1"}))
    gateway.add_provider(provider, "org/capable", "fails-429")
    assert run(gateway, ["org/capable"], AI, GATEWAY_SCRIPTED="1") == 24


@pytest.mark.parametrize(("script", "count"), [(CLIENT, 13), (AI, 21)])
def test_they_work_over_each_protocol(obliged: Obliged, script: str, count: int) -> None:
    """Whatever they are answered is held against OpenAI's description as well."""
    able = ",".join(filter(embeds, PROTOCOLS))
    with Tap(obliged.gateway.url) as tap:
        assert run(obliged.gateway, PROTOCOLS, script, GATEWAY_URL=tap.url, GATEWAY_EMBEDDING=able) == count * len(
            PROTOCOLS
        )
        checked = check_all(tap)
    assert {"chat/completions", "chat chunks", "responses", "response events"} <= checked.keys()


def test_it_speaks_and_listens(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("tts", pieces(MP3[:3000], Pause(0.1), MP3[3000:], Pause(0.1), MP3))
    provider.on("ears", transcribing)
    heard = [{"type": "transcript.text.delta", "delta": "Hi"}, {"type": "transcript.text.done", "text": "Hi"}]
    provider.on("piecewise", sse(heard))
    provider.on("fails-500", error(500))
    gateway.add_provider(provider, "tts", "ears", "piecewise", "fails-500")
    sound = base64.b64encode(wav(0.2)).decode()
    assert run(gateway, ["tts"], "audio.test.mjs", SOUND=sound) == 12


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
    model = "demo" if where == "demo" else "draws"
    assert run(gateway, [model], "images.test.mjs", **given, **narrow(gateway)) == 5
