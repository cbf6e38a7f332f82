"""Tools for models that have none: described in an instruction, called in text, answered in text."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gateway.chat import ChatRequest, Message, Tool
from gateway.events import Event, Finished, TextDelta, ToolCallDelta
from gateway.nested import is_writable, object_of
from gateway.think_tags import unfinished

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FENCE = "```json"
START, TEXT, CALL, HELD, AFTER = range(5)
HANDLED = ("tools", "tool_choice", "parallel_tool_calls", "messages")

INSTRUCTION = """You can call these tools:

{tools}

To call a tool, write only this, with the arguments that fit its JSON Schema:

<tool_call>{{"name": "NAME", "arguments": {{...}}}}</tool_call>

{rule} After a call, stop. What the tool returned comes in the next message, between <tool_result> tags."""
RULES = {
    "auto": "Call a tool only where it helps; otherwise answer as usual and do not mention tools.",
    "required": "You must call a tool now.",
}


def with_tools(chat: ChatRequest) -> dict[str, Any]:
    """The body without tools: they and what was done with them are text."""
    kept = {name: value for name, value in chat.body.items() if name not in HANDLED}
    body = {**kept, "messages": list(_messages(chat))}
    offered, choice = _offered(chat), chat.tool_choice() or "auto"
    if not offered:
        return body
    rule = RULES.get(choice) or f"You must call the tool {choice.removeprefix('=')} now."
    if chat.body.get("parallel_tool_calls") is not False:
        rule += " Several calls may stand one after the other."
    return instructed(body, INSTRUCTION.format(tools="\n".join(map(_described, offered)), rule=rule))


def _offered(chat: ChatRequest) -> list[Tool]:
    choice = chat.tool_choice() or "auto"
    if choice == "none":
        return []
    return [tool for tool in chat.tools() if not choice.startswith("=") or tool.name == choice[1:]]


def _described(tool: Tool) -> str:
    said = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return orjson.dumps({key: value for key, value in said.items() if value}).decode()


def instructed(body: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The body with an instruction after what its first message instructs."""
    first, *rest = body["messages"]
    if first.get("role") not in ("system", "developer"):
        return {**body, "messages": [{"role": "system", "content": text}, first, *rest]}
    content = first.get("content") or ""
    if isinstance(content, str):
        content = f"{content}\n\n{text}" if content else text
    else:
        content = [*content, {"type": "text", "text": f"\n\n{text}"}]
    return {**body, "messages": [{**first, "content": content}, *rest]}


def _messages(chat: ChatRequest) -> Iterator[dict[str, Any]]:
    names: dict[str, str] = {}
    results: list[str] = []
    for item, message in zip(chat.body["messages"], chat.messages(), strict=True):
        if message.role == "tool":
            results.append(_result(message, names))
            continue
        if results:
            yield {"role": "user", "content": "\n".join(results)}
            results = []
        names |= {call.id: call.name for call in message.tool_calls}
        yield _called(item, message) if message.tool_calls else dict(item)
    if results:
        yield {"role": "user", "content": "\n".join(results)}


def _called(item: Mapping[str, Any], message: Message) -> dict[str, Any]:
    calls = [
        f'{OPEN}{{"name": {orjson.dumps(call.name).decode()}, "arguments": {call.arguments or "{}"}}}{CLOSE}'
        for call in message.tool_calls
    ]
    kept = {name: value for name, value in item.items() if name not in ("tool_calls", "content")}
    return {**kept, "content": "\n".join([*([message.text] if message.text else []), *calls])}


def _result(message: Message, names: Mapping[str, str]) -> str:
    name = names.get(message.tool_call_id or "", "")
    marks = (f' name="{name}"' if name else "") + (' error="true"' if message.is_error else "")
    return f"<tool_result{marks}>\n{message.text}\n</tool_result>"


class ToolFilter:
    """Finds calls in the text of an answer; text that may be one is held back until it is known."""

    def __init__(self, chat: ChatRequest) -> None:
        self._names = {tool.name for tool in _offered(chat)}
        choice = chat.tool_choice() or ""
        self._forced = choice[1:] if choice.startswith("=") else ""
        self._single = chat.body.get("parallel_tool_calls") is False
        self._choices: dict[int, _Choice] = {}

    def take(self, event: Event) -> Iterator[Event]:
        if not self._names:
            yield event
        elif isinstance(event, TextDelta):
            yield from self._choice(event.index).feed(event.text)
        elif isinstance(event, Finished):
            choice = self._choice(event.index)
            yield from choice.end()
            called = choice.calls and event.reason == "stop"
            yield Finished("tool_calls", event.index) if called else event
        else:
            yield event

    def _choice(self, index: int) -> _Choice:
        if index not in self._choices:
            self._choices[index] = _Choice(index, self._names, self._forced, self._single)
        return self._choices[index]


class _Choice:
    def __init__(self, index: int, names: set[str], forced: str, single: bool) -> None:
        self.calls = 0
        self._index = index
        self._names = names
        self._forced = forced
        self._most = 1 if single else 128
        self._state = START
        self._held = ""

    def feed(self, text: str) -> Iterator[Event]:
        self._held += text
        if self._state == START:
            self._begin()
        progress = True
        while progress and self._state in (TEXT, CALL, AFTER):
            before = self._state, len(self._held)
            yield from self._inside() if self._state == CALL else self._outside()
            progress = (self._state, len(self._held)) != before

    def _begin(self) -> None:
        """An answer that is JSON from its first letter may be a call without its tags."""
        said = self._held.lstrip()
        if said[:1] in ("{", "[") or said.startswith(FENCE):
            self._state = HELD
        elif said and not FENCE.startswith(said):
            self._state = TEXT

    def _outside(self) -> Iterator[Event]:
        text, opened, rest = self._held.partition(OPEN)
        if opened:
            # The blank lines before a call belong to nobody.
            yield from self._said(text.rstrip())
            self._state, self._held = CALL, rest
        else:
            said = text[: len(text) - unfinished(text, OPEN)].rstrip("\n")
            yield from self._said(said)
            self._held = text[len(said) :]

    def _inside(self) -> Iterator[Event]:
        inner, closed, rest = self._held.partition(CLOSE)
        if closed:
            self._held = rest
            yield from self._ended(inner, f"{OPEN}{inner}{CLOSE}")

    def _ended(self, inner: str, whole: str) -> Iterator[Event]:
        calls = list(self._read(inner))
        self._state = AFTER if calls or self.calls else TEXT
        if calls:
            yield from self._made(calls)
        else:
            yield from self._said(whole)

    def _said(self, text: str) -> Iterator[Event]:
        # After a call models make up what its tool would return.
        if text and self._state != AFTER:
            yield TextDelta(text, self._index)

    def _made(self, calls: list[tuple[str, str]]) -> Iterator[Event]:
        for name, arguments in calls[: self._most - self.calls]:
            yield ToolCallDelta(self.calls, f"call_{os.urandom(12).hex()}", name, arguments, self._index)
            self.calls += 1

    def _read(self, text: str) -> Iterator[tuple[str, str]]:
        """The calls that the text is, none unless all of it is calls."""
        try:
            value = orjson.loads(unfenced(text))
        except orjson.JSONDecodeError:
            return
        if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
            value = value["tool_calls"]
        found = [self._call(item) for item in (value if isinstance(value, list) else [value])]
        if all(found):
            yield from (call for call in found if call)
        elif self._forced and isinstance(value, dict) and "name" not in value and is_writable(value):
            # Told which tool to call, some models write its arguments alone.
            yield self._forced, orjson.dumps(value).decode()

    def _call(self, item: Any) -> tuple[str, str] | None:
        if isinstance(item, dict) and isinstance(item.get("function"), dict):
            item = item["function"]
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or item["name"] not in self._names:
            return None
        arguments = item.get("arguments", item.get("parameters"))
        if isinstance(arguments, str):
            arguments = object_of(arguments)
            if arguments is None:
                return None
        if not isinstance(arguments, dict | None) or not is_writable(arguments):
            return None
        return item["name"], orjson.dumps(arguments or {}).decode()

    def end(self) -> Iterator[Event]:
        held, self._held = self._held, ""
        if self._state == CALL:
            # The mark at the end is what models forget.
            yield from self._ended(held, OPEN + held)
        elif self._state == HELD:
            yield from self._ended(held, held)
        else:
            yield from self._said(held)


def unfenced(text: str) -> str:
    """What stands in a fenced block, if the text is one."""
    said = text.strip()
    if said.startswith("```") and said.endswith("```") and len(said) > 6:
        return said[3:-3].removeprefix("json").strip()
    return said
