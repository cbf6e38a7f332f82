"""`/backend-api/v2/prompts`: kept by name, bounded, their owner's alone, and gone with the owner."""

from __future__ import annotations

from typing import Any

import pytest

from conversations.models import Prompt
from conversations.prompts import store
from tests.support.refusals import refused

HERE = "/backend-api/v2/prompts"


def test_two_people_keep_prompts_of_the_same_name(ann: Any, ben: Any, gateway: Any) -> None:
    made = ann.post(HERE, {"name": "/Summary", "title": " In short ", "text": "Summarise in {{language}}:\n{{text}}"})
    assert made.status_code == 201
    mine = made.json()
    assert set(mine) == {"id", "object", "name", "title", "text", "created_at", "updated_at"}
    assert (mine["name"], mine["title"], mine["text"][:9]) == ("summary", "In short", "Summarise")
    assert ben.post(HERE, {"name": "summary", "text": "His own"}).status_code == 201
    assert ann.post(HERE, {"name": "fix", "text": "Correct this: "}).json()["text"] == "Correct this: "
    assert ann.get(f"{HERE}/{mine['id']}").json() == mine
    changed = ann.patch(f"{HERE}/{mine['id']}", {"name": "zusammen-fassung_2", "title": ""}).json()
    assert (changed["name"], changed["title"], changed["text"]) == ("zusammen-fassung_2", "", mine["text"])
    assert changed["updated_at"] > mine["updated_at"]
    listed = ann.get(HERE).json()
    assert ([row["name"] for row in listed["data"]], listed["limit"]) == (["fix", "zusammen-fassung_2"], 200)
    assert [row["text"] for row in ben.get(HERE).json()["data"]] == ["His own"]
    assert ann.delete(f"{HERE}/{mine['id']}").json() == {"id": mine["id"], "object": "prompt", "deleted": True}
    refused(ann.get(f"{HERE}/{mine['id']}"), 404, "prompt_not_found")
    ann.user.delete()
    assert [row.text for row in Prompt.objects.all()] == ["His own"]
    refused(gateway.http.get(HERE), 401)


def test_what_cannot_be_kept_is_refused(ann: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (ann.post(HERE, {"name": name, "text": "x"}).json() for name in ("one", "two"))
    for body, status, told in (
        ({"text": "x"}, 400, "missing_required_parameter"),
        ({"name": "x"}, 400, "missing_required_parameter"),
        ({"name": "two words", "text": "x"}, 400, "invalid_value"),
        ({"name": "-x", "text": "x"}, 400, "invalid_value"),
        ({"name": "", "text": "x"}, 400, "invalid_value"),
        ({"name": "x" * 41, "text": "x"}, 400, "invalid_value"),
        ({"name": 5, "text": "x"}, 400, "invalid_type"),
        ({"name": "x", "text": " \n"}, 400, "invalid_value"),
        ({"name": "x", "text": "x" * 16_001}, 400, "invalid_value"),
        ({"name": "x", "text": "x\0"}, 400, "invalid_value"),
        ({"name": "x", "text": "x", "title": "x" * 201}, 400, "invalid_value"),
        ({"name": "x", "text": "x", "owner": 1}, 400, "unsupported_parameter"),
        ({"name": "ONE", "text": "x"}, 409, "prompt_exists"),
    ):
        refused(ann.post(HERE, body), status, told)
    there = f"{HERE}/{two['id']}"
    refused(ann.patch(there, {"name": "one"}), 409, param="name")
    refused(ann.patch(there, {"text": ""}), 400, param="text")
    refused(ann.patch(f"{HERE}/nonsense", {}), 404, "prompt_not_found")
    refused(ann.get(f"{HERE}?q=x"), 400, "unsupported_parameter")
    assert ann.patch(there, {"name": "two"}).status_code == 200
    monkeypatch.setattr(store, "MOST", 2)
    refused(ann.post(HERE, {"name": "three", "text": "x"}), 400, "too_many_prompts")
    ann.delete(f"{HERE}/{one['id']}")
    assert ann.post(HERE, {"name": "three", "text": "x"}).status_code == 201
