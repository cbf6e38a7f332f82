"""Microsoft 365 Copilot's conversations on Graph: text alone, each state of a stream with all of it so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.answers import Answer, reply_json, sse
from tests.support.dialects.heard import Wrong, new_id, only
from tests.support.obliging import Asked, oblige
from tests.support.provider import Recorded

FIELDS = ("message", "additionalContext", "locationHint")
INSTRUCTION = "Instructions for the answer"
TYPE = "#microsoft.graph.copilotConversation"


def answer(request: Recorded, path: str) -> Answer:
    body = request.json
    if path == "conversations":
        return reply_json({"@odata.type": TYPE, "id": new_id("conversation-"), "state": "active"}, status=201)
    folder, _, action = path.rpartition("/")
    if not folder.startswith("conversations/conversation-") or action not in ("chat", "chatOverStream"):
        raise Wrong(f"no such path: {path}")
    only(body, FIELDS)
    if not body["locationHint"]["timeZone"]:
        raise Wrong("no time zone")
    said = oblige(heard(body))
    question = body["message"]["text"]
    whole = _state(question, said.text, turns=1)
    if action == "chat":
        return reply_json(whole)
    told = ["".join(said.words[: at + 1]) for at in range(len(said.words))]
    return sse([*(_state(question, text, alone=True) for text in told), whole])


def heard(body: Mapping[str, Any]) -> Asked:
    only(body["message"], ("text",), "the message")
    context = body.get("additionalContext") or []
    for item in context:
        only(item, ("text", "description"), "context")
    system = [item["text"] for item in context if item["description"] == INSTRUCTION]
    return Asked(body["message"]["text"], instructions="\n".join(system))


def _state(question: str, text: str, *, turns: int = 0, alone: bool = False) -> dict[str, Any]:
    messages = [{"id": "a", "text": text, "attributions": []}]
    if not alone:
        messages = [{"id": "q", "text": question, "attributions": []}, *messages]
    title = question[:50] if turns else "Intermediate Conversation Update"
    return {"@odata.type": TYPE, "state": "active", "turnCount": turns, "displayName": title, "messages": messages}
