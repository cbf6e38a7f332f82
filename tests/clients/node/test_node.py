"""Clients for Node, really installed: OpenAI's own and Vercel's AI SDK, over the demo provider, a scripted one, and an
obliging one of each protocol."""

from __future__ import annotations

import base64

import pytest

from tests.clients import core
from tests.clients.conftest import Obliged
from tests.people import person
from tests.support.answers import Answer, Pause, chunk, error, reply, reply_json, sse
from tests.support.dialects import PROTOCOLS, embeds
from tests.support.gateway import LiveGateway
from tests.support.node import run
from tests.support.pictures import GPT_USAGE, b64, events, images, picture
from tests.support.protocols import PathProvider
from tests.support.provider import Recorded, ScriptedProvider
from tests.support.sounds import MP3, pieces, speaking, transcribing, wav
from tests.support.tap import Tap, check_all

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(120)]
CLIENT, AI = "client.test.mjs", "ai.test.mjs"


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


SOUND = base64.b64encode(wav(0.5)).decode()
GREEN = b64(picture("green", size=(64, 64)))


def of_gemini(request: Recorded) -> Answer:
    """Each of Gemini's models does one thing; the instruction says what is wanted of a recording."""
    model = request.path.rpartition("/")[2].partition(":")[0]
    samples = {"mimeType": "audio/L16;rate=24000", "data": b64(bytes(4800))}
    parts = request.json["contents"][0]["parts"]
    heard = "Translated." if "in English" in str(parts[-1].get("text")) else "Written down."
    given = {
        "draws-up": {"inlineData": {"mimeType": "image/png", "data": b64(picture("red"))}},
        "tts-up": {"inlineData": samples},
        "ears-up": {"text": heard},
    }[model]
    content = {"role": "model", "parts": [given]}
    return reply_json({"candidates": [{"content": content, "finishReason": "STOP", "index": 0}]})


def test_it_works_over_gemini(gateway: LiveGateway) -> None:
    with PathProvider(lambda path: path.endswith(":generateContent")) as google:
        google.enqueue(*[of_gemini] * 20)
        models = [
            {"public_id": "draws", "upstream_name": "draws-up", "image": True},
            {"public_id": "tts", "upstream_name": "tts-up", "audio": True},
            {"public_id": "ears", "upstream_name": "ears-up", "audio": True},
        ]
        gateway.add_provider(google.base_url, *models, name="Gemini", adapter="gemini")
        passed = run(
            gateway, [], "modalities.test.mjs", DRAWS="draws", SPEAKS="tts", HEARS="ears", PICTURE=GREEN, SOUND=SOUND,
            SOUND_TYPE="audio/wav", SOUND_HEAD="RIFF", HEARD="Written down.", TRANSLATED="Translated.",
        )  # fmt: skip
        assert passed == 6
        asked = [request.path.rpartition("/")[2] for request in google.requests]
        # Two, one, one under the key, one edited; one spoken; two written down and one translated.
        assert sorted(asked) == sorted(
            [*["draws-up:generateContent"] * 5, "tts-up:generateContent", *["ears-up:generateContent"] * 3]
        )


def of_pollinations(request: Recorded) -> Answer:
    if "/images/" in request.path:
        return images(picture("red"))
    if request.path.endswith("/audio/speech"):
        return speaking()
    heard = "Translated." if request.path.endswith("/translations") else "Written down."
    return reply_json({"text": heard})


def test_it_works_over_pollinations(gateway: LiveGateway) -> None:
    with PathProvider(lambda path: path.startswith(("/v1/images/", "/v1/audio/"))) as pollinations:
        pollinations.enqueue(*[of_pollinations] * 20)
        models = [
            {"public_id": "draws", "upstream_name": "flux", "image": True},
            {"public_id": "tts", "upstream_name": "openai-audio"},
            {"public_id": "ears", "upstream_name": "whisper"},
        ]
        gateway.add_provider(pollinations.base_url, *models, name="PollinationsAI", adapter="pollinations")
        passed = run(
            gateway, [], "modalities.test.mjs", DRAWS="draws", SPEAKS="tts", HEARS="ears", PICTURE=GREEN, SOUND=SOUND,
            SOUND_TYPE="audio/mpeg", SOUND_HEAD="ID3", HEARD="Written down.", TRANSLATED="Translated.",
        )  # fmt: skip
        assert passed == 6
        asked = [request.path for request in pollinations.requests]
        assert [asked.count(f"/v1/{route}") for route in (
            "images/generations", "images/edits", "audio/speech", "audio/transcriptions", "audio/translations"
        )] == [4, 1, 1, 2, 1]  # fmt: skip
