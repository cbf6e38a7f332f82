"""Speech and its recognition on this server: the official client speaks a sentence and gets it back as text."""

from __future__ import annotations

import io
import re
import struct
import wave
from difflib import SequenceMatcher
from typing import Any

import openai
import pytest

from gateway.models import UsageEvent
from gateway.operations import NewProvider, add_provider
from gateway.presets import preset_named
from gateway.usage import writer
from tests.support import services
from tests.support.gateway import LiveGateway
from tests.support.node import run

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SENTENCES = (
    "Please open the window and close the door.",
    "My brother works in a large city near the river.",
)
HEADS = {"mp3": (b"\xff", b"ID3"), "opus": (b"OggS",), "flac": (b"fLaC",), "wav": (b"RIFF",)}


@pytest.fixture
def spoken(gateway: LiveGateway, settings: Any) -> LiveGateway:
    services.require("speech")
    settings.LOCAL_ENGINE_PYTHON = str(services.ENGINE_PYTHON)
    preset = preset_named("local")
    row, _ = add_provider(NewProvider(preset.name, {"base_url": ""}, preset, models=preset.models))
    assert (row.name, row.models.count()) == ("local", 2)
    gateway.reload()
    return gateway


def say(gateway: LiveGateway, text: str, form: Any = "wav", **more: Any) -> bytes:
    answer = gateway.client().audio.speech.create(
        model="espeak-ng", voice=more.pop("voice", "alloy"), input=text, response_format=form, **more
    )
    return answer.content


def transcribed(gateway: LiveGateway, sound: bytes, **more: Any) -> str:
    answer = gateway.client().audio.transcriptions.create(model="pocketsphinx", file=("a", sound), **more)
    return str(getattr(answer, "text", answer))


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def alike(said: str, heard: str) -> float:
    """The share of the words of `said` that were heard, in their order."""
    matcher = SequenceMatcher(None, words(said), words(heard), autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()) / len(words(said))


def seconds(data: bytes) -> float:
    with wave.open(io.BytesIO(data)) as file:
        return file.getnframes() / file.getframerate()


def test_a_sentence_that_is_spoken_is_heard(spoken: LiveGateway) -> None:
    sentence = SENTENCES[0]
    heard = spoken.client().audio.transcriptions.create(
        model="pocketsphinx",
        file=("a.wav", say(spoken, sentence)),
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    assert alike(sentence, heard.text) >= 0.7, heard.text
    assert heard.segments
    assert heard.words
    assert [item.word for item in heard.words] == heard.text.split()
    times = [(item.start, item.end) for item in heard.words]
    assert all(start < end for start, end in times)
    assert times == sorted(times)
    assert 0 <= times[0][0] < 1
    assert heard.segments[-1].end <= heard.duration


def test_subtitles_say_when(spoken: LiveGateway) -> None:
    heard = transcribed(spoken, say(spoken, SENTENCES[1]), response_format="vtt")
    assert heard.startswith("WEBVTT")
    assert "-->" in heard
    assert alike(SENTENCES[1], heard) >= 0.7, heard


def test_each_form_of_sound_is_what_it_says(spoken: LiveGateway) -> None:
    sounds = {form: say(spoken, SENTENCES[0], form) for form in HEADS}
    for form, sound in sounds.items():
        assert sound.startswith(HEADS[form]), form
    for form in ("mp3", "opus"):
        heard = transcribed(spoken, sounds[form], response_format="text")
        assert alike(SENTENCES[0], heard) >= 0.5, (form, heard)
    plain = say(spoken, SENTENCES[0], "pcm")
    samples = struct.unpack(f"<{len(plain) // 2}h", plain)
    assert len(samples) / 24_000 == pytest.approx(seconds(sounds["wav"]), abs=0.01)
    assert max(samples) > 3000


def test_voices_languages_and_speed_differ(spoken: LiveGateway) -> None:
    text = "Good morning."
    sounds = [say(spoken, text, voice=voice) for voice in ("alloy", "nova", "onyx", "de", "en-gb+f2")]
    sounds.append(say(spoken, text, extra_body={"language": "fr"}))
    assert len({bytes(sound) for sound in sounds}) == len(sounds)
    usual, slow, fast = (seconds(say(spoken, text, speed=speed)) for speed in (1.0, 0.5, 2.0))
    assert slow > 1.4 * usual
    assert fast < 0.8 * usual


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "aac"}, "response_format"),
        ({"speed": 4}, "speed"),
        ({"speed": 0.3}, "speed"),
        ({"voice": "../../etc/passwd"}, "voice"),
        ({"voice": "xx"}, "voice"),
        ({"voice": "en+nobody"}, "voice"),
        ({"language": "xx-nowhere"}, "voice"),
        ({"language": "a b"}, "language"),
    ],
)
def test_what_cannot_be_said_is_refused(spoken: LiveGateway, fields: dict[str, Any], param: str) -> None:
    body = {"model": "espeak-ng", "input": "x", "voice": "alloy", **fields}
    answer = spoken.http.post("/v1/audio/speech", json=body, headers=spoken.auth())
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def broken_flac() -> bytes:
    return b"fLaC\x00\x00\x00\x22" + bytes(200)


def silence() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((2, 2, 44100, 0, "NONE", ""))
        out.writeframes(bytes(44100 * 4))
    return file.getvalue()


def test_recordings_of_all_kinds_are_survived(spoken: LiveGateway) -> None:
    client = spoken.client()

    def refusal(name: str, data: bytes, **more: Any) -> Any:
        with pytest.raises(openai.APIStatusError) as caught:
            client.audio.transcriptions.create(model="pocketsphinx", file=(name, data), **more)
        assert caught.value.status_code == 400, caught.value
        return caught.value.body

    assert refusal("a.flac", broken_flac())["param"] == "file"
    assert refusal("a.wav", silence(), language="de")["param"] == "language"
    assert transcribed(spoken, silence()) == ""
    whole = say(spoken, SENTENCES[0])
    cut = whole[: len(whole) * 2 // 3]
    # Half a sentence is half a sentence.
    assert 0.2 <= alike(SENTENCES[0], transcribed(spoken, cut)) <= 1


def test_it_counts_characters_and_seconds_and_chats_nothing(spoken: LiveGateway) -> None:
    say(spoken, "Twelve chars")
    writer.flush()
    assert UsageEvent.objects.latest("id").characters == 12
    with pytest.raises(openai.APIStatusError) as caught:
        spoken.client().chat.completions.create(model="local/espeak-ng", messages=[{"role": "user", "content": "x"}])
    assert caught.value.status_code in (400, 404)


def test_without_the_libraries_it_says_so(spoken: LiveGateway, settings: Any, capsys: Any) -> None:
    from django.core.management import call_command

    settings.LOCAL_ENGINE_PYTHON = "/usr/bin/false"
    with pytest.raises(openai.InternalServerError) as caught:
        say(spoken, "x")
    assert "not installed" in str(caught.value)
    call_command("provider", "add", "second", "--preset", "local")
    assert "EXTRAS=local" in capsys.readouterr().err


def test_many_at_once_are_all_served(spoken: LiveGateway) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: len(say(spoken, f"Number {number}.", "pcm")), range(8)))
    assert all(size > 10_000 for size in found)


def translated(gateway: LiveGateway, sound: bytes, **more: Any) -> Any:
    return gateway.client().audio.translations.create(model="pocketsphinx", file=("a", sound), **more)


def test_what_is_english_already_is_its_own_translation(spoken: LiveGateway) -> None:
    sound = say(spoken, SENTENCES[0])
    assert alike(SENTENCES[0], translated(spoken, sound).text) >= 0.7
    verbose = translated(spoken, sound, response_format="verbose_json", extra_body={"language": "en"})
    assert alike(SENTENCES[0], verbose.text) >= 0.7
    assert verbose.segments
    assert verbose.model_extra["task"] == "translate"
    assert str(translated(spoken, sound, response_format="srt")).startswith("1\n00:00:0")


def test_another_language_is_not_translated_and_said_so(spoken: LiveGateway) -> None:
    german = say(spoken, "Guten Morgen, wie geht es Ihnen?", extra_body={"language": "de"})
    with pytest.raises(openai.BadRequestError) as caught:
        translated(spoken, german, extra_body={"language": "de"})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "language")
    assert "translates nothing" in caught.value.message


@pytest.mark.node
@pytest.mark.timeout(120)
def test_the_client_for_node_speaks_and_is_heard(spoken: LiveGateway) -> None:
    services.require("node")
    where = {
        "SPEAKS": "espeak-ng",
        "HEARS": "pocketsphinx",
        "LOCAL": "1",
        "SOUND_TYPE": "audio/wav",
        "SOUND_HEAD": "RIFF",
    }
    assert run(spoken, [], "modalities.test.mjs", **where) == 4
