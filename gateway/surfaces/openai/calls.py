"""POST /v1/embeddings, /v1/moderations (OpenAI API reference) and /v1/rerank (as Cohere and Jina have it)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.calls import EMBEDDINGS, MODERATIONS, RERANK, CallRequest
from gateway.chat import ChatRequest
from gateway.errors import BadRequest, GatewayError
from gateway.events import Event, Failed, RawReply, Usage
from gateway.nested import rewritten
from gateway.surfaces.openai.consumer import OpenAISurface
from gateway.surfaces.openai.encoder import priced
from gateway.surfaces.openai.parser import addressed, decode, ill_typed, merged, missing, without_tools
from gateway.surfaces.pipeline import StreamEncoder

MAX_INPUTS = 2048
MAX_TOKEN = 2**31
ENCODINGS = ("float", "base64")
# What OpenAI takes when nobody names a model.
MODERATION_MODEL = "omni-moderation-latest"
TEXTS = "a string, an array of strings, or arrays of tokens"


def check_texts(body: dict[str, Any], name: str) -> None:
    """A text, a list of texts, a list of tokens, or a list of such lists. Raises BadRequest."""
    if body.get(name) is None:
        raise missing(name)
    found = body[name]
    if isinstance(found, str):
        return
    if not isinstance(found, list):
        raise ill_typed(name, TEXTS)
    if not found:
        raise BadRequest(f"'{name}' must not be empty.", code="empty_array", param=name)
    if _are_tokens(found):
        return
    _check_size(found, name)
    if not all(isinstance(item, str) for item in found) and not all(
        isinstance(item, list) and item and _are_tokens(item) for item in found
    ):
        raise ill_typed(name, TEXTS)


def _are_tokens(items: list[Any]) -> bool:
    return all(type(item) is int and 0 <= item < MAX_TOKEN for item in items)


def _check_size(items: list[Any], name: str) -> None:
    if len(items) > MAX_INPUTS:
        raise BadRequest(f"'{name}' has more than {MAX_INPUTS} items.", code="array_above_max_length", param=name)


def check_integer(body: dict[str, Any], name: str, low: int, high: int = MAX_TOKEN) -> None:
    """Raises BadRequest, 422 for what is out of range."""
    value = body.get(name)
    if value is None:
        return
    if type(value) is not int:
        raise ill_typed(name, "an integer")
    if not low <= value <= high:
        code = "decimal_below_min_value" if value < low else "decimal_above_max_value"
        raise BadRequest(f"Invalid value for '{name}': expected {low} to {high}.", status=422, code=code, param=name)


def check_kind(body: dict[str, Any], name: str, kind: type, wanted: str) -> None:
    if body.get(name) is not None and not isinstance(body[name], kind):
        raise ill_typed(name, wanted)


def check_embeddings(body: dict[str, Any]) -> None:
    check_texts(body, "input")
    check_kind(body, "encoding_format", str, "a string")
    if body.get("encoding_format") not in (None, *ENCODINGS):
        raise BadRequest(
            f"Invalid value for 'encoding_format': expected one of {', '.join(ENCODINGS)}.", param="encoding_format"
        )
    check_integer(body, "dimensions", 1)
    check_kind(body, "user", str, "a string")


def check_moderations(body: dict[str, Any]) -> None:
    if body.get("input") is None:
        raise missing("input")
    found = body["input"]
    if isinstance(found, str):
        return
    if not isinstance(found, list) or not all(isinstance(item, (str, dict)) for item in found):
        raise ill_typed("input", "a string or an array of strings or parts")
    if not found:
        raise BadRequest("'input' must not be empty.", code="empty_array", param="input")
    _check_size(found, "input")


def check_rerank(body: dict[str, Any]) -> None:
    if body.get("query") is None:
        raise missing("query")
    check_kind(body, "query", str, "a string")
    documents = body.get("documents")
    if documents is None:
        raise missing("documents")
    if not isinstance(documents, list) or not all(isinstance(item, (str, dict)) for item in documents):
        raise ill_typed("documents", "an array of strings or objects")
    if not documents:
        raise BadRequest("'documents' must not be empty.", code="empty_array", param="documents")
    if len(documents) > MAX_INPUTS * 5:
        raise BadRequest(
            f"'documents' has more than {MAX_INPUTS * 5} items.", code="array_above_max_length", param="documents"
        )
    check_integer(body, "top_n", 1)
    check_kind(body, "return_documents", bool, "a boolean")


CHECKS = {EMBEDDINGS: check_embeddings, MODERATIONS: check_moderations, RERANK: check_rerank}


def parse_call(operation: str, raw: bytes, path_provider: str | None = None) -> CallRequest:
    """Raises BadRequest with the parameter's path."""
    body = merged(decode(raw))
    if operation == MODERATIONS and body.get("model") is None:
        body = {**body, "model": MODERATION_MODEL}
    request = CallRequest(**without_tools(addressed(body, path_provider), body), plain=False, operation=operation)
    CHECKS[operation](body)
    request.body = {key: value for key, value in request.body.items() if value is not None}
    return request


class CallEncoder:
    """The provider's own body, or what its adapter made of it."""

    cost: Callable[[Usage], float | None] | None = None

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self._data = b""
        self._body: dict[str, Any] = {}

    def take(self, event: Event) -> None:
        match event:
            case RawReply(data, body):
                self._data, self._body = data, body
            case Usage():
                self.usage = event
            case Failed(error):
                raise error
            case _:
                pass

    def body(self) -> bytes:
        told = self._body.get("usage")
        if self.cost is None or self.usage is None or not isinstance(told, dict):
            return self._data
        return rewritten({**self._body, "usage": priced(told, self.usage, self.cost)})


class Call(OpenAISurface):
    gives_again = True

    def __init__(self, operation: str) -> None:
        self.name = self.operation = operation

    def parse(self, raw: bytes, parameters: dict[str, Any]) -> CallRequest:
        return parse_call(self.operation, raw, parameters.get("provider"))

    def stream_encoder(self, chat: ChatRequest) -> StreamEncoder:
        raise TypeError("a call is never streamed")

    def plain_encoder(self, chat: ChatRequest) -> CallEncoder:
        return CallEncoder()

    def error_frame(self, error: GatewayError) -> bytes:
        raise TypeError("a call is never streamed")

    def estimated(self, chat: ChatRequest, chunks: int) -> Usage:
        assert isinstance(chat, CallRequest)
        return Usage(chat.estimated_tokens(), 0, estimated=True)


embeddings, moderations, rerank = Call(EMBEDDINGS), Call(MODERATIONS), Call(RERANK)
