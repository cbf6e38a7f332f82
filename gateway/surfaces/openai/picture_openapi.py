"""The routes for pictures as OpenAPI 3.1 fragments."""

from __future__ import annotations

from typing import Any

from gateway.pictures import MAX_INPUTS
from gateway.surfaces.openai.openapi import (
    CONFLICT,
    IDEMPOTENCY_KEY,
    LIMIT_HEADERS,
    MODEL,
    PROVIDER_PARAMETER,
    REPLAYED,
    RETRY_HEADERS,
    Schema,
    nullable,
    operation,
)
from gateway.surfaces.openai.picture_parser import BOOLEANS, FORMS, INTEGERS, NUMBERS, STRINGS

FIELDS: dict[str, Schema] = {
    "prompt": {"type": "string", "minLength": 1},
    "model": {**MODEL, "type": ["string", "null"], "description": "As in a chat. Without one: the first that draws."},
    "response_format": {"type": ["string", "null"], "enum": [*FORMS, None]},
    **{name: nullable("string") for name in STRINGS},
    **{name: nullable("integer", minimum=low, maximum=high) for name, (low, high) in INTEGERS.items()},
    **{name: nullable("number", minimum=low, maximum=high) for name, (low, high) in NUMBERS.items()},
    **{name: nullable("boolean") for name in BOOLEANS},
}
# Forms know no null.
IN_FORMS: dict[str, Schema] = {
    name: {**field, "type": field["type"][0]} if isinstance(field["type"], list) else field
    for name, field in FIELDS.items()
    if name != "response_format"
}
FILE: Schema = {"type": "string", "format": "binary"}
REFERENCE: Schema = {
    "type": "object",
    "required": ["image_url"],
    "properties": {"image_url": {"type": "string", "description": "A data: URL, or an http(s) address."}},
}
COMPONENTS: dict[str, Schema] = {
    "ImageReference": REFERENCE,
    "Images": {
        "type": "object",
        "required": ["created", "data", "model", "provider"],
        "properties": {
            "created": {"type": "integer"},
            "data": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {name: {"type": "string"} for name in ("url", "b64_json", "revised_prompt")},
                },
            },
            "model": {"type": "string"},
            "provider": {"type": "string"},
            "usage": {"type": "object"},
        },
    },
}
GENERATION: Schema = {"type": "object", "required": ["prompt"], "additionalProperties": True, "properties": FIELDS}
EDIT: Schema = {
    **GENERATION,
    "required": ["prompt", "images"],
    "properties": {
        **FIELDS,
        "images": {
            "type": "array", "minItems": 1, "maxItems": MAX_INPUTS,
            "items": {"$ref": "#/components/schemas/ImageReference"},
        },
        "mask": {"$ref": "#/components/schemas/ImageReference"},
    },
}  # fmt: skip
EDIT_FORM: Schema = {
    "type": "object",
    "required": ["prompt", "image"],
    "properties": {**IN_FORMS, "image": {"type": "array", "items": FILE, "maxItems": MAX_INPUTS}, "mask": FILE},
}


def _operation(name: str, summary: str, parameters: list[Schema], content: dict[str, Any]) -> Schema:
    made = operation(name, summary, [*parameters, IDEMPOTENCY_KEY])
    made["responses"]["409"] = {**made["responses"]["422"], "description": CONFLICT, "headers": RETRY_HEADERS}
    made["tags"] = ["images"]
    made["requestBody"]["content"] = {kind: {"schema": schema} for kind, schema in content.items()}
    made["responses"]["200"] = {
        "description": "The pictures; with `stream: true` OpenAI's typed events.",
        "headers": {**LIMIT_HEADERS, **REPLAYED},
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Images"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    }
    return made


def _routes(below: str, who: str, parameters: list[Schema]) -> dict[str, Schema]:
    drawn = {"application/json": GENERATION}
    edited = {"multipart/form-data": EDIT_FORM, "application/json": EDIT}
    return {
        f"{below}/images/generations": {
            "post": _operation(f"create{who}Image", "Make pictures from a text", parameters, drawn)
        },
        f"{below}/images/edits": {
            "post": _operation(f"create{who}ImageEdit", "Make pictures from pictures", parameters, edited)
        },
    }


PATHS: dict[str, Schema] = {
    **_routes("/v1", "", []),
    **_routes("/api/{provider}", "Provider", [PROVIDER_PARAMETER]),
}
