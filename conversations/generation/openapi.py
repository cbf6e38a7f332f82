"""The routes of running answers as OpenAPI 3.1 fragments."""

from __future__ import annotations

from typing import Any

from conversations.generation.ask import ACTIONS
from gateway.surfaces.openai.openapi import ERRORS

Schema = dict[str, Any]
COMPONENTS: dict[str, Schema] = {
    "ConversationAsk": {
        "type": "object",
        "description": "Beside these, all fields of a chat completion but `n` and `stream`.",
        "additionalProperties": True,
        "properties": {
            "messages": {"type": "array", "items": {"type": "object"}},
            "model": {"type": ["string", "null"]},
            "provider": {"type": ["string", "null"]},
            "conversation_id": {"type": ["string", "null"], "maxLength": 200},
            "id": {"type": ["string", "integer", "null"]},
            "action": {"enum": [*ACTIONS, None]},
            "parent_id": {"type": ["string", "null"], "format": "uuid"},
            "version": {"type": ["integer", "null"]},
            "conversation": {"type": ["object", "null"]},
            "ignored": {"type": ["array", "null"], "items": {"type": "string"}},
            "download_media": {"type": ["boolean", "null"]},
            "debug_mode": {"type": ["boolean", "null"]},
        },
    },
    "ConversationEvent": {
        "type": "object",
        "description": "The data of one event; docs/streaming.md lists the types and what each holds.",
        "required": ["type"],
        "properties": {"type": {"type": "string"}},
        "additionalProperties": True,
    },
}
CONVERSATION = {
    "name": "conversation_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}
MESSAGE = {
    "name": "message_id",
    "in": "query",
    "description": "The message whose answer is meant; otherwise the last one.",
    "schema": {"type": "string", "format": "uuid"},
}
AFTER = {
    "name": "after",
    "in": "query",
    "description": "The number of the last event that was seen; `Last-Event-ID` says the same.",
    "schema": {"type": "integer", "minimum": 0},
}
FORM: Schema = {
    "type": "object",
    "required": ["json"],
    "properties": {
        "json": {"type": "string", "description": "The object of the JSON body."},
        "files": {"type": "array", "maxItems": 50, "items": {"type": "string", "format": "binary"}},
        "media_url": {"type": "array", "maxItems": 20, "items": {"type": "string", "format": "uri"}},
    },
}
EVENTS = {"text/event-stream": {"schema": {"$ref": "#/components/schemas/ConversationEvent"}}}


def _operation(name: str, summary: str, good: Schema, **more: Any) -> Schema:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    failures = {status: ERRORS[status] for status in ("400", "401", "403", "404", "503") if status in ERRORS}
    failures |= more.pop("failures", {})
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["conversations"],
        **more,
        "responses": {
            **good,
            **{status: {"description": text, "content": error} for status, text in failures.items()},
        },
    }


PATHS: dict[str, Schema] = {
    "/backend-api/v2/conversation": {
        "post": _operation(
            "askInConversation",
            "Ask in a conversation; the answer as events",
            {"200": {"description": "The answer, or why there is none.", "content": EVENTS}},
            requestBody={
                "required": True,
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/ConversationAsk"}},
                    "multipart/form-data": {"schema": FORM},
                },
            },
            failures={"409": "The conversation has changed.", "413": "The body or a file is too large."},
        )
    },
    "/backend-api/v2/conversation/{conversation_id}/stream": {
        "get": _operation(
            "followAnswer",
            "Follow the answer that is being made, from any event on",
            {
                "200": {"description": "The events that follow.", "content": EVENTS},
                "204": {"description": "There is nothing more."},
            },
            parameters=[CONVERSATION, MESSAGE, AFTER],
        )
    },
    "/backend-api/v2/conversation/{conversation_id}/stop": {
        "post": _operation(
            "stopAnswer",
            "Stop the answers that are being made in a conversation",
            {
                "200": {
                    "description": "The messages whose answers were stopped.",
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["stopped"],
                                "properties": {"stopped": {"type": "array", "items": {"type": "string"}}},
                            }
                        }
                    },
                }
            },
            parameters=[CONVERSATION, MESSAGE],
        )
    },
}
