"""The embedded demo provider: no model, no network, the same answer every time, so that any client can be tried.

It honours what clients exercise (streams, tools, JSON schemas, stop, token limits, usage, several choices)
and says in its text what it is and how to connect a real provider. Its tokens are words.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.adapters.samples import sample_of
from gateway.chat import ChatRequest, Message, Tool
from gateway.errors import UpstreamRejected
from gateway.events import Event, Finished, TextDelta, ToolCallDelta, Usage
from gateway.targets import Target
from gateway.upstream import Upstream

TOKEN = re.compile(r"\s*\S+|\s+")
WORD = re.compile(r"[a-z0-9]+")
# Every question has these; sharing them with a tool's description means nothing.
COMMON = set(
    "a an and are be by can do for from get give how i in is it me my of on or please tell that the this to "
    "use what which who will with you your current".split()
)
PACE_SECONDS = 0.01

GUIDE = """This is g4fsite's demo provider. No model is behind it: it gives the same answer every time, \
so that you can try your client, streaming, tools and JSON schemas before you connect a real one.

You wrote: "{question}"

Connect a real provider, and this one steps aside:

    ./manage.py provider presets
    OPENAI_API_KEY=sk-... ./manage.py provider add --preset openai --api-key-env OPENAI_API_KEY
    ./manage.py provider add --preset ollama --sync

or in the browser under /admin/ (Gateway, Providers, Add). The change takes effect within five seconds."""


def tokens_in(text: str) -> list[str]:
    return TOKEN.findall(text)


@dataclass(frozen=True, slots=True)
class Answer:
    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()


class DemoAdapter:
    label = "Demo (no model)"
    local = True

    async def answer(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        messages = chat.messages()
        answer = _answer(chat, messages)
        limit = chat.max_tokens()
        spent = 0
        for index in range(chat.body.get("n") or 1):
            pieces, reason = _pieces(answer, chat.stops(), limit)
            spent += sum(1 if isinstance(piece, str) else len(tokens_in(piece.arguments)) or 1 for piece in pieces)
            for piece in pieces:
                yield TextDelta(piece, index) if isinstance(piece, str) else _indexed(piece, index)
                if chat.stream:
                    await asyncio.sleep(PACE_SECONDS)
            yield Finished(reason, index)
        yield Usage(_prompt_tokens(messages), spent)


def _indexed(piece: ToolCallDelta, index: int) -> ToolCallDelta:
    return ToolCallDelta(piece.position, piece.id, piece.name, piece.arguments, index)


def _prompt_tokens(messages: tuple[Message, ...]) -> int:
    return sum(len(tokens_in(message.text)) + 1 for message in messages)


def _pieces(answer: Answer, stops: tuple[str, ...], limit: int | None) -> tuple[list[str | ToolCallDelta], str]:
    """What is streamed, token by token, and why it ends."""
    if answer.calls:
        return list(_call_pieces(answer.calls)), "tool_calls"
    text, reason = answer.text, "stop"
    ends = [at for at in (text.find(stop) for stop in stops if stop) if at >= 0]
    if ends:
        text = text[: min(ends)]
    tokens = tokens_in(text)
    if limit is not None and len(tokens) > limit:
        tokens, reason = tokens[:limit], "length"
    return list(tokens), reason


def _call_pieces(calls: tuple[tuple[str, str], ...]) -> Iterator[ToolCallDelta]:
    for position, (name, arguments) in enumerate(calls):
        yield ToolCallDelta(position, f"call_demo_{position}", name, "")
        for token in tokens_in(arguments):
            yield ToolCallDelta(position, arguments=token)


def _answer(chat: ChatRequest, messages: tuple[Message, ...]) -> Answer:
    question = next((message.text for message in reversed(messages) if message.role == "user"), "")
    calls = _calls(chat, messages, question)
    if calls:
        return Answer(calls=calls)
    schema = _schema(chat.body.get("response_format"))
    if schema is not None:
        return Answer(text=orjson.dumps(sample_of(schema, question)).decode())
    if messages[-1].role == "tool":
        return Answer(text=f"This is g4fsite's demo provider. The tool answered: {messages[-1].text}")
    return Answer(text=GUIDE.format(question=_short(question)))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:197] + "..."


def _schema(wanted: Any) -> Mapping[str, Any] | None:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_schema":
        described = wanted.get("json_schema")
        schema = described.get("schema") if isinstance(described, dict) else None
        return schema if isinstance(schema, dict) else {"type": "object"}
    if kind == "json_object":
        return {
            "type": "object",
            "properties": {"provider": {"const": "demo"}, "question": {"type": "string"}},
            "required": ["provider", "question"],
        }
    return None


def _calls(chat: ChatRequest, messages: tuple[Message, ...], question: str) -> tuple[tuple[str, str], ...]:
    """The tools to call: the forced one; else, after a question, those whose words it shares."""
    tools = chat.tools()
    choice = chat.body.get("tool_choice")
    if not tools or choice == "none":
        return ()
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        chosen = [tool for tool in tools if tool.name == wanted]
        if not chosen:
            raise UpstreamRejected(f"tool_choice names {wanted!r}, which is not among the tools.", code="invalid_value")
    elif messages[-1].role == "tool":
        return ()
    else:
        chosen = [tool for tool in tools if _shares_words(tool, question)]
        if not chosen and choice == "required":
            chosen = [tools[0]]
    if chat.body.get("parallel_tool_calls") is False:
        chosen = chosen[:1]
    return tuple((tool.name, orjson.dumps(sample_of(tool.parameters, question)).decode()) for tool in chosen)


def _shares_words(tool: Tool, question: str) -> bool:
    words = set(WORD.findall(question.lower())) - COMMON
    return bool(words & set(WORD.findall(f"{tool.name} {tool.description}".replace("_", " ").lower())))
