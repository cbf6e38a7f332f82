"""The chat routes as OpenAPI 3.1 fragments: the real bodies, streams included."""

from __future__ import annotations

from typing import Any

from gateway.idempotency import HEADER, MAX_KEY
from gateway.surfaces.openai.parser import INTEGERS, MAX_MESSAGES, MAX_TOOLS, NUMBERS, ROLES

Schema = dict[str, Any]


def nullable(kind: str, **more: Any) -> Schema:
    return {"type": [kind, "null"], **more}


# What speaks to the gateway, on every route.
STEERING: dict[str, Schema] = {
    "provider": {
        "description": "A provider's name asks that one alone; an object has OpenRouter's preferences.",
        "oneOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}],
    },
    "models": nullable("array", items={"type": "string"}, description="Asked in turn when `model` cannot answer."),
    "usage": nullable(
        "object",
        properties={"include": {"type": "boolean"}},
        description="`include` adds `usage.cost` to the answer, in dollars.",
    ),
}
TOOL_EMULATION: Schema = nullable("boolean", description="Whether tools are described in an instruction.")
MESSAGE: Schema = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"type": "string", "enum": list(ROLES)},
        "content": {
            "oneOf": [
                {"type": "string"},
                {"type": "array", "items": {"$ref": "#/components/schemas/ContentPart"}},
                {"type": "null"},
            ]
        },
        "tool_calls": {"type": "array", "items": {"$ref": "#/components/schemas/ToolCall"}},
        "tool_call_id": {"type": "string"},
    },
}
CONTENT_PART: Schema = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"type": "string", "examples": ["text", "image_url", "input_audio", "file"]},
        "text": {"type": "string"},
        "image_url": {
            "type": "object",
            "required": ["url"],
            "properties": {"url": {"type": "string"}, "detail": {"type": "string"}},
        },
    },
}
FUNCTION: Schema = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "parameters": {"type": "object", "description": "A JSON Schema."},
        "strict": nullable("boolean"),
    },
}
TOOL: Schema = {
    "type": "object",
    "required": ["type", "function"],
    "properties": {"type": {"type": "string", "enum": ["function"]}, "function": FUNCTION},
}
TOOL_CALL: Schema = {
    "type": "object",
    "required": ["id", "type", "function"],
    "properties": {
        "id": {"type": "string"},
        "type": {"type": "string", "enum": ["function"]},
        "function": {
            "type": "object",
            "required": ["name", "arguments"],
            "properties": {"name": {"type": "string"}, "arguments": {"type": "string", "description": "JSON text."}},
        },
    },
}
REQUEST: Schema = {
    "type": "object",
    "required": ["model", "messages"],
    "additionalProperties": True,
    "description": "Fields not named here reach an OpenAI-compatible provider untouched.",
    "properties": {
        "model": {"type": "string", "maxLength": 200, "description": "An id, an alias, `default`, or `Provider/id`."},
        "messages": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_MESSAGES,
            "items": {"$ref": "#/components/schemas/ChatMessage"},
        },
        **STEERING,
        "tool_emulation": TOOL_EMULATION,
        "conversation_id": nullable("string", maxLength=200),
        "conversation": nullable("object"),
        "cache": {
            "description": "`false` takes and leaves no kept answer; an object may say `no-cache` or `no-store`.",
            "oneOf": [
                {"type": "boolean"},
                {"type": "object", "properties": {name: nullable("boolean") for name in ("no-cache", "no-store")}},
                {"type": "null"},
            ],
        },
        "stream": nullable("boolean"),
        "stream_options": nullable("object", properties={"include_usage": nullable("boolean")}),
        **{name: nullable("number", minimum=low, maximum=high) for name, (low, high) in NUMBERS.items()},
        **{name: nullable("integer", minimum=low, maximum=high) for name, (low, high) in INTEGERS.items()},
        "stop": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        "tools": {"type": ["array", "null"], "maxItems": MAX_TOOLS, "items": {"$ref": "#/components/schemas/ChatTool"}},
        "tool_choice": {"oneOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}]},
        "parallel_tool_calls": nullable("boolean"),
        "response_format": nullable("object", properties={"type": {"type": "string"}}),
        "user": nullable("string"),
        "reasoning_effort": nullable("string"),
        "logprobs": nullable("boolean"),
        "logit_bias": nullable("object"),
        "metadata": nullable("object"),
    },
}
USAGE: Schema = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {name: {"type": "integer"} for name in ("prompt_tokens", "completion_tokens", "total_tokens")},
}


def _answer(kind: str, holder: str, required: list[str], content: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices"],
        "properties": {
            "id": {"type": "string"},
            "object": {"type": "string", "enum": [kind]},
            "created": {"type": "integer", "description": "Unix seconds."},
            "model": {"type": "string"},
            "provider": {"type": "string", "description": "Who answered."},
            "choices": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["index", holder, *required],
                    "properties": {
                        "index": {"type": "integer"},
                        holder: content,
                        "finish_reason": nullable("string"),
                        "logprobs": nullable("object"),
                    },
                },
            },
            "usage": {"oneOf": [{"$ref": "#/components/schemas/ChatUsage"}, {"type": "null"}]},
        },
    }


DELTA: Schema = {
    "type": "object",
    "properties": {
        "role": {"type": "string"},
        "content": nullable("string"),
        "reasoning_content": nullable("string"),
        "tool_calls": {"type": "array", "items": {"type": "object"}},
    },
}
ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": nullable("string"),
                "code": nullable("string"),
            },
        }
    },
}
COMPONENTS: dict[str, Schema] = {
    "ChatMessage": MESSAGE,
    "ContentPart": CONTENT_PART,
    "ChatTool": TOOL,
    "ToolCall": TOOL_CALL,
    "ChatRequest": REQUEST,
    "ChatUsage": USAGE,
    "ChatCompletion": _answer(
        "chat.completion", "message", ["finish_reason", "logprobs"], {"$ref": "#/components/schemas/ChatMessage"}
    ),
    "ChatCompletionChunk": _answer("chat.completion.chunk", "delta", [], DELTA),
    "Error": ERROR,
}

ERRORS = {
    "408": "The body stopped arriving.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "422": "A value is out of range.",
    "429": "A limit of the key or its user is reached, or the provider limits requests.",
    "502": "The provider failed.",
    "503": "No provider can be tried now.",
    "504": "The provider did not answer in time.",
}


def _header(kind: str, text: str) -> Schema:
    return {"description": text, "schema": {"type": kind}}


RETRY_HEADERS = {
    "retry-after": _header("integer", "Seconds until the request may pass."),
    "retry-after-ms": _header("integer", "The same in milliseconds."),
}
LIMIT_HEADERS = {
    f"x-ratelimit-{name}-{kind}": _header(form, text.format(kind))
    for kind in ("requests", "tokens")
    for name, form, text in (
        ("limit", "integer", "The tightest limit of {} per minute. Only where one is set."),
        ("remaining", "integer", "How many {} are left of it."),
        ("reset", "string", "When all {} are there again, such as `12ms`, `1s` or `1m0s`."),
    )
} | {
    "x-ratelimit-limit-streams": _header(
        "integer", "The tightest limit of open streams. Only of streams, where one is set."
    ),
    "x-ratelimit-remaining-streams": _header("integer", "How many more may be opened."),
}

IDEMPOTENCY_KEY: Schema = {
    "name": HEADER,
    "in": "header",
    "description": "Sent again with the same body within 24 hours, the answer is that of the first time.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[ -~]+$"},
}
REPLAYED = {"idempotent-replayed": _header("string", "`true` where it is the answer of an earlier request.")}
CONFLICT = "The first request with this Idempotency-Key is still running, or its answer was too large to be kept."


def operation(name: str, summary: str, parameters: list[Schema]) -> Schema:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["chat"],
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatRequest"}}},
        },
        "responses": {
            "200": {
                "description": "A completion; with `stream: true` chunks as server-sent events, ended by `[DONE]`.",
                "headers": LIMIT_HEADERS,
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/ChatCompletion"}},
                    "text/event-stream": {
                        "schema": {
                            "type": "string",
                            "description": "Each `data:` line holds a ChatCompletionChunk, or an Error.",
                        }
                    },
                },
            },
            **{status: {"description": text, "content": error} for status, text in ERRORS.items()},
            "429": {"description": ERRORS["429"], "content": error, "headers": {**RETRY_HEADERS, **LIMIT_HEADERS}},
        },
    }


TOKENS: Schema = {"type": "array", "items": {"type": "integer"}}
STRINGS_OF: Schema = {"type": "array", "items": {"type": "string"}}
TEXTS: Schema = {"oneOf": [{"type": "string"}, STRINGS_OF, TOKENS, {"type": "array", "items": TOKENS}]}
MODEL: Schema = {"type": "string", "maxLength": 200, "description": "As in a chat."}
CALLS: dict[str, tuple[str, list[str], dict[str, Schema]]] = {
    "embeddings": (
        "Create embeddings",
        ["model", "input"],
        {
            "input": TEXTS,
            "encoding_format": nullable("string", examples=["float", "base64"]),
            "dimensions": nullable("integer", minimum=1),
            "user": nullable("string"),
        },
    ),
    "completions": (
        "Continue a text (legacy)",
        ["model", "prompt"],
        {
            "prompt": TEXTS,
            "stream": nullable("boolean"),
            "echo": nullable("boolean"),
            "suffix": nullable("string"),
            **{name: nullable("integer") for name in ("max_tokens", "n", "best_of", "logprobs")},
        },
    ),
    "moderations": (
        "Classify texts",
        ["input"],
        {"input": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "object"]}}]}},
    ),
    "rerank": (
        "Order documents by a query",
        ["model", "query", "documents"],
        {
            "query": {"type": "string"},
            "documents": {"type": "array", "minItems": 1, "items": {"type": ["string", "object"]}},
            "top_n": nullable("integer", minimum=1),
            "return_documents": nullable("boolean"),
        },
    ),
}


def _call(name: str, parameters: list[Schema]) -> Schema:
    summary, required, properties = CALLS[name]
    body: Schema = {"type": "object", "required": required, "properties": {"model": MODEL, **STEERING, **properties}}
    made = operation(f"create{'Provider' if parameters else ''}{name.capitalize()}", summary, parameters)
    made["tags"] = [name]
    made["requestBody"]["content"]["application/json"]["schema"] = body
    answer = {"description": "The provider's answer, or one in its form.", "headers": LIMIT_HEADERS}
    made["responses"]["200"] = {**answer, "content": {"application/json": {"schema": {"type": "object"}}}}
    return made


PROVIDER_PARAMETER: Schema = {
    "name": "provider",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"},
}
CONVERSATION_PARAMETER: Schema = {
    "name": "conversation_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "maxLength": 200, "pattern": "^[^/]+$"},
}
PATHS: dict[str, Schema] = {
    "/v1/chat/completions": {"post": operation("createChatCompletion", "Create a chat completion", [])},
    "/api/{provider}/chat/completions": {
        "post": operation(
            "createProviderChatCompletion", "Create a chat completion at one provider", [PROVIDER_PARAMETER]
        )
    },
    "/api/{provider}/{conversation_id}/chat/completions": {
        "post": operation(
            "createProviderConversationChatCompletion",
            "Go on with a conversation at one provider",
            [PROVIDER_PARAMETER, CONVERSATION_PARAMETER],
        )
    },
    **{f"/v1/{name}": {"post": _call(name, [])} for name in CALLS},
    **{f"/api/{{provider}}/{name}": {"post": _call(name, [PROVIDER_PARAMETER])} for name in CALLS},
}
