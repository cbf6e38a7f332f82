"""Sound in buckets over a real server: who writes it down, who pays, and what is left when nobody can."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from gateway.models import ApiKey, Provider, ProviderModel, UsageEvent
from gateway.usage import writer
from media import buckets, recordings, store
from media.models import Document, StoredFile
from tests.media.conftest import picture
from tests.support.answers import Answer, echo, error, reply_json
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider
from tests.support.sounds import TEXT, form_of, transcribing, wav

BASE = "/backend-api/v2/files"
WHOLE = f"<!-- File: talk.wav.md -->\n{TEXT}\n<-- End -->\n\n"
pytestmark = pytest.mark.usefixtures("stored_paths")


@pytest.fixture
def listens(gateway: LiveGateway, provider: ScriptedProvider, settings: Any) -> ScriptedProvider:
    """A provider whose model `ears` the operator named."""
    settings.TRANSCRIPTION_MODEL = "ears"
    gateway.add_provider(provider, "ears")
    provider.on("ears", transcribing)
    return provider


def put(gateway: LiveGateway, key: str, *names: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    files = [("files", (name, wav(0.5 + at / 10))) for at, name in enumerate(names or ("talk.wav",))]
    return gateway.http.post(f"{BASE}/b", files=files, headers={**gateway.auth(key), **named}, timeout=30)


def text(gateway: LiveGateway, key: str) -> str:
    answer = gateway.http.get(f"{BASE}/b", headers=gateway.auth(key), timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.text


def frames(gateway: LiveGateway, key: str) -> list[dict[str, Any]]:
    answer = gateway.http.get(f"{BASE}/b/stream", headers=gateway.auth(key), timeout=30)
    return [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: ")]


def rows() -> list[UsageEvent]:
    writer.flush()
    return list(UsageEvent.objects.order_by("created_at"))


def test_what_is_said_is_text_of_the_bucket_and_is_booked(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User, bob: User
) -> None:
    key = gateway.make_key(alice, "payer")
    answer = put(gateway, key, x_recognition_language="en-US")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "bucket_id": "b", "files": [], "media": [{"name": "talk.wav", "text": TEXT}], "skipped": []
    }  # fmt: skip
    fields, file = form_of(listens.requests[-1])
    assert fields["language"] == ["en"]
    assert file.get_payload(decode=True) == wav(0.5)
    assert text(gateway, key) == WHOLE
    assert frames(gateway, key)[-2:] == [
        {"action": "media", "filename": "talk.wav"},
        {"action": "done", "size": len(WHOLE)},
    ]
    assert len(listens.requests) == 1
    (row,) = rows()
    assert (row.surface, row.status, row.model, row.user) == ("files.transcriptions", "ok", "ears", alice)
    assert (row.api_key, row.audio_seconds) == (ApiKey.objects.get(name="payer"), 4)
    other = gateway.http.get(f"{BASE}/b", headers=gateway.auth(gateway.make_key(bob, "bob")))
    assert other.status_code == 404


def test_nobody_is_asked_where_no_model_is_named(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User, settings: Any
) -> None:
    key = gateway.make_key(alice)
    for named in ("", "off"):
        settings.TRANSCRIPTION_MODEL = named
        assert put(gateway, key).json()["media"] == [{"name": "talk.wav"}]
        assert text(gateway, key) == ""
    assert (listens.requests, rows()) == ([], [])
    assert Document.objects.get().state == Document.State.READ


def test_a_provider_of_the_extra_local_is_asked_where_nothing_is_named(gateway: LiveGateway, settings: Any) -> None:
    from gateway.surfaces.files.listening import writes_down

    assert writes_down() is None
    local = Provider.objects.create(name="here", adapter="local", auth_style="none")
    ProviderModel.objects.create(provider=local, public_id="pocketsphinx", chat=False, transcription=True)
    gateway.reload()
    assert writes_down() == ("", "here")
    settings.TRANSCRIPTION_MODEL = "off"
    assert writes_down() is None


def test_a_failure_leaves_the_upload_whole_and_the_next_reader_tries_again(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User
) -> None:
    key = gateway.make_key(alice)
    listens.on("ears", lambda _: error(500, "no"))
    answer = put(gateway, key, "talk.wav", "more.wav")
    assert answer.json()["media"] == [{"name": "talk.wav"}, {"name": "more.wav"}]
    # One that is away is not asked for each of the files.
    assert len(listens.requests) == 1
    assert text(gateway, key) == ""
    assert gateway.http.get("/files/b/media/talk.wav", headers=gateway.auth(key)).content == wav(0.5)
    listens.on("ears", transcribing)
    told = frames(gateway, key)
    assert told[0] == {"action": "transcribe", "filename": "talk.wav"}
    assert {"action": "transcribe", "filename": "more.wav"} in told
    assert told[-1]["size"] == 2 * len(WHOLE)
    assert TEXT in text(gateway, key)
    assert [row.status for row in rows()] == ["error", "error", "ok", "ok"]


def test_what_a_provider_refuses_is_asked_once(gateway: LiveGateway, listens: ScriptedProvider, alice: User) -> None:
    key = gateway.make_key(alice)
    listens.on("ears", lambda _: error(400, "That is no speech."))
    assert put(gateway, key).status_code == 200
    assert (text(gateway, key), len(listens.requests)) == ("", 1)
    document = Document.objects.get()
    assert (document.state, document.original is None) == (Document.State.FAILED, False)
    assert "That is no speech." in document.error


def test_a_key_that_may_not_use_the_model_keeps_its_files(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User
) -> None:
    narrow = gateway.make_key(alice, "narrow", models=["other"])
    assert put(gateway, narrow).json()["media"] == [{"name": "talk.wav"}]
    assert text(gateway, narrow) == ""
    assert listens.requests == []
    assert text(gateway, gateway.make_key(alice, "wide")) == WHOLE


@pytest.mark.parametrize("named", ["nothing-of-this-name", "ears"])
def test_a_mistake_of_the_operator_costs_no_file_its_transcript(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User, settings: Any, named: str
) -> None:
    key = gateway.make_key(alice)
    settings.TRANSCRIPTION_MODEL = named
    ProviderModel.objects.update(transcription=False)
    gateway.reload()
    assert put(gateway, key).json()["media"] == [{"name": "talk.wav"}]
    assert (Document.objects.get().state, listens.requests) == (Document.State.WAITING, [])
    settings.TRANSCRIPTION_MODEL = "ears"
    ProviderModel.objects.update(transcription=None)
    gateway.reload()
    assert text(gateway, key) == WHOLE


def test_limits_count_transcripts(gateway: LiveGateway, listens: ScriptedProvider, alice: User, settings: Any) -> None:
    settings.REDIS_URL = ""
    two = gateway.make_key(alice, "two", requests_per_minute=2)
    answer = put(gateway, two, "talk.wav", "more.wav")
    assert [sorted(item) for item in answer.json()["media"]] == [["name", "text"], ["name"]]
    assert len(listens.requests) == 1


def test_an_answer_does_not_wait_for_long_recordings_and_nobody_pays_twice(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "READING_SECONDS", 0.3)
    go = threading.Event()

    def slow(request: Any) -> Answer:
        go.wait(20)
        return transcribing(request)

    listens.on("ears", slow)
    key = gateway.make_key(alice)
    threading.Timer(1.5, go.set).start()
    assert put(gateway, key).json()["media"] == [{"name": "talk.wav"}]
    found: list[str] = []
    readers = [threading.Thread(target=lambda: found.append(text(gateway, key))) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20)
    assert found == [WHOLE] * 3
    assert len(listens.requests) == len(rows()) == 1


def test_what_another_process_writes_down_is_waited_for(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = gateway.make_key(alice)
    listens.on("ears", lambda _: error(500, "no"))
    put(gateway, key)
    document = Document.objects.select_related("bucket", "original").get()
    assert recordings.claim(document)
    assert not recordings.claim(document)

    def settle() -> None:
        buckets.settle(document.bucket, document, "said elsewhere")
        connection.close()

    threading.Timer(1, settle).start()
    assert "said elsewhere" in text(gateway, key)
    assert len(listens.requests) == 1


def test_a_claim_of_a_process_that_died_runs_out(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = gateway.make_key(alice)
    listens.on("ears", lambda _: error(500, "no"))
    put(gateway, key)
    monkeypatch.setattr(recordings, "CLAIM_SECONDS", 1)
    assert recordings.claim(Document.objects.get())
    listens.on("ears", transcribing)
    assert text(gateway, key) == WHOLE


def test_a_clock_that_is_ahead_takes_nobodys_claim(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = gateway.make_key(alice)
    listens.on("ears", lambda _: error(500, "no"))
    put(gateway, key)
    document = Document.objects.get()
    assert recordings.claim(document)
    ahead = timezone.now() + timedelta(minutes=5)
    monkeypatch.setattr(timezone, "now", lambda: ahead)
    assert not recordings.claim(document)


def test_a_transcript_for_which_there_is_no_room_is_paid_once(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = gateway.make_key(alice)

    def filling(received: Any) -> Answer:
        monkeypatch.setattr(store, "FREE_BYTES", 2**70)
        monkeypatch.setattr(store, "FREE_SHARE", 1.1)
        return transcribing(received)

    listens.on("ears", filling)
    assert put(gateway, key, "talk.wav", "more.wav").status_code == 200
    # Nor is the next one paid, for which there is no room either.
    assert len(listens.requests) == 1
    monkeypatch.undo()
    listens.on("ears", transcribing)
    assert text(gateway, key) == WHOLE.replace("talk", "more")
    assert len(listens.requests) == 2
    document = Document.objects.get(label="talk.wav")
    assert (document.state, document.original is None) == (Document.State.FAILED, False)
    assert document.error


def test_a_file_that_takes_the_place_gets_no_transcript_of_the_other(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "READING_SECONDS", 0.2)
    go = threading.Event()
    listens.on("ears", lambda _: (go.wait(20), reply_json({"text": "the first"}))[1])
    key = gateway.make_key(alice)
    put(gateway, key)
    answer = gateway.http.post(f"{BASE}/b", files={"files": ("talk.wav", picture())}, headers=gateway.auth(key))
    assert answer.status_code == 415
    second = gateway.http.post(f"{BASE}/b", files={"files": ("talk.wav", wav(2))}, headers=gateway.auth(key))
    assert second.status_code == 200, second.text
    listens.on("ears", lambda _: reply_json({"text": "the second"}))
    go.set()
    assert "the second" in text(gateway, key)
    # Of the first neither words nor bytes are left.
    assert StoredFile.objects.filter(owner=alice).count() == 2


def test_who_loses_the_right_pays_for_nothing_more(
    gateway: LiveGateway, listens: ScriptedProvider, alice: User
) -> None:
    go = threading.Event()
    listens.on("ears", lambda request: (go.wait(20), transcribing(request))[1])
    key = gateway.make_key(alice, "reader")
    done: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: done.append(put(gateway, key)))
    thread.start()
    wait_until(lambda: len(listens.requests) == 1)
    ApiKey.objects.get(name="reader").revoke()
    thread.join(8)
    go.set()
    assert done[0].status_code == 200
    wait_until(lambda: [row.status for row in rows()] == ["cancelled"])
    assert Document.objects.get().state == Document.State.WAITING


def test_chats_get_what_is_said(gateway: LiveGateway, listens: ScriptedProvider, alice: User) -> None:
    key = gateway.make_key(alice)
    listens.on("ears", lambda _: error(500, "no"))
    put(gateway, key)
    listens.on(
        "ears", lambda request: echo(request.json) if request.path.endswith("/completions") else transcribing(request)
    )
    body = {"model": "ears", "messages": [{"role": "user", "content": [{"bucket_id": "b"}]}]}
    answer = gateway.http.post("/v1/chat/completions", json=body, headers=gateway.auth(key))
    assert answer.status_code == 200, answer.text
    assert TEXT in listens.chats[-1].json["messages"][0]["content"][0]["text"]


@pytest.mark.parametrize("said", ["english please", "../..", "x" * 50, "e"])
def test_an_odd_language_is_refused(gateway: LiveGateway, listens: ScriptedProvider, alice: User, said: str) -> None:
    answer = put(gateway, gateway.make_key(alice), x_recognition_language=said)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-recognition-language")
    assert (Document.objects.count(), listens.requests) == (0, [])


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 8
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)
