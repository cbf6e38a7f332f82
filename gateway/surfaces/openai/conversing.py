"""Chats in a stored conversation: what is read of the request, and encoders that tell where the answer is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from gateway.chat import ChatRequest, InConversation
from gateway.errors import BadRequest
from gateway.events import Event
from gateway.nested import is_writable
from gateway.surfaces.openai.encoder import ChunkEncoder, ReplyEncoder

if TYPE_CHECKING:
    from gateway.contexts import Turn

MAX_ID = 200
MAX_TOLD_BYTES = 64 * 1024


def named(wanted: Any, told: Any) -> InConversation | None:
    """The request's `conversation_id`, else that of a `conversation` that an answer told. Raises BadRequest."""
    told = told if isinstance(told, dict) else {}
    if wanted is None or wanted == "":
        wanted = told.get("conversation_id")
        if not isinstance(wanted, str) or not wanted:
            return None
    if not isinstance(wanted, str):
        raise BadRequest(
            "Invalid type for 'conversation_id': expected a string.", code="invalid_type", param="conversation_id"
        )
    if len(wanted) > MAX_ID:
        raise BadRequest(f"'conversation_id' has more than {MAX_ID} characters.", param="conversation_id")
    if told and (not is_writable(told) or len(orjson.dumps(told)) > MAX_TOLD_BYTES):
        raise BadRequest(f"'conversation' has more than {MAX_TOLD_BYTES} bytes.", param="conversation")
    return InConversation(wanted, told)


class TellingChunks(ChunkEncoder):
    """The finishing chunk also has the `conversation`."""

    def __init__(self, chat: ChatRequest, turn: Turn) -> None:
        super().__init__(chat)
        self._turn = turn

    def encode(self, event: Event) -> bytes:
        self._turn.take(event)
        return super().encode(event)

    def _with_usage(self, finish: dict[str, Any], usage: dict[str, Any]) -> bytes:
        return super()._with_usage({**finish, "conversation": self._turn.told()}, usage)


class TellingReply(ReplyEncoder):
    def __init__(self, chat: ChatRequest, turn: Turn) -> None:
        super().__init__(chat)
        self._turn = turn

    def take(self, event: Event) -> None:
        self._turn.take(event)
        super().take(event)

    def _whole(self) -> dict[str, Any]:
        return {**super()._whole(), "conversation": self._turn.told()}
