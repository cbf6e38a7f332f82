"""The streamed route of this surface as OpenAPI 3.1 fragments."""

from __future__ import annotations

from typing import Any

from gateway.surfaces.openai.openapi import ERRORS, LIMIT_HEADERS, RETRY_HEADERS

Schema = dict[str, Any]
COMPONENTS: dict[str, Schema] = {}
QUERY = {
    "prompt": "What is asked.",
    "model": "An id, an alias, `default`, or `Provider/id`; empty: the default.",
    "provider": "A name, or several in the order in which they are tried, separated by spaces.",
    "stream": "`true`: the text as it comes.",
    "filter_markdown": "`true`: the inside of the first block of code; a language: of the first block of that.",
    "cache": "Anything: the same question with the same word gets the same answer for a while.",
    "web_search": "true or 1: the web is searched for the prompt; another text: for that.",
}


def _parameter(name: str, about: str) -> Schema:
    required = name == "prompt"
    return {"name": name, "in": "query", "required": required, "description": about, "schema": {"type": "string"}}


def _operation() -> Schema:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "operationId": "create",
        "summary": "Ask by an address",
        "tags": ["backend"],
        "parameters": [_parameter(name, about) for name, about in QUERY.items()],
        "responses": {
            "200": {"description": "The answer.", "headers": LIMIT_HEADERS, "content": text},
            "302": {"description": "Where the picture is that was made.", "headers": LIMIT_HEADERS},
            **{status: {"description": about, "content": error} for status, about in ERRORS.items()},
            "429": {"description": ERRORS["429"], "content": error, "headers": {**RETRY_HEADERS, **LIMIT_HEADERS}},
        },
    }


PATHS: dict[str, Schema] = {"/backend-api/v2/create": {"get": _operation()}}
