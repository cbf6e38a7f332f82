"""What `POST /backend-api/v2/conversation` is sent: a chat, and where in which conversation it belongs.

The body is that of g4f's pages (`docs/streaming.md` lists its fields); what is a chat in it is checked as OpenAI's.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from conversations.models.conversations import CLIENT_ID_CHARS
from gateway.chat import ChatRequest, Preferences
from gateway.errors import BadRequest, ProviderNotFound
from gateway.nested import is_writable
from gateway.snapshot import Snapshot
from gateway.surfaces.openai.parser import chat_of, ill_typed, missing, parse_chat

Body = dict[str, Any]
ACTIONS = ("next", "variant", "continue")
# Names of no provider: whoever can answer is asked.
ANYBODY = frozenset(("", "anyprovider", "any", "default"))
# About the conversation; everything else is of the chat. `n`: a page shows one answer.
OWN = frozenset(
    (
        *("id", "conversation_id", "conversation", "action", "debug_mode", "ignored", "prompt", "aspect_ratio"),
        *("parent_id", "version", "stream", "stream_options", "n", "provider", "model"),
    )
)
MAX_IGNORED = 500
MAX_NAME = 200
MAX_KEY = 255
MAX_STATE_BYTES = 64 * 1024
CONTINUE = "Continue your last message exactly where it stopped. Repeat nothing of it, and add no introduction."
# For ids of clients that are no UUIDs: each user's are apart.
NAMESPACE = uuid.UUID("3f0c9c5e-6a33-4a55-9a80-6b8f0a0c9d11")


@dataclass(slots=True)
class Ask:
    """`conversation_id` None: kept for no longer than it takes. With a `parent_id` the messages are only what is new,
    without one they are all of the branch."""

    body: Body = field(repr=False)
    messages: list[Body] = field(repr=False)
    model: str
    provider: str | None
    conversation_id: uuid.UUID | None
    client_id: str
    action: str
    parent_id: uuid.UUID | None
    version: int | None
    state: Body
    ignored: frozenset[str]
    download_media: bool
    debug: bool
    digest: str

    # The header of that name, as a client_id; the rules are those of retries.
    idempotent: bool = False
    # The messages are what is new, and where they belong is looked for (`/v1/chat/completions`).
    goes_on: bool = False
    # Names of fields that have no effect here.
    warnings: tuple[str, ...] = ()

    def check(self, messages: Any) -> ChatRequest:
        """What came in, as a chat: a large body is not written and read once more for it. Raises BadRequest."""
        return chat_of(self._chat(messages), self.provider)

    def _chat(self, messages: Any) -> Body:
        return {**self.body, "model": self.model, "messages": messages, "stream": True}

    def chat(self, messages: list[Body]) -> ChatRequest:
        """The request that providers are sent, with these messages. Raises BadRequest."""
        try:
            raw = orjson.dumps(self._chat(messages))
        except orjson.JSONEncodeError:
            raise BadRequest("The body is nested too deep.", code="invalid_value") from None
        chat = parse_chat(raw, self.provider)
        chat.raw = False
        chat.keep_media = self.download_media
        if self.ignored:
            chat.preferences = Preferences(ignore=self.ignored)
        return chat


def parse(body: Body, owner: int, snapshot: Snapshot) -> Ask:
    """Raises BadRequest with the parameter's path, and ProviderNotFound."""
    action = body.get("action") or "next"
    if action not in ACTIONS:
        raise BadRequest(f"Invalid value for 'action': expected one of {', '.join(ACTIONS)}.", param="action")
    parent_id = _uuid(body, "parent_id")
    messages = body.get("messages")
    if parent_id is not None and messages is None:
        messages = []
    if parent_id is not None and not isinstance(messages, list):
        raise ill_typed("messages", "an array")
    if parent_id is not None and not body.get("conversation_id"):
        raise missing("conversation_id")
    ask = Ask(
        # What pages do not set they send as null; an empty list of tools says the same.
        body={key: value for key, value in body.items() if key not in OWN and value is not None and value != []},
        messages=messages if messages is not None else [],
        model=_name(body, "model"),
        provider=_provider(body, snapshot),
        conversation_id=_conversation(body.get("conversation_id"), owner),
        client_id=_client_id(body),
        action=action,
        parent_id=parent_id,
        version=_version(body),
        state=_state(body),
        ignored=_ignored(body),
        download_media=body.get("download_media") is not False,
        debug=body.get("debug_mode") is True,
        digest=digest(body),
    )
    ask.body.pop("messages", None)
    if "messages" not in body and parent_id is None:
        raise missing("messages")
    # Whatever they are, they are checked there; a parent alone may be what is asked.
    checked = [{"role": "user", "content": ""}] if parent_id is not None and not messages else messages
    ask.warnings = ask.check(checked).warnings
    if parent_id is None and action == "variant":
        while ask.messages and ask.messages[-1].get("role") == "assistant":
            ask.messages.pop()
        if not ask.messages:
            raise BadRequest("There is nothing to answer anew.", code="empty_array", param="messages")
    return ask


def digest(body: Mapping[str, Any]) -> str:
    """Tells whether two requests with one id are the same one."""
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()


def named_by(ask: Ask, key: str) -> None:
    """The request came with an `Idempotency-Key`. Raises BadRequest."""
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise BadRequest(f"'Idempotency-Key' must have 1 to {MAX_KEY} printable characters.", param="Idempotency-Key")
    ask.client_id = f"idempotency:{hashlib.sha256(key.encode()).hexdigest()}"
    ask.idempotent = True


def _name(body: Body, name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ill_typed(name, "a string")
    if len(value) > MAX_NAME:
        raise BadRequest(f"'{name}' has more than {MAX_NAME} characters.", param=name)
    return value.strip()


def _provider(body: Body, snapshot: Snapshot) -> str | None:
    name = _name(body, "provider")
    if name.lower() in ANYBODY:
        return None
    if name.lower() not in snapshot.by_name:
        raise ProviderNotFound(f"Provider {name!r} not found.", param="provider")
    return name


def _uuid_text(value: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(value) if isinstance(value, str) and len(value) == 36 else None
    except ValueError:
        return None


def _uuid(body: Body, name: str) -> uuid.UUID | None:
    value = body.get(name)
    if value is None:
        return None
    found = _uuid_text(value)
    if found is None:
        raise ill_typed(name, "the id of a message")
    return found


def _conversation(value: Any, owner: int) -> uuid.UUID | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ill_typed("conversation_id", "a string")
    if len(value) > MAX_NAME:
        raise BadRequest(f"'conversation_id' has more than {MAX_NAME} characters.", param="conversation_id")
    return conversation_id(value, owner)


def conversation_id(text: str, owner: int) -> uuid.UUID:
    """The conversation that a client means by its own name of it."""
    return _uuid_text(text) or uuid.uuid5(NAMESPACE, f"{owner}:{text}")


def _client_id(body: Body) -> str:
    value = body.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ill_typed("id", "a string")
    if len(value) > CLIENT_ID_CHARS or "\x00" in value or value.startswith("idempotency:"):
        raise BadRequest(f"'id' must have at most {CLIENT_ID_CHARS} characters.", param="id")
    return value


def _version(body: Body) -> int | None:
    value = body.get("version")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise ill_typed("version", "an integer")
    return value


def _state(body: Body) -> Body:
    """What providers gave to be sent back, as the client kept it. It is the client's own, so it is only bounded."""
    value = body.get("conversation")
    if not isinstance(value, dict):
        return {}
    if not is_writable(value) or len(orjson.dumps(value)) > MAX_STATE_BYTES:
        raise BadRequest(f"'conversation' has more than {MAX_STATE_BYTES} bytes.", param="conversation")
    return value


def _ignored(body: Body) -> frozenset[str]:
    value = body.get("ignored")
    if value is None:
        return frozenset()
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ill_typed("ignored", "an array of strings")
    if len(value) > MAX_IGNORED:
        raise BadRequest(
            f"'ignored' has more than {MAX_IGNORED} items.", code="array_above_max_length", param="ignored"
        )
    return frozenset(name.lower() for name in value)
