"""The streamed route of the Responses API as OpenAPI 3.1 fragments."""

from __future__ import annotations

from typing import Any

from gateway.surfaces.openai.openapi import (
    ERRORS,
    LIMIT_HEADERS,
    PROVIDER_PARAMETER,
    RETRY_HEADERS,
    STEERING,
    TOOL_EMULATION,
)
from gateway.surfaces.openai.parser import MAX_TOOLS, NUMBERS
from gateway.surfaces.responses.items import MAX_ITEMS
from gateway.surfaces.responses.parser import TRUNCATIONS

Schema = dict[str, Any]


def _nullable(kind: str, **more: Any) -> Schema:
    return {"type": [kind, "null"], **more}


REQUEST: Schema = {
    "type": "object",
    "required": ["model"],
    "additionalProperties": True,
    "description": "What becomes of each field is in docs/responses.md.",
    "properties": {
        "model": {"type": "string", "maxLength": 200, "description": "An id, an alias, `default`, or `Provider/id`."},
        **STEERING,
        "tool_emulation": TOOL_EMULATION,
        "input": {"oneOf": [{"type": "string"}, {"type": "array", "maxItems": MAX_ITEMS, "items": {"type": "object"}}]},
        "instructions": _nullable("string"),
        "previous_response_id": _nullable("string"),
        "stream": _nullable("boolean"),
        "store": _nullable("boolean"),
        "background": _nullable("boolean"),
        "max_output_tokens": _nullable("integer", minimum=1),
        **{
            name: _nullable("number", minimum=NUMBERS[name][0], maximum=NUMBERS[name][1])
            for name in ("temperature", "top_p")
        },
        "tools": {"type": ["array", "null"], "maxItems": MAX_TOOLS, "items": {"type": "object"}},
        "tool_choice": {"oneOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}]},
        "parallel_tool_calls": _nullable("boolean"),
        "text": _nullable("object"),
        "reasoning": _nullable("object"),
        "include": {"type": ["array", "null"], "items": {"type": "string"}},
        "metadata": _nullable("object", maxProperties=16),
        "truncation": _nullable("string", enum=[*TRUNCATIONS, None]),
        "user": _nullable("string"),
    },
}
RESPONSE: Schema = {
    "type": "object",
    "required": ["id", "object", "created_at", "status", "model", "output"],
    "properties": {
        "id": {"type": "string"},
        "object": {"type": "string", "enum": ["response"]},
        "created_at": {"type": "integer", "description": "Unix seconds."},
        "status": {"type": "string", "enum": ["completed", "incomplete", "failed", "cancelled", "in_progress"]},
        "model": {"type": "string"},
        "provider": {"type": "string", "description": "Who answered."},
        "output": {"type": "array", "items": {"type": "object"}},
        "output_text": {"type": "string"},
        "usage": {"type": "object"},
        "store": {"type": "boolean", "description": "Whether it is kept."},
    },
}
COMPONENTS: dict[str, Schema] = {"ResponseRequest": REQUEST, "Response": RESPONSE}


def _operation(name: str, summary: str, parameters: list[Schema]) -> Schema:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    events = {"type": "string", "description": "OpenAI's typed events, such as `response.output_text.delta`."}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["responses"],
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ResponseRequest"}}},
        },
        "responses": {
            "200": {
                "description": "A response; with `stream: true` typed and numbered server-sent events.",
                "headers": LIMIT_HEADERS,
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/Response"}},
                    "text/event-stream": {"schema": events},
                },
            },
            **{status: {"description": text, "content": error} for status, text in ERRORS.items()},
            "429": {"description": ERRORS["429"], "content": error, "headers": {**RETRY_HEADERS, **LIMIT_HEADERS}},
        },
    }


PATHS: dict[str, Schema] = {
    "/v1/responses": {"post": _operation("createResponse", "Create a response", [])},
    "/api/{provider}/responses": {
        "post": _operation("createProviderResponse", "Create a response at one provider", [PROVIDER_PARAMETER])
    },
}
