"""Speech and transcripts of providers that are not OpenAI's, over sockets, asked by OpenAI's client."""

from __future__ import annotations

import base64
import io
import wave
from typing import Any

import openai
import pytest

from gateway.models import Price, Provider, ProviderModel, UsageEvent
from gateway.usage import writer
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider
from tests.support.sounds import MP3, form_of, speaking, transcribing, wav

SAMPLES = bytes(range(256)) * 600
SAY: dict[str, Any] = {"model": "m", "input": "Hello there.", "voice": "nova"}
REFUSAL = {"error": {"code": 400, "message": "no such voice", "status": "INVALID_ARGUMENT"}}
USED = {"promptTokenCount": 9, "candidatesTokenCount": 80, "totalTokenCount": 89}


def recording() -> Any:
    return ("a.wav", io.BytesIO(wav(0.5)), "audio/wav")


def row() -> UsageEvent:
    writer.flush()
    return UsageEvent.objects.latest("id")


def gemini(gateway: LiveGateway, provider: ScriptedProvider) -> Provider:
    fields: Any = {"adapter": "gemini", "auth_style": "header", "auth_name": "x-goog-api-key", "name": "Gemini"}
    model = {"public_id": "m", "upstream_name": "gemini-2.5-flash-preview-tts", "audio": True}
    return gateway.add_provider(provider, model, **fields)


def generated(*parts: Any, finish: str = "STOP") -> answers.Answer:
    content = {"role": "model", "parts": list(parts)}
    return answers.reply_json({"candidates": [{"content": content, "finishReason": finish}], "usageMetadata": USED})


def sound(mime_type: str = "audio/L16;codec=pcm;rate=16000", data: bytes = SAMPLES) -> Any:
    return {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(data).decode()}}


def price() -> None:
    """A dollar for a million tokens that the model writes."""
    Price.objects.create(model=ProviderModel.objects.get(), input=0, output=10**9, valid_from="2020-01-01T00:00:00Z")


class TestGemini:
    @pytest.mark.parametrize("form", [None, "wav"])
    def test_speech_is_a_wav_file(self, gateway: LiveGateway, provider: ScriptedProvider, form: Any) -> None:
        gemini(gateway, provider)
        provider.enqueue(generated(sound()))
        asked = {"response_format": form} if form else {}
        extra = {"language": "en-US"}
        answer = gateway.client().audio.speech.create(**SAY, **asked, instructions="Whisper", extra_body=extra)
        assert answer.response.headers["content-type"] == "audio/wav"
        with wave.open(io.BytesIO(answer.read())) as read:
            assert (read.getframerate(), read.getnchannels(), read.getsampwidth()) == (16000, 1, 2)
            assert read.readframes(read.getnframes()) == SAMPLES
        (request,) = provider.requests
        assert request.path == "/v1/models/gemini-2.5-flash-preview-tts:generateContent"
        assert request.json == {
            "contents": [{"role": "user", "parts": [{"text": "Whisper:\nHello there."}]}],
            "generationConfig": {
                "responseModalities": ["AUDIO"],
                "speechConfig": {
                    "voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Leda"}},
                    "languageCode": "en-US",
                },
            },
        }
        assert (row().prompt_tokens, row().completion_tokens, row().characters) == (9, 80, 12)

    def test_bare_samples_and_its_own_voices(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        gemini(gateway, provider)
        provider.enqueue(generated(sound()))
        answer = gateway.client().audio.speech.create(**{**SAY, "voice": "Zubenelgenubi"}, response_format="pcm")
        assert (answer.read(), answer.response.headers["content-type"]) == (SAMPLES, "audio/pcm")
        config = provider.requests[0].json["generationConfig"]["speechConfig"]
        assert config == {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "Zubenelgenubi"}}}

    @pytest.mark.parametrize(
        ("asked", "param"), [({"response_format": "mp3"}, "response_format"), ({"speed": 2}, "speed")]
    )
    def test_what_it_cannot_say_is_refused(
        self, gateway: LiveGateway, provider: ScriptedProvider, asked: Any, param: str
    ) -> None:
        gemini(gateway, provider)
        with pytest.raises(openai.BadRequestError) as caught:
            gateway.client().audio.speech.create(**SAY, **asked)
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)
        assert not provider.requests

    @pytest.mark.parametrize(
        ("answer", "status", "code"),
        [
            (generated({"text": "I would rather write."}), 502, "provider_not_working"),
            (generated(sound(data=b"")), 502, "provider_not_working"),
            (generated({"inlineData": {"mimeType": "audio/L16", "data": "?!"}}), 502, "provider_not_working"),
            (generated(finish="SAFETY"), 400, "content_policy_violation"),
            (answers.reply_json(REFUSAL, status=400), 400, None),
            (answers.error(500), 502, "provider_not_working"),
        ],
        ids=["text", "nothing", "no base64", "refused", "400", "500"],
    )  # fmt: skip
    def test_what_is_no_sound_is_told(
        self, gateway: LiveGateway, provider: ScriptedProvider, answer: Any, status: int, code: Any
    ) -> None:
        gemini(gateway, provider)
        provider.enqueue(answer)
        with pytest.raises(openai.APIStatusError) as caught:
            gateway.client().audio.speech.create(**SAY)
        assert caught.value.status_code == status
        assert code is None or caught.value.code == code

    def test_it_writes_down_and_translates(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        gemini(gateway, provider)
        provider.enqueue(generated({"text": " Hello "}, {"text": "there.\n"}), generated({"text": "Hi."}))
        client = gateway.client()
        answer = client.audio.transcriptions.create(
            model="m", file=recording(), language="en", prompt="Ada", temperature=0, response_format="json"
        )
        assert answer.text == "Hello there."
        sent = provider.requests[0].json
        recorded, wanted = sent["contents"][0]["parts"]
        assert recorded["inlineData"]["mimeType"] == "audio/wav"
        assert base64.b64decode(recorded["inlineData"]["data"]) == wav(0.5)
        assert "'en'" in wanted["text"]
        assert wanted["text"].endswith("Ada")
        assert sent["generationConfig"] == {"temperature": 0}
        assert (row().prompt_tokens, row().completion_tokens, row().audio_seconds) == (9, 80, 0.5)
        assert client.audio.translations.create(model="m", file=recording(), response_format="text") == "Hi.\n"
        assert "in English" in provider.requests[1].json["contents"][0]["parts"][1]["text"]

    def test_events_are_made_of_the_whole_transcript(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        gemini(gateway, provider)
        provider.enqueue(generated({"text": "Hi."}))
        events = list(gateway.client().audio.transcriptions.create(model="m", file=recording(), stream=True))
        assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
        assert (row().stream, row().completion_tokens) == (True, 80)

    @pytest.mark.parametrize("part", [{"text": "I would rather write."}, sound(data=b"")], ids=["text", "nothing"])
    def test_what_is_no_sound_was_paid_all_the_same(
        self, gateway: LiveGateway, provider: ScriptedProvider, part: Any
    ) -> None:
        gemini(gateway, provider)
        price()
        gateway.reload()
        provider.enqueue(generated(part))
        with pytest.raises(openai.InternalServerError):
            gateway.client().audio.speech.create(**SAY)
        found = row()
        assert (found.status, found.prompt_tokens, found.completion_tokens) == ("error", 9, 80)
        assert (found.characters, found.cost) == (12, 80_000)

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_transcript_that_was_cut_is_none(
        self, gateway: LiveGateway, provider: ScriptedProvider, stream: bool
    ) -> None:
        gemini(gateway, provider)
        price()
        gateway.reload()
        provider.enqueue(generated({"text": "The first half of it"}, finish="MAX_TOKENS"))
        with pytest.raises(openai.InternalServerError, match="a part of the recording only"):
            gateway.client().audio.transcriptions.create(model="m", file=recording(), stream=stream)
        found = row()
        assert (found.status, found.prompt_tokens, found.completion_tokens) == ("error", 9, 80)
        assert (found.audio_seconds, found.cost) == (0.5, 80_000)

    def test_sound_that_has_a_head_passes(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        gemini(gateway, provider)
        provider.enqueue(generated(sound("audio/ogg;codecs=opus", b"OggS")))
        answer = gateway.client().audio.speech.create(**SAY)
        assert (answer.read(), answer.response.headers["content-type"]) == (b"OggS", "audio/ogg")

    @pytest.mark.parametrize("form", ["srt", "vtt", "verbose_json", "diarized_json"])
    def test_times_are_not_made_up(self, gateway: LiveGateway, provider: ScriptedProvider, form: Any) -> None:
        gemini(gateway, provider)
        with pytest.raises(openai.BadRequestError) as caught:
            gateway.client().audio.transcriptions.create(model="m", file=recording(), response_format=form)
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "response_format")
        assert not provider.requests

    def test_a_refused_recording_is_no_silence(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        gemini(gateway, provider)
        provider.enqueue(generated(finish="SAFETY"), generated())
        client = gateway.client()
        with pytest.raises(openai.BadRequestError) as caught:
            client.audio.transcriptions.create(model="m", file=recording())
        assert caught.value.code == "content_policy_violation"
        assert client.audio.transcriptions.create(model="m", file=recording()).text == ""


class TestPollinations:
    def test_it_has_openais_routes_below_its_host(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        models = (
            {"public_id": "m", "upstream_name": "openai-audio"},
            {"public_id": "ears", "upstream_name": "whisper"},
        )
        gateway.add_provider(
            provider.base_url.removesuffix("/v1"), *models, adapter="pollinations", name="Pollinations"
        )
        provider.on("openai-audio", speaking())
        provider.on("whisper", transcribing)
        client = gateway.client()
        assert client.audio.speech.create(**SAY).read() == MP3
        found = client.audio.transcriptions.create(model="ears", file=recording(), response_format="srt")
        assert str(found).startswith("1\n00:00:00,000")
        assert [request.path for request in provider.requests] == ["/v1/audio/speech", "/v1/audio/transcriptions"]
        assert form_of(provider.requests[1])[0]["model"] == ["whisper"]


class TestOpenAIResponses:
    """The Responses API has no sound of its own; a server that speaks it has OpenAI's routes beside it."""

    def test_it_speaks_and_writes_down(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        gateway.add_provider(provider, "m", "ears", adapter="openai_responses")
        provider.on("m", speaking())
        provider.on("ears", transcribing)
        client = gateway.client()
        assert client.audio.speech.create(**SAY).read() == MP3
        assert row().characters == 12
        assert client.audio.transcriptions.create(model="ears", file=recording()).text.startswith("Hello there.")
        assert row().audio_seconds == 4
        srt = client.audio.translations.create(model="ears", file=recording(), response_format="srt")
        assert str(srt).startswith("1\n00:00:00,000")
        assert [(request.path, request.header("authorization")) for request in provider.requests] == [
            (f"/v1/audio/{route}", "Bearer sk-upstream-credential-1")
            for route in ("speech", "transcriptions", "translations")
        ]

    def test_what_its_server_refuses_is_told(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        gateway.add_provider(provider, "m", adapter="openai_responses")
        provider.on("m", answers.error(404, "Not Found"))
        client = gateway.client()
        with pytest.raises(openai.APIStatusError) as spoken:
            client.audio.speech.create(**SAY)
        with pytest.raises(openai.APIStatusError) as heard:
            client.audio.transcriptions.create(model="m", file=recording())
        assert (spoken.value.status_code, heard.value.status_code) == (404, 404)


@pytest.mark.parametrize("adapter", ["anthropic", "ollama", "copilot", "demo"])
def test_protocols_without_sound_say_so(gateway: LiveGateway, provider: ScriptedProvider, adapter: str) -> None:
    gateway.add_provider(provider, "m", adapter=adapter, name="Mute")
    client = gateway.client()
    for ask in (
        lambda: client.audio.speech.create(**SAY),
        lambda: client.audio.transcriptions.create(model="m", file=recording()),
        lambda: client.audio.translations.create(model="m", file=recording()),
    ):
        with pytest.raises(openai.BadRequestError, match="Mute offers no") as caught:
            ask()
        assert (caught.value.code, caught.value.param) == ("unsupported_operation", "model")
    assert not provider.requests


@pytest.mark.parametrize(
    "answer",
    [{"text": "Hi."}, {"words": []}, {"text": "Hi.", "segments": [1]}],
    ids=["no times", "no text", "odd times"],
)
def test_a_transcript_that_is_refused_was_paid(gateway: LiveGateway, provider: ScriptedProvider, answer: Any) -> None:
    gateway.add_provider(provider, "m")
    price()
    gateway.reload()
    usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}
    provider.on("m", answers.reply_json({**answer, "usage": usage}))
    with pytest.raises(openai.APIStatusError):
        gateway.client().audio.transcriptions.create(model="m", file=recording(), response_format="srt")
    found = row()
    assert (found.status, found.prompt_tokens, found.completion_tokens, found.cost) == ("error", 14, 45, 45_000)


def test_seconds_of_a_transcript_that_is_refused_are_booked(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "m")
    Price.objects.create(
        model=ProviderModel.objects.get(), input=0, output=0, audio_second=10**11, valid_from="2020-01-01T00:00:00Z"
    )
    gateway.reload()
    provider.on("m", answers.reply_json({"text": "Hi.", "usage": {"type": "duration", "seconds": 60}}))
    with pytest.raises(openai.BadRequestError):
        gateway.client().audio.transcriptions.create(model="m", file=recording(), response_format="srt")
    assert (row().status, row().audio_seconds, row().cost) == ("error", 60, 6_000_000)
