"""Our own exports, Claude's, Open WebUI's, and those of g4f's browser page."""

from __future__ import annotations

from typing import Any

from conversations.export import FORMAT
from conversations.imports.said import Said, SaidMessage, chained, key, role, table, tables, text, texts, time
from conversations.models import State
from conversations.tree import storable

# Claude's parent of a first message.
NOBODY = "00000000-0000-4000-8000-000000000000"
OWN_FIELDS = ("tool_calls", "attachments", "extra", "usage", "error")
RUNNING = (State.QUEUED, State.STREAMING)


def is_own(item: dict[str, Any]) -> bool:
    return item.get("format") == FORMAT


def own(item: dict[str, Any]) -> Said:
    said = Said(
        origin=f"g4fsite:{key(item.get('id'))}",
        title=text(item.get("title")),
        created_at=time(item.get("created_at")),
        updated_at=time(item.get("updated_at")),
        end=key(item.get("active_leaf")) or None,
        fields={
            "system_prompt": text(item.get("system_prompt")),
            "model": text(item.get("model"), 255),
            "provider": text(item.get("provider"), 255),
            "folder": text(item.get("folder")),
            "tags": texts(item.get("tags")),
            "settings": table(item.get("settings")),
            "pinned": item.get("pinned") is True,
            "archived": item.get("archived") is True,
        },
    )
    for row in tables(item.get("messages")):
        who = role(row.get("role"))
        if who is None:
            said.warn("Messages of an unknown role were left out.")
            continue
        content = row.get("content")
        said.messages.append(
            SaidMessage(
                key=key(row.get("id")),
                parent=key(row.get("parent")) or None,
                role=who,
                content=storable(content) if isinstance(content, list) else text(content),
                created_at=time(row.get("created_at")),
                model=text(row.get("model"), 255),
                provider=text(row.get("provider"), 255),
                reasoning=text(row.get("reasoning")),
                fields=_own_fields(row),
            )
        )
    return said


def _own_fields(row: dict[str, Any]) -> dict[str, Any]:
    lists = {name: tables(row.get(name)) for name in ("tool_calls", "attachments")}
    objects = {name: table(row.get(name)) or None for name in ("usage", "error")}
    state, cost = text(row.get("state")), row.get("cost")
    return {
        **lists,
        **objects,
        "extra": table(row.get("extra")),
        "finish_reason": text(row.get("finish_reason"), 50),
        "cost": cost if type(cost) is int and 0 <= cost < 2**62 else None,
        # Nobody is writing it any more.
        "state": State.INTERRUPTED if state in RUNNING else state if state in State.values else State.DONE,
    }


def is_claude(item: dict[str, Any]) -> bool:
    return isinstance(item.get("chat_messages"), list)


def claude(item: dict[str, Any]) -> Said:
    said = Said(
        origin=f"claude:{key(item.get('uuid'))}",
        title=text(item.get("name")),
        created_at=time(item.get("created_at")),
        updated_at=time(item.get("updated_at")),
    )
    is_tree = False
    for number, row in enumerate(tables(item.get("chat_messages"))):
        who = role(row.get("sender"))
        if who is None:
            said.warn("Messages of an unknown sender were left out.")
            continue
        parent = key(row.get("parent_message_uuid"))
        is_tree = is_tree or bool(parent)
        parts = tables(row.get("content"))
        words = "\n\n".join(filter(None, (text(part.get("text")) for part in parts if part.get("type") == "text")))
        message = SaidMessage(
            key=key(row.get("uuid")) or str(number),
            parent=parent if parent != NOBODY else None,
            role=who,
            content=words or text(row.get("text")),
            created_at=time(row.get("created_at")),
            reasoning="\n\n".join(filter(None, (text(part.get("thinking")) for part in parts))),
        )
        message.content += _claude_files(row, said)
        said.messages.append(message)
    if not is_tree:
        chained(said.messages)
    return said


def _claude_files(row: dict[str, Any], said: Said) -> str:
    """What Claude read of attached files is in the export as text; other files are not."""
    if row.get("files") or row.get("files_v2"):
        said.warn("Attached files are not in the export and were left out.")
    found = ""
    for item in tables(row.get("attachments")):
        if text(item.get("extracted_content")):
            found += f"\n\n{text(item.get('file_name'))}:\n\n{text(item.get('extracted_content'))}"
    return found


def is_open_webui(item: dict[str, Any]) -> bool:
    chat = item.get("chat")
    return isinstance(chat, dict) and ("history" in chat or "messages" in chat)


def open_webui(item: dict[str, Any]) -> Said:
    chat = item["chat"]
    history = table(chat.get("history"))
    rows = table(history.get("messages"))
    models = texts(chat.get("models"))
    said = Said(
        origin=f"openwebui:{key(item.get('id')) or key(chat.get('id'))}",
        title=text(item.get("title")) or text(chat.get("title")),
        created_at=time(item.get("created_at")) or time(chat.get("timestamp")),
        updated_at=time(item.get("updated_at")),
        end=key(history.get("currentId")) or None,
        fields={
            "archived": item.get("archived") is True,
            "pinned": item.get("pinned") is True,
            "tags": texts(table(item.get("meta")).get("tags")),
            "model": models[0][:255] if models else "",
            "system_prompt": text(chat.get("system")) or text(table(chat.get("params")).get("system")),
        },
    )
    listed = rows.items() if rows else enumerate(tables(chat.get("messages")))
    for name, row in listed:
        who = role(table(row).get("role"))
        if who is None:
            said.warn("Messages of an unknown role were left out.")
            continue
        if row.get("files"):
            said.warn("Attached files were left out.")
        content = row.get("content")
        said.messages.append(
            SaidMessage(
                key=key(row.get("id")) or str(name)[:200],
                parent=key(row.get("parentId")) or None,
                role=who,
                content=storable(content) if isinstance(content, list) else text(content),
                created_at=time(row.get("timestamp")),
                model=text(row.get("model"), 255),
            )
        )
    if not rows:
        chained(said.messages)
    return said


def is_g4f(item: dict[str, Any]) -> bool:
    return isinstance(item.get("items"), list)


def g4f(item: dict[str, Any]) -> Said:
    said = Said(
        origin=f"g4f:{key(item.get('id'))}",
        title=text(item.get("new_title")) or text(item.get("title")),
        created_at=time(item.get("added")),
        updated_at=time(item.get("updated")),
        fields={"system_prompt": text(item.get("system")), "pinned": item.get("star") is True},
    )
    for number, row in enumerate(tables(item.get("items"))):
        who = role(row.get("role"))
        if who is None:
            continue
        provider, content, reasoning = table(row.get("provider")), row.get("content"), row.get("reasoning")
        said.messages.append(
            SaidMessage(
                key=str(number),
                parent=None,
                role=who,
                content=storable(content) if isinstance(content, list) else text(content),
                model=text(provider.get("model"), 255),
                provider=text(provider.get("name"), 255),
                reasoning=text(table(reasoning).get("text")) or text(reasoning),
            )
        )
    chained(said.messages)
    return said
