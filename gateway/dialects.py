"""How an operator's questions are put to a provider: where its models are listed, and how one is greeted.

Data for `discovery.py`, which does the asking; an adapter that is not named here is asked as OpenAI is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.catalogue import (
    UpstreamModel,
    read_google_models,
    read_models,
    read_ollama_tags,
    read_pollinations,
    with_ollama_details,
)


@dataclass(frozen=True, slots=True)
class Details:
    """A second question for each listed model: a POST with its name, and how the answer adds to it."""

    path: str
    read: Callable[[UpstreamModel, Any], UpstreamModel]


def _hello(model: str) -> Mapping[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 1}


def _is_completion(decoded: Any) -> bool:
    return isinstance(decoded, dict) and isinstance(decoded.get("choices"), list)


def _is_openai_list(decoded: Any) -> bool:
    return isinstance(decoded, dict) and decoded.get("object") == "list"


def _after_last(decoded: Any) -> Mapping[str, str] | None:
    """Anthropic's list comes in pages; the others send all at once and say nothing of more."""
    if not isinstance(decoded, dict) or decoded.get("has_more") is not True:
        return None
    last = decoded.get("last_id")
    return {"after_id": last} if isinstance(last, str) and last else None


def _page_token(decoded: Any) -> Mapping[str, str] | None:
    token = decoded.get("nextPageToken") if isinstance(decoded, dict) else None
    return {"pageToken": token} if isinstance(token, str) and token else None


@dataclass(frozen=True, slots=True)
class Dialect:
    """`list_path` and `hello_path` are below the base URL; without `list_path` there is no list.

    `read` raises ValueError. `next_page` gives the query that a list's next page is asked with. `is_list` is stricter:
    by it a server on a usual port is told from any other.
    `needs_model`: whether the greeting names a model; in the path as `{model}`.
    """

    list_path: str = "/models"
    read: Callable[[Any], list[UpstreamModel]] = read_models
    is_list: Callable[[Any], bool] = _is_openai_list
    next_page: Callable[[Any], Mapping[str, str] | None] = _after_last
    details: Details | None = None
    hello_path: str = "/chat/completions"
    hello: Callable[[str], Mapping[str, Any]] = _hello
    is_answer: Callable[[Any], bool] = _is_completion
    needs_model: bool = True


OPENAI = Dialect()
DIALECTS: Mapping[str, Dialect] = {
    "ollama": Dialect(
        list_path="/api/tags",
        read=read_ollama_tags,
        is_list=lambda decoded: isinstance(decoded, dict) and isinstance(decoded.get("models"), list),
        details=Details("/api/show", with_ollama_details),
        hello_path="/api/chat",
        hello=lambda model: {
            "model": model,
            "messages": [{"role": "user", "content": "Say hello."}],
            "stream": False,
            "options": {"num_predict": 1},
        },
        is_answer=lambda decoded: isinstance(decoded, dict) and isinstance(decoded.get("message"), dict),
    ),
    "pollinations": Dialect(list_path="/text/models", read=read_pollinations, hello_path="/v1/chat/completions"),
    "gemini": Dialect(
        list_path="/models?pageSize=1000",
        read=read_google_models,
        next_page=_page_token,
        is_list=lambda decoded: isinstance(decoded, dict) and isinstance(decoded.get("models"), list),
        hello_path="/models/{model}:generateContent",
        hello=lambda _: {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]},
        is_answer=lambda decoded: isinstance(decoded, dict) and isinstance(decoded.get("candidates"), list),
    ),
    "anthropic": Dialect(
        hello_path="/messages",
        is_answer=lambda decoded: isinstance(decoded, dict) and isinstance(decoded.get("content"), list),
    ),
    # A conversation costs nothing until something is said in it.
    "copilot": Dialect(
        list_path="",
        hello_path="/conversations",
        hello=lambda _: {},
        is_answer=lambda decoded: isinstance(decoded, dict) and bool(decoded.get("id")),
        needs_model=False,
    ),
}


def dialect_of(adapter: str) -> Dialect:
    return DIALECTS.get(adapter, OPENAI)
