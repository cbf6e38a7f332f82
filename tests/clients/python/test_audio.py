"""The official Python client speaks, transcribes and translates, and what the gateway keeps of that."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from typing import Any

import httpx
import openai
import pytest

from gateway.models import ApiKey, Price, ProviderModel, UsageEvent
from gateway.usage import writer
from tests.people import alice, bob
from tests.support.answers import Answer, Close, Hold, Stall, error, raw, reply_json, silent, sse
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check, check_error
from tests.support.provider import ScriptedProvider
from tests.support.sounds import (
    MP3,
    SEGMENTS,
    TEXT,
    TOKENS,
    VERBOSE,
    WORDS,
    form_of,
    pieces,
    speaking,
    transcribing,
    wav,
)

SPEAKER = {"public_id": "tts", "upstream_name": "tts-up", "speech": True}
LISTENER = {"public_id": "ears", "upstream_name": "whisper-up", "transcription": True}
SAY: dict[str, Any] = {"model": "tts", "input": "Hello there.", "voice": "alloy"}

SPEECH_FAULTS: list[tuple[dict[str, Any], int, str, str]] = [
    ({"input": None}, 400, "input", "missing_required_parameter"),
    ({"input": 5}, 400, "input", "invalid_type"),
    ({"input": " "}, 400, "input", "invalid_value"),
    ({"input": "x" * 4097}, 422, "input", "string_above_max_length"),
    ({"instructions": "x" * 4097}, 422, "instructions", "string_above_max_length"),
    ({"model": None}, 400, "model", "invalid_type"),
    ({"model": "nope"}, 404, "model", "model_not_found"),
    ({"provider": "Nobody"}, 404, "provider", "provider_not_found"),
    ({"voice": 5}, 400, "voice", "invalid_type"),
    ({"voice": ""}, 400, "voice", "invalid_value"),
    ({"voice": {"name": "x"}}, 400, "voice.id", "invalid_type"),
    ({"response_format": "midi"}, 400, "response_format", "invalid_value"),
    ({"response_format": 5}, 400, "response_format", "invalid_type"),
    ({"stream_format": "x"}, 400, "stream_format", "invalid_value"),
    ({"speed": "fast"}, 400, "speed", "invalid_type"),
    ({"speed": 0.2}, 422, "speed", "decimal_below_min_value"),
    ({"speed": 4.1}, 422, "speed", "decimal_above_max_value"),
    ({"language": 5}, 400, "language", "invalid_type"),
    ({"language": "x" * 101}, 422, "language", "string_above_max_length"),
]
FORM_FAULTS: list[tuple[dict[str, Any], int, str | None, str | None]] = [
    ({}, 400, "model", "missing_required_parameter"),
    ({"model": "nope"}, 404, "model", "model_not_found"),
    ({"model": "ears", "response_format": "xml"}, 400, "response_format", "invalid_value"),
    ({"model": "ears", "temperature": "hot"}, 400, "temperature", "invalid_type"),
    ({"model": "ears", "temperature": "2"}, 422, "temperature", "decimal_above_max_value"),
    ({"model": "ears", "temperature": "nan"}, 422, "temperature", "decimal_above_max_value"),
    ({"model": "ears", "language": "x" * 101}, 422, "language", "string_above_max_length"),
    ({"model": "ears", "prompt": "x" * 100_001}, 422, "prompt", "string_above_max_length"),
    ({"model": "ears", "stream": "maybe"}, 400, "stream", "invalid_type"),
    ({"model": "ears", "stream": "true", "response_format": "srt"}, 400, "stream", "invalid_value"),
    ({"model": "ears", "timestamp_granularities[]": "word"}, 400, "timestamp_granularities", "invalid_value"),
    (
        {"model": "ears", "response_format": "verbose_json", "timestamp_granularities[]": "day"},
        400,
        "timestamp_granularities",
        "invalid_value",
    ),
    ({"model": "ears", 'x"\r\ny': "z"}, 400, None, None),
]
NO_RECORDINGS: list[tuple[Any, int, str]] = [
    (None, 400, "missing_required_parameter"),
    (("a.mp3", b"", "audio/mpeg"), 400, "invalid_value"),
    (("a.mp3", b"just a text", "audio/mpeg"), 415, "unsupported_file_type"),
    (("a.wav", b"<html><script>1</script></html>", "audio/wav"), 415, "unsupported_file_type"),
    (("a.wav", b"\x89PNG\r\n\x1a\n" + bytes(50), "audio/wav"), 415, "unsupported_file_type"),
    (("a.wav", bytes(1000), "audio/wav"), 415, "unsupported_file_type"),
    (("a.wav", b"RIFF" + bytes(25 * 1024 * 1024), "audio/wav"), 413, "file_too_large"),
]
HEARD = {"type": "transcript.text.delta", "delta": "Hello "}
BAD_EVENTS: list[list[Any]] = [
    ["{broken"],
    ["[1]"],
    [{"error": {"message": "no", "code": "x"}}],
    ["x" * (5 * 2**20)],
    [],
]
NO_TRANSCRIPTS: list[Any] = [
    {"words": []}, {"text": None}, {"text": "x", "segments": [{"text": "x"}]}, [], "x",
    {"text": "x", "segments": [{"text": 1, "start": 0, "end": 1}]},
    {"text": "x", "words": [{"word": "x", "start": "never", "end": 1}]}, {"text": "x", "segments": [1]},

]  # fmt: skip


def row() -> UsageEvent:
    writer.flush()
    return UsageEvent.objects.latest("id")


def settled(expected: int) -> int:
    """How many rows there are, once the writer had time to bring `expected` of them."""
    deadline = time.monotonic() + 10
    while UsageEvent.objects.count() < expected and time.monotonic() < deadline:
        writer.flush()
        time.sleep(0.02)
    return UsageEvent.objects.count()


def recording(name: str = "talk.wav") -> Any:
    return (name, io.BytesIO(wav(0.5)), "audio/wav")


@pytest.fixture
def speaker(gateway: LiveGateway, provider: ScriptedProvider) -> ScriptedProvider:
    provider.on("tts-up", speaking())
    gateway.add_provider(provider, SPEAKER, name="Acme")
    return provider


@pytest.fixture
def listener(gateway: LiveGateway, provider: ScriptedProvider) -> ScriptedProvider:
    provider.on("whisper-up", transcribing)
    gateway.add_provider(provider, LISTENER, name="Acme")
    return provider


class TestSpeech:
    def test_it_works(self, gateway: LiveGateway, speaker: ScriptedProvider) -> None:
        answer = gateway.client().audio.speech.create(
            **SAY, instructions="cheerfully", speed=1.5, response_format="mp3", extra_body={"language": "en"}
        )
        assert answer.read() == MP3
        assert answer.response.headers["content-type"] == "audio/mpeg"
        assert answer.response.headers["cache-control"] == "no-store"
        (request,) = speaker.requests
        assert (request.path, request.header("accept")) == ("/v1/audio/speech", "*/*")
        assert request.json == {
            "model": "tts-up", "input": "Hello there.", "voice": "alloy", "instructions": "cheerfully", "speed": 1.5,
            "response_format": "mp3", "language": "en",
        }  # fmt: skip
        check("CreateSpeechRequest", {**request.json, "model": "tts-1"})

    def test_bytes_reach_the_caller_while_the_provider_still_speaks(
        self, gateway: LiveGateway, provider: ScriptedProvider
    ) -> None:
        rest = threading.Event()
        provider.on("tts-up", pieces(MP3[:1000], Hold(rest), MP3[1000:]))
        gateway.add_provider(provider, SPEAKER)
        with gateway.client().audio.speech.with_streaming_response.create(**SAY) as answer:
            sound = answer.iter_bytes()
            first = next(sound)
            assert MP3.startswith(first)
            rest.set()
            assert first + b"".join(sound) == MP3

    @pytest.mark.parametrize(
        ("asked", "sent", "told"),
        [
            (None, "", "audio/mpeg"), ("mp3", "application/octet-stream", "audio/mpeg"), ("wav", "", "audio/wav"),
            ("opus", "binary/octet-stream", "audio/ogg"), ("aac", "", "audio/aac"), ("flac", "", "audio/flac"),
            ("pcm", "", "audio/pcm"), ("wav", "audio/x-wav; rate=8000", "audio/x-wav"),
            ("wav", "audio/<b>", "application/octet-stream"),
        ],
    )  # fmt: skip
    def test_the_answer_says_what_it_is(
        self, gateway: LiveGateway, provider: ScriptedProvider, asked: Any, sent: str, told: str
    ) -> None:
        provider.on("tts-up", speaking(content_type=sent))
        gateway.add_provider(provider, SPEAKER)
        form = {"response_format": asked} if asked else {}
        assert gateway.client().audio.speech.create(**SAY, **form).response.headers["content-type"] == told

    def test_a_voice_may_be_an_object_or_be_left_to_us(self, gateway: LiveGateway, speaker: ScriptedProvider) -> None:
        gateway.client().audio.speech.create(**{**SAY, "voice": {"id": "voice_1"}})
        body = {"model": "tts", "input": "x"}
        assert gateway.http.post("/v1/audio/speech", json=body, headers=gateway.auth()).status_code == 200
        assert [request.json["voice"] for request in speaker.requests] == [{"id": "voice_1"}, "alloy"]

    def test_a_provider_in_the_path_needs_no_model(self, gateway: LiveGateway, speaker: ScriptedProvider) -> None:
        answer = gateway.http.post("/api/acme/audio/speech", json={"input": "Hi"}, headers=gateway.auth())
        assert answer.content == MP3
        assert speaker.requests[0].json["model"] == "tts-up"
        assert row().surface == "api.speech"
        named = {"input": "Hi", "provider": "Acme", "download_media": True, "instrcutions": "slowly"}
        assert gateway.http.post("/v1/audio/speech", json=named, headers=gateway.auth()).content == MP3
        assert speaker.requests[1].json["instructions"] == "slowly"

    def test_it_has_its_row_its_characters_and_its_cost(self, gateway: LiveGateway, speaker: ScriptedProvider) -> None:
        # 15 dollars per million characters.
        Price.objects.create(
            model=ProviderModel.objects.get(),
            input=0,
            output=0,
            character=15 * 10**9,
            valid_from="2020-01-01T00:00:00Z",
        )
        gateway.reload()
        gateway.client().audio.speech.create(**SAY)
        found = row()
        assert (found.surface, found.status, found.http_status, found.stream) == ("v1.speech", "ok", 200, True)
        assert (found.provider_name, found.model, found.characters, found.audio_seconds) == ("Acme", "tts", 12, None)
        assert (found.prompt_tokens, found.completion_tokens, found.estimated) == (3, 0, True)
        assert found.cost == 12 * 15_000
        assert found.first_token_ms is not None
        assert UsageEvent.objects.count() == 1

    def test_events_come_where_they_are_asked_for(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        done = {"type": "speech.audio.done", "usage": {"input_tokens": 5, "output_tokens": 70, "total_tokens": 75}}
        provider.on("tts-up", sse([{"type": "speech.audio.delta", "audio": "SUQzBA=="}, done]))
        gateway.add_provider(provider, SPEAKER)
        answer = gateway.http.post("/v1/audio/speech", json={**SAY, "stream_format": "sse"}, headers=gateway.auth())
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line.removeprefix("data: ")) for line in answer.text.strip().split("\n\n")]
        assert events == [{"type": "speech.audio.delta", "audio": "SUQzBA=="}, done]
        for event in events:
            check("CreateSpeechResponseStreamEvent", event)
        assert (row().prompt_tokens, row().completion_tokens, row().estimated) == (5, 70, False)

    def test_events_are_made_of_bytes_for_providers_that_know_none(
        self, gateway: LiveGateway, speaker: ScriptedProvider
    ) -> None:
        answer = gateway.http.post("/v1/audio/speech", json={**SAY, "stream_format": "sse"}, headers=gateway.auth())
        *deltas, done = [json.loads(line.removeprefix("data: ")) for line in answer.text.strip().split("\n\n")]
        assert b"".join(base64.b64decode(event["audio"]) for event in deltas) == MP3
        assert done["type"] == "speech.audio.done"


class TestSpeechFails:
    def test_faults_name_their_parameter(self, gateway: LiveGateway, speaker: ScriptedProvider) -> None:
        for change, status, param, code in SPEECH_FAULTS:
            answer = gateway.http.post("/v1/audio/speech", json={**SAY, **change}, headers=gateway.auth())
            assert answer.status_code == status, (change, answer.text)
            found = check_error(answer.json())
            assert (found["param"], found["code"]) == (param, code), change
        assert not speaker.requests

    def test_the_door_is_guarded(self, gateway: LiveGateway, speaker: ScriptedProvider) -> None:
        assert gateway.key
        assert gateway.http.post("/v1/audio/speech", json=SAY).status_code == 401
        assert gateway.http.get("/v1/audio/speech", headers=gateway.auth()).status_code == 405
        form = gateway.http.post("/v1/audio/speech", data={"input": "x"}, headers=gateway.auth())
        assert (form.status_code, check_error(form.json())["code"]) == (415, "unsupported_media_type")
        missing = gateway.http.post("/v1/audio/speech", json={"input": "x"}, headers=gateway.auth())
        assert (missing.status_code, check_error(missing.json())["param"]) == (400, "model")

    @pytest.mark.parametrize(
        ("answer", "status", "code"),
        [
            (error(400, "no such voice", code="bad_voice", param="voice"), 400, "bad_voice"),
            (error(401), 502, "provider_credential_refused"),
            (error(429, "slow down"), 429, "rate_limit_exceeded"),
            (error(500), 502, "provider_not_working"),
            (raw(b"", content_type="audio/mpeg"), 502, "provider_not_working"),
            (raw(b"null", content_type="application/json"), 502, "provider_not_working"),
            (raw(b"<html>oops", content_type="text/html"), 502, "provider_not_working"),
            (reply_json({"error": {"type": "invalid_request_error"}}), 400, "provider_rejected_request"),
        ],
        ids=["400", "401", "429", "500", "empty", "null", "html", "error with 200"],
    )  # fmt: skip
    def test_what_the_provider_says_is_no_sound(
        self, gateway: LiveGateway, provider: ScriptedProvider, answer: Answer, status: int, code: str
    ) -> None:
        provider.on("tts-up", answer)
        gateway.add_provider(provider, SPEAKER)
        with pytest.raises(openai.APIStatusError) as caught:
            gateway.client().audio.speech.create(**SAY)
        assert (caught.value.status_code, caught.value.code) == (status, code)
        assert (row().status, row().http_status) == ("error", status)

    def test_another_provider_speaks_instead(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        provider.on("tts-up", error(500))
        gateway.add_provider(provider, SPEAKER, name="Broken", priority=1)
        with ScriptedProvider() as other:
            other.on("tts-up", speaking())
            gateway.add_provider(other, SPEAKER, name="Sound", priority=2)
            answer = gateway.client().audio.speech.create(**SAY)
        assert answer.read() == MP3
        assert answer.response.headers["x-gateway-attempts"] == "Broken/tts 502, Sound/tts 200"
        assert [attempt.get("status") for attempt in row().attempts] == [502, None]

    def test_a_sound_that_breaks_off_is_not_taken_for_whole(
        self, gateway: LiveGateway, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
    ) -> None:
        provider.on("tts-up", pieces(MP3[:2000], Close()))
        gateway.add_provider(provider, SPEAKER)
        with pytest.raises(httpx.RemoteProtocolError):
            gateway.http.post("/v1/audio/speech", json=SAY, headers=gateway.auth())
        assert (row().status, row().characters) == ("error", 12)
        # It is told once, without a trace of the server's own.
        assert [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == [
            "answered 502 provider_not_working: Scripted broke off its answer."
        ]

    def test_leaving_early_cancels_the_provider_at_once(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        provider.on("tts-up", pieces(MP3, Stall()))
        gateway.add_provider(provider, SPEAKER)
        delays = []
        for count in range(1, 6):
            with gateway.client().audio.speech.with_streaming_response.create(**SAY) as answer:
                next(answer.iter_bytes())
                request = provider.wait_for(count, path="/audio/speech")
                left = time.monotonic()
            assert request.left.wait(2)
            assert request.left_at is not None
            delays.append(request.left_at - left)
        # The median, because the machine may be busy with something else.
        assert sorted(delays)[2] < 0.1
        assert settled(5) == 5
        assert (row().status, row().characters, row().http_status) == ("cancelled", 12, 499)

    def test_a_caller_that_does_not_read_holds_the_provider_back(
        self, gateway: LiveGateway, provider: ScriptedProvider
    ) -> None:
        provider.on("tts-up", pieces(*[bytes(64 * 1024)] * 400))
        gateway.add_provider(provider, SPEAKER)
        with gateway.client().audio.speech.with_streaming_response.create(**SAY) as answer:
            sound = answer.iter_bytes()
            size = len(next(sound))
            request = provider.wait_for(1, path="/audio/speech")
            time.sleep(0.5)
            # What waits is in the gateway and in the system's buffers for sockets; it is not the whole 25 MiB.
            assert request.bytes_sent < 16 * 1024 * 1024
            assert size + sum(map(len, sound)) == 400 * 64 * 1024

    def test_limits_hold_here_too(self, gateway: LiveGateway, speaker: ScriptedProvider) -> None:
        assert gateway.key
        ApiKey.objects.update(requests_per_minute=1)
        gateway.reload()
        client = gateway.client()
        client.audio.speech.create(**SAY)
        with pytest.raises(openai.RateLimitError):
            client.audio.speech.create(**SAY)

    def test_models_are_used_for_what_they_are_known_for(
        self, gateway: LiveGateway, provider: ScriptedProvider
    ) -> None:
        provider.on("tts-up", speaking())
        gateway.add_provider(provider, SPEAKER, {"public_id": "talker", "audio": False}, {**LISTENER, "speech": False})
        for model in ("talker", "ears"):
            with pytest.raises(openai.BadRequestError) as caught:
                gateway.client().audio.speech.create(**{**SAY, "model": model})
            assert (caught.value.code, caught.value.param) == ("unsupported_operation", "model")
        gateway.client().audio.speech.create(**{**SAY, "model": "default"})
        assert provider.requests[0].json["model"] == "tts-up"

    def test_protocols_without_sound_say_so(self, gateway: LiveGateway) -> None:
        gateway.add_demo()
        with pytest.raises(openai.BadRequestError) as caught:
            gateway.client().audio.transcriptions.create(model="demo", file=recording())
        assert (caught.value.code, caught.value.param) == ("unsupported_operation", "model")


class TestTranscripts:
    def test_json(self, gateway: LiveGateway, listener: ScriptedProvider) -> None:
        answer = gateway.client().audio.transcriptions.create(
            model="ears", file=recording("../../etc/passwd"), language="en", prompt="names: Ada", temperature=0.2
        )
        assert answer.text == TEXT
        body = answer.model_dump(exclude_unset=True)
        assert (body["model"], body["provider"]) == ("ears", "Acme")
        check("CreateTranscriptionResponseJson", body)
        (request,) = listener.requests
        assert request.path == "/v1/audio/transcriptions"
        fields, file = form_of(request)
        assert fields == {"model": ["whisper-up"], "language": ["en"], "prompt": ["names: Ada"], "temperature": ["0.2"]}
        # A caller's own name for its file goes nowhere.
        assert (file.get_filename(), file.get_content_type()) == ("audio.wav", "audio/wav")
        assert file.get_payload(decode=True) == wav(0.5)

    def test_verbose_json(self, gateway: LiveGateway, listener: ScriptedProvider) -> None:
        answer = gateway.client().audio.transcriptions.create(
            model="ears", file=recording(), response_format="verbose_json", timestamp_granularities=["word", "segment"]
        )
        assert (answer.text, answer.language, answer.duration) == (TEXT, "english", 3.5)
        assert answer.segments is not None
        assert answer.words is not None
        assert [segment.model_dump() for segment in answer.segments] == SEGMENTS
        assert [word.model_dump() for word in answer.words] == WORDS
        check("CreateTranscriptionResponseVerboseJson", answer.model_dump(exclude_unset=True))
        assert form_of(listener.requests[0])[0]["timestamp_granularities[]"] == ["word", "segment"]

    @pytest.mark.parametrize(
        ("form", "expected"),
        [
            ("text", f"{TEXT}\n"),
            (
                "srt",
                "1\n00:00:00,000 --> 00:00:02,500\nHello there.\n\n2\n01:01:01,500 --> 01:01:02,250\nA -> B end.\n\n",
            ),
            (
                "vtt",
                """WEBVTT

00:00:00.000 --> 00:00:02.500
Hello there.

01:01:01.500 --> 01:01:02.250
A -> B end.

""",
            ),
        ],
    )
    def test_forms_that_are_text(
        self, gateway: LiveGateway, listener: ScriptedProvider, form: Any, expected: str
    ) -> None:
        found = gateway.client().audio.transcriptions.create(model="ears", file=recording(), response_format=form)
        assert str(found) == expected
        answer = gateway.http.post(
            "/v1/audio/transcriptions",
            data={"model": "ears", "response_format": form},
            files={"file": recording()},
            headers=gateway.auth(),
        )
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert row().status == "ok"

    def test_subtitles_are_made_of_words_where_only_those_are_known(
        self, gateway: LiveGateway, provider: ScriptedProvider
    ) -> None:
        body = {**VERBOSE, "segments": None, "words": [*WORDS, {"word": "Later", "start": 9, "end": 9.5}]}
        provider.on("whisper-up", reply_json(body))
        gateway.add_provider(provider, LISTENER)
        found = gateway.client().audio.transcriptions.create(model="ears", file=recording(), response_format="srt")
        assert str(found) == (
            "1\n00:00:00,000 --> 00:00:02,500\nHello there.\n\n2\n00:00:09,000 --> 00:00:09,500\nLater\n\n"
        )

    @pytest.mark.parametrize("form", ["srt", "vtt", "verbose_json"])
    def test_unknown_times_are_a_clear_refusal(
        self, gateway: LiveGateway, provider: ScriptedProvider, form: Any
    ) -> None:
        provider.on("whisper-up", reply_json({"text": TEXT}))
        gateway.add_provider(provider, LISTENER)
        with pytest.raises(openai.BadRequestError) as caught:
            gateway.client().audio.transcriptions.create(model="ears", file=recording(), response_format=form)
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "response_format")

    def test_translations(self, gateway: LiveGateway, listener: ScriptedProvider) -> None:
        client = gateway.client()
        answer = client.audio.translations.create(model="ears", file=recording())
        assert answer.text == TEXT
        check("CreateTranslationResponseJson", answer.model_dump(exclude_unset=True))
        verbose = client.audio.translations.create(model="ears", file=recording(), response_format="verbose_json")
        check("CreateTranslationResponseVerboseJson", verbose.model_dump(exclude_unset=True))
        assert [request.path for request in listener.requests] == ["/v1/audio/translations"] * 2
        assert row().surface == "v1.translations"

    def test_speakers_pass(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        segment = {
            "type": "transcript.text.segment",
            "id": "seg_1",
            "start": 0,
            "end": 1.5,
            "text": "Hi",
            "speaker": "A",
        }
        body = {"task": "transcribe", "duration": 1.5, "text": "Hi", "segments": [segment], "usage": TOKENS}
        provider.on("whisper-up", reply_json(body))
        gateway.add_provider(provider, LISTENER)
        answer = gateway.client().audio.transcriptions.create(
            model="ears", file=recording(), response_format="diarized_json", chunking_strategy="auto"
        )
        found = answer.model_dump(exclude_unset=True)
        assert found["segments"] == [segment]
        check("CreateTranscriptionResponseDiarizedJson", found)
        assert form_of(provider.requests[0])[0]["chunking_strategy"] == ["auto"]

    def test_events_pass_as_they_come(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        events: list[Any] = [
            {"type": "transcript.text.delta", "delta": "Hello ", "logprobs": []},
            {"type": "transcript.text.delta", "delta": "there."},
            {"type": "transcript.text.done", "text": "Hello there.", "usage": TOKENS},
        ]
        provider.on("whisper-up", sse(events))
        gateway.add_provider(provider, LISTENER)
        stream = gateway.client().audio.transcriptions.create(model="ears", file=recording(), stream=True)
        found = [event.model_dump(exclude_unset=True) for event in stream]
        assert found == events
        for event in found:
            check("CreateTranscriptionResponseStreamEvent", event)
        assert form_of(provider.requests[0])[0]["stream"] == ["true"]
        assert (row().prompt_tokens, row().completion_tokens, row().stream) == (14, 45, True)

    def test_events_are_made_for_models_that_know_none(self, gateway: LiveGateway, listener: ScriptedProvider) -> None:
        stream = gateway.client().audio.transcriptions.create(model="ears", file=recording(), stream=True)
        found = [event.model_dump(exclude_unset=True) for event in stream]
        assert [event["type"] for event in found] == ["transcript.text.delta", "transcript.text.done"]
        assert found[0]["delta"] == found[1]["text"] == TEXT

    def test_a_stream_that_breaks_off_ends_with_an_error(
        self, gateway: LiveGateway, provider: ScriptedProvider
    ) -> None:
        provider.on("whisper-up", sse([{"type": "transcript.text.delta", "delta": "Hello "}]))
        gateway.add_provider(provider, LISTENER)
        with pytest.raises(openai.APIError, match="broke off"):
            list(gateway.client().audio.transcriptions.create(model="ears", file=recording(), stream=True))

    @pytest.mark.parametrize(
        ("body", "seconds", "tokens", "cost"),
        [
            # 100 dollars per million seconds: 0.006 a minute.
            ({"text": TEXT, "usage": {"type": "duration", "seconds": 60}}, 60, 6, 6_000_000),
            ({"text": TEXT, "duration": "30.5"}, 30.5, 6, 3_050_000),
            ({"text": TEXT}, 0.5, 6, 50_000),
            ({"text": TEXT, "usage": TOKENS}, 0.5, 45, 50_000),
        ],
        ids=["billed", "told", "measured", "tokens"],
    )
    def test_it_has_its_row_its_seconds_and_its_cost(
        self, gateway: LiveGateway, provider: ScriptedProvider, body: Any, seconds: float, tokens: int, cost: int
    ) -> None:
        provider.on("whisper-up", reply_json(body))
        gateway.add_provider(provider, LISTENER, name="Acme")
        Price.objects.create(
            model=ProviderModel.objects.get(), input=0, output=0, audio_second=100 * 10**9,
            valid_from="2020-01-01T00:00:00Z",
        )  # fmt: skip
        gateway.reload()
        gateway.client().audio.transcriptions.create(model="ears", file=recording())
        found = row()
        assert (found.surface, found.status, found.stream) == ("v1.transcriptions", "ok", False)
        assert (found.audio_seconds, found.completion_tokens, found.cost) == (seconds, tokens, cost)
        assert found.estimated == ("usage" not in body or body["usage"]["type"] == "duration")

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_recording_of_unknown_length_has_an_unknown_cost(
        self, gateway: LiveGateway, provider: ScriptedProvider, stream: bool
    ) -> None:
        provider.on("whisper-up", reply_json({"text": TEXT}))
        gateway.add_provider(provider, LISTENER, name="Acme")
        Price.objects.create(
            model=ProviderModel.objects.get(), input=0, output=0, audio_second=10**11, valid_from="2020-01-01T00:00:00Z"
        )
        gateway.reload()
        sound: Any = ("a.webm", io.BytesIO(b"\x1a\x45\xdf\xa3\x00webm" + bytes(100)), "audio/webm")
        answer = gateway.client().audio.transcriptions.create(model="ears", file=sound, stream=stream)
        if stream:
            list(answer)
        found = row()
        assert (found.status, found.audio_seconds, found.cost) == ("ok", None, None)

    def test_films_and_all_usual_sounds_are_taken(self, gateway: LiveGateway, listener: ScriptedProvider) -> None:
        beginnings = {
            b"ID3\x04": "audio.mp3", b"\xff\xfb\x90\x00": "audio.mp3", b"fLaC\x00": "audio.flac",
            b"OggS\x00": "audio.ogg",
            b"\x00\x00\x00\x20ftypM4A \x00": "audio.m4a", b"\x00\x00\x00\x20ftypisom\x00": "audio.mp4",
            b"\x1a\x45\xdf\xa3\x00webm": "audio.webm", b"\x00\x00\x01\xba\x00": "audio.mpeg",
        }  # fmt: skip
        for data in beginnings:
            # Neither the name nor the declared type counts.
            file = ("notes.txt", data + bytes(100), "text/plain")
            gateway.client().audio.transcriptions.create(model="ears", file=file)
        names = [form_of(request)[1].get_filename() for request in listener.requests]
        assert names == list(beginnings.values())


def post(gateway: LiveGateway, data: Any = None, file: Any = None, path: str = "/v1/audio/transcriptions") -> Any:
    files = {"file": file} if file is not None else {"other": ("x", b"")}
    data = {"model": "ears"} if data is None else data
    return gateway.http.post(path, data=data, files=files, headers=gateway.auth())


class TestTranscriptsFail:
    def test_events_that_make_no_sense_are_the_providers_failure(
        self, gateway: LiveGateway, provider: ScriptedProvider
    ) -> None:
        gateway.add_provider(provider, LISTENER, SPEAKER)
        for events in BAD_EVENTS:
            provider.on("whisper-up", sse(events))
            provider.on("tts-up", sse(events))
            heard = post(gateway, {"model": "ears", "stream": "true"}, recording())
            spoken = gateway.http.post("/v1/audio/speech", json={**SAY, "stream_format": "sse"}, headers=gateway.auth())
            for answer in (heard, spoken):
                assert answer.status_code == 502, (events, answer.text)
                assert check_error(answer.json())["code"] == "provider_not_working"
        # After the first of them the same is told in the stream.
        for begun, kind in (({"type": "speech.audio.delta", "audio": "SUQz"}, "speech"), (HEARD, "transcriptions")):
            events = [begun, {"type": "speech.audio.delta", "audio": "?!"}, {"error": {"message": "x"}}]
            provider.on("tts-up", sse(events))
            provider.on("whisper-up", sse([begun, {"error": {"message": "x"}}]))
            if kind == "speech":
                body = {**SAY, "stream_format": "sse"}
                answer = gateway.http.post("/v1/audio/speech", json=body, headers=gateway.auth())
            else:
                answer = post(gateway, {"model": "ears", "stream": "true"}, recording())
            *_, last = answer.text.strip().split("\n\n")
            assert (answer.status_code, "error" in json.loads(last.removeprefix("data: "))) == (200, True), answer.text

    def test_a_refused_stream_has_its_status(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        gateway.add_provider(provider, LISTENER)
        for refusal, status in ((error(400, "no"), 400), (error(429), 429), (raw(b"oops"), 502), (raw(b"5"), 502)):
            provider.on("whisper-up", refusal)
            assert post(gateway, {"model": "ears", "stream": "true"}, recording()).status_code == status
        provider.on("whisper-up", raw(b'{"text": "%b"}' % (b"x" * 33 * 2**20)))
        too_large = post(gateway, {"model": "ears", "stream": "true"}, recording())
        assert (too_large.status_code, "too large" in too_large.text) == (502, True)
        many = b'{"text": "x", "segments": [' + b"[]," * 600_000 + b"0]}"
        provider.on("whisper-up", raw(many))
        assert post(gateway, None, recording()).status_code == 502
        provider.on("whisper-up", reply_json({"error": {"message": "no", "type": "invalid_request_error"}}))
        assert post(gateway, None, recording()).status_code == 400

    def test_words_that_nobody_timed_are_not_made_up(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        provider.on("whisper-up", reply_json(VERBOSE))
        gateway.add_provider(provider, LISTENER)
        data = {"model": "ears", "response_format": "verbose_json", "timestamp_granularities[]": "word"}
        answer = post(gateway, data, recording())
        assert (answer.status_code, check_error(answer.json())["param"]) == (400, "timestamp_granularities")

    def test_faults_name_their_parameter(self, gateway: LiveGateway, listener: ScriptedProvider) -> None:
        for data, status, param, code in FORM_FAULTS:
            answer = post(gateway, data, recording())
            assert answer.status_code == status, (data, answer.text)
            found = check_error(answer.json())
            assert param is None or (found["param"], found["code"]) == (param, code), data
        assert not listener.requests

    def test_what_is_no_recording_is_refused(self, gateway: LiveGateway, listener: ScriptedProvider) -> None:
        for file, status, code in NO_RECORDINGS:
            answer = post(gateway, None, file)
            assert (answer.status_code, check_error(answer.json())["code"]) == (status, code), answer.text
            assert answer.json()["error"]["param"] == "file"
        assert not listener.requests

    def test_a_file_named_like_a_path_touches_nothing(
        self, gateway: LiveGateway, listener: ScriptedProvider, tmp_path: Any
    ) -> None:
        """LiteLLM removed the file that an upload was named after (GHSA-3xr8-qfvj-9p9j)."""
        precious = tmp_path / "precious.wav"
        precious.write_bytes(b"mine")
        before = sorted(path.name for path in tmp_path.iterdir())
        for name in (str(precious), f"../../..{precious}", "/tmp/absent.wav", "C:\\windows\\x.wav", "a\x00b.wav"):
            body = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nears\r\n--b\r\n'
            body += f'content-disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
            body += wav(0.1) + b"\r\n--b--\r\n"
            headers = {**gateway.auth(), "content-type": "multipart/form-data; boundary=b"}
            answer = gateway.http.post("/v1/audio/transcriptions", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
        assert precious.read_bytes() == b"mine"
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    def test_the_door_is_guarded(self, gateway: LiveGateway, listener: ScriptedProvider) -> None:
        files = {"file": recording()}
        assert gateway.key
        assert gateway.http.post("/v1/audio/transcriptions", files=files).status_code == 401
        as_json = gateway.http.post("/v1/audio/transcriptions", json={"model": "ears"}, headers=gateway.auth())
        assert (as_json.status_code, check_error(as_json.json())["code"]) == (415, "unsupported_media_type")
        broken = {**gateway.auth(), "content-type": "multipart/form-data; boundary=b"}
        answer = gateway.http.post("/v1/audio/transcriptions", content=b"--b\r\nnope", headers=broken)
        assert (answer.status_code, check_error(answer.json())["code"]) == (400, "invalid_multipart")

    def test_what_is_no_transcript_is_the_providers_failure(
        self, gateway: LiveGateway, provider: ScriptedProvider
    ) -> None:
        gateway.add_provider(provider, LISTENER)
        for body in NO_TRANSCRIPTS:
            provider.on("whisper-up", reply_json(body))
            answer = post(gateway, {"model": "ears", "response_format": "verbose_json"}, recording())
            assert (answer.status_code, check_error(answer.json())["code"]) == (502, "provider_not_working"), body

    def test_another_provider_listens_instead(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        provider.on("whisper-up", reply_json({"text": "no times"}))
        gateway.add_provider(provider, LISTENER, name="Plain", priority=1)
        with ScriptedProvider() as other:
            other.on("whisper-up", transcribing)
            gateway.add_provider(other, LISTENER, name="Timed", priority=2)
            answer = post(gateway, {"model": "ears", "response_format": "vtt"}, recording())
            assert answer.text.startswith("WEBVTT")
            assert form_of(other.requests[0])[1].get_payload(decode=True) == wav(0.5)
        assert answer.headers["x-gateway-attempts"] == "Plain/ears 400, Timed/ears 200"

    def test_leaving_early_cancels_the_provider_at_once(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        provider.on("whisper-up", silent())
        gateway.add_provider(provider, LISTENER)
        delays = []
        for count in range(1, 4):
            ask: Any = {"data": {"model": "ears"}, "files": {"file": recording()}, "timeout": 0.5}
            with pytest.raises(httpx.ReadTimeout):
                gateway.http.post("/v1/audio/transcriptions", headers=gateway.auth(), **ask)
            left = time.monotonic()
            request = provider.wait_for(count, path="/audio/transcriptions")
            assert request.left.wait(2)
            assert request.left_at is not None
            delays.append(request.left_at - left)
        assert sorted(delays)[1] < 0.1
        assert settled(3) == 3
        assert (row().status, row().http_status) == ("cancelled", 499)

    def test_two_users_have_their_own_rows_and_models(self, gateway: LiveGateway, listener: ScriptedProvider) -> None:
        user = alice()
        ours, theirs = gateway.make_key(user), gateway.make_key(bob(), models=["another"])
        gateway.client(ours).audio.transcriptions.create(model="ears", file=recording())
        with pytest.raises(openai.PermissionDeniedError):
            gateway.client(theirs).audio.transcriptions.create(model="ears", file=recording())
        assert row().user == user
        assert UsageEvent.objects.count() == 1


def post_form(gateway: LiveGateway, **data: Any) -> httpx.Response:
    files = {"file": recording()}
    data = {"model": "ears", **data}
    return gateway.http.post("/v1/audio/transcriptions", data=data, files=files, headers=gateway.auth())


class TestForms:
    """What JSON has as objects is the text of one in a form."""

    def test_a_provider_may_be_an_object(self, gateway: LiveGateway, listener: ScriptedProvider) -> None:
        gateway.add_provider("http://127.0.0.1:9/v1", LISTENER, name="Other", priority=1)
        wanted = json.dumps({"order": ["Acme"], "allow_fallbacks": False, "sort": "price"})
        answer = post_form(gateway, provider=wanted)
        assert (answer.status_code, answer.json()["provider"]) == (200, "Acme")
        assert answer.headers["warning"] == '299 g4fsite "ignored: provider.sort"'
        assert "provider" not in form_of(listener.requests[0])[0]

    def test_extra_body_is_a_part_of_the_form(self, gateway: LiveGateway, listener: ScriptedProvider) -> None:
        extra = {"temperature": 0.5, "flag": True, "about": {"a": 1}, "language": "en", "file": "x", "nothing": None}
        assert post_form(gateway, extra_body=json.dumps(extra), language="de").status_code == 200
        fields, file = form_of(listener.requests[0])
        assert fields == {
            "model": ["whisper-up"], "language": ["de"], "temperature": ["0.5"], "flag": ["true"], "about": ['{"a":1}'],
        }  # fmt: skip
        assert file.get_payload(decode=True) == wav(0.5)

    @pytest.mark.parametrize(
        ("field", "text", "param"),
        [
            ("provider", "{", "provider"),
            ("provider", '{"order": 5}', "provider.order"),
            ("usage", "{", "usage"),
            ("extra_body", "[1]", "extra_body"),
            ("extra_body", "{", "extra_body"),
            ("extra_body", '{"a\\r\\nb": 1}', "extra_body"),
            ("extra_body", '{"stream": "yes"}', "stream"),
            ("extra_body", '{"response_format": ["srt"]}', "response_format"),
            ("extra_body", '{"timestamp_granularities": 5}', "timestamp_granularities"),
            ("extra_body", '{"temperature": "hot"}', "temperature"),
            ("extra_body", '{"a": %s1%s}' % ("[" * 300, "]" * 300), "extra_body"),  # noqa: UP031 - braces
            ("extra_body", '{"model": 5}', None),
        ],
    )
    def test_bad_objects_name_what_is_wrong(
        self, gateway: LiveGateway, listener: ScriptedProvider, field: str, text: str, param: str | None
    ) -> None:
        answer = post_form(gateway, **{field: text})
        if param is None:
            # The form's own field wins.
            assert answer.status_code == 200
            return
        assert (answer.status_code, check_error(answer.json())["param"]) == (400, param)
        assert not listener.requests

    @pytest.fixture
    def priced(self, gateway: LiveGateway, listener: ScriptedProvider) -> LiveGateway:
        Price.objects.create(
            model=ProviderModel.objects.get(), input=0, output=0, audio_second=10**11, valid_from="2020-01-01T00:00Z"
        )
        gateway.reload()
        return gateway

    @pytest.mark.parametrize("form", ["json", "verbose_json"])
    def test_the_cost_is_told_where_it_was_asked_for(self, priced: LiveGateway, form: str) -> None:
        told = post_form(priced, response_format=form, usage='{"include": true}')
        seconds = 3.5 if form == "verbose_json" else 4
        assert told.json()["usage"] == {"type": "duration", "seconds": 4, "cost": seconds * 100_000 / 10**9}
        assert "warning" not in told.headers
        assert "cost" not in post_form(priced, response_format=form).json()["usage"]

    @pytest.mark.parametrize("own", [False, True], ids=["made here", "the provider's"])
    def test_the_last_event_tells_it_too(self, priced: LiveGateway, listener: ScriptedProvider, own: bool) -> None:
        done = {"type": "transcript.text.done", "text": "Hello ", "usage": TOKENS}
        listener.on("whisper-up", sse([HEARD, done]) if own else reply_json({"text": TEXT}))
        answer = post_form(priced, stream="true", usage='{"include": true}')
        first, last = [json.loads(line.removeprefix("data: ")) for line in answer.text.strip().split("\n\n")]
        assert (first["type"], last["type"]) == ("transcript.text.delta", "transcript.text.done")
        spent = TOKENS if own else {"type": "duration", "seconds": 0.5}
        assert last["usage"] == {**spent, "cost": 0.00005}
        check("TranscriptTextDeltaEvent", first)

    @pytest.mark.parametrize("form", ["text", "srt", "vtt"])
    def test_texts_have_no_place_for_it(self, priced: LiveGateway, form: str) -> None:
        answer = post_form(priced, response_format=form, usage='{"include": true}')
        assert (answer.status_code, answer.headers["warning"]) == (200, '299 g4fsite "ignored: usage"')

    def test_nor_has_a_sound_but_its_last_event_has(self, gateway: LiveGateway, speaker: ScriptedProvider) -> None:
        body = {**SAY, "usage": {"include": True}}
        answer = gateway.http.post("/v1/audio/speech", json=body, headers=gateway.auth())
        assert (answer.content, answer.headers["warning"]) == (MP3, '299 g4fsite "ignored: usage"')
        answer = gateway.http.post("/v1/audio/speech", json={**body, "stream_format": "sse"}, headers=gateway.auth())
        assert "warning" not in answer.headers
        assert json.loads(answer.text.strip().rpartition("data: ")[2])["usage"]["cost"] is None
