"""Checks what callers send to the audio routes (OpenAI API reference, "Audio").

Ill-typed or missing: 400. Well-typed and out of range: 422. Fields that we do not know are passed on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from gateway.audio import EXTENSIONS, SOUND_TYPES, TIMED, TRANSCRIPTIONS, SpeechRequest, TranscriptionRequest
from gateway.errors import BadRequest
from gateway.surfaces.audio.recordings import seconds_of
from gateway.surfaces.multipart import Bounds, Form, Upload
from gateway.surfaces.openai.parser import addressed, decode, ill_typed, merged, missing
from gateway.surfaces.openai.steering import OBJECTS, of_form
from media.kinds import kind_of

MAX_TEXT = 4096
MAX_LANGUAGE = 100
MAX_VOICE = 200
MAX_PROMPT = 100_000
FORM_BOUNDS = Bounds(files=2, fields=200)
# Like OpenAI's, all of these are plain text.
TEXT_FORMS = ("text", "srt", "vtt")
TRANSCRIPT_FORMS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
GRANULARITIES = ("word", "segment")
# What a form may hold several of.
LISTS = (
    "timestamp_granularities", "include", "known_speaker_names", "known_speaker_references", "languages", "keywords",
)  # fmt: skip
SINGLE = ("model", "provider", "language", "prompt", "response_format", "stream", "temperature")
FIELD_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}(?:\[[A-Za-z0-9_.-]{0,64}\])?\Z")
TRUTHS = {"true": True, "1": True, "false": False, "0": False, "": False}


def parse_speech(raw: bytes, path_provider: str | None = None) -> SpeechRequest:
    """Raises BadRequest with the parameter's path."""
    return speech_of(merged(decode(raw)), path_provider)


def speech_of(body: dict[str, Any], path_provider: str | None = None) -> SpeechRequest:
    # g4f's clients spell it so.
    misspelt = body.pop("instrcutions", None)
    if misspelt is not None:
        body.setdefault("instructions", misspelt)
    fields = _addressed(body, path_provider)
    _check_text(body, "input", required=True)
    _check_text(body, "instructions")
    _check_voice(body.get("voice"))
    _check_text(body, "language", most=MAX_LANGUAGE)
    _check_choice(body, "response_format", SOUND_TYPES)
    _check_choice(body, "stream_format", ("audio", "sse"))
    _check_range(body, "speed", 0.25, 4)
    fields["body"] = {name: value for name, value in fields["body"].items() if value is not None}
    if body.get("stream_format") != "sse":
        fields = without_cost(fields)
    return SpeechRequest(**fields | {"stream": True}, plain=False)


def without_cost(fields: dict[str, Any]) -> dict[str, Any]:
    """For answers that have no place for what they cost: the caller is told that its question has no effect."""
    if not fields["include_cost"]:
        return fields
    return {**fields, "include_cost": False, "warnings": (*fields["warnings"], "usage")}


def _addressed(body: dict[str, Any], path_provider: str | None) -> dict[str, Any]:
    """A provider's name is enough: it may have a model for this."""
    if "model" not in body and not body.get("models") and (path_provider or body.get("provider")):
        body = {**body, "model": ""}
    return addressed(body, path_provider)


def _check_text(body: Mapping[str, Any], name: str, *, required: bool = False, most: int = MAX_TEXT) -> None:
    text = body.get(name)
    if text is None:
        if required:
            raise missing(name)
        return
    if not isinstance(text, str):
        raise ill_typed(name, "a string")
    if required and not text.strip():
        raise BadRequest(f"'{name}' must not be empty.", param=name)
    if len(text) > most:
        raise BadRequest(
            f"'{name}' has {len(text)} characters; at most {most} are taken.",
            status=422,
            code="string_above_max_length",
            param=name,
        )


def _check_voice(voice: Any) -> None:
    if isinstance(voice, dict):
        if not isinstance(voice.get("id"), str):
            raise ill_typed("voice.id", "a string")
        voice = voice["id"]
    if voice is None:
        return
    if not isinstance(voice, str):
        raise ill_typed("voice", "a string or an object with an id")
    if not 0 < len(voice) <= MAX_VOICE:
        raise BadRequest(f"'voice' must have 1 to {MAX_VOICE} characters.", param="voice")


def _check_choice(body: Mapping[str, Any], name: str, choices: Any) -> None:
    value = body.get(name)
    if value is None:
        return
    if not isinstance(value, str):
        raise ill_typed(name, "a string")
    if value not in choices:
        raise BadRequest(f"Invalid value for '{name}': expected one of {', '.join(choices)}.", param=name)


def _check_range(body: Mapping[str, Any], name: str, low: float, high: float) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ill_typed(name, "a number")
    if not low <= value <= high:
        code = "decimal_below_min_value" if value < low else "decimal_above_max_value"
        raise BadRequest(
            f"Invalid value for '{name}': expected {low:g} to {high:g}.", status=422, code=code, param=name
        )


async def parse_transcription(form: Form, operation: str, path_provider: str | None = None) -> TranscriptionRequest:
    """Raises BadRequest. The file is read, and looked into, in a thread."""
    body = form_body(form)
    fields = _addressed(body, path_provider)
    _check_transcription(body, operation)
    if body.get("response_format") in TEXT_FORMS:
        fields = without_cost(fields)
    upload = the_file(form)
    sound, kind, seconds = await asyncio.to_thread(_read, upload)
    return TranscriptionRequest(
        **fields | {"stream": body.get("stream", False)},
        plain=False,
        operation=operation,
        sound=sound,
        content_type=kind,
        seconds=seconds,
    )


def form_body(form: Form) -> dict[str, Any]:
    """The texts of the form as JSON would have them. Raises BadRequest."""
    body: dict[str, Any] = {}
    for given, values in form.fields.items():
        if not FIELD_NAME.match(given):
            raise BadRequest("A field of the form has a name that cannot be passed on.", param=given[:64])
        name = given.removesuffix("[]")
        if given != name or name in LISTS or len(values) > 1:
            body.setdefault(name, []).extend(values)
        else:
            body[name] = values[0]
    for name in (*SINGLE, *OBJECTS):
        if isinstance(body.get(name), list):
            body[name] = body[name][-1]
        if body.get(name) == "" and name not in ("model", "prompt"):
            # A form says nothing in this way.
            del body[name]
    if "temperature" in body:
        body["temperature"] = _number("temperature", body["temperature"])
    if "stream" in body:
        body["stream"] = _truth("stream", body["stream"])
    body |= {name: of_form(name, body[name]) for name in ("provider", *OBJECTS) if name in body}
    return _whole(body)


def _whole(body: dict[str, Any]) -> dict[str, Any]:
    """With what `extra_body` adds, whose values are of any type. Raises BadRequest."""
    body = {name: value for name, value in merged(body).items() if value is not None}
    # A field of that name would stand beside the file.
    body.pop("file", None)
    for name in body:
        if not FIELD_NAME.match(name):
            raise BadRequest("A field of 'extra_body' has a name that cannot be passed on.", param="extra_body")
    if not isinstance(body.get("stream", False), bool):
        raise ill_typed("stream", "a boolean")
    if not isinstance(body.get("response_format", ""), str):
        raise ill_typed("response_format", "a string")
    for name in LISTS:
        if name in body and not isinstance(body[name], list):
            raise ill_typed(name, "an array")
    return body


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ill_typed(name, "a number") from None


def _truth(name: str, text: str) -> bool:
    found = TRUTHS.get(text.strip().lower())
    if found is None:
        raise ill_typed(name, "a boolean")
    return found


def _check_transcription(body: Mapping[str, Any], operation: str) -> None:
    forms = TRANSCRIPT_FORMS if operation == TRANSCRIPTIONS else TRANSCRIPT_FORMS[:-1]
    _check_choice(body, "response_format", forms)
    # `nan` is in no range.
    _check_range(body, "temperature", 0, 1)
    _check_text(body, "language", most=MAX_LANGUAGE)
    _check_text(body, "prompt", most=MAX_PROMPT)
    asked = body.get("timestamp_granularities") or ()
    if any(item not in GRANULARITIES for item in asked):
        raise BadRequest(
            f"Invalid value for 'timestamp_granularities': expected {' or '.join(GRANULARITIES)}.",
            param="timestamp_granularities",
        )
    if asked and body.get("response_format") != "verbose_json":
        raise BadRequest(
            "'timestamp_granularities' needs the response_format verbose_json.", param="timestamp_granularities"
        )
    if body.get("stream") and body.get("response_format") in (*TIMED, "text"):
        raise BadRequest(
            "'stream' gives events, which have no other form than json: leave response_format out.", param="stream"
        )


def the_file(form: Form) -> Upload:
    """Raises BadRequest unless there is one, with something in it."""
    uploads = form.uploads("file")
    if not uploads:
        raise missing("file")
    if len(uploads) > 1:
        raise BadRequest("'file' was sent more than once.", param="file")
    if not uploads[0].size:
        raise BadRequest("'file' is empty.", param="file")
    return uploads[0]


def _read(upload: Upload) -> tuple[bytes, str, float | None]:
    """The recording, what it is, and how many seconds it has. Raises BadRequest for what is neither sound nor film."""
    data = upload.read()
    kind = kind_of(data)
    if kind is None or kind not in EXTENSIONS:
        what = f"holds {kind}" if kind else "is of a kind that is not known here"
        raise BadRequest(
            f"'file' {what}. Send flac, mp3, mp4, mpeg, mpga, m4a, ogg, wav, webm, aac, aiff, mov, mkv or avi.",
            status=415,
            code="unsupported_file_type",
            param="file",
        )
    return data, kind, seconds_of(data, kind)
