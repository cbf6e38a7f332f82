"""Saves what running answers say: one transaction for all of a process, which waits behind no other writer."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from conversations import tree
from conversations.generation.rows import LEASE, Progress
from conversations.generation.threads import nobody_saves
from conversations.models import Generation, Message
from conversations.models.conversations import RUNNING

# How long saving waits for SQLite's one writer, before leases and stops are looked at.
IN_FRONT_SECONDS = 5.0
# Sent as one batch, and short to prepare: other writers wait meanwhile.
SAVE_SEQ = "UPDATE conversations_generation SET seq = %s WHERE id = %s"
SAVE_TEXT = "UPDATE conversations_message SET content = %s, text = %s, reasoning = %s, updated_at = %s WHERE id = %s"

T = TypeVar("T")


def save(progress: Sequence[Progress], worker: str, renews: Sequence[uuid.UUID] = ()) -> set[uuid.UUID]:
    """What answers under way say so far, and the leases of `renews`: one transaction, in front of other writers.

    The ids of those that were saved; not among them are what another has closed, and what is being written to by
    somebody else at this moment.
    """
    generations, messages = Generation._meta, Message._meta
    seq, content, reasoning = (
        generations.get_field("seq"), messages.get_field("content"), messages.get_field("reasoning")
    )  # fmt: skip
    updated = messages.get_field("updated_at").get_db_prep_save(timezone.now(), connection)
    said = {}
    for item in progress:
        text = tree.storable(item.text)
        said[item.generation] = (
            (seq.get_db_prep_save(item.seq, connection), _key(item.generation)),
            (
                content.get_db_prep_save(text, connection), text,
                reasoning.get_db_prep_save(tree.storable(item.reasoning), connection), updated, _key(item.message),
            ),
        )  # fmt: skip
    return _in_front(lambda: _saved(said, worker, renews))


def _key(pk: uuid.UUID) -> Any:
    return Generation._meta.pk.get_db_prep_value(pk, connection)


def _saved(said: dict[uuid.UUID, tuple[Any, Any]], worker: str, renews: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    with transaction.atomic():
        mine = Generation.objects.filter(pk__in={*said, *renews}, worker=worker, state__in=RUNNING)
        ids = set(mine.select_for_update(skip_locked=True).values_list("pk", flat=True))
        if renews:
            Generation.objects.filter(pk__in=ids & set(renews)).update(lease_until=Now() + LEASE)
        found = [said[pk] for pk in ids if pk in said]
        if found:
            with connection.cursor() as cursor:
                cursor.executemany(SAVE_SEQ, [values for values, _ in found])
                cursor.executemany(SAVE_TEXT, [values for _, values in found])
    return ids & said.keys()


def _in_front(work: Callable[[], T]) -> T:
    """SQLite's waiting writers look ever more rarely, down to ten times a second, so that who waits longest is passed
    by all who come. This one looks all the time, and those of `threads.py` let it go first.

    Raises OperationalError after IN_FRONT_SECONDS.
    """
    if connection.vendor != "sqlite":
        return work()
    deadline = time.monotonic() + IN_FRONT_SECONDS
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        [before] = cursor.fetchone()
        cursor.execute("PRAGMA busy_timeout = 10")
    nobody_saves.clear()
    try:
        while True:
            try:
                return work()
            except OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= deadline:
                    raise
    finally:
        nobody_saves.set()
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {int(before)}")
