"""Conversations over a real server: made, read, changed, listed, searched, thrown away and brought back."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from conversations import listing
from conversations.models import Conversation, Message
from conversations.search import MOST_HITS
from conversations.surface.bodies import page_body

pytestmark = pytest.mark.django_db(transaction=True)


def error(answer: Any) -> tuple[int, Any, Any]:
    body = answer.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return answer.status_code, body["code"], body["param"]


def texts(body: dict[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"]]


def test_a_list_reads_nothing_that_it_does_not_show(
    ann: Any, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    ann.make(system_prompt="Long", settings={"a": 1})
    with django_assert_num_queries(1) as asked:
        assert page_body(listing.page(ann.user.pk, listing.Wanted()), False)["data"][0]["tags"] == []
    assert not [name for name in listing.UNLISTED if f'"{name}"' in asked[0]["sql"]]


class TestOne:
    def test_numbers_that_could_not_be_read_again(self, ann: Any) -> None:
        """PostgreSQL gives 1e30 back as an integer of 31 digits."""
        for number in (1e30, -1e30, 2**64, -(2**64)):
            answer = ann.post("", {"settings": {"a": [number]}})
            assert error(answer) == (400, "invalid_value", "settings"), answer.text
        body = ann.make(settings={"a": [2**63, -(2**63), 1e18, 0.5]})
        assert body["settings"]["a"][0] == 2**63
        assert ann.say(body["id"], [{"type": "x", "n": 1e30}]).status_code == 400

    def test_what_is_made_is_there_as_it_was_said(self, ann: Any) -> None:
        fields = {
            "title": "Foxes",
            "system_prompt": "Be brief.",
            "model": "m",
            "provider": "P",
            "settings": {"temperature": 0.5, "deep": {"a": [1, None, True]}},
            "folder": "Zoo",
            "tags": ["red", "quick", "red", " "],
            "pinned": True,
        }
        made = ann.post("", fields)
        assert made.status_code == 201
        body = ann.get(f"/{made.json()['id']}").json()
        assert body == made.json()
        assert body == {**body, **fields, "tags": ["red", "quick"]}
        assert (body["archived"], body["deleted_at"], body["active_leaf"], body["messages"]) == (False, None, None, [])

    def test_what_all_branches_took_is_told(self, ann: Any) -> None:
        body = ann.make("Hello", "Hi there")
        assert body["totals"] == {"prompt_tokens": None, "completion_tokens": None, "cost": None}
        first, second = Message.objects.order_by("seq")
        used = {"prompt_tokens": 7, "completion_tokens": 3}
        ann.say(body["id"], "Another", role="assistant", parent=str(first.pk), branch=True)
        Message.objects.filter(pk=second.pk).update(usage=used, cost=1500)
        Message.objects.exclude(pk__in=(first.pk, second.pk)).update(usage={**used, "prompt_tokens": "many"}, cost=None)
        told = ann.get(f"/{body['id']}").json()["totals"]
        assert told == {"prompt_tokens": 7, "completion_tokens": 6, "cost": 1500}

    def test_messages_make_a_branch(self, ann: Any) -> None:
        body = ann.make("Hello", "Hi there", "And now?")
        assert texts(body) == ["Hello", "Hi there", "And now?"]
        first, second, third = body["messages"]
        assert [first["parent"], second["parent"], third["parent"]] == [None, first["id"], second["id"]]
        assert [row["seq"] for row in body["messages"]] == [1, 2, 3]
        assert body["active_leaf"] == third["id"]
        assert second["siblings"] == [second["id"]]
        assert {row["state"] for row in body["messages"]} == {"done"}

    def test_an_edit_is_a_sibling_and_both_stay(self, ann: Any) -> None:
        body = ann.make("Hello", "Hi")
        first = body["messages"][0]
        edit = ann.say(body["id"], "Good day", parent=None, branch=True).json()
        assert edit["siblings"] == [first["id"], edit["id"]]
        assert texts(ann.get(f"/{body['id']}").json()) == ["Good day"]
        assert texts(ann.get(f"/{body['id']}", params={"leaf": first["id"]}).json()) == ["Hello"]
        back = ann.patch(f"/{body['id']}", {"active_leaf": first["id"]}).json()
        assert texts(back) == ["Hello", "Hi"], "the branch is shown to its end"

    def test_the_last_fifty_and_the_older_by_page(self, ann: Any) -> None:
        row = Conversation.objects.create(owner=ann.user)
        parent = None
        for number in range(1, 121):
            parent = Message.objects.create(
                conversation=row, owner=ann.user, parent=parent, seq=number, role="user", content=str(number)
            )
        assert parent is not None
        Conversation.objects.update(active_leaf=parent.pk)
        seen: list[str] = []
        page = ann.get(f"/{row.pk}").json()
        while True:
            seen = texts(page) + seen
            if not page["has_more"]:
                break
            assert len(page["messages"]) == 50
            page = ann.get(f"/{row.pk}", params={"before": page["messages"][0]["id"]}).json()
        assert seen == [str(number) for number in range(1, 121)]

    def test_the_order_in_which_they_came_for_who_missed_some(self, ann: Any) -> None:
        body = ann.make("a", "b", "c")
        ann.say(body["id"], "d", parent=None, branch=True)
        page = ann.get(f"/{body['id']}/messages", params={"after": 1, "limit": 2}).json()
        assert [row["content"] for row in page["data"]] == ["b", "c"]
        assert page["has_more"]
        rest = ann.get(f"/{body['id']}/messages", params={"after": 3}).json()
        assert ([row["content"] for row in rest["data"]], rest["has_more"]) == (["d"], False)

    def test_the_map_of_the_tree(self, ann: Any) -> None:
        body = ann.make("a" * 200, "b")
        other = ann.say(body["id"], "c", parent=body["messages"][0]["id"], branch=True, role="assistant").json()
        tree = ann.get(f"/{body['id']}/tree").json()
        assert [(node["seq"], node["parent"], node["preview"]) for node in tree["nodes"]] == [
            (1, None, "a" * 80),
            (2, body["messages"][0]["id"], "b"),
            (3, body["messages"][0]["id"], "c"),
        ]
        assert (tree["active_leaf"], tree["version"]) == (other["id"], other["version"])

    def test_a_branch_goes_with_all_that_follows(self, ann: Any) -> None:
        body = ann.make("a", "b", "c", "d")
        first, second = body["messages"][:2]
        other = ann.say(body["id"], "B", parent=first["id"], branch=True, role="assistant").json()
        gone = ann.delete(f"/{body['id']}/messages/{other['id']}")
        assert (gone.json()["count"], gone.json()["active_leaf"]) == (1, body["active_leaf"])
        gone = ann.delete(f"/{body['id']}/messages/{second['id']}").json()
        assert (gone["count"], gone["active_leaf"]) == (3, first["id"])
        assert texts(ann.get(f"/{body['id']}").json()) == ["a"]
        assert error(ann.delete(f"/{body['id']}/messages/{second['id']}")) == (404, "message_not_found", None)


class TestStaleWrites:
    def test_a_version_that_is_over_changes_nothing_and_tells_the_tail(self, ann: Any) -> None:
        body = ann.make("a")
        path, old = f"/{body['id']}", body["version"]
        ann.say(body["id"], "b", role="assistant")
        before = ann.get(path).json()
        attempts = [
            ann.patch(path, {"title": "x", "version": old}),
            ann.patch(path, {"title": "x"}, headers={"if-match": f'"{old}"'}),
            ann.say(body["id"], "c", version=old),
            ann.delete(f"{path}/messages/{body['active_leaf']}", params={"version": old}),
        ]
        for attempt in attempts:
            assert error(attempt) == (409, "stale_version", "version")
            assert texts(attempt.json()["conversation"]) == ["a", "b"]
            assert attempt.headers["x-should-retry"] == "false"
        assert ann.get(path).json() == before
        current = ann.get(path)
        good = ann.patch(path, {"title": "x"}, headers={"if-match": current.headers["etag"]})
        assert (good.status_code, good.json()["title"]) == (200, "x")

    def test_a_parent_that_was_answered_meanwhile(self, ann: Any) -> None:
        body = ann.make("a")
        parent = body["active_leaf"]
        assert ann.say(body["id"], "b", parent=parent, role="assistant").status_code == 201
        stale = ann.say(body["id"], "c", parent=parent, role="assistant")
        assert error(stale) == (409, "stale_parent", "parent")
        assert texts(stale.json()["conversation"]) == ["a", "b"]
        assert ann.say(body["id"], "c", parent=parent, role="assistant", branch=True).status_code == 201

    def test_whoever_names_no_parent_is_never_stale(self, ann: Any) -> None:
        body = ann.make("a")
        assert [ann.say(body["id"], text).status_code for text in "bcd"] == [201] * 3
        assert texts(ann.get(f"/{body['id']}").json()) == list("abcd")

    def test_what_is_sent_twice_is_there_once(self, ann: Any, ben: Any) -> None:
        body = ann.make()
        first = ann.say(body["id"], "Hello", client_id="m1")
        again = ann.say(body["id"], "Hello", client_id="m1", version=1)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json()["id"] == again.json()["id"]
        assert error(ann.say(body["id"], "Other", client_id="m1")) == (409, "client_id_reused", "client_id")
        assert error(ann.say(ann.make()["id"], "Hello", client_id="m1")) == (409, "client_id_reused", "client_id")
        assert ben.say(ben.make()["id"], "Hello", client_id="m1").status_code == 201, "another's ids are another's"
        assert Message.objects.filter(owner=ann.user).count() == 1

    def test_nothing_is_said_in_the_bin(self, ann: Any) -> None:
        body = ann.make("a")
        ann.delete(f"/{body['id']}")
        assert error(ann.say(body["id"], "b")) == (409, "conversation_deleted", None)
        assert ann.post(f"/{body['id']}/restore").json()["deleted_at"] is None
        assert ann.say(body["id"], "b").status_code == 201


class TestLists:
    def ids(self, ann: Any, **params: Any) -> list[str]:
        answer = ann.get(params=params)
        assert answer.status_code == 200, answer.text
        return [row["title"] for row in answer.json()["data"]]

    def test_filters(self, ann: Any) -> None:
        ann.make(title="plain")
        ann.make(title="pinned", pinned=True, tags=["a", 'ä "q" \\ \''])
        ann.make(title="foldered", folder="F", tags=["b"])
        archived = ann.make(title="archived")
        ann.patch(f"/{archived['id']}", {"archived": True})
        binned = ann.make(title="binned", folder="F")
        ann.delete(f"/{binned['id']}")
        ann.make(title="temporary", temporary=True)
        assert self.ids(ann) == ["foldered", "pinned", "plain"]
        assert self.ids(ann, pinned="true") == ["pinned"]
        assert self.ids(ann, pinned="false") == ["foldered", "plain"]
        assert self.ids(ann, folder="F") == ["foldered"]
        assert self.ids(ann, folder="") == ["pinned", "plain"]
        assert self.ids(ann, tag="a") == self.ids(ann, tag='ä "q" \\ \'') == ["pinned"]
        assert self.ids(ann, tag="c") == []
        assert self.ids(ann, archived="true") == ["archived"]
        assert self.ids(ann, archived="any") == ["archived", "foldered", "pinned", "plain"]
        assert self.ids(ann, deleted="true") == ["binned"]
        assert ann.get("/folders").json()["data"] == [{"name": "F", "count": 1}]
        assert [row["name"] for row in ann.get("/tags").json()["data"]] == ["a", "b", 'ä "q" \\ \'']
        assert ann.patch("/folders", {"name": "F", "to": "G"}).json() == {"count": 2}
        assert self.ids(ann, folder="G") == ["foldered"]

    def test_pages_hold_each_once_though_rows_move(self, ann: Any) -> None:
        rows = [ann.make(title=str(number)) for number in range(25)]
        seen, cursor = [], None
        for _ in range(20):
            page = ann.get(params={"limit": 7, **({"cursor": cursor} if cursor else {})}).json()
            seen += [row["title"] for row in page["data"]]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                break
            # What is said meanwhile moves to the front, where it was seen already or will be on the next visit.
            ann.say(rows[24]["id"], "moves")
        assert cursor is None
        assert seen == [str(number) for number in range(24, -1, -1)]

    def test_what_is_last_spoken_in_comes_first_and_a_new_name_moves_nothing(self, ann: Any) -> None:
        first, second = ann.make(title="1"), ann.make(title="2")
        ann.patch(f"/{first['id']}", {"title": "one"})
        assert self.ids(ann) == ["2", "one"]
        ann.say(first["id"], "x")
        assert self.ids(ann) == ["one", "2"]
        assert second["version"] == 1

    @pytest.mark.parametrize(
        "query",
        [
            "user__password=x",
            "ordering=title",
            "limit=0",
            "limit=101",
            "limit=x",
            "cursor=x",
            "cursor=%00",
            "pinned=2",
            "archived=maybe",
            "q=%00a",
            "folder=" + "f" * 101,
            "_connector=OR",
            "cursor=MTIz",
            "limit=%D9%A3",
        ],
    )
    def test_what_there_is_not_is_400(self, ann: Any, query: str) -> None:
        assert error(ann.get(f"?{query}"))[0] == 400


class TestSearch:
    def found(self, ann: Any, q: str, **params: Any) -> list[tuple[str, list[str]]]:
        answer = ann.get(params={"q": q, **params})
        assert answer.status_code == 200, answer.text
        rows = answer.json()["data"]
        return [(row["title"], [_marked(hit["snippet"]) for hit in row["hits"]]) for row in rows]

    def test_messages_and_titles(self, ann: Any) -> None:
        ann.make("The quick brown fox", "jumps over", title="One")
        ann.make("nothing", title="Brown paper")
        assert self.found(ann, "brown") == [("Brown paper", []), ("One", ["The quick [brown] fox"])]
        assert self.found(ann, "fox quick") == [("One", ["The [quick] brown [fox]"])]
        assert self.found(ann, "FOX") == [("One", ["The quick brown [fox]"])]
        assert self.found(ann, "fox jumps") == [], "all words in one message"
        assert self.found(ann, "bro") == [("Brown paper", []), ("One", ["The quick [bro]wn fox"])]
        assert self.found(ann, "bro ") == [], "a space ends a word"
        ann.make("Many words before it. " * 9 + "Kestrels nest.", title="Two")
        assert self.found(ann, "kestrels") == [("Two", ["…it. Many words before it. [Kestrels] nest."])]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("see https://example.com/path/to?x=1", "example"),
            ("foo_bar and snake-case", "bar case"),
            ("Ärger über Öl", "ärger öl"),
            ("привет МИР", "мир"),
            ("東京都に住んでいます", "住んで"),
            ("ภาษาไทยง่าย", "ไทย"),
            ("यह हिन्दी में है", "हिन्दी"),
            ("இது தமிழ் மொழி", "தமிழ்"),
            ("un cafe\u0301 noir", "cafe\u0301"),
            ("\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd again", "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd"),
            ("version 3.14 of it's", "14 it's"),
            ("100% _sure_", "100%"),
            ("a" * 3000 + " needle", "needle"),
        ],
    )
    def test_words_of_all_kinds(self, ann: Any, text: str, words: str) -> None:
        ann.make("other words", title="No")
        ann.make(text, title="Yes")
        assert [title for title, _ in self.found(ann, words)] == ["Yes"]

    @pytest.mark.parametrize(
        "q", ['"', "'", "*", "a AND", "NEAR(x)", "-x", "x:*", "\\", "%", "_", "²", "() | & !", "--", ":"]
    )
    def test_nothing_in_it_is_syntax(self, ann: Any, q: str) -> None:
        ann.make("plain text", title="x")
        assert ann.get(params={"q": q}).status_code == 200

    def test_what_is_deleted_or_another_branch(self, ann: Any) -> None:
        body = ann.make("needle", title="A")
        ann.say(body["id"], "haystack", parent=None, branch=True)
        assert len(self.found(ann, "needle")) == 1, "the branch that is not shown is searched too"
        ann.patch(f"/{body['id']}", {"archived": True})
        assert (self.found(ann, "needle"), len(self.found(ann, "needle", archived="any"))) == ([], 1)
        ann.delete(f"/{body['id']}")
        assert (self.found(ann, "needle"), len(self.found(ann, "needle", deleted="true"))) == ([], 1)
        ann.delete("/bin")
        assert self.found(ann, "needle", deleted="true") == []

    def test_an_answer_is_found_once_it_is_done(self, ann: Any) -> None:
        body = ann.make("question")
        row = Message.objects.get()
        answer = Message.objects.create(
            conversation_id=body["id"],
            owner=ann.user,
            parent=row,
            seq=2,
            role="assistant",
            text="half",
            state="streaming",
        )
        assert self.found(ann, "half") == []
        answer.text, answer.state = "whole answer", "done"
        answer.save()
        assert len(self.found(ann, "answer")) == 1
        answer.text = "changed"
        answer.save()
        assert (self.found(ann, "answer"), len(self.found(ann, "changed"))) == ([], 1)

    def test_a_text_that_is_longer_than_what_is_indexed(self, ann: Any) -> None:
        words = " ".join(f"ж{number:x}-ü{number:x}.com/{number:x}" for number in range(60_000))
        ann.make(words, "\U0001f600" * 300_000 + "a" * 300_000, title="long")
        assert [title for title, _ in self.found(ann, "жff")] == ["long"]

    def test_pages_of_hits(self, ann: Any) -> None:
        for number in range(7):
            ann.make("needle", title=str(number))
        first = ann.get(params={"q": "needle", "limit": 4}).json()
        rest = ann.get(params={"q": "needle", "limit": 4, "cursor": first["next_cursor"]}).json()
        assert [row["title"] for row in first["data"] + rest["data"]] == list("6543210")
        assert (first["complete"], rest["has_more"]) == (True, False)

    def test_a_word_that_is_everywhere_finds_the_newest(self, ann: Any) -> None:
        row = Conversation.objects.create(owner=ann.user, title="old")
        Message.objects.bulk_create(
            Message(conversation=row, owner=ann.user, seq=number, role="user", text="common")
            for number in range(1, MOST_HITS + 1)
        )
        assert ann.get(params={"q": "common"}).json()["complete"] is False
        ann.make("common", title="new")
        body = ann.get(params={"q": "common"}).json()
        assert [row["title"] for row in body["data"]] == ["new", "old"]


def _marked(pieces: list[dict[str, Any]]) -> str:
    return "".join(f"[{piece['text']}]" if piece["match"] else piece["text"] for piece in pieces)


class TestManyAtOnce:
    @pytest.mark.parametrize(
        ("action", "more", "field", "value"),
        [
            ("archive", {}, "archived", True),
            ("pin", {}, "pinned", True),
            ("move", {"folder": "F"}, "folder", "F"),
            ("tag", {"tags": ["t", "old"]}, "tags", ["t", "old"]),
            ("untag", {"tags": ["old"]}, "tags", []),
        ],
    )
    def test_each_action(self, ann: Any, action: str, more: dict[str, Any], field: str, value: Any) -> None:
        rows = [ann.make(tags=["old"]) for _ in range(3)]
        ids = [row["id"] for row in rows]
        assert ann.post("/bulk", {"ids": ids, "action": action, **more}).json() == {"count": 3}
        for pk in ids:
            body = ann.get(f"/{pk}").json()
            assert (body[field], body["version"]) == (value, 2)

    def test_the_bin(self, ann: Any) -> None:
        ids = [ann.make("x")["id"] for _ in range(4)]
        assert ann.post("/bulk", {"ids": ids, "action": "delete"}).json() == {"count": 4}
        assert ann.get().json()["data"] == []
        assert ann.post("/bulk", {"ids": ids[:2], "action": "restore"}).json() == {"count": 2}
        assert ann.post("/bulk", {"ids": ids[:1], "action": "purge"}).json() == {"count": 1}
        assert ann.delete("/bin").json() == {"count": 2}
        assert [str(row.pk) for row in Conversation.objects.all()] == [ids[1]]
        assert Message.objects.count() == 1

    def test_one_that_is_anothers_and_nothing_is_done(self, ann: Any, ben: Any) -> None:
        ids = [ann.make()["id"] for _ in range(9)]
        foreign = ben.make(title="Ben's")
        before = list(Conversation.objects.order_by("pk").values())
        for stranger in (foreign["id"], str(uuid.uuid4())):
            for action in ("delete", "purge", "archive", "pin", "restore"):
                answer = ann.post("/bulk", {"ids": [*ids, stranger], "action": action})
                assert error(answer) == (404, "conversation_not_found", "ids")
            for extra in ({"action": "move", "folder": "F"}, {"action": "tag", "tags": ["t"]}):
                assert error(ann.post("/bulk", {"ids": [*ids, stranger], **extra}))[0] == 404
        assert list(Conversation.objects.order_by("pk").values()) == before


class TestRefusals:
    NUL = "a\u0000b"
    TEXTS = [
        ("", {"title": NUL}),
        ("", {"system_prompt": NUL}),
        ("", {"model": NUL}),
        ("", {"provider": NUL}),
        ("", {"folder": NUL}),
        ("", {"tags": [NUL]}),
        ("", {"settings": {"a": {"b": [NUL]}}}),
        ("", {"settings": {NUL: 1}}),
        ("M", {"content": NUL}),
        ("M", {"content": [{"type": "text", "text": NUL}]}),
        ("M", {"content": "x", "client_id": NUL}),
        ("M", {"content": "x", "reasoning": NUL}),
        ("M", {"content": "x", "extra": {"name": NUL}}),
        ("M", {"content": "x", "attachments": [{"name": NUL}]}),
        ("M", {"content": "x", "tool_calls": [{"id": NUL}]}),
    ]

    @pytest.mark.parametrize(("where", "body"), TEXTS, ids=lambda value: str(value)[:30].replace("\x00", "0"))
    def test_a_nul_in_any_text_is_400_on_both_databases(self, ann: Any, where: str, body: Any) -> None:
        path = f"/{ann.make()['id']}/messages" if where == "M" else ""
        before = (Conversation.objects.count(), Message.objects.count())
        assert error(ann.post(path, body))[:2] == (400, "invalid_value")
        if not where:
            row = ann.make()
            before = (before[0] + 1, before[1])
            assert error(ann.patch(f"/{row['id']}", body))[:2] == (400, "invalid_value")
        assert (Conversation.objects.count(), Message.objects.count()) == before

    def test_half_a_character_is_400(self, ann: Any) -> None:
        headers = {"content-type": "application/json"}
        for body in (b'{"title": "\\ud800"}', b'{"title": "\xed\xa0\x80"}', b'{"title": "\xff"}'):
            answer = ann.ask("POST", content=body, headers=headers)
            assert error(answer)[:2] == (400, "invalid_json")
        assert Conversation.objects.count() == 0

    @pytest.mark.parametrize(
        ("body", "status", "param"),
        [
            ([], 400, None),
            ("x", 400, None),
            ({"title": 1}, 400, "title"),
            ({"title": "t" * 301}, 400, "title"),
            ({"tags": "x"}, 400, "tags"),
            ({"tags": [1]}, 400, "tags[0]"),
            ({"tags": [str(number) for number in range(21)]}, 400, "tags"),
            ({"settings": []}, 400, "settings"),
            ({"settings": {"a": "x" * 20_000}}, 413, "settings"),
            ({"pinned": "yes"}, 400, "pinned"),
            ({"pinned": None}, 400, "pinned"),
            ({"owner": 1}, 400, "owner"),
            ({"id": "x"}, 400, "id"),
            ({"settings": {"a": 1e400}}, 400, None),
        ],
    )
    def test_ill_formed_fields(self, ann: Any, body: Any, status: int, param: str | None) -> None:
        import json

        text = json.dumps(body).replace("Infinity", "1e999")
        answer = ann.ask("POST", content=text, headers={"content-type": "application/json"})
        assert (error(answer)[0], error(answer)[2]) == (status, param)
        assert Conversation.objects.count() == 0

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"content": None},
            {"content": 1},
            {"content": ["x"]},
            {"content": "x", "role": "root"},
            {"content": "x", "role": None},
            {"content": "x", "parent": 1},
            {"content": "x", "parent": "1"},
            {"content": "x", "branch": True},
            {"content": "x", "version": "1"},
            {"content": "x", "version": 10**30},
            {"content": "x", "client_id": 1},
            {"content": "x", "state": "done"},
            {"content": "x", "attachments": [1]},
            {"content": [{"type": "text", "text": "x"}] * 501},
        ],
    )
    def test_ill_formed_messages(self, ann: Any, body: Any) -> None:
        row = ann.make()
        assert error(ann.post(f"/{row['id']}/messages", body))[0] == 400
        assert Message.objects.count() == 0

    @pytest.mark.parametrize("header", ["x", '"x"', '"1", "2"', "99999999999999999999"])
    def test_an_if_match_that_is_no_version(self, ann: Any, header: str) -> None:
        row = ann.make()
        answer = ann.patch(f"/{row['id']}", {"title": "x"}, headers={"if-match": header})
        assert error(answer)[:2] == (400, "invalid_header")

    def test_methods_and_unknown_ids(self, ann: Any) -> None:
        row = ann.make()
        assert error(ann.ask("PUT", f"/{row['id']}", json={}))[:2] == (405, "method_not_supported")
        for pk in ("x", "0", str(uuid.uuid4()), "%00", "{" + row["id"] + "}", row["id"] + "0"):
            assert ann.get(f"/{pk}").status_code == 404
        assert ann.get(f"/{row['id']}/").status_code == 200
        assert error(ann.get(f"/{row['id']}/nothing"))[:2] == (404, "unknown_url")


def test_who_one_is(ann: Any, gateway: Any) -> None:
    body = ann.get("/backend-api/v2/me").json()
    assert body == {
        "object": "user",
        "id": ann.user.pk,
        "username": "alice",
        "email": "alice@example.com",
        "is_staff": False,
        "key": {"surfaces": [], "models": []},
    }
    limited = gateway.make_key(ann.user, surfaces=["v1"])
    refused = gateway.http.get("/backend-api/v2/me", headers={"x-api-key": limited})
    assert error(refused)[:2] == (403, "surface_not_allowed")
