"""Requests for sound: a text to be spoken, a recording to be written down. They take the way of a chat.

The canonical forms are OpenAI's (`POST /audio/speech`, `/audio/transcriptions`, `/audio/translations`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.chat import ChatRequest, Message, TextPart
from gateway.events import Transcript, Usage

CHARACTERS_PER_TOKEN = 4
SPEECH, TRANSCRIPTIONS, TRANSLATIONS = "speech", "transcriptions", "translations"

# What may be asked for, and what it is on the wire.
SOUND_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
# Of these a transcript must say when each part was spoken.
TIMED = frozenset(("srt", "vtt", "verbose_json"))
# Names that providers know a type of sound or film by; a caller's own name for its file goes nowhere.
EXTENSIONS = {
    "audio/wav": "wav",
    "audio/mp3": "mp3",
    "audio/aac": "aac",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/aiff": "aiff",
    "audio/mp4": "m4a",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/mpeg": "mpeg",
    "video/avi": "avi",
}


@dataclass(slots=True)
class SpeechRequest(ChatRequest):
    """A checked request; `body` is OpenAI's without what steers us. Its answer is always a stream of `Sound`."""

    @property
    def text(self) -> str:
        """What to say, 1 to 4096 characters."""
        return self.body["input"]  # type: ignore[no-any-return]

    @property
    def voice(self) -> str:
        """A name or an id; empty when nothing was said."""
        voice = self.body.get("voice")
        return str(voice["id"]) if isinstance(voice, dict) else voice or ""

    @property
    def format(self) -> str | None:
        """One of SOUND_TYPES; None leaves it to the provider (OpenAI's is mp3)."""
        return self.body.get("response_format")

    @property
    def speed(self) -> float:
        """0.25 to 4."""
        speed = self.body.get("speed")
        return 1.0 if speed is None else float(speed)

    @property
    def instructions(self) -> str:
        return self.body.get("instructions") or ""

    @property
    def language(self) -> str:
        """As ISO 639-1 or BCP 47 has it; empty when nothing was said."""
        return self.body.get("language") or ""

    @property
    def as_events(self) -> bool:
        """`stream_format: sse`."""
        return self.body.get("stream_format") == "sse"

    def messages(self) -> tuple[Message, ...]:
        """The text, for limits and estimates."""
        return (Message("user", (TextPart(self.text),)),)


@dataclass(slots=True)
class TranscriptionRequest(ChatRequest):
    """A checked request; `body` has OpenAI's fields beside the file. Its answer is a `Transcript`.

    `sound` is the whole recording and `content_type` what it is by its content, one of `EXTENSIONS`. `seconds` is how
    long it is where that could be told without playing it.
    """

    operation: str = TRANSCRIPTIONS
    sound: bytes = field(default=b"", repr=False)
    content_type: str = ""
    seconds: float | None = None

    @property
    def file_name(self) -> str:
        return f"audio.{EXTENSIONS[self.content_type]}"

    @property
    def format(self) -> str:
        """json, text, srt, verbose_json, vtt or diarized_json."""
        return self.body.get("response_format") or "json"

    @property
    def language(self) -> str:
        """What is spoken, as the caller says (ISO 639-1); empty when nothing was said."""
        return self.body.get("language") or ""

    @property
    def prompt(self) -> str:
        return self.body.get("prompt") or ""

    @property
    def granularities(self) -> list[str]:
        """segment, word or both."""
        return self.body.get("timestamp_granularities") or ["segment"]

    def messages(self) -> tuple[Message, ...]:
        return (Message("user", (TextPart(self.prompt),)),)


def spoken(request: SpeechRequest, usage: Usage | None = None) -> Usage:
    """What speaking used: the provider's tokens, or an estimate, and the characters."""
    usage = usage or Usage(max(1, len(request.text) // CHARACTERS_PER_TOKEN), 0, estimated=True)
    usage.characters = len(request.text)
    return usage


def heard(request: TranscriptionRequest, transcript: Transcript) -> Usage:
    """What listening used: the provider's tokens or an estimate, and the seconds, its own or those of the file."""
    text = len(request.prompt) // CHARACTERS_PER_TOKEN, len(transcript.text) // CHARACTERS_PER_TOKEN
    usage = transcript.usage or Usage(*text, estimated=True)
    if usage.audio_seconds is None:
        usage.audio_seconds = request.seconds if transcript.duration is None else transcript.duration
    usage.unmeasured = usage.audio_seconds is None
    return usage
