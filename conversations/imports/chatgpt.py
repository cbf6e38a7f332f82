"""ChatGPT's export: a `mapping` of nodes, of which many are hidden or hold what its own page needs."""

from __future__ import annotations

from typing import Any

from conversations.imports.said import Said, SaidMessage, key, role, table, tables, text, texts, time

# Not said by anybody: the page's own notes, and the instructions that are repeated in each conversation.
SILENT = {"model_editable_context", "user_editable_context", "reasoning_recap"}


def is_it(item: dict[str, Any]) -> bool:
    return isinstance(item.get("mapping"), dict)


def read(item: dict[str, Any]) -> Said:
    nodes = {name: node for name, node in item["mapping"].items() if isinstance(node, dict)}
    said = Said(
        origin=f"chatgpt:{key(item.get('conversation_id')) or key(item.get('id'))}",
        title=text(item.get("title")),
        created_at=time(item.get("create_time")),
        updated_at=time(item.get("update_time")),
        fields={"archived": item.get("is_archived") is True, "pinned": item.get("is_starred") is True},
    )
    thoughts: dict[str, str] = {}
    for name, node in nodes.items():
        message = _message(name, node, said)
        if message is None:
            continue
        if message.reasoning and not message.content:
            thoughts[name] = message.reasoning
        else:
            said.messages.append(message)
    _reparent(said, nodes, thoughts)
    said.end = key(item.get("current_node")) or None
    kept = {message.key for message in said.messages}
    while said.end is not None and said.end not in kept:
        # Taken out, so that a circle ends.
        said.end = key(nodes.pop(said.end, {}).get("parent")) or None
    return said


def _reparent(said: Said, nodes: dict[str, dict[str, Any]], thoughts: dict[str, str]) -> None:
    """Each under the next above it that is kept; the thoughts that lie between are its own.

    What was walked once is not walked again, and each thought is given to one answer: neither a long chain with many
    ends nor what it says is multiplied.
    """
    kept = {message.key for message in said.messages}
    known: dict[str, str | None] = {}
    for message in said.messages:
        walked: dict[str, None] = {}
        parent = message.parent
        while parent is not None and parent not in kept and parent not in walked and parent not in known:
            walked[parent] = None
            parent = key(table(nodes.get(parent)).get("parent")) or None
        parent = known.get(parent, parent) if parent is not None else None
        message.parent = parent
        known.update(dict.fromkeys(walked, parent))
        if message.role == "assistant":
            message.reasoning = "\n\n".join(thoughts.pop(name) for name in reversed(walked) if name in thoughts)


def _message(name: str, node: dict[str, Any], said: Said) -> SaidMessage | None:
    message = table(node.get("message"))
    metadata, content = table(message.get("metadata")), table(message.get("content"))
    who = role(table(message.get("author")).get("role"))
    kind = text(content.get("content_type"))
    if who is None or kind in SILENT or metadata.get("is_visually_hidden_from_conversation") is True:
        return None
    found = SaidMessage(
        key=name[:200],
        parent=key(node.get("parent")) or None,
        role=who,
        content="",
        created_at=time(message.get("create_time")),
        model=text(metadata.get("model_slug"), 255),
    )
    if kind == "thoughts":
        steps = tables(content.get("thoughts"))
        found.reasoning = "\n\n".join(
            filter(None, (text(step.get("content")) or text(step.get("summary")) for step in steps))
        )
    else:
        found.content = _words(kind, content, said)
    if metadata.get("attachments"):
        said.warn("Attached files are not in the export's text and were left out.")
    return None if found.is_empty else found


def _words(kind: str, content: dict[str, Any], said: Said) -> str:
    if kind == "code":
        return f"```{text(content.get('language')).replace('unknown', '')}\n{text(content.get('text'))}\n```"
    if kind == "execution_output":
        return f"```\n{text(content.get('text'))}\n```"
    if kind == "tether_quote":
        source = " ".join(filter(None, (text(content.get("title")), text(content.get("url")))))
        return f"{text(content.get('text'))}\n\n{source}".strip()
    if isinstance(content.get("parts"), list):
        return "\n".join(filter(None, (_part(part, said) for part in content["parts"])))
    return text(content.get("text")) or text(content.get("result")) or "\n".join(texts(content.get("texts")))


def _part(part: Any, said: Said) -> str:
    if isinstance(part, str):
        return text(part)
    kind = text(table(part).get("content_type"))
    if kind == "audio_transcription":
        return text(part.get("text"))
    if kind:
        said.warn("Pictures and sounds were left out.")
        return "" if kind.startswith(("audio", "real_time")) else "[picture]"
    return text(table(part).get("text"))
