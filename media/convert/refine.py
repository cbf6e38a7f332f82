"""A long text made shorter by leaving sentences out: those stay whose words the whole text is about.

No model is asked and no language known: a sentence counts by how often its words occur elsewhere, words that are
everywhere (the, and, der) count nothing, and the order stays (Luhn 1958, with inverse sentence frequencies).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain

CHUNK = 1024 * 1024
# Of the characters of a chunk, about so many stay.
SHARE = 0.3
# Shorter texts stay whole.
SHORT = 2000
MAX_SENTENCE = 2000
SENTENCES = re.compile(r"(?<=[.!?…。！？])[\"'”»)]*\s+|\n+|(?<=[。！？])")
WORDS = re.compile(r"\w{2,}")


def refined(text: str) -> Iterator[str]:
    """The text chunk by chunk, each about a third as long; lines stay lines."""
    for start in range(0, len(text), CHUNK):
        yield _shortened(text[start : start + CHUNK])


def _shortened(text: str) -> str:
    if len(text) <= SHORT:
        return text
    sentences = list(chain.from_iterable(_bounded(part) for part in SENTENCES.split(text)))
    words = [Counter(WORDS.findall(sentence.lower())) for sentence in sentences]
    weights = _weights(words)
    ranked = sorted(range(len(sentences)), key=lambda at: -_score(words[at], weights))
    room = max(SHORT, int(len(text) * SHARE))
    chosen: list[int] = []
    for at in ranked:
        room -= len(sentences[at]) + 1
        if room < 0:
            break
        chosen.append(at)
    return "\n".join(sentences[at] for at in sorted(chosen)) + "\n"


def _bounded(sentence: str) -> Iterator[str]:
    """What goes on for pages without an end is taken in pieces."""
    stripped = sentence.strip()
    for start in range(0, len(stripped), MAX_SENTENCE):
        yield stripped[start : start + MAX_SENTENCE]


def _weights(words: list[Counter[str]]) -> dict[str, float]:
    """Often in the text, in few of its sentences."""
    total: Counter[str] = Counter()
    holding: Counter[str] = Counter()
    for counted in words:
        total.update(counted)
        holding.update(counted.keys())
    count = len(words)
    return {
        word: math.log1p(times) * math.log(count / holding[word] or 1) for word, times in total.items() if times > 1
    }


def _score(words: Counter[str], weights: dict[str, float]) -> float:
    """The weight of the different words, by the sentence's length: neither short nor long ones win by that alone."""
    return sum(weights.get(word, 0.0) for word in words) / (8 + sum(words.values()))
