"""What a file says of a conversation, in our words; and careful readers for what may be of any type."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from conversations.models import Message
from conversations.tree import storable

ROLES = {"human": "user", "model": "assistant", "bot": "assistant", "ai": "assistant", "developer": "system"}
FIRST = datetime(2000, 1, 1, tzinfo=UTC)
LAST = datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(slots=True, eq=False)
class SaidMessage:
    """`key` and `parent` are the file's own ids; `parent` None: a first one."""

    key: str
    parent: str | None
    role: str
    content: Any
    created_at: datetime | None = None
    model: str = ""
    provider: str = ""
    reasoning: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.content or self.reasoning or self.fields.get("tool_calls") or self.fields.get("attachments"))


@dataclass(slots=True)
class Said:
    """One conversation. `origin` names it, so that it is known the next time; `end` is the key of its last message."""

    origin: str
    title: str = ""
    messages: list[SaidMessage] = field(default_factory=list)
    end: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        if text not in self.warnings and len(self.warnings) < 20:
            self.warnings.append(text)


def text(value: Any, longest: int = 10_000_000) -> str:
    return storable(value)[:longest] if isinstance(value, str) else ""


def key(value: Any) -> str:
    return text(value, 200) or (str(value) if isinstance(value, int) and not isinstance(value, bool) else "")


def table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def tables(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value: Any) -> list[str]:
    return [text(item) for item in value if isinstance(item, str) and item] if isinstance(value, list) else []


def role(value: Any) -> str | None:
    """None for one that we have no word for."""
    name = text(value).lower()
    name = ROLES.get(name, name)
    return name if name in Message.Role.values else None


def time(value: Any) -> datetime | None:
    """Of Unix seconds, milliseconds or more, or ISO 8601; None for what cannot be one."""
    found: datetime | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        seconds = float(value)
        while seconds > 1e11:
            seconds /= 1000
        found = datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    elif isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return None
    if found is None:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found if FIRST < found < LAST else None


def chained(messages: list[SaidMessage]) -> None:
    """Each after the one before, where a file has a list and no tree."""
    for before, after in pairwise(messages):
        after.parent = before.key
