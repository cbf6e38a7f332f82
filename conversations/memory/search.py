"""Finds what is remembered by its words, and by likeness where there are embeddings."""

from __future__ import annotations

import re
from collections.abc import Sequence

from django.conf import settings
from django.db import connection
from django.db.models import QuerySet

from conversations.memory.vectors import likeness
from conversations.models import MemoryItem

MAX_HITS = 100
MAX_WORDS = 32
MAX_QUERY = 2000
# Below this two texts have nothing to do with each other, as usual models see it.
LEAST_LIKE = 0.3
# How much the first places count more than those behind them (reciprocal rank fusion).
FLAT = 60
WORD = re.compile(r"[^\W_]+")

# Names are ours, values travel as parameters. Lower is better in SQLite.
SQLITE = """
SELECT i.id, -bm25(conversations_memory_fts) FROM conversations_memory_fts
JOIN conversations_memoryitem i ON i.id = conversations_memory_fts.rowid
WHERE conversations_memory_fts MATCH %s AND i.owner_id = %s AND i.namespace = %s ORDER BY 2 DESC, 1 DESC LIMIT %s
"""
POSTGRESQL = """
SELECT i.id, ts_rank(to_tsvector('simple', i.text), q) FROM conversations_memoryitem i, to_tsquery('simple', %s) q
WHERE to_tsvector('simple', i.text) @@ q AND i.owner_id = %s AND i.namespace = %s ORDER BY 2 DESC, 1 DESC LIMIT %s
"""


def words_of(text: str) -> list[str]:
    """What is searched for: short words only where there are no others."""
    found = list(dict.fromkeys(WORD.findall(text[:MAX_QUERY].lower())))
    return ([word for word in found if len(word) > 2] or found)[:MAX_WORDS]


def by_words(owner_id: int, namespace: str, text: str) -> list[int]:
    """The ids of items with any of the words or their beginnings, the best first."""
    words = words_of(text)
    if not words:
        return []
    if connection.vendor == "sqlite":
        statement, query = SQLITE, " OR ".join(f'"{word}"*' for word in words)
    else:
        statement, query = POSTGRESQL, " | ".join(f"'{word}':*" for word in words)
    with connection.cursor() as cursor:
        cursor.execute(statement, [query, owner_id, namespace, MAX_HITS])
        return [row[0] for row in cursor.fetchall()]


def by_likeness(items: QuerySet[MemoryItem], asked: bytes) -> dict[int, float]:
    """Id -> cosine of items that were embedded by today's model and are alike, the most alike first."""
    rows = items.filter(embedding_model=settings.MEMORY_EMBEDDING_MODEL).values_list("id", "embedding")
    found = [(likeness(asked, bytes(data or b"")), pk) for pk, data in rows.iterator()]
    alike = sorted((pair for pair in found if pair[0] >= LEAST_LIKE), reverse=True)[:MAX_HITS]
    return {pk: score for score, pk in alike}


def ranked(*lists: Sequence[int]) -> dict[int, float]:
    """Several orders as one: id -> score from 1 downwards."""
    scores: dict[int, float] = {}
    for order in lists:
        for place, pk in enumerate(order):
            scores[pk] = scores.get(pk, 0.0) + 1 / (FLAT + place)
    best = max(scores.values(), default=1.0)
    return {pk: round(score / best, 4) for pk, score in sorted(scores.items(), key=lambda item: (-item[1], -item[0]))}


def found_in(
    items: QuerySet[MemoryItem], owner_id: int, namespace: str, text: str, asked: bytes | None
) -> dict[int, float]:
    """Id -> score, the best first, at most MAX_HITS. `items` are the owner's of that namespace."""
    alike = by_likeness(items, asked) if asked else {}
    found = ranked(by_words(owner_id, namespace, text), list(alike))
    return dict(list(found.items())[:MAX_HITS])
