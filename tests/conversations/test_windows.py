"""Parts of a branch, and what is found in it."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.django_db(transaction=True)


def shown(body: dict[str, Any]) -> tuple[str, bool, bool]:
    return "".join(message["content"] for message in body["messages"]), body["has_more"], body["has_newer"]


def test_a_branch_is_read_in_parts(ann: Any, ben: Any) -> None:
    chat = ann.make(*"abcdefg")
    ids = {message["content"]: message["id"] for message in chat["messages"]}
    here = f"/{chat['id']}"

    def part(query: str) -> tuple[str, bool, bool]:
        return shown(ann.get(f"{here}?limit=3&{query}").json())

    assert part("") == ("efg", True, False)
    assert part(f"before={ids['e']}") == ("bcd", True, True)
    assert part(f"around={ids['d']}") == ("cde", True, True)
    assert part(f"around={ids['a']}") == ("abc", False, True)
    assert part(f"around={ids['g']}") == ("efg", True, False)
    assert part(f"after={ids['d']}") == ("efg", True, False)
    assert part(f"after={ids['a']}") == ("bcd", True, True)
    assert part(f"after={ids['g']}") == ("", True, False)
    # Another branch than the one that is shown.
    other = ann.say(chat["id"], "X", parent=ids["b"], branch=True).json()
    assert part(f"around={ids['f']}") == ("efg", True, False)
    assert part(f"around={other['id']}") == ("abX", False, False)
    assert ben.get(f"{here}?around={ids['a']}").status_code == 404
    assert ann.get(f"{here}?around={chat['id']}").json()["error"]["code"] == "message_not_found"


def test_words_are_found_as_they_stand_on_the_branch_that_is_shown(ann: Any, ben: Any) -> None:
    chat = ann.make("About HERONS (grey)", "Herons wade.", "And otters?")
    ann.say(chat["id"], "No herons here", parent=chat["messages"][1]["id"], branch=True)
    here = f"/{chat['id']}/find"
    ann.patch(f"/{chat['id']}", {"active_leaf": chat["messages"][2]["id"]})
    found = ann.get(here, params={"q": " herons "}).json()
    assert [hit["message"] for hit in found["data"]] == [message["id"] for message in chat["messages"][:2]]
    assert [piece["text"] for piece in found["data"][0]["snippet"] if piece["match"]] == ["HERONS"]
    assert found["complete"] is True
    assert len(ann.get(here, params={"q": "s (g"}).json()["data"]) == 1
    assert ann.get(here, params={"q": " "}).status_code == 400
    assert ben.get(here, params={"q": "herons"}).status_code == 404
