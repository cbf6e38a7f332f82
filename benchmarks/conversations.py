"""How long lists and searches take with 10,000 conversations of 20 messages, beside another user's 2,000.

    DATABASE_URL=... python benchmarks/conversations.py [CONVERSATIONS]

on a migrated database of its own: it adds two users and leaves them there. Prints milliseconds, median and worst of
three, of a request through Django, and what the query found.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "g4fsite.settings")

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402 - after Django is set up
from django.db import connection, transaction  # noqa: E402
from django.test import Client  # noqa: E402

from conversations.models import Conversation, Message  # noqa: E402

MESSAGES = 20
WORDS = 60
ROUNDS = 3
START = datetime(2025, 1, 1, tzinfo=UTC)
VOCABULARY = [
    f"{first}{middle}{last}" for first in "bdfgklmn" for middle in ("a", "ei", "o", "ur") for last in range(150)
]
# As in a language: the first words are everywhere, the last nearly nowhere.
WEIGHTS = [1 / (rank + 1) for rank in range(len(VOCABULARY))]
# SQLite works in this process, whose time no busy neighbour adds to; PostgreSQL in another, so there the clock counts.
CLOCK = time.process_time if connection.vendor == "sqlite" else time.perf_counter
HERE = "/backend-api/v2/conversations"


def fill(owner: Any, count: int, chance: random.Random) -> None:
    for number in range(count):
        at = START + timedelta(minutes=number)
        row = Conversation(
            owner=owner, title=f"Talk {number}", created_at=at, updated_at=at, tags=["t"], folder=f"F{number % 20}"
        )
        messages = []
        parent: uuid.UUID | None = None
        for seq in range(1, MESSAGES + 1):
            text = " ".join(chance.choices(VOCABULARY, WEIGHTS, k=WORDS))
            role = "user" if seq % 2 else "assistant"
            messages.append(
                Message(
                    conversation=row,
                    owner=owner,
                    parent_id=parent,
                    seq=seq,
                    role=role,
                    content=text,
                    text=text,
                    created_at=at,
                )
            )
            parent = messages[-1].pk
        row.active_leaf = parent
        row.save()
        Message.objects.bulk_create(messages)


def user(name: str, count: int) -> Any:
    found, _ = get_user_model().objects.get_or_create(username=name)
    missing = count - Conversation.objects.filter(owner=found).count()
    chance = random.Random(name)
    while missing > 0:
        with transaction.atomic():
            fill(found, min(missing, 500), chance)
        missing -= 500
    return found


def measure(client: Client, label: str, path: str) -> None:
    taken = []
    for _ in range(ROUNDS):
        begun = CLOCK()
        answer = client.get(HERE + path, HTTP_HOST="localhost")
        taken.append((CLOCK() - begun) * 1000)
        assert answer.status_code == 200, answer.content
    found = len(answer.json()["data"]) if "data" in answer.json() else len(answer.json()["messages"])
    print(f"{label:42} {statistics.median(taken):8.1f} {max(taken):8.1f} {found:6}", flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    user("bench-other", count // 5)
    owner = user("bench", count)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    client = Client()
    client.force_login(owner)
    print(f"{connection.vendor}: {Conversation.objects.count()} conversations, {Message.objects.count()} messages")
    cursor_of = client.get(f"{HERE}?limit=100", HTTP_HOST="localhost").json()["next_cursor"]
    some = Conversation.objects.filter(owner=owner).order_by("updated_at")[count // 2]
    for label, path in (
        ("first page of 50", ""),
        ("page of 100, second", f"?limit=100&cursor={cursor_of}"),
        ("in a folder", "?folder=F3"),
        ("by tag (all have it)", "?tag=t"),
        ("by tag (none has it)", "?tag=none"),
        ("folders", "/folders"),
        ("one with its messages", f"/{some.pk}"),
        ("search: a word that is everywhere", f"?q={VOCABULARY[0]}"),
        ("search: a common word", f"?q={VOCABULARY[40]}"),
        ("search: a rare word", f"?q={VOCABULARY[-1]}"),
        ("search: three words", f"?q={VOCABULARY[3]}+{VOCABULARY[9]}+{VOCABULARY[400]}"),
        ("search: the beginning of many words", f"?q={VOCABULARY[0][:2]}1"),
        ("search: nothing", "?q=nowhere"),
    ):
        measure(client, label, path)


if __name__ == "__main__":
    main()
