"""A model that does as it is told: calls the tool that it must, fills in the schema, stops where it should.

`oblige` decides; `tests.support.dialects` hears and says it in the words of each protocol. It obeys instructions in
words as well, so that what the gateway emulates can be asked of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.adapters.samples import sample_of

QUOTED = re.compile(r"['\"`]([^'\"`\s]+)['\"`]")
FORCED = re.compile(r"You must call the tool (\S+) now\.")
SCHEMA = "by this JSON Schema:\n\n"
JSON_ONLY = "one JSON object and nothing else"
# What each answer is said to have used, in the fields of whatever protocol.
PROMPT_TOKENS, ANSWER_TOKENS = 7, 3


@dataclass(frozen=True)
class Asked:
    """What a request comes to. `tools`: schemas by name. `must`: auto, none, required or a tool.

    `answered`: a tool's result came last. `instructions`: what the system said.
    """

    question: str
    model: str = ""
    stream: bool = False
    instructions: str = ""
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    must: str = "auto"
    answered: bool = False
    schema: Mapping[str, Any] | None = None
    as_json: bool = False
    stops: Sequence[str] = ()
    pictures: int = 0
    thinks: bool = False


@dataclass(frozen=True)
class Said:
    text: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    stop: str | None = None
    thought: str = ""

    @property
    def words(self) -> list[str]:
        return re.findall(r"\S+\s*", self.text)


def oblige(asked: Asked) -> Said:
    if "<tool_call>" in asked.instructions:
        return _in_words(asked)
    said = _said(asked)
    ends = [(said.text.find(stop), stop) for stop in asked.stops if stop in said.text]
    if ends:
        end, stop = min(ends)
        said = Said(said.text[:end], said.calls, stop)
    return replace(said, thought="They want to know, so I tell.") if asked.thinks else said


def _said(asked: Asked) -> Said:
    quoted = QUOTED.findall(asked.question)
    tools, must = asked.tools, asked.must
    if must in tools or (tools and must != "none" and not asked.answered):
        name = must if must in tools else next(iter(tools))
        return Said(calls=((name, _filled(tools[name], asked.question, quoted)),))
    schema, as_json = asked.schema, asked.as_json
    if schema is None and SCHEMA in asked.instructions:
        schema = json.JSONDecoder().raw_decode(asked.instructions.partition(SCHEMA)[2])[0]
    if schema is not None:
        return Said(json.dumps(_filled(schema, asked.question, quoted)))
    if as_json or JSON_ONLY in asked.instructions:
        return Said(json.dumps(dict.fromkeys(quoted or ["answer"], "as you like")))
    if asked.pictures:
        return Said(f"I see {asked.pictures} of them. Goodbye.")
    return Said("It is as you say, and so on. Goodbye.")


def _in_words(asked: Asked) -> Said:
    """Tools that an instruction describes, called in text."""
    described = asked.instructions.partition("You can call these tools:")[2]
    lines = (json.loads(line) for line in described.splitlines() if line.startswith('{"name"'))
    tools = {tool["name"]: tool.get("parameters") or {} for tool in lines}
    forced = FORCED.search(described)
    must = forced[1] if forced else "required" if "You must call a tool now." in described else "auto"
    answered = asked.question.startswith("<tool_result")
    plain = replace(asked, instructions=asked.instructions.replace("<tool_call>", ""))
    said = oblige(replace(plain, tools=tools, must=must, answered=answered))
    calls = [f"<tool_call>{json.dumps({'name': name, 'arguments': given})}</tool_call>" for name, given in said.calls]
    return replace(said, text="\n".join([*([said.text] if said.text else []), *calls]), calls=())


def _filled(schema: Mapping[str, Any], question: str, quoted: Sequence[str]) -> dict[str, Any]:
    found = sample_of({"type": "object", **schema}, question)
    names = [word for word in quoted if not word.isascii()]
    return {key: names[0] if names and isinstance(value, str) else value for key, value in found.items()}
