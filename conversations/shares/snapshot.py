"""What of a conversation is shared: known fields of it and of its messages, and no others.

The form is that of g4f's pages. The system prompt goes along only if its owner says so (`share_system`); what a
provider gave to be sent back to it never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conversations.models import Conversation, Message
from conversations.models.conversations import TITLE_CHARS
from conversations.tree import storable
from gateway.errors import BadRequest
from gateway.surfaces.openai.parser import ill_typed

Body = dict[str, Any]
MAX_ITEMS = 2000
MAX_WORD = 300
ROLES = ("user", "assistant", "system", "tool")
WORDS = ("provider", "model", "finish", "regenerate", "synthesize", "continue", "usage", "reasoning", "created_at")
PROVIDER = ("name", "label", "model")
PARTS = {"text": "text", "image_url": "image_url", "input_audio": "input_audio", "file": "file"}


def from_body(body: Body) -> Body:
    """What a page sends: g4f's conversation object. Raises BadRequest."""
    items = body.get("items")
    if not isinstance(items, list):
        raise ill_typed("items", "an array")
    if len(items) > MAX_ITEMS:
        raise BadRequest(f"'items' has more than {MAX_ITEMS} items.", code="array_above_max_length", param="items")
    title = body.get("new_title") or body.get("title") or ""
    found: Body = {
        "id": _word(body.get("id")),
        "title": title[:TITLE_CHARS] if isinstance(title, str) else "",
        "added": _number(body.get("added")),
        "items": [_item(item, at) for at, item in enumerate(items)],
    }
    if body.get("share_system") is True and isinstance(body.get("system"), str):
        found["system"] = body["system"]
    cleaned: Body = storable(found)
    return cleaned


def from_conversation(conversation: Conversation, branch: Sequence[Message], with_system: bool) -> Body:
    """What the server has itself: one branch of a conversation."""
    items = [_of_message(message) for message in branch if with_system or message.role != Message.Role.SYSTEM]
    found: Body = {
        "id": "",
        "title": conversation.title,
        "added": int(conversation.created_at.timestamp() * 1000),
        "items": items[-MAX_ITEMS:],
    }
    if with_system and conversation.system_prompt:
        found["system"] = conversation.system_prompt
    return found


def _of_message(message: Message) -> Body:
    found: Body = {"role": message.role, "content": _content(message.content)}
    if message.provider or message.model:
        found["provider"] = {"name": message.provider, "label": message.provider, "model": message.model}
    if message.reasoning:
        found["reasoning"] = message.reasoning
    if message.finish_reason:
        found["finish"] = {"reason": message.finish_reason}
    return {**found, "created_at": message.created_at.isoformat()}


def _item(item: Any, at: int) -> Body:
    if not isinstance(item, dict):
        raise ill_typed(f"items[{at}]", "an object")
    if item.get("role") not in ROLES:
        raise BadRequest(
            f"Invalid value for 'items[{at}].role': expected one of {', '.join(ROLES)}.", param=f"items[{at}].role"
        )
    found: Body = {"role": item["role"], "content": _content(item.get("content"))}
    for name in WORDS:
        value = item.get(name)
        if value is not None:
            found[name] = _known(name, value)
    return found


def _known(name: str, value: Any) -> Any:
    match name, value:
        case "provider", dict():
            return {key: _word(value[key]) for key in PROVIDER if value.get(key) is not None}
        case "reasoning", dict():
            return {key: value[key] for key in ("text", "status") if isinstance(value.get(key), str)}
        case "reasoning" | "continue", str():
            return value
        case "usage", dict():
            return {
                key: count for key, count in value.items() if isinstance(count, int) and not isinstance(count, bool)
            }
        case "finish", dict():
            return {"reason": _word(value.get("reason"))}
        case "synthesize", dict():
            return {"provider": _word(value.get("provider"))}
        case "regenerate", bool():
            return value
    return _word(value)


def _content(content: Any) -> Any:
    if isinstance(content, str) or content is None:
        return content or ""
    if not isinstance(content, list):
        return ""
    return [part for part in map(_part, content) if part is not None]


def _part(part: Any) -> Any:
    """Texts and pictures; of files their names alone: nobody else may read what is behind them."""
    match part:
        case str():
            return {"type": "text", "text": part}
        case {"text": str() as text}:
            return {"type": "text", "text": text}
        case {"image_url": {"url": str() as url}}:
            return {"type": "image_url", "image_url": {"url": url}}
        case {"label": str() as name} | {"name": str() as name} | {"file": {"filename": str() as name}}:
            return {"name": name[:MAX_WORD]}
    return None


def _word(value: Any) -> Any:
    if isinstance(value, str):
        return value[:MAX_WORD]
    return value if isinstance(value, int | float | bool) or value is None else ""


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
