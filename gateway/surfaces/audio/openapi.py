"""The routes of sound as OpenAPI 3.1 fragments."""

from __future__ import annotations

from typing import Any

from gateway.audio import SOUND_TYPES
from gateway.surfaces.audio.parser import GRANULARITIES, MAX_TEXT, TRANSCRIPT_FORMS
from gateway.surfaces.openai.openapi import ERRORS, LIMIT_HEADERS, MODEL, PROVIDER_PARAMETER, RETRY_HEADERS, Schema

BINARY: Schema = {"type": "string", "format": "binary"}
SPEECH: Schema = {
    "type": "object",
    "required": ["input"],
    "additionalProperties": True,
    "properties": {
        "model": {**MODEL, "description": "May be left out where a provider is named."},
        "provider": {"type": ["string", "null"]},
        "input": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
        "voice": {
            "oneOf": [
                {"type": ["string", "null"]},
                {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}},
            ]
        },
        "instructions": {"type": ["string", "null"], "maxLength": MAX_TEXT},
        "language": {"type": ["string", "null"]},
        "response_format": {"type": ["string", "null"], "examples": list(SOUND_TYPES)},
        "speed": {"type": ["number", "null"], "minimum": 0.25, "maximum": 4},
        "stream_format": {"type": ["string", "null"], "examples": ["audio", "sse"]},
    },
}
RECORDING: Schema = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": True,
    "properties": {
        "file": {**BINARY, "description": "A recording of at most 25 MB; of the provider MarkItDown a document."},
        "model": {**MODEL, "description": "May be left out where a provider is named."},
        "provider": {"type": "string"},
        "language": {"type": "string"},
        "prompt": {"type": "string"},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
        "response_format": {"type": "string", "enum": list(TRANSCRIPT_FORMS)},
        "timestamp_granularities[]": {"type": "array", "items": {"type": "string", "enum": list(GRANULARITIES)}},
        "stream": {"type": "boolean"},
    },
}
TRANSCRIPT: Schema = {
    "type": "object",
    "required": ["text"],
    "properties": {
        "text": {"type": "string"},
        "model": {"type": ["string", "null"]},
        "provider": {"type": "string"},
        "task": {"type": "string"},
        "language": {"type": "string"},
        "duration": {"type": "number", "description": "Seconds."},
        "segments": {"type": "array", "items": {"type": "object"}},
        "words": {"type": "array", "items": {"type": "object"}},
        "usage": {"type": "object"},
    },
}
COMPONENTS: dict[str, Schema] = {"SpeechRequest": SPEECH, "TranscriptionRequest": RECORDING, "Transcript": TRANSCRIPT}
SOUND: dict[str, Any] = {kind: {"schema": BINARY} for kind in SOUND_TYPES.values()}
EVENTS: Schema = {"type": "string", "description": "OpenAI's events, such as `speech.audio.delta`."}
QUERY = ("text", "model", "voice", "language", "instructions", "response_format", "speed")


def _operation(name: str, summary: str, parameters: list[Schema], content: dict[str, Any]) -> Schema:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["audio"],
        "parameters": parameters,
        "responses": {
            "200": {"description": "The answer.", "headers": LIMIT_HEADERS, "content": content},
            **{status: {"description": text, "content": error} for status, text in ERRORS.items()},
            "415": {"description": "The body is of another type, or the file is no recording.", "content": error},
            "429": {"description": ERRORS["429"], "content": error, "headers": {**RETRY_HEADERS, **LIMIT_HEADERS}},
        },
    }


def _body(kind: str, name: str) -> Schema:
    return {"required": True, "content": {kind: {"schema": {"$ref": f"#/components/schemas/{name}"}}}}


def _speech(name: str, parameters: list[Schema]) -> Schema:
    made = _operation(name, "Speak a text", parameters, {**SOUND, "text/event-stream": {"schema": EVENTS}})
    return {**made, "requestBody": _body("application/json", "SpeechRequest")}


def _transcript(name: str, summary: str, parameters: list[Schema]) -> Schema:
    content = {
        "application/json": {"schema": {"$ref": "#/components/schemas/Transcript"}},
        "text/plain": {"schema": {"type": "string"}},
        "text/event-stream": {"schema": {**EVENTS, "description": "OpenAI's events, such as `transcript.text.delta`."}},
    }
    made = _operation(name, summary, parameters, content)
    return {**made, "requestBody": _body("multipart/form-data", "TranscriptionRequest")}


def _asked(name: str) -> Schema:
    return {"name": name, "in": "query", "required": name == "text", "schema": {"type": "string"}}


_BY_PROVIDER = [PROVIDER_PARAMETER]
PATHS: dict[str, Schema] = {
    "/v1/audio/speech": {"post": _speech("createSpeech", [])},
    "/api/{provider}/audio/speech": {"post": _speech("createProviderSpeech", _BY_PROVIDER)},
    "/v1/audio/transcriptions": {"post": _transcript("createTranscription", "Write down a recording", [])},
    "/api/{provider}/audio/transcriptions": {
        "post": _transcript("createProviderTranscription", "Write down a recording", _BY_PROVIDER)
    },
    "/v1/audio/translations": {"post": _transcript("createTranslation", "Write down a recording in English", [])},
    "/api/{provider}/audio/translations": {
        "post": _transcript("createProviderTranslation", "Write down a recording in English", _BY_PROVIDER)
    },
    "/api/markitdown": {"post": _transcript("convertDocument", "Turn a document into Markdown", [])},
    "/backend-api/v2/synthesize/{provider}": {
        "get": _operation("synthesize", "Speak a text for a page", [PROVIDER_PARAMETER, *map(_asked, QUERY)], SOUND)
    },
}
