"""What one request of a run asks for, drawn from the run's seed and written into its prompt.

The prompt tells the scripted provider and the proxy what to do, so that neither keeps a programme: the same
seed gives the same requests, and each answer carries the mark of the request that it belongs to.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

MARK = re.compile(r"m[0-9a-f]{12}")
PROMPT = re.compile(
    r"mark=(?P<mark>m[0-9a-f]{12}) fault=(?P<fault>[a-z0-9-]+) words=(?P<words>\d+) at=(?P<at>\d+) pad=(?P<pad>\d+)"
)
# Two-, three- and four-byte letters, so that packets can cut through each.
LETTERS = "é漢🦉"
# Seconds, as the rows of the rig's providers and its gateway's settings say.
CONNECT, FIRST_EVENT, GAP, TOTAL, STREAM_TOTAL = 3, 5, 4, 10, 30
# The breaker judges per model: with many of them a fault of one request seldom decides where the next one goes.
MODELS = 150
USERS = 12


@dataclass(frozen=True, slots=True)
class Kind:
    """A set of models: which fault reaches their first provider, and whether a healthy one stands behind."""

    name: str
    targets: int
    proxied: bool = False
    refused: bool = False

    @property
    def has_fallback(self) -> bool:
        return self.targets > 1


KINDS = (
    Kind("alone", 1),
    Kind("pair", 2),
    # Two credentials at one provider, of which the first one fails.
    Kind("twice", 2),
    Kind("proxied", 1, proxied=True),
    Kind("proxiedpair", 2, proxied=True),
    Kind("refused", 1, refused=True),
    Kind("refusedpair", 2, refused=True),
)


@dataclass(frozen=True, slots=True)
class Case:
    """`leave` is when the client goes: before it has sent all (0), else after so many seconds; None: never.

    `at` says where in the answer a fault comes, and `pad` makes each piece longer by so many bytes. `slow` is the
    pause in seconds between two small reads of the client, and `rest` one long pause amid its reading.
    """

    number: int
    mark: str
    kind: Kind
    model: str
    user: int
    stream: bool
    asks_usage: bool
    fault: str
    words: int
    at: int
    pad: int = 0
    leave: float | None = None
    slow: float = 0.0
    rest: float = 0.0

    @property
    def prompt(self) -> str:
        return f"mark={self.mark} fault={self.fault} words={self.words} at={self.at} pad={self.pad}"

    @property
    def deadline(self) -> float:
        """Seconds by which the gateway must have answered, whatever its providers do."""
        if self.stream:
            return self.kind.targets * (CONNECT + FIRST_EVENT) + STREAM_TOTAL
        return self.kind.targets * (CONNECT + TOTAL)

    @property
    def text(self) -> str:
        return "".join(pieces(self.mark, self.words, self.pad))

    @property
    def body(self) -> bytes:
        fields: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": self.prompt}]}
        if self.stream:
            fields["stream"] = True
        if self.asks_usage:
            fields["stream_options"] = {"include_usage": True}
        return json.dumps(fields).encode()


@dataclass(frozen=True, slots=True)
class Script:
    """What a provider reads out of a prompt."""

    mark: str
    fault: str
    words: int
    at: int
    pad: int
    pieces: tuple[str, ...] = field(repr=False)


def pieces(mark: str, words: int, pad: int) -> tuple[str, ...]:
    """The answer to this mark, piece by piece."""
    return tuple(f"{mark}:{number}:{LETTERS}{'.' * pad} " for number in range(words))


def script(prompt: str) -> Script | None:
    """None for a prompt that is not one of ours."""
    found = PROMPT.search(prompt)
    if found is None:
        return None
    mark, words, pad = found["mark"], int(found["words"]), int(found["pad"])
    return Script(mark, found["fault"], words, int(found["at"]), pad, pieces(mark, words, pad))


def cases(seed: int, count: int, share: float, only: Sequence[str] = ()) -> Iterator[Case]:
    """`count` requests, of which the part `share` meets a fault; with `only` it is one of these."""
    from tests.faults.catalogue import FAULTS, PROXY_FAULTS

    chance = random.Random(seed)
    scripted = [name for name in FAULTS if name != "none" and (not only or name in only)]
    proxied = [name for name in PROXY_FAULTS if not only or name in only]
    plain_kinds = [kind for kind in KINDS if not kind.proxied and not kind.refused]
    proxied_kinds = [kind for kind in KINDS if kind.proxied]
    refused_kinds = [kind for kind in KINDS if kind.refused]
    # A refused connection is one fault among the others.
    faults = [*scripted, *proxied, *(["refused"] if not only or "refused" in only else [])]
    for number in range(count):
        fault, kind = "none", chance.choice(plain_kinds + proxied_kinds)
        if chance.random() < share:
            fault = chance.choice(faults)
            kinds = {True: proxied_kinds}.get(fault in PROXY_FAULTS, plain_kinds)
            kind = chance.choice(refused_kinds if fault == "refused" else kinds)
        yield _case(chance, number, kind, fault)


def _case(chance: random.Random, number: int, kind: Kind, fault: str) -> Case:
    stream = chance.random() < 0.6
    words = chance.randint(2, 12)
    manner = chance.random()
    leave, slow, rest, pad = None, 0.0, 0.0, 0
    if manner < 0.08:
        leave = 0.0 if chance.random() < 0.1 else chance.uniform(0.001, 0.25)
    elif manner < 0.1 and stream and fault == "none":
        # More than the gateway holds back for one stream, so that the provider must wait for the reader.
        slow, pad, words = 0.005, 6_000, 200
        if chance.random() < 0.15:
            # More than the kernel takes in, and longer than a provider may be silent.
            rest, pad, words = GAP + 1.5, 60_000, 100
    return Case(
        number=number,
        mark=f"m{chance.getrandbits(48):012x}",
        kind=kind,
        model=f"{kind.name}-{chance.randrange(MODELS)}",
        user=chance.randrange(USERS),
        stream=stream,
        asks_usage=stream and chance.random() < 0.5,
        fault=fault,
        words=words,
        at=chance.randint(1, words - 1),
        pad=pad,
        leave=leave,
        slow=slow,
        rest=rest,
    )
