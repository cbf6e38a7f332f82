"""The message routes as OpenAPI 3.1 fragments."""

from __future__ import annotations

from typing import Any

from gateway.surfaces.anthropic.parser import CHOICES, MAX_MESSAGES, ROLES, THINKING
from gateway.surfaces.openai.openapi import (
    ERRORS,
    LIMIT_HEADERS,
    PROVIDER_PARAMETER,
    RETRY_HEADERS,
    STEERING,
    TOOL_EMULATION,
)
from gateway.surfaces.openai.parser import MAX_TOOLS

Schema = dict[str, Any]

BLOCK: Schema = {
    "type": "object",
    "required": ["type"],
    "additionalProperties": True,
    "properties": {
        "type": {
            "type": "string",
            "examples": ["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"],
        }
    },
}
CONTENT: Schema = {"oneOf": [{"type": "string"}, {"type": "array", "items": BLOCK}]}
COUNTED: Schema = {
    "model": {"type": "string", "maxLength": 200, "description": "An id, an alias, `default`, or `Provider/id`."},
    "messages": {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_MESSAGES,
        "items": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {"role": {"type": "string", "enum": list(ROLES)}, "content": CONTENT},
        },
    },
    "system": CONTENT,
    "tools": {
        "type": "array",
        "maxItems": MAX_TOOLS,
        "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "description": {"type": "string"},
                "input_schema": {"type": "object", "description": "A JSON Schema."},
                "type": {"type": "string"},
            },
        },
    },
    "tool_choice": {
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"type": "string", "enum": list(CHOICES)},
            "name": {"type": "string"},
            "disable_parallel_tool_use": {"type": "boolean"},
        },
    },
    "thinking": {
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"type": "string", "enum": list(THINKING)},
            "budget_tokens": {"type": "integer", "minimum": 1024},
        },
    },
}
REQUEST: Schema = {
    "type": "object",
    "required": ["model", "messages", "max_tokens"],
    "additionalProperties": True,
    "description": "Fields not named here reach a provider of Anthropic's protocol untouched.",
    "properties": {
        **COUNTED,
        **STEERING,
        "tool_emulation": TOOL_EMULATION,
        "max_tokens": {"type": "integer", "minimum": 0},
        "stream": {"type": "boolean"},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "top_k": {"type": "integer", "minimum": 0},
        "stop_sequences": {"type": "array", "items": {"type": "string"}},
        "metadata": {"type": "object", "properties": {"user_id": {"type": "string"}}},
        "output_config": {"type": "object"},
    },
}
MESSAGE: Schema = {
    "type": "object",
    "required": ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"],
    "properties": {
        "id": {"type": "string"},
        "type": {"type": "string", "const": "message"},
        "role": {"type": "string", "const": "assistant"},
        "model": {"type": "string"},
        "content": {"type": "array", "items": BLOCK},
        "stop_reason": {"type": ["string", "null"]},
        "stop_sequence": {"type": ["string", "null"]},
        "usage": {"type": "object", "required": ["input_tokens", "output_tokens"]},
    },
}
ERROR: Schema = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"type": "string", "const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": ["string", "null"]},
    },
}
COMPONENTS: dict[str, Schema] = {
    "MessageRequest": REQUEST,
    "MessageCountRequest": {**REQUEST, "required": ["model", "messages"], "properties": COUNTED},
    "Message": MESSAGE,
    "MessageError": ERROR,
}


def _reference(name: str) -> Schema:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _operation(name: str, summary: str, request: str, answer: Schema, parameters: list[Schema]) -> Schema:
    error = _reference("MessageError")
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["messages"],
        "parameters": parameters,
        "requestBody": {"required": True, "content": _reference(request)},
        "responses": {
            "200": answer,
            **{status: {"description": text, "content": error} for status, text in ERRORS.items()},
            "429": {"description": ERRORS["429"], "content": error, "headers": {**RETRY_HEADERS, **LIMIT_HEADERS}},
        },
    }


ANSWER: Schema = {
    "description": "A message; with `stream: true` Anthropic's events as server-sent events.",
    "headers": LIMIT_HEADERS,
    "content": {
        **_reference("Message"),
        "text/event-stream": {"schema": {"type": "string", "description": "Ends with `message_stop` or `error`."}},
    },
}
COUNT: Schema = {
    "description": "The number of the prompt's tokens; an estimate where `x-gateway-estimated` says so.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["input_tokens"],
                "properties": {"input_tokens": {"type": "integer"}},
            }
        }
    },
}


def _paths(prefix: str, of: str, parameters: list[Schema]) -> dict[str, Schema]:
    create = _operation(f"create{of}Message", "Create a message", "MessageRequest", ANSWER, parameters)
    count = _operation(f"count{of}MessageTokens", "Count a prompt's tokens", "MessageCountRequest", COUNT, parameters)
    return {f"{prefix}/messages": {"post": create}, f"{prefix}/messages/count_tokens": {"post": count}}


PATHS: dict[str, Schema] = {
    **_paths("/v1", "", []),
    **_paths("/api/{provider}", "Provider", [PROVIDER_PARAMETER]),
}
