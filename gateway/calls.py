"""Requests that are no chats: one body out, one body back. Embeddings, moderations, ranking.

The canonical form is OpenAI's for embeddings and moderations, and Cohere's and Jina's for ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.chat import ChatRequest, Message, TextPart

EMBEDDINGS, MODERATIONS, RERANK = "embeddings", "moderations", "rerank"


@dataclass(slots=True)
class CallRequest(ChatRequest):
    """A checked request. `operation` is one of the above; it takes the way of a chat that is never streamed."""

    operation: str = EMBEDDINGS

    def messages(self) -> tuple[Message, ...]:
        """The texts that it sends, for limits and estimates."""
        return tuple(Message("user", (TextPart(text),)) for text in self.texts())

    def texts(self) -> list[str]:
        body = self.body
        items = [body.get("query"), *_listed(body.get("documents")), *_listed(body.get("input"))]
        return [text for item in items if (text := _text(item))]

    def tokens(self) -> int:
        """How many tokens it sends as numbers."""
        return sum(1 if isinstance(item, int) else len(item) for item in self.inputs() if not isinstance(item, str))

    def inputs(self) -> Sequence[Any]:
        """What to embed, one item each: a text, or a list of tokens."""
        found = self.body.get("input")
        return found if isinstance(found, list) and not (found and isinstance(found[0], int)) else [found]

    def estimated_tokens(self) -> int:
        """For providers that say nothing: four characters to a token."""
        return max(1, sum(map(len, self.texts())) // 4 + (self.tokens() if self.operation == EMBEDDINGS else 0))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(item: Any) -> str:
    if isinstance(item, dict):
        item = item.get("text")
    return item if isinstance(item, str) else ""
