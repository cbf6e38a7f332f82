"""The routes of buckets as OpenAPI 3.1 fragments."""

from __future__ import annotations

from typing import Any

from gateway.surfaces.openai.openapi import CONFLICT, ERRORS, IDEMPOTENCY_KEY
from media.buckets import MAX_LABEL

Schema = dict[str, Any]

BUCKET: Schema = {
    "name": "bucket_id",
    "in": "path",
    "required": True,
    "description": "Any text; it is one of the caller's own buckets.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_LABEL},
}
ADDED: Schema = {
    "type": "object",
    "required": ["bucket_id", "files", "media", "skipped"],
    "properties": {
        "bucket_id": {"type": "string"},
        "files": {"type": "array", "items": {"type": "string"}, "description": "What can be read as text."},
        "media": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "width": {"type": "integer"},
                    "height": {"type": "integer"},
                    "text": {"type": "string", "description": "What is said in sound or a film."},
                },
            },
        },
        "skipped": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "reason"],
                "properties": {"name": {"type": "string"}, "reason": {"type": "string"}},
            },
        },
    },
}
COMPONENTS: dict[str, Schema] = {"FilesAdded": ADDED}


def _flag(name: str, about: str) -> Schema:
    return {"name": name, "in": "query", "description": about, "schema": {"type": "string"}}


READING = [
    _flag("delete_files", "`true` deletes the originals whose text is kept."),
    _flag("refine_chunks_with_spacy", "Anything but empty: a shorter text."),
]
LANGUAGE: Schema = {
    "name": "x-recognition-language",
    "in": "header",
    "description": "What is spoken in sound and films, such as `de` or `en-US`; otherwise the model finds out.",
    "schema": {"type": "string"},
}
EVENTS = {"type": "string", "description": 'Events such as `data: {"action": "load", "size": 4096}`.'}
FORM: Schema = {
    "type": "object",
    "required": ["files"],
    "properties": {"files": {"type": "array", "maxItems": 50, "items": {"type": "string", "format": "binary"}}},
}


def _operation(name: str, summary: str, content: Schema, **more: Any) -> Schema:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    failures = {status: ERRORS[status] for status in ("400", "401", "403", "404", "429") if status in ERRORS}
    failures |= more.pop("failures", {})
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["files"],
        "parameters": [BUCKET, *more.pop("query", ())],
        **more,
        "responses": {
            "200": {"description": summary, "content": content},
            **{status: {"description": text, "content": error} for status, text in failures.items()},
        },
    }


def _json(reference: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{reference}"}}}


PATHS: dict[str, Schema] = {
    "/backend-api/v2/files/{bucket_id}": {
        "get": _operation(
            "readBucket",
            "The text of all files in a bucket",
            {"text/plain": {"schema": {"type": "string"}}, "text/event-stream": {"schema": EVENTS}},
            query=READING,
        ),
        "post": _operation(
            "addFiles",
            "Put files into a bucket",
            _json("FilesAdded"),
            query=[LANGUAGE, IDEMPOTENCY_KEY],
            requestBody={"required": True, "content": {"multipart/form-data": {"schema": FORM}}},
            failures={
                "409": CONFLICT,
                "413": "A file, or all files of the user, are too large.",
                "415": "None of the files is of a type that is supported.",
                "422": "None of the files can be read, or the Idempotency-Key was used for others.",
                "507": "There is no room for them.",
            },
        ),
        "delete": _operation(
            "deleteBucket",
            "Delete a bucket with all its files",
            {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["message"],
                        "properties": {"message": {"type": "string"}},
                    }
                }
            },
        ),
    },
    "/backend-api/v2/files/{bucket_id}/stream": {
        "get": _operation(
            "streamBucket",
            "Reading a bucket, step by step",
            {"text/event-stream": {"schema": EVENTS}},
            query=READING,
        ),
    },
}
