"""The embedded demo provider: no model, no network, the same answer every time, so that any client can be tried.

It honours what clients exercise (streams, tools, JSON schemas, stop, token limits, usage, several choices)
and says in its text what it is and how to connect a real provider. Its tokens are words.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any

from gateway.adapters import demo_pictures
from gateway.adapters.calls import Embedded
from gateway.adapters.pictures import Drawing
from gateway.adapters.samples import QUESTION_READ, Sampler
from gateway.calls import CallRequest
from gateway.chat import ChatRequest, Message, Tool
from gateway.errors import UpstreamRejected
from gateway.events import Event, Finished, TextDelta, ToolCallDelta, Usage
from gateway.pictures import PictureRequest
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
# Callers choose what is read and said, and this runs on the event loop.
MAX_CALLS = 16
MAX_NAME = 200
MAX_PIECES = 500
DESCRIPTION_READ = 1000
TOOL_ANSWER_READ = 2000
PROMPT_READ = 500_000
TEXT_READ = 8000
DIMENSIONS = 256
MAX_NUMBERS = 1_000_000

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

    async def complete(self, upstream: Upstream, target: Target, chat: ChatRequest) -> Sequence[Event]:
        return list(_events(chat))

    async def stream(self, upstream: Upstream, target: Target, chat: ChatRequest) -> AsyncGenerator[Event, None]:
        for event in _events(chat):
            yield event
            if not isinstance(event, (Finished, Usage)):
                await asyncio.sleep(PACE_SECONDS)

    async def draw(self, upstream: Upstream, target: Target, request: PictureRequest) -> Drawing:
        return await asyncio.to_thread(demo_pictures.draw, target, request)

    async def embed(self, upstream: Upstream, target: Target, request: CallRequest) -> Embedded:
        size, inputs = request.body.get("dimensions") or DIMENSIONS, request.inputs()
        if size * len(inputs) > MAX_NUMBERS:
            raise UpstreamRejected(
                f"The demo provider makes at most {MAX_NUMBERS} numbers at once.",
                code="invalid_value",
                param="dimensions",
            )
        bags = [_words(item) for item in inputs]
        return Embedded([_vector(bag, size) for bag in bags], max(1, sum(map(len, bags))))


def _words(item: Any) -> list[str]:
    """Of tokens the numbers stand for words."""
    return WORD.findall(item[:TEXT_READ].lower()) if isinstance(item, str) else list(map(str, item))


def _vector(words: list[str], size: int) -> list[float]:
    """A hashed bag of words of length 1: texts that share words lie near each other."""
    vector = [0.0] * size
    for word, times in Counter(words or [""]).items():
        vector[int.from_bytes(blake2b(word.encode(), digest_size=8).digest()) % size] += times
    length = math.hypot(*vector)
    return [value / length for value in vector]


def _events(chat: ChatRequest) -> Iterator[Event]:
    messages = chat.messages()
    pieces, spent, reason = _pieces(_answer(chat, messages), chat.stops(), chat.max_tokens())
    choices = chat.body.get("n") or 1
    for index in range(choices):
        for piece in pieces:
            yield TextDelta(piece, index) if isinstance(piece, str) else _indexed(piece, index)
        yield Finished(reason, index)
    yield Usage(_prompt_tokens(messages), spent * choices)


def _indexed(piece: ToolCallDelta, index: int) -> ToolCallDelta:
    return ToolCallDelta(piece.position, piece.id, piece.name, piece.arguments, index)


def _prompt_tokens(messages: tuple[Message, ...]) -> int:
    """Words; of a very long prompt the rest is taken to be like its beginning."""
    words = read = whole = 0
    for message in messages:
        text = message.text
        whole += len(text)
        if read < PROMPT_READ:
            head = text[: PROMPT_READ - read]
            read += len(head)
            words += len(head.split())
    return words * whole // max(read, 1) + len(messages)


def _pieces(
    answer: Answer, stops: tuple[str, ...], limit: int | None
) -> tuple[Sequence[str | ToolCallDelta], int, str]:
    """What is streamed, how many tokens that is, and why it ends."""
    if answer.calls:
        calls = [(name, tokens_in(arguments)) for name, arguments in answer.calls]
        spent = sum(1 + len(tokens) for _, tokens in calls)
        return list(_call_pieces(calls, spent)), spent, "tool_calls"
    text, reason = answer.text, "stop"
    ends = [at for at in (text.find(stop) for stop in stops if stop) if at >= 0]
    if ends:
        text = text[: min(ends)]
    tokens = tokens_in(text)
    if limit is not None and len(tokens) > limit:
        tokens, reason = tokens[:limit], "length"
    return list(_grouped(tokens, len(tokens))), len(tokens), reason


def _grouped(tokens: list[str], whole: int) -> Iterator[str]:
    """One token a piece, or several when the whole answer has very many."""
    size = -(-whole // MAX_PIECES)
    return ("".join(tokens[at : at + size]) for at in range(0, len(tokens), size or 1))


def _call_pieces(calls: list[tuple[str, list[str]]], whole: int) -> Iterator[ToolCallDelta]:
    for position, (name, tokens) in enumerate(calls):
        yield ToolCallDelta(position, f"call_demo_{position}", name, "")
        for piece in _grouped(tokens, whole):
            yield ToolCallDelta(position, arguments=piece)


def _answer(chat: ChatRequest, messages: tuple[Message, ...]) -> Answer:
    question = next((message for message in reversed(messages) if message.role == "user"), None)
    asked = question.text[:QUESTION_READ] if question else ""
    sampler = Sampler(asked)
    calls = _calls(_chosen(chat, messages, asked), sampler)
    if calls:
        return Answer(calls=calls)
    schema = _schema(chat.body.get("response_format"))
    if schema is not None:
        return Answer(text=sampler.json(schema))
    if messages[-1].role == "tool":
        said = messages[-1].text[:TOOL_ANSWER_READ]
        return Answer(text=f"This is g4fsite's demo provider. The tool answered: {said}")
    return Answer(text=GUIDE.format(question=_short(asked)))


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


def _calls(tools: list[Tool], sampler: Sampler) -> tuple[tuple[str, str], ...]:
    calls: list[tuple[str, str]] = []
    for tool in tools:
        if sampler.spent:
            break
        calls.append((tool.name, sampler.json(tool.parameters)))
    return tuple(calls)


def _chosen(chat: ChatRequest, messages: tuple[Message, ...], question: str) -> list[Tool]:
    """The tools to call: the forced one; else, after a question, those whose words it shares."""
    offered, choice = chat.tools(), chat.body.get("tool_choice")
    if not offered or choice == "none":
        return []
    tools = [tool for tool in offered if len(tool.name) <= MAX_NAME]
    if isinstance(choice, dict):
        chosen = _forced(tools, choice)
    elif messages[-1].role == "tool":
        return []
    else:
        words = set(WORD.findall(question.lower())) - COMMON
        chosen = list(islice((tool for tool in tools if _shares_words(tool, words)), MAX_CALLS))
        if not chosen and choice == "required":
            chosen = tools[:1]
    return chosen[:1] if chat.body.get("parallel_tool_calls") is False else chosen


def _forced(tools: list[Tool], choice: Mapping[str, Any]) -> list[Tool]:
    wanted = (choice.get("function") or {}).get("name")
    chosen = [tool for tool in tools if tool.name == wanted]
    if not chosen:
        name = _short(wanted[: MAX_NAME + 1]) if isinstance(wanted, str) else None
        raise UpstreamRejected(f"tool_choice names {name!r}, which is not among the tools.", code="invalid_value")
    return chosen[:1]


def _shares_words(tool: Tool, words: set[str]) -> bool:
    about = f"{tool.name} {tool.description[:DESCRIPTION_READ]}".replace("_", " ").lower()
    return not words.isdisjoint(WORD.findall(about))
