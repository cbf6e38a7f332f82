"""The catalogue, usage and reports of `/backend-api/v2`, over a real server, for two users and nobody."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from pytest_django import Settings

from gateway.models import ModelAlias, UsageEvent
from gateway.surfaces.backend import reports as reporting
from gateway.surfaces.backend import usage as usage_lines
from gateway.usage import writer
from tests.people import alice, bob, charlie
from tests.support.browsers import signed_in
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider
from tests.support.refusals import refused

BASE = "/backend-api/v2"
GETS = ("models", "models/Acme", "providers", "quota/Acme", "version", "usage/2026-01-01", "stats")
POSTS = ("usage", "log")


@pytest.fixture
def acme(gateway: LiveGateway, provider: ScriptedProvider) -> LiveGateway:
    row = gateway.add_provider(
        provider,
        {"public_id": "chat", "vision": True, "tools": True, "context_length": 8192},
        {"public_id": "painter", "image": True, "chat": False},
        {"public_id": "org/voice", "speech": True, "chat": False},
        name="Acme",
        label="Acme Inc.",
    )
    gateway.add_provider(provider, "chat", "other", name="Beta", credentials=(), auth_style="bearer")
    ModelAlias.objects.create(name="fast").targets.create(model=row.models.get(public_id="chat"))
    gateway.reload()
    # The first user, without whom no request is answered.
    assert gateway.key
    return gateway


def today() -> str:
    return str(datetime.now(UTC).date())


def test_strangers_learn_nothing(acme: LiveGateway) -> None:
    for path in GETS:
        refused(acme.http.get(f"{BASE}/{path}"), 401)
    for path in POSTS:
        refused(acme.http.post(f"{BASE}/{path}", json={}), 401)


def test_models_are_listed_by_provider(acme: LiveGateway) -> None:
    found = acme.http.get(f"{BASE}/models", headers=acme.auth()).json()
    assert {name: [model["id"] for model in models] for name, models in found.items()} == {
        "Acme": ["chat", "painter", "org/voice"],
        "Beta": ["chat", "other"],
    }
    assert found["Acme"][0]["vision"] is True


def test_models_of_a_provider_have_the_shape_that_pages_read(acme: LiveGateway) -> None:
    chat, painter, voice = acme.http.get(f"{BASE}/models/acme", headers=acme.auth()).json()
    assert chat == {
        "id": "chat", "label": "chat", "default": True, "vision": True, "audio": False, "video": False, "image": False,
        "count": None, "tags": ["tools"], "type": "chat", "owned_by": "Acme Inc.", "context_length": 8192,
    }  # fmt: skip
    assert (painter["type"], painter["image"], painter["default"]) == ("image", True, False)
    assert (voice["type"], voice["audio"]) == ("audio", True)


@pytest.mark.parametrize("name", ["AnyProvider", "anyprovider"])
def test_the_automatic_choice_has_groups(acme: LiveGateway, name: str) -> None:
    groups = acme.http.get(f"{BASE}/models/{name}", headers=acme.auth()).json()
    assert [group["group"] for group in groups] == ["Automatic choice", "Acme Inc.", "Beta"]
    assert [model["id"] for model in groups[0]["models"]] == [
        "default", "fast", "chat", "painter", "org/voice", "other"
    ]  # fmt: skip
    assert [model["count"] for model in groups[0]["models"]] == [None, 1, 2, 1, 1, 1]
    assert [model["id"] for model in groups[2]["models"]] == ["Beta/chat", "Beta/other"]
    left = acme.http.get(f"{BASE}/models/AnyProvider", headers={**acme.auth(), "x-ignored": "acme  x"}).json()
    assert [group["group"] for group in left] == ["Automatic choice", "Beta"]


def test_a_models_name_in_the_place_of_a_providers_gives_the_model(acme: LiveGateway) -> None:
    for name in ("org/voice", "fast"):
        (model,) = acme.http.get(f"{BASE}/models/{name}", headers=acme.auth()).json()
        assert model["id"] == name
    for name in ("nobody", "Acme/nothing", "%00", "%FF", "x" * 5000):
        answer = acme.http.get(f"{BASE}/models/{name}", headers=acme.auth())
        assert answer.status_code in (200, 404), name
        assert answer.status_code == 404 or answer.json() == []


def test_providers_have_names_labels_and_counts(acme: LiveGateway) -> None:
    automatic, first, second = acme.http.get(f"{BASE}/providers", headers=acme.auth()).json()
    assert automatic["name"] == "AnyProvider"
    assert all(isinstance(item["label"], str) and item["label"] for item in (automatic, first, second))
    assert (first["name"], first["label"], first["auth"]) == ("Acme", "Acme Inc.", False)
    assert (first["image"], first["audio"], first["video"], first["vision"]) == (1, 1, 0, True)
    assert (second["name"], second["auth"]) == ("Beta", True)
    assert set(first) >= {
        "parent", "nodriver", "hf_space", "active_by_default", "login_url", "live", "login",
    }  # fmt: skip
    text = acme.http.get(f"{BASE}/providers", headers=acme.auth()).text
    assert "127.0.0.1" not in text
    assert "sk-upstream" not in text


def test_a_key_sees_what_it_may_use(acme: LiveGateway) -> None:
    key = acme.make_key(alice(), models=["other"])
    auth = acme.auth(key)
    assert list(acme.http.get(f"{BASE}/models", headers=auth).json()) == ["Beta"]
    assert acme.http.get(f"{BASE}/models/Acme", headers=auth).json() == []
    assert acme.http.get(f"{BASE}/models/chat", headers=auth).json() == []
    names = [item["name"] for item in acme.http.get(f"{BASE}/providers", headers=auth).json()]
    assert names == ["AnyProvider", "Beta"]
    groups = acme.http.get(f"{BASE}/models/AnyProvider", headers=auth).json()
    assert [[model["id"] for model in group["models"]] for group in groups] == [["default", "other"], ["Beta/other"]]
    refused(acme.http.get(f"{BASE}/quota/Acme", headers=auth), 404, code="provider_not_found")
    wrong = acme.make_key(bob(), surfaces=["v1"])
    refused(acme.http.get(f"{BASE}/models", headers=acme.auth(wrong)), 403, code="surface_not_allowed")


def test_quotas_are_not_known(acme: LiveGateway) -> None:
    refused(acme.http.get(f"{BASE}/quota/Acme", headers=acme.auth()), 404, code="quota_not_supported")
    for name in ("AnyProvider", "Nobody"):
        refused(acme.http.get(f"{BASE}/quota/{name}", headers=acme.auth()), 404, code="provider_not_found")


def test_a_providers_key_beside_ones_own_is_ignored_there_and_nowhere_else(acme: LiveGateway) -> None:
    both = {**acme.auth(), "x-api-key": "sk-of-a-provider"}
    assert acme.http.get(f"{BASE}/models/Acme", headers=both).status_code == 200
    assert acme.http.get(f"{BASE}/quota/Acme", headers=both).json()["error"]["code"] == "quota_not_supported"
    refused(acme.http.get(f"{BASE}/models", headers=both), 401)
    alice()
    with signed_in(acme.url, "alice") as page:
        assert page.get(f"{BASE}/models/Acme", headers={"x-api-key": "sk-of-a-provider"}).status_code == 200
    refused(acme.http.get(f"{BASE}/models/Acme", headers={"x-api-key": "sk-of-a-provider"}), 401)
    assert acme.http.get(f"{BASE}/models/Acme", headers={"x-api-key": acme.key}).status_code == 200


def test_the_version_is_told_without_asking_anybody(acme: LiveGateway, provider: ScriptedProvider) -> None:
    answer = acme.http.get(f"{BASE}/version", params={"cache": "true"}, headers=acme.auth()).json()
    assert answer["version"]
    assert answer["latest_version"] is None
    assert "set-cookie" not in acme.http.get(f"{BASE}/version", headers=acme.auth()).headers
    for path in GETS:
        acme.http.get(f"{BASE}/{path}", headers=acme.auth())
    assert provider.requests == []


class TestUsage:
    def ask(self, gateway: LiveGateway, key: str, count: int = 1) -> None:
        body = {"model": "Acme/chat", "messages": [{"role": "user", "content": "Hello"}]}
        for _ in range(count):
            assert gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth(key)).status_code == 200
        writer.flush()

    def test_everyone_reads_their_own(self, acme: LiveGateway) -> None:
        first, second = acme.make_key(alice()), acme.make_key(bob())
        self.ask(acme, first, 2)
        self.ask(acme, second)
        answer = acme.http.get(f"{BASE}/usage/{today()}", headers=acme.auth(first))
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [line["user"] for line in lines] == ["alice", "alice"]
        assert lines[0]["provider"] == "Acme"
        assert lines[0]["total_tokens"] == lines[0]["prompt_tokens"] + lines[0]["completion_tokens"] > 0
        sums = acme.http.get(f"{BASE}/stats", headers=acme.auth(second)).json()
        assert sums["totals"]["requests"] == 1
        assert list(sums["users"]) == ["bob"]
        assert len(sums["days"]) == 30
        assert sums["days"][-1]["date"] == today()
        assert sums["days"][-1]["requests"] == 1
        assert sums["models"]["chat"]["requests"] == sums["providers"]["Acme"]["requests"] == 1

    def test_staff_read_any_and_all(self, acme: LiveGateway) -> None:
        self.ask(acme, acme.make_key(alice()), 2)
        staff = acme.auth(acme.make_key(charlie()))
        refused(acme.http.get(f"{BASE}/usage/{today()}", headers=staff), 404, code="usage_not_found")
        for user, count in (("alice", 2), ("all", 2), ("me", 0), ("", 0), ("charlie", 0)):
            sums = acme.http.get(f"{BASE}/stats", params={"user": user, "days": 1}, headers=staff).json()
            assert sums["totals"]["requests"] == count, user
        for name in ("nobody", "%00", "a%0Ab"):
            refused(acme.http.get(f"{BASE}/stats?user={name}", headers=staff), 404, code="user_not_found")

    def test_others_are_as_if_they_were_not_there(self, acme: LiveGateway) -> None:
        alice()
        mine = acme.auth(acme.make_key(bob()))
        told = [acme.http.get(f"{BASE}/stats", params={"user": name}, headers=mine) for name in ("alice", "x", "all")]
        assert {(answer.status_code, answer.text) for answer in told} == {(404, told[0].text)}
        refused(told[0], 404, code="user_not_found")
        refused(acme.http.get(f"{BASE}/usage/{today()}?user=alice", headers=mine), 404, code="user_not_found")

    def test_what_makes_no_sense_is_refused(self, acme: LiveGateway) -> None:
        for date in ("today", "2026-13-01", "2026-1-1", "9999-12-31", "0000-01-01", "%D9%A2%D9%A0-01-01"):
            answer = acme.http.get(f"{BASE}/usage/{date}", headers=acme.auth())
            refused(answer, 400, code="invalid_value", param="date")
        for query in ("days=0", "days=366", "days=-1", "days=x", "days=1e3"):
            refused(acme.http.get(f"{BASE}/stats?{query}", headers=acme.auth()), 400, param="days")
        refused(acme.http.get(f"{BASE}/usage/{today()}?after=x", headers=acme.auth()), 400, param="after")

    def test_long_days_come_in_pages(self, acme: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(usage_lines, "PAGE", 2)
        self.ask(acme, acme.key, 3)
        first = acme.http.get(f"{BASE}/usage/{today()}", headers=acme.auth())
        assert len(first.text.splitlines()) == 2
        after = first.headers["x-next-after"]
        last = acme.http.get(f"{BASE}/usage/{today()}", params={"after": after}, headers=acme.auth())
        assert len(last.text.splitlines()) == 1
        assert "x-next-after" not in last.headers


class TestReports:
    def kept(self) -> list[dict[str, object]]:
        lines = [path.read_text() for path in reporting.folder().glob("*.jsonl")]
        return [json.loads(line) for line in "".join(lines).splitlines()]

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: object, settings: Settings) -> None:
        settings.DATA_DIR = tmp_path

    def test_nothing_is_kept_unless_it_is_wanted(self, acme: LiveGateway) -> None:
        for path in POSTS:
            answer = acme.http.post(f"{BASE}/{path}", json={"model": "x"}, headers=acme.auth())
            assert (answer.status_code, answer.json()) == (200, {})
        assert self.kept() == []

    def test_what_is_wanted_is_kept_apart_from_usage(self, acme: LiveGateway, settings: Settings) -> None:
        settings.CLIENT_REPORTS = True
        report = {"user": "somebody else", "total_tokens": 10**9, "text": "a\nb\x1b[0m"}
        for path in POSTS:
            assert acme.http.post(f"{BASE}/{path}", json=report, headers=acme.auth()).json() == {}
        assert [(line["kind"], line["user"], line["report"]) for line in self.kept()] == [
            ("usage", "caller", report),
            ("log", "caller", report),
        ]
        writer.flush()
        assert not UsageEvent.objects.exists()

    def test_a_log_is_never_refused(self, acme: LiveGateway, settings: Settings) -> None:
        settings.CLIENT_REPORTS = True
        for body in (b"", b"{", b"[]", b"\xff", b"null", b'{"a":"%s"}' % (b"x" * 9000)):
            answer = acme.http.post(f"{BASE}/log", content=body, headers=acme.auth())
            assert (answer.status_code, answer.json()) == (200, {})
        assert acme.http.post(f"{BASE}/log", data={"a": "b"}, headers=acme.auth()).json() == {}
        assert acme.http.post(f"{BASE}/log", files={"a": b"b"}, headers=acme.auth()).json() == {}
        assert self.kept() == []
        refused(acme.http.post(f"{BASE}/usage", json=[], headers=acme.auth()), 400, code="invalid_type")

    def test_too_many_are_dropped(self, acme: LiveGateway, settings: Settings) -> None:
        settings.CLIENT_REPORTS = True
        found = reporting.Reports()
        kept = [found.keep("log", "alice", b"{}") for _ in range(130)]
        assert 60 <= sum(kept) <= 120
        assert found.keep("log", "bob", b"{}")

    def test_pages_need_their_token(self, acme: LiveGateway) -> None:
        alice()
        with signed_in(acme.url, "alice") as page:
            assert page.post(f"{BASE}/log", json={}).status_code == 200
            del page.headers["x-csrftoken"]
            refused(page.post(f"{BASE}/log", json={}), 403, code="csrf_failed")
