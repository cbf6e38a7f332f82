"""The tree of messages: whatever is done to it, and by however many at once, it stays a tree and loses nothing."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from conversations import editing, retention, search, tree
from conversations.models import Conversation, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User

CLIENTS = 8
STEPS = 25
ROLES = ("user", "assistant")


def check(conversation: Conversation, model: dict[int, tuple[int | None, str]]) -> None:
    """The database says what the model says: the same messages, parents and order, and branches that end."""
    rows = {row.seq: row for row in conversation.messages.all()}
    parents = {row.pk: row.seq for row in rows.values()}
    assert {seq: (parents.get(row.parent_id), row.text) for seq, row in rows.items()} == model
    for seq, row in rows.items():
        path = [one.seq for one in tree.path_to(row)]
        expected: list[int] = []
        here: int | None = seq
        while here is not None:
            expected.insert(0, here)
            here = model[here][0]
        assert path == expected
        assert path == sorted(path), "what came later lies deeper"
        beside = [number for number, (parent, _) in model.items() if parent == model[seq][0]]
        assert [parents[pk] for pk in tree.siblings(conversation, [row])[row.pk]] == sorted(beside)
    leaf = Conversation.objects.get(pk=conversation.pk).active_leaf
    assert (leaf is None) == (not model)
    assert leaf is None or parents[leaf] in model


@pytest.mark.django_db
@settings(max_examples=40)
@given(steps=st.lists(st.tuples(st.sampled_from("ssseda"), st.integers(0, 50)), max_size=25))
def test_any_steps_leave_a_tree(steps: list[tuple[str, int]]) -> None:
    """s: say something under some message, e: edit it (a sibling), d: delete a branch, a: show another."""
    user, _ = get_user_model().objects.get_or_create(username="tree")
    conversation = tree.create_conversation(user)
    model: dict[int, tuple[int | None, str]] = {}
    for number, (step, where) in enumerate(steps):
        seqs = sorted(model)
        chosen = seqs[where % len(seqs)] if seqs else None
        row = conversation.messages.get(seq=chosen) if chosen else None
        if step == "d" and row is not None:
            below = {chosen}
            for seq in seqs:
                if model[seq][0] in below:
                    below.add(seq)
            assert tree.delete_branch(conversation, row.pk) == len(below)
            for seq in below:
                del model[seq]
        elif step == "a" and row is not None:
            leaf = conversation.messages.get(pk=tree.leaf_under(row))
            assert not leaf.children.exists()
            tree.activate(conversation, leaf.pk)
        else:
            parent = row if step == "s" or row is None else row.parent
            made = tree.append(conversation, parent, ROLES[number % 2], f"text {number}")
            model[made.seq] = (parent.seq if parent else None, f"text {number}")
            assert conversation.active_leaf == made.pk
    check(conversation, model)


@pytest.mark.django_db
@settings(max_examples=40)
@given(
    branches=st.lists(st.lists(st.sampled_from(["a", "b", "a "]), min_size=1, max_size=4), min_size=1, max_size=4),
    asked=st.lists(st.sampled_from(["a", "b", " a"]), max_size=5),
    system=st.booleans(),
)
def test_messages_are_found_in_the_tree_as_far_as_they_go(
    branches: list[list[str]], asked: list[str], system: bool
) -> None:
    user, _ = get_user_model().objects.get_or_create(username="tree")
    conversation = tree.create_conversation(user)
    paths: set[tuple[str, ...]] = set()
    for branch in branches:
        parent = None
        for depth, text in enumerate(branch):
            parent = tree.append(conversation, parent, ROLES[depth % 2], text)
            paths.add(tuple(word.strip() for word in branch[: depth + 1]))
    messages: list[dict[str, Any]] = [{"role": "system", "content": "s"}] if system else []
    messages += [{"role": ROLES[depth % 2], "content": text} for depth, text in enumerate(asked)]
    leaf, count = tree.match_path(conversation, messages)
    words = [word.strip() for word in asked]
    longest = max(depth for depth in range(len(words) + 1) if depth == 0 or tuple(words[:depth]) in paths)
    assert count == longest + len(messages) - len(asked)
    found = [row.text.strip() for row in tree.path_to(leaf)]
    assert found == words[:longest]


@pytest.mark.django_db
def test_a_long_branch_is_walked_and_deleted(alice: User) -> None:
    row = tree.create_conversation(alice)
    parent = None
    made = []
    for seq in range(1, 3001):
        parent = Message(conversation=row, owner=alice, parent=parent, seq=seq, role="user", content=str(seq))
        made.append(parent)
    Message.objects.bulk_create(made)
    assert [one.seq for one in tree.path_to(made[-1])] == list(range(1, 3001))
    assert [one.seq for one in tree.path_to(made[-1], 50)] == list(range(2951, 3001))
    assert tree.delete_branch(row, made[1000].pk) == 2000
    row.delete()
    assert Message.objects.count() == 0


@pytest.mark.django_db
def test_what_a_provider_says_is_kept_without_what_no_database_takes(alice: User) -> None:
    row = tree.create_conversation(alice, title="a\x00b")
    content = [{"type": "text", "text": "x\x00y\ud800z"}]
    made = tree.append(row, None, "assistant", content, reasoning="r\x00", extra={"k\x00": ["\udfff"]})
    made.refresh_from_db()
    row.refresh_from_db()
    assert (row.title, made.text, made.reasoning, made.extra) == ("ab", "xyz", "r", {"k": [""]})


@pytest.mark.django_db(transaction=True)
def test_the_index_is_made_anew_where_a_migration_dropped_its_parts(alice: User) -> None:
    row = tree.create_conversation(alice)
    tree.append(row, None, "user", "needle")
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("DROP TRIGGER conversations_message_words_insert")
        else:
            cursor.execute("ALTER TABLE conversations_message DROP COLUMN search")
    tree.append(row, None, "user", "needle again") if connection.vendor == "sqlite" else None
    search.install()
    tree.append(row, None, "user", "needle at last")
    found = search.hits(search.MESSAGES, search.parse("needle"), alice.pk)
    assert len(found) == Message.objects.count()


class Clicker:
    """One client that says, edits, deletes, renames and switches at random."""

    def __init__(self, url: str, headers: dict[str, str], number: int) -> None:
        self.url, self.headers, self.number = url, headers, number
        self.said: set[str] = set()
        self.gone: set[str] = set()
        self.statuses: Counter[int] = Counter()

    def run(self) -> Clicker:
        chance = random.Random(self.number)
        with httpx.Client(headers=self.headers, timeout=30) as client:
            for step in range(STEPS):
                self.step(client, chance, step)
        return self

    def step(self, client: httpx.Client, chance: random.Random, step: int) -> None:
        seen = client.get(self.url).json()
        rows, text = seen["messages"], f"{self.number}-{step}"
        kind = chance.choice(["say", "say", "named", "version", "edit", "title", "show", "delete"])
        if kind == "title":
            answer = client.patch(self.url, json={"title": text, "version": seen["version"]})
        elif kind == "show" and rows:
            answer = client.patch(self.url, json={"active_leaf": chance.choice(rows)["id"]})
        elif kind == "delete" and rows and step % 5 == 0:
            path = f"{self.url}/messages/{rows[-1]['id']}"
            answer = client.delete(path, params={"version": seen["version"]})
            # The end of a branch, as the version says: it alone went.
            self.gone |= {rows[-1]["content"]} if answer.status_code == 200 else set()
        else:
            answer = self.say(client, chance, text, kind, seen)
        self.statuses[answer.status_code] += 1

    def say(self, client: httpx.Client, chance: random.Random, text: str, kind: str, seen: dict[str, Any]) -> Any:
        body: dict[str, Any] = {"content": text, "client_id": text}
        rows = seen["messages"]
        if kind == "named" and rows:
            body["parent"] = rows[-1]["id"]
        elif kind == "version":
            body["version"] = seen["version"]
        elif kind == "edit" and rows:
            body |= {"parent": chance.choice(rows)["parent"], "branch": True}
        answer = client.post(f"{self.url}/messages", json=body)
        if answer.status_code == 201:
            self.said.add(text)
            if chance.random() < 0.2:
                # It may be deleted by now, and then it is said anew.
                self.statuses[client.post(f"{self.url}/messages", json=body).status_code] += 1
        return answer


@pytest.mark.django_db(transaction=True)
def test_eight_clients_at_once_lose_nothing(ann: Any) -> None:
    """At the end all see what the database has."""
    pk = ann.make("start", title="0")["id"]
    url = f"{ann.gateway.url}/backend-api/v2/conversations/{pk}"
    clients = [Clicker(url, ann.headers, number) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        done = list(pool.map(Clicker.run, clients))
    statuses: Counter[int] = sum((client.statuses for client in done), Counter())
    assert set(statuses) <= {200, 201, 404, 409}, statuses
    said = {"start"}.union(*(client.said for client in done))
    gone: set[str] = set().union(*(client.gone for client in done))
    rows = list(Message.objects.order_by("seq"))
    texts = [row.text for row in rows]
    assert len(texts) == len(set(texts)), "nothing is there twice"
    assert set(texts) <= said
    assert said - gone <= set(texts), "only what was deleted is gone"
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})
    view = ann.get(f"/{pk}/tree").json()
    assert [node["id"] for node in view["nodes"]] == [str(row.pk) for row in rows]
    check(Conversation.objects.get(pk=pk), _model(rows))
    assert statuses[409] > 0, "some came too late, and were told"


def _model(rows: list[Message]) -> dict[int, tuple[int | None, str]]:
    seqs = {row.pk: row.seq for row in rows}
    assert all(row.parent_id is None or row.parent_id in seqs for row in rows)
    return {row.seq: (seqs[row.parent_id] if row.parent_id else None, row.text) for row in rows}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["bin", "retention"])
def test_what_is_rescued_meanwhile_is_not_purged(alice: User, way: str) -> None:
    """Somebody restores a conversation, or goes on in a temporary one, while it is about to be deleted for good."""
    now = timezone.now()
    old = {"deleted_at": now} if way == "bin" else {"temporary": True, "updated_at": now - timedelta(days=9)}
    row = tree.create_conversation(alice, **old)

    def purge() -> int:
        try:
            return editing.empty_bin(alice.pk) if way == "bin" else retention.purge_conversations()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Conversation.objects.filter(pk=row.pk).update(deleted_at=None, updated_at=now)
            purging = pool.submit(purge)
            time.sleep(0.7)
        assert purging.result(20) == 0
    assert Conversation.objects.filter(pk=row.pk).exists()
