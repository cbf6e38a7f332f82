"""Full-text search in what one user has said, been answered, and called it: FTS5 on SQLite, tsvector on PostgreSQL.

The database keeps its index itself (triggers there, a generated column here), so nobody who writes a message has to
think of it. What it needs is made after `migrate`, and again where a later migration has rebuilt a table: Django's
way of changing an SQLite table drops its triggers. Answers that are still being written are not in it.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass
from typing import Any

from django.db import connections, models, transaction
from django.db.models import Q
from django.db.models.expressions import RawSQL

from conversations.models import Conversation, Message

WORD = re.compile(r"[^\W_]+")
# Scripts that put no spaces between words: there a word is looked for as it stands, in every text.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]"
)
MAX_WORDS = 12
# A shorter last word is not taken for the beginning of one: that would be half of everything.
MIN_PREFIX = 3
# Of a word that is everywhere only so many hits are looked at, the newest.
MOST_HITS = 1000
# What PostgreSQL takes at most of one text: beyond a megabyte of words it refuses the row.
INDEXED_CHARS = 100_000
SNIPPETS = 3
BEFORE, AFTER = 32, 80  # characters: what was looked for has to stand in the first line of a narrow list


@dataclass(frozen=True)
class Index:
    """A table whose `column` is searched where `condition` (SQL over a row `{0}`) holds; `time` says what is newest."""

    model: type[Conversation | Message]
    column: str
    condition: str
    time: str

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    @property
    def words(self) -> str:
        return f"{self.table}_words"

    def holds(self, row: str) -> str:
        return self.condition.format(row)


MESSAGES = Index(Message, "text", "{0}.state NOT IN ('queued', 'streaming')", "created_at")
TITLES = Index(Conversation, "title", "{0}.title <> ''", "updated_at")


def install(using: str = "default", **kwargs: Any) -> None:
    """Makes what is missing. A receiver of `post_migrate`."""
    for index in (MESSAGES, TITLES):
        (_install_sqlite if connections[using].vendor == "sqlite" else _install_postgres)(index, using)


def _install_postgres(index: Index, using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'search' AND NOT attisdropped",
            [index.table],
        )
        if cursor.fetchone():
            return
        # Punctuation parts words, as in FTS5: PostgreSQL's parser would keep addresses and paths as one. The owner is
        # a word as well, one that no text can hold, so that the index alone finds a user's own.
        cursor.execute(
            f"ALTER TABLE {index.table} ADD COLUMN search tsvector GENERATED ALWAYS AS ("
            f"CASE WHEN {index.holds(index.table)} THEN to_tsvector('simple', regexp_replace("
            f"left({index.column}, {INDEXED_CHARS}), "
            r"E'[\\x01-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7f]+', ' ', 'g')) "
            "|| array_to_tsvector(ARRAY['owner=' || owner_id]) END) STORED"
        )
        cursor.execute(f"CREATE INDEX {index.words} ON {index.table} USING gin (search)")
        # For words that are everywhere: the newest rows are walked until enough have them, and nothing is sorted.
        cursor.execute(
            f"CREATE INDEX IF NOT EXISTS {index.table}_newest ON {index.table} (owner_id, {index.time} DESC)"
        )


def _install_sqlite(index: Index, using: str) -> None:
    table, words, column = index.table, index.words, index.column
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s", [table])
        if cursor.fetchone()[0] == 3:
            return
        cursor.execute(f"PRAGMA table_info({table})")
        if "search_row" not in {row[1] for row in cursor.fetchall()}:
            # Rows have no number of their own that would survive a VACUUM.
            cursor.execute(f"ALTER TABLE {table} ADD COLUMN search_row integer")
            cursor.execute(f"CREATE UNIQUE INDEX {table}_search_row ON {table} (search_row)")
        cursor.execute(f"UPDATE {table} SET search_row = rowid")  # noqa: S608 # nosec B608 - names of the models
        cursor.execute(f"DROP TABLE IF EXISTS {words}")
        cursor.execute(
            f"CREATE VIRTUAL TABLE {words} USING fts5(owner_id, {column}, content='', "
            "tokenize='unicode61 remove_diacritics 0', prefix='3 4')"
        )
        cursor.execute(_put(index, f"FROM {table} WHERE {index.holds(table)}", table))
        for name, statement in _triggers(index).items():
            cursor.execute(f"DROP TRIGGER IF EXISTS {words}_{name}")
            cursor.execute(statement)


def _put(index: Index, rest: str, row: str) -> str:
    return (
        f"INSERT INTO {index.words} (rowid, owner_id, {index.column}) "
        f"SELECT {row}.search_row, {row}.owner_id, {row}.{index.column} {rest}"
    )


def _triggers(index: Index) -> dict[str, str]:
    table, words, column = index.table, index.words, index.column
    take = (
        f"INSERT INTO {words} ({words}, rowid, owner_id, {column}) "
        f"SELECT 'delete', old.search_row, old.owner_id, old.{column} WHERE {index.holds('old')};"  # nosec B608
    )
    number = f"(SELECT COALESCE(MAX(search_row), 0) + 1 FROM {table})"  # noqa: S608 # nosec B608
    inserted = f"FROM {table} WHERE id = new.id AND {index.holds(table)}"
    changed = f"old.{column} IS NOT new.{column} OR ({index.holds('old')}) IS NOT ({index.holds('new')})"
    numbered = f"UPDATE {table} SET search_row = {number} WHERE id = new.id;"  # noqa: S608 # nosec B608
    return {
        "insert": (
            f"CREATE TRIGGER {words}_insert AFTER INSERT ON {table} BEGIN "
            f"{numbered} {_put(index, inserted, table)}; END"
        ),
        "update": (
            f"CREATE TRIGGER {words}_update AFTER UPDATE ON {table} WHEN {changed} BEGIN "
            f"{take} {_put(index, 'WHERE ' + index.holds('new'), 'new')}; END"
        ),
        "delete": f"CREATE TRIGGER {words}_delete AFTER DELETE ON {table} BEGIN {take} END",
    }


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: words, all of them, the last perhaps only begun; `whole`: the text as it stands."""

    words: tuple[str, ...]
    prefix: bool
    whole: str = ""

    @property
    def fts5(self) -> str:
        parts = [f'"{word}"' for word in self.words]
        return " AND ".join(parts) + ("*" if self.prefix else "")

    @property
    def tsquery(self) -> str:
        parts = [f"'{word}'" for word in self.words]
        return " & ".join(parts) + (":*" if self.prefix else "")

    @property
    def pattern(self) -> re.Pattern[str]:
        if self.whole:
            return re.compile(re.escape(self.whole), re.IGNORECASE)
        *others, last = (re.escape(word) for word in self.words)
        endings = [rf"{word}(?![^\W_])" for word in others] + [last if self.prefix else rf"{last}(?![^\W_])"]
        return re.compile(rf"(?<![^\W_])(?:{'|'.join(endings)})", re.IGNORECASE)


def parse(text: str) -> Query:
    words = tuple(WORD.findall(text)[:MAX_WORDS])
    # The databases do not agree on whether a mark (a vowel of Hindi, an accent that stands alone) parts a word.
    if not words or UNSPACED.search(text) or any(unicodedata.category(letter)[0] == "M" for letter in text):
        return Query((), False, text.strip())
    return Query(words, len(words[-1]) >= MIN_PREFIX and text[-1:] == words[-1][-1:])


def hits(index: Index, query: Query, owner_id: int) -> list[tuple[Any, ...]]:
    """The owner's rows that match, the newest first, at most MOST_HITS: their ids (messages: and conversations')."""
    names = ("pk", "conversation_id") if index is MESSAGES else ("pk",)
    rows = index.model.objects.filter(owner_id=owner_id)
    if query.whole:
        found = rows.filter(**{f"{index.column}__icontains": query.whole}).order_by(f"-{index.time}")
    elif connections["default"].vendor == "sqlite":
        return _rows_of(index, query, owner_id, names)
    else:
        # nosec: the words are letters and digits, and travel as a parameter.
        match = RawSQL(  # noqa: S611 # nosec B611
            f"{index.table}.search @@ (%s::tsquery && to_tsquery('simple', %s))",
            [f"'owner={owner_id}'", query.tsquery],
            output_field=models.BooleanField(),
        )
        found = rows.filter(Q(match)).order_by(f"-{index.time}")
    return list(found.values_list(*names)[:MOST_HITS])


def _rows_of(index: Index, query: Query, owner_id: int, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """FTS5 gives its rows in either order as it finds them, so the newest cost no more than are wanted."""
    told = ", ".join("t.id" if name == "pk" else f"t.{name}" for name in names)
    with connections["default"].cursor() as cursor:
        cursor.execute(
            f"SELECT {told} FROM (SELECT rowid AS number FROM {index.words} WHERE {index.words} MATCH %s "  # noqa: S608 # nosec B608
            f"ORDER BY rowid DESC LIMIT {MOST_HITS}) found JOIN {index.table} t ON t.search_row = found.number "
            "WHERE t.owner_id = %s ORDER BY found.number DESC",
            [f"owner_id : {owner_id} AND {index.column} : ({query.fts5})", owner_id],
        )
        return [tuple(uuid.UUID(value) for value in row) for row in cursor.fetchall()]


def snippet(text: str, query: Query) -> list[dict[str, Any]]:
    """The surroundings of the first hit, in pieces of which those that were looked for are marked."""
    first = query.pattern.search(text)
    start = max(0, first.start() - BEFORE) if first else 0
    if first and start:
        start = text.find(" ", start, first.start()) + 1 or start
    end = (first.end() if first else 0) + AFTER
    shown = text[start:end]
    pieces: list[dict[str, Any]] = []
    at = 0
    for hit in query.pattern.finditer(shown):
        pieces += [{"text": shown[at : hit.start()], "match": False}, {"text": hit[0], "match": True}]
        at = hit.end()
    pieces.append({"text": shown[at:], "match": False})
    if start:
        pieces.insert(0, {"text": "…", "match": False})
    if end < len(text):
        pieces.append({"text": "…", "match": False})
    return [piece for piece in pieces if piece["text"]]
