"""Conversations leave as files and come back; other services' exports come in; nothing is there twice."""

from __future__ import annotations

import json
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
from django.db import connection, transaction

from conversations import export, tree
from conversations.imports import chatgpt as chatgpt_export
from conversations.imports import reading, writing
from conversations.imports.said import SaidMessage
from conversations.models import Conversation, Message
from media.store import keep
from tests import people

pytestmark = pytest.mark.django_db(transaction=True)


def node(pk: str, parent: str | None, role: str | None, *parts: Any, **more: Any) -> dict[str, Any]:
    content = {"content_type": more.pop("kind", "text"), "parts": list(parts), **more.pop("content", {})}
    message = {"id": pk, "author": {"role": role}, "create_time": 1700000000.5, "content": content, "metadata": more}
    return {"id": pk, "parent": parent, "children": [], "message": message if role else None}


def chatgpt(pk: str = "c-1", **fields: Any) -> dict[str, Any]:
    nodes = [
        node("root", None, None),
        node("sys", "root", "system", "", is_visually_hidden_from_conversation=True),
        node("ctx", "sys", "user", kind="user_editable_context", content={"user_profile": "secret"}),
        node("u1", "ctx", "user", "Why is the sky blue?"),
        node("t1", "u1", "assistant", kind="thoughts", content={"thoughts": [{"summary": "S", "content": "Rayleigh"}]}),
        node("r1", "t1", "assistant", kind="reasoning_recap", content={"content": "Thought for 3 s"}),
        node("a1", "r1", "assistant", "Scattering.", model_slug="gpt-5"),
        node("a2", "u1", "assistant", "Another answer."),
        node("u2", "a1", "user", {"content_type": "image_asset_pointer", "asset_pointer": "x"}, "And this?"),
        node("x2", "u2", "assistant", kind="code", content={"language": "python", "text": "print(1)"}),
        node("x3", "x2", "tool", kind="execution_output", content={"text": "1"}),
        node("a3", "x3", "assistant", "One \ud83d"),
    ]
    return {
        "id": pk,
        "conversation_id": pk,
        "title": "Sky\u0000 blue",
        "create_time": 1700000000.1,
        "update_time": 1700000100.9,
        "mapping": {item["id"]: item for item in nodes},
        "current_node": "a3",
        **fields,
    }


CLAUDE = {
    "uuid": "k-1",
    "name": "Claude chat",
    "created_at": "2024-05-01T10:00:00.000000Z",
    "updated_at": "2024-05-01T11:00:00Z",
    "chat_messages": [
        {
            "uuid": "m1",
            "sender": "human",
            "text": "Hi",
            "attachments": [{"file_name": "a.txt", "extracted_content": "AAA"}],
        },
        {
            "uuid": "m2",
            "sender": "assistant",
            "text": "old text",
            "content": [{"type": "thinking", "thinking": "hmm"}, {"type": "text", "text": "Hello."}],
        },
    ],
}
OPEN_WEBUI = {
    "id": "w-1",
    "title": "Web chat",
    "created_at": 1714557600,
    "updated_at": 1714557700,
    "pinned": True,
    "meta": {"tags": ["fun"]},
    "chat": {
        "models": ["llama3"],
        "history": {
            "currentId": "3",
            "messages": {
                "1": {"id": "1", "parentId": None, "childrenIds": ["2", "3"], "role": "user", "content": "Q"},
                "2": {"id": "2", "parentId": "1", "role": "assistant", "content": "A", "model": "llama3"},
                "3": {"id": "3", "parentId": "1", "role": "assistant", "content": "B"},
            },
        },
    },
}
G4F = {
    "id": "g-1",
    "title": "g4f chat",
    "added": 1714557600000,
    "updated": 1714557700000,
    "system": "Be kind.",
    "items": [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A", "provider": {"name": "P", "model": "m"}, "reasoning": {"text": "r"}},
    ],
}


def zipped(packing: int = zipfile.ZIP_DEFLATED, **members: Any) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for name, value in members.items():
            archive.writestr(name.replace("__", "/"), value if isinstance(value, bytes) else json.dumps(value))
    return file.getvalue()


def bring(person: Any, value: Any) -> Any:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    answer = person.ask("POST", "/import", files={"file": ("export", data)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(person: Any, pk: str) -> list[tuple[str, Any]]:
    return [(row["role"], row["content"]) for row in person.get(f"/{pk}").json()["messages"]]


class TestOfOthers:
    def test_chatgpt_in_each_form(self, ann: Any) -> None:
        report = bring(ann, [chatgpt()])
        assert (report["imported"], report["failed"]) == (1, 0)
        told = report["conversations"][0]
        assert (told["status"], told["messages"], told["warnings"]) == (
            "imported",
            7,
            ["Pictures and sounds were left out."],
        )
        body = ann.get(f"/{told['id']}").json()
        assert shown(ann, told["id"]) == [
            ("user", "Why is the sky blue?"),
            ("assistant", "Scattering."),
            ("user", "[picture]\nAnd this?"),
            ("assistant", "```python\nprint(1)\n```"),
            ("tool", "```\n1\n```"),
            ("assistant", "One "),
        ]
        answer = body["messages"][1]
        assert (answer["reasoning"], answer["model"], len(answer["siblings"])) == ("Rayleigh", "gpt-5", 2)
        assert (body["title"], body["created_at"][:19], body["updated_at"][:19]) == (
            "Sky blue",
            "2023-11-14T22:13:20",
            "2023-11-14T22:15:00",
        )
        assert "secret" not in ann.get(f"/{told['id']}/tree").text
        for data in (
            zipped(conversations__1=b"", **{"export/conversations.json": [chatgpt()]}),
            zipped(**{"a.json": chatgpt()}),
        ):
            again = bring(ann, data)
            assert [row["status"] for row in again["conversations"]] == ["unchanged"]
        assert (Conversation.objects.count(), Message.objects.count()) == (1, 7)

    def test_what_was_said_since_is_added(self, ann: Any) -> None:
        first = bring(ann, [chatgpt()])["conversations"][0]
        longer = chatgpt(current_node="u4")
        longer["mapping"]["u4"] = node("u4", "a3", "user", "Thanks")
        report = bring(ann, [longer])["conversations"][0]
        assert (report["status"], report["messages"], report["id"]) == ("updated", 1, first["id"])
        assert shown(ann, first["id"])[-1] == ("user", "Thanks")

    def test_claude(self, ann: Any) -> None:
        pk = bring(ann, [CLAUDE])["conversations"][0]["id"]
        assert shown(ann, pk) == [("user", "Hi\n\na.txt:\n\nAAA"), ("assistant", "Hello.")]
        assert ann.get(f"/{pk}").json()["messages"][1]["reasoning"] == "hmm"

    def test_open_webui(self, ann: Any) -> None:
        pk = bring(ann, [OPEN_WEBUI])["conversations"][0]["id"]
        body = ann.get(f"/{pk}").json()
        assert shown(ann, pk) == [("user", "Q"), ("assistant", "B")]
        assert (body["tags"], body["pinned"], body["model"]) == (["fun"], True, "llama3")
        assert len(body["messages"][1]["siblings"]) == 2

    def test_g4f(self, ann: Any) -> None:
        pk = bring(ann, G4F)["conversations"][0]["id"]
        body = ann.get(f"/{pk}").json()
        assert shown(ann, pk) == [("user", "Q"), ("assistant", "A")]
        assert (body["system_prompt"], body["messages"][1]["provider"], body["messages"][1]["reasoning"]) == (
            "Be kind.",
            "P",
            "r",
        )

    def test_two_people_bring_the_same_file(self, ann: Any, ben: Any) -> None:
        for person in (ann, ben):
            assert bring(person, [chatgpt(), CLAUDE, OPEN_WEBUI, G4F])["imported"] == 4
        assert Conversation.objects.filter(owner=ben.user).count() == 4

    def test_one_that_is_broken_spoils_no_other(self, ann: Any) -> None:
        good = json.dumps(CLAUDE)
        text = '[{"mapping": {"a": nonsense}}, {"x": 1}, 5, "text", [1], {"mapping": {}}, ' + good + "]"
        report = bring(ann, text.encode())
        assert [row["status"] for row in report["conversations"]] == [
            "failed",
            "failed",
            "failed",
            "imported",
            "imported",
        ]

    @pytest.mark.parametrize(
        "item",
        [
            {"mapping": {"a": None, "b": 5, "c": {"message": {"author": 1, "content": [], "metadata": 3}}}},
            {"mapping": {"a": node("a", "b", "user", "x"), "b": node("b", "a", "user", "y")}, "current_node": "a"},
            {"mapping": {"a": node("a", "a", "user", "x")}, "current_node": ["a"], "create_time": 1e300},
            {"mapping": {"a": node("a", None, "user", None, 5, {"content_type": []})}, "title": {}, "update_time": "x"},
            {"chat_messages": [1, None, {"sender": 5}, {"sender": "human", "content": "x", "text": ["y"]}]},
            {"chat_messages": [{"sender": "human", "text": "x", "uuid": {}, "parent_message_uuid": 5}], "uuid": None},
            {"chat": {"history": {"messages": [1]}, "messages": 5}, "meta": 5},
            {"chat": {"history": 5, "models": 7}, "id": True},
            {"items": [{}, 5, {"role": "user", "content": {"a": 1}}], "id": 10**40},
            {"format": "g4fsite/1", "messages": [{"role": "user", "content": None, "state": "streaming", "cost": "1"}]},
            {
                "format": "g4fsite/1",
                "id": "\u0000",
                "tags": [1, "a" * 500],
                "messages": [{"role": "tool", "content": [5]}],
            },
            {
                "format": "g4fsite/1",
                "settings": [],
                "folder": "f" * 999,
                "title": "t" * 9999,
                "created_at": "0001-01-01",
            },
        ],
    )
    def test_whatever_is_in_it(self, ann: Any, item: Any) -> None:
        report = bring(ann, [item, CLAUDE])
        assert report["conversations"][0]["status"] in ("imported", "failed")
        assert report["conversations"][1]["status"] == "imported"
        for row in ann.get().json()["data"]:
            assert ann.get(f"/{row['id']}").status_code == 200
            assert ann.get(f"/{row['id']}/export").status_code == 200

    def test_numbers_that_no_database_takes(self, ann: Any) -> None:
        message = (
            '{"id": "1", "role": "user", "content": "x", "extra": {"a": NaN, "b": 1e999, "c": "\\ud800", "d": 1%s}}'
            % ("0" * 50)
        )
        report = bring(ann, ('[{"format": "g4fsite/1", "id": "1", "messages": [' + message + "]}]").encode())
        assert report["imported"] == 1
        assert Message.objects.get().extra == {"a": None, "b": None, "c": "", "d": None}

    def test_nested_too_deeply(self, ann: Any) -> None:
        deep = "[" * 5000 + "]" * 5000
        report = bring(ann, f'[{{"mapping": {{"a": {deep}}}}}, {{"items": {"[" * 90}{"]" * 90}}}]'.encode())
        assert [row["status"] for row in report["conversations"]] == ["failed", "failed"]


def outside_of_the_file() -> bytes:
    """A zip whose member begins before the file does."""
    data = bytearray(zipped(**{"conversations.json": [CLAUDE]}))
    at = data.rindex(b"PK\x05\x06") + 16
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") + 4000).to_bytes(4, "little")
    return bytes(data)


def write_alone(owner_id: int, found: list[Any]) -> Any:
    try:
        return writing.write(owner_id, found)
    finally:
        connection.close()


class TestHostile:
    """What no service exports, and somebody may send."""

    def test_numbers_and_keys_that_cannot_be_written_again(self, ann: Any) -> None:
        made = (
            b'{"format": "g4fsite/1", "id": "%s", "title": "\\ud800",'
            b' "settings": {"n": 1%s, "m": 36893488147419103232}, "created_at": 1%s, '
            b'"messages": [{"id": "a", "role": "user", "content": [{"type": "x", "n": -1%s}]}]}'
        ) % (b"o-1", b"0" * 30, b"0" * 400, b"0" * 25)
        mapping = b'{"mapping": {"\\ud800a": {"message": {"author": {"role": "user"}, "content": {"parts": ["Hi"]}}}}}'
        report = bring(ann, b"[" + made + b"," + mapping + b"]")
        assert [row["status"] for row in report["conversations"]] == ["imported", "imported"], report
        for row in report["conversations"]:
            assert ann.get(f"/{row['id']}").status_code == 200
        assert len(ann.get("/export").json()) == 2

    def test_fields_that_are_larger_than_one_may_send(self, ann: Any) -> None:
        report = bring(
            ann, [{"format": "g4fsite/1", "id": "x", "system_prompt": "p" * 200_000, "settings": {"a": "s" * 20_000}}]
        )
        assert report["conversations"][0]["warnings"] == ["The settings are too large and were left out."]
        row = Conversation.objects.get()
        assert (len(row.system_prompt), row.settings) == (100_000, {})

    def test_messages_that_are_elsewhere_already(self, ann: Any) -> None:
        """One that clashes spoils no other of the file."""
        made = ann.make()
        assert ann.say(made["id"], "Hi", client_id=writing._mark("claude:k-1", "m1")).status_code == 201
        report = bring(ann, [CLAUDE, chatgpt()])
        assert [row["status"] for row in report["conversations"]] == ["failed", "imported"]

    def test_the_same_file_in_two_processes(self, ann: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            with transaction.atomic():
                assert writing.write(ann.user.pk, [CLAUDE])["imported"] == 1
                other = pool.submit(write_alone, ann.user.pk, [CLAUDE, chatgpt()])
                time.sleep(0.7)
            assert [row["status"] for row in other.result(20)["conversations"]] == ["unchanged", "imported"]

    def test_too_many_values(self, ann: Any) -> None:
        report = bring(ann, [{"mapping": {}, "rest": [[]] * 600_000}])
        assert report["conversations"][0]["warnings"] == ["It holds too many values."]

    def test_long_chains_and_many_circles_take_no_time(self) -> None:
        count = 10_000
        hidden = {f"h{n}": {"parent": f"h{n - 1}"} for n in range(count)}
        said = {"author": {"role": "assistant"}, "content": {"parts": ["x"]}}
        ends = {f"k{n}": {"parent": f"h{count - 1}", "message": said} for n in range(count)}
        start = time.thread_time()
        read = chatgpt_export.read({"mapping": hidden | ends})
        circles = [SaidMessage(a + str(n), b + str(n), "user", "x") for n in range(count) for a, b in ("ab", "ba")]
        ordered = writing._ordered(circles)
        assert time.thread_time() - start < 5
        assert len(read.messages) == count
        assert len(ordered) == 2 * count
        assert sum(message.parent is None for message in ordered) == count

    def test_thoughts_are_not_multiplied(self, ann: Any) -> None:
        thoughts = node("t", "u", "assistant", kind="thoughts", content={"thoughts": [{"content": "T" * 1000}]})
        nodes = [node("u", None, "user", "Q"), thoughts, *(node(f"a{n}", "t", "assistant", "A") for n in range(50))]
        bring(ann, [chatgpt("c", mapping={item["id"]: item for item in nodes}, current_node="a1")])
        rows = Message.objects.filter(role="assistant")
        assert (len(rows), sum(len(row.reasoning) for row in rows)) == (50, 1000)
        assert {row.parent and row.parent.content for row in rows} == {"Q"}

    def test_a_file_that_begins_with_very_many_spaces(self, ann: Any) -> None:
        assert bring(ann, b"\xef\xbb\xbf" + b" \n" * 1_000_000 + json.dumps([CLAUDE]).encode())["imported"] == 1

    def test_parts_that_name_anothers_file(self, ann: Any, ben: Any) -> None:
        file = keep(ann.user.pk, b"text" * 10, label="a.txt", source="upload")
        parts = [{"type": "text", "text": "see"}, {"type": "file", "file_id": str(file.pk)}]
        row = {"format": "g4fsite/1", "id": "x", "messages": [{"id": "m", "role": "user", "content": parts}]}
        report = bring(ben, [row])
        assert report["conversations"][0]["warnings"] == ["Attached files that are not yours were left out."]
        assert Message.objects.get().content == parts[:1]


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"", 400),
            (b"hello", 400),
            (b"<html>", 400),
            (b"PK\x03\x04 nonsense", 400),
            (zipped(**{"readme.txt": b"x"}), 400),
            (zipped(**{"a.json": [], "b.json": []}), 400),
            (zipped(**{"conversations.json": b"[" + b" " * 50_000_000 + b"]"}), 413),
            # These unpack all at once what they are given, before anyone can count it.
            (zipped(zipfile.ZIP_BZIP2, **{"conversations.json": [CLAUDE]}), 400),
            (zipped(zipfile.ZIP_LZMA, **{"conversations.json": [CLAUDE]}), 400),
            (outside_of_the_file(), 400),
            (b"PK\x03\x04" + b"PK\x01\x02" * 10_001, 413),
        ],
    )
    def test_files(self, ann: Any, data: bytes, status: int) -> None:
        for headers, body in (
            ({}, {"files": {"file": ("x", data)}}),
            ({"content-type": "application/zip"}, {"content": data}),
        ):
            answer = ann.ask("POST", "/import", headers=headers, **body)
            assert answer.status_code == status, answer.text
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert Conversation.objects.count() == 0

    def test_a_file_that_ends_in_the_middle_keeps_what_was_whole(self, ann: Any) -> None:
        data = json.dumps([CLAUDE, chatgpt()]).encode()[:-50]
        report = bring(ann, data)
        assert [row["status"] for row in report["conversations"]] == ["imported", "failed"]
        assert [row["status"] for row in bring(ann, b'[1, "' + b'\\"' * 300_000)["conversations"]] == ["failed"]

    def test_no_file_or_two(self, ann: Any) -> None:
        assert ann.ask("POST", "/import", files={}, data={"a": "b"}).status_code in (400, 415)
        two = [("file", ("a", b"[]")), ("file", ("b", b"[]"))]
        assert ann.ask("POST", "/import", files=two).status_code == 400

    def test_forms_that_are_too_much(self, ann: Any) -> None:
        for form in (
            {"files": [("file", (str(number), b"[]")) for number in range(150)]},
            {"content": b"--x\r\nnonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
            {"content": b"x", "headers": {"content-type": "text/csv"}},
        ):
            answer = ann.ask("POST", "/import", **form)
            assert answer.status_code in (400, 413, 415), answer.text
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    def test_bounds_of_counts(self, ann: Any, monkeypatch: Any) -> None:
        monkeypatch.setattr(writing, "MAX_CONVERSATIONS", 2)
        monkeypatch.setattr(writing, "MAX_MESSAGES", 6)
        report = bring(ann, [chatgpt(), CLAUDE, G4F])
        assert [row["status"] for row in report["conversations"]] == ["failed", "imported"]
        assert report["warnings"] == ["Only the first 2 conversations were read."]


class TestOurOwn:
    def test_there_and_back_again(self, ann: Any, ben: Any) -> None:
        made = ann.make(
            "Hello", "Hi **there**", title="A/B: ü", tags=["x"], folder="F", system_prompt="Brief.", pinned=True
        )
        ann.say(made["id"], [{"type": "text", "text": "Edited"}], parent=None, branch=True)
        ann.make("other")
        binned = ann.make("binned")
        ann.delete(f"/{binned['id']}")
        whole = ann.get("/export")
        assert whole.headers["content-disposition"].startswith("attachment; filename=")
        records = whole.json()
        assert len(records) == 3
        assert len(ann.get("/export", params={"format": "json"}).json()[0]["messages"]) == 3
        # On the same account it is there already, also what is in the bin.
        again = bring(ann, whole.content)
        assert again["unchanged"] == 3
        assert Conversation.objects.filter(owner=ann.user).count() == 3
        report = bring(ben, whole.content)
        assert report["imported"] == 3
        assert bring(ben, whole.content)["unchanged"] == 3
        copy = next(row for row in report["conversations"] if row["title"] == "A/B: ü")
        body = ben.get(f"/{copy['id']}").json()
        assert (body["tags"], body["folder"], body["system_prompt"], body["pinned"]) == (["x"], "F", "Brief.", True)
        assert shown(ben, copy["id"]) == [("user", [{"type": "text", "text": "Edited"}])]
        assert len(ben.get(f"/{copy['id']}/tree").json()["nodes"]) == 3

    def test_one_as_json_and_as_markdown(self, ann: Any) -> None:
        made = ann.make("Hello", "```\nopen fence", title="My: chat")
        one = ann.get(f"/{made['id']}/export")
        assert one.json()["id"] == made["id"]
        assert "My chat.json" in one.headers["content-disposition"]
        text = ann.get(f"/{made['id']}/export", params={"format": "markdown"}).text
        assert text.startswith("# My: chat\n")
        assert "## User\n\nHello\n" in text
        assert text.rstrip().endswith("open fence\n```")
        assert ann.get(f"/{made['id']}/export", params={"format": "pdf"}).status_code == 400

    def test_an_export_is_ones_own(self, ann: Any, ben: Any) -> None:
        ann.make("marked-quokka", title="marked-quokka")
        ben.make("mine", title="mine")
        for form in ("json", "markdown"):
            text = ben.get("/export", params={"format": form}).text
            assert "quokka" not in text
            assert "mine" in text
        assert ben.get("/export").json()[0]["title"] == "mine"

    def test_an_empty_one(self, ann: Any) -> None:
        assert ann.get("/export").json() == []

    def test_anothers_files_do_not_come_along(self, ann: Any, ben: Any) -> None:
        file = keep(ann.user.pk, b"text" * 10, label="a.txt", source="upload")
        made = ann.make()
        sent = ann.say(made["id"], "see", attachments=[{"file_id": str(file.pk), "name": "a.txt"}])
        assert sent.status_code == 201, sent.text
        refused = ben.say(ben.make()["id"], "see", attachments=[{"file_id": str(file.pk)}])
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "file_not_found")
        report = bring(ben, ann.get("/export").content)
        assert report["conversations"][0]["warnings"] == ["Attached files that are not yours were left out."]
        assert not Message.objects.filter(owner=ben.user).exclude(attachments=[]).exists()


def test_a_string_of_any_kind_is_one_token() -> None:
    text = rb'[{"a": "x\"}{[", "b": "\\"}, {"c": "\\\"]"}]'
    with reading.documents(text) as found:
        assert list(found) == [{"a": 'x"}{[', "b": "\\"}, {"c": '\\"]'}]


def test_files_in_a_message_are_named_and_no_more() -> None:
    row = tree.create_conversation(people.alice(), title="Files")
    part = {"bucket_id": "chat-1", "label": "notes.txt", "kind": "file", "size": 16}
    tree.append(row, tree.SHOWN, "user", [part, {"type": "text", "text": "What swims?"}])
    text = b"".join(export.as_markdown(row)).decode()
    assert "What swims?\n\n- notes.txt\n" in text
    assert "chat-1" not in text
