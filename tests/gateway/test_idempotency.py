"""`Idempotency-Key`: what is sent again is answered again, and done once."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from g4fsite.runtime import runtime
from gateway import idempotency
from gateway.models import IdempotentAnswer, UsageEvent
from gateway.usage import writer
from media.models import Blob, Bucket, Document, StoredFile
from tests.people import person
from tests.support import answers
from tests.support.answers import Answer, Pause
from tests.support.gateway import GatewayProcess, LiveGateway
from tests.support.openai_schema import check_error
from tests.support.pictures import GPT_USAGE, b64, events, images, picture
from tests.support.provider import ScriptedProvider

RED, BLUE = picture("red"), picture("blue")
ASK = {"model": "m", "prompt": "x"}
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


def post(
    gateway: LiveGateway | GatewayProcess, body: Any = None, key: str = "k-1", path: str = GENERATIONS, **options: Any
) -> httpx.Response:
    headers = {**gateway.auth(options.pop("user", None)), "idempotency-key": key}
    return httpx.post(f"{gateway.url}{path}", headers=headers, json=body or ASK, timeout=40, **options)


def edit(gateway: LiveGateway, image: bytes = RED, key: str = "k-1", **data: Any) -> httpx.Response:
    headers = {**gateway.auth(), "idempotency-key": key}
    files = {"image": ("a.png", image)}
    return gateway.http.post(EDITS, headers=headers, data={**ASK, **data}, files=files)


def put(gateway: LiveGateway, *files: tuple[str, bytes], key: str = "k-1", bucket: str = "b", **auth: Any) -> Any:
    headers = {**gateway.auth(auth.get("user")), "idempotency-key": key}
    sent = [("files", (name, data)) for name, data in files]
    return gateway.http.post(f"/backend-api/v2/files/{bucket}", headers=headers, files=sent)


def replayed(answer: httpx.Response) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


def rows() -> list[UsageEvent]:
    writer.flush()
    return list(UsageEvent.objects.order_by("id"))


def refused(answer: httpx.Response) -> tuple[int, str, str]:
    error = check_error(answer.json())
    return answer.status_code, error["code"], error["param"]


def slow(seconds: float = 1.0) -> Answer:
    return Answer(images(RED).head, [Pause(seconds), *images(RED).body], images(RED).chunked)


@pytest.fixture
def drawing(gateway: LiveGateway, provider: ScriptedProvider) -> LiveGateway:
    gateway.add_provider(provider, "m")
    return gateway


class TestPictures:
    @pytest.mark.parametrize(
        "path", [GENERATIONS, "/v1/images/generate", "/v1/media/generate", "/api/Scripted/images/generations"]
    )
    def test_the_same_again_is_the_same_answer(
        self, drawing: LiveGateway, provider: ScriptedProvider, path: str
    ) -> None:
        provider.enqueue(images(RED, usage=GPT_USAGE), images(BLUE))
        first, second = post(drawing, path=path), post(drawing, path=path)
        assert (first.status_code, second.status_code) == (200, 200)
        assert (replayed(first), replayed(second)) == (False, True)
        assert first.headers["content-type"] == second.headers["content-type"]
        assert second.headers["cache-control"] == "no-store"
        urls = [answer.json()["data"][0].pop("url") for answer in (first, second)]
        assert urls[0].split("?")[0] == urls[1].split("?")[0]
        assert [httpx.get(url).status_code for url in urls] == [200, 200]
        assert {**first.json(), "data": 0} == {**second.json(), "data": 0}
        assert (len(provider.requests), len(rows()), StoredFile.objects.count()) == (1, 1, 1)

    def test_it_counts_as_a_request_and_uses_no_tokens(
        self, drawing: LiveGateway, provider: ScriptedProvider, alice: User
    ) -> None:
        provider.enqueue(images(RED, usage=GPT_USAGE))
        user = drawing.make_key(alice, requests_per_minute=2, tokens_per_minute=5000)
        found = [post(drawing, user=user) for _ in range(3)]
        assert [answer.status_code for answer in found] == [200, 200, 429]
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in found] == ["1", "0", "0"]
        assert replayed(found[1])
        assert found[2].json()["error"]["code"] == "rate_limit_exceeded"
        assert len(provider.requests) == 1

    def test_addresses_are_signed_anew(self, drawing: LiveGateway, provider: ScriptedProvider, settings: Any) -> None:
        provider.enqueue(images(RED, BLUE))
        settings.MEDIA_URL_SECONDS = 1
        old = post(drawing, {**ASK, "n": 2}).json()["data"]
        time.sleep(1.1)
        assert httpx.get(old[0]["url"]).status_code == 403
        settings.MEDIA_URL_SECONDS = 600
        new = post(drawing, {**ASK, "n": 2}).json()["data"]
        assert [httpx.get(item["url"]).status_code for item in new] == [200, 200]
        StoredFile.objects.all()[0].delete()
        assert sorted(httpx.get(item["url"]).status_code for item in post(drawing, {**ASK, "n": 2}).json()["data"]) == [
            200,
            404,
        ]

    def test_what_was_handed_over_whole_is_so_again(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        provider.enqueue(images(RED))
        body = {**ASK, "response_format": "b64_json"}
        first, second = post(drawing, body), post(drawing, body)
        assert first.content == second.content
        assert base64.b64decode(second.json()["data"][0]["b64_json"]) == RED
        assert replayed(second)
        # The order of the fields is none of what is asked.
        assert replayed(post(drawing, dict(reversed(body.items()))))
        assert StoredFile.objects.count() == 0

    def test_fifty_at_once_are_one(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        provider.on("m", lambda _: slow())
        assert drawing.key
        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(lambda _: post(drawing), range(50)))
        told = Counter((answer.status_code, replayed(answer)) for answer in found)
        assert told[200, False] == 1, told
        assert set(told) <= {(200, False), (200, True), (409, False)}
        for answer in found:
            if answer.status_code == 409:
                assert refused(answer) == (409, "request_in_progress", "Idempotency-Key")
                assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("2", "true")
        assert replayed(post(drawing))
        assert (len(provider.requests), len(rows()), StoredFile.objects.count()) == (1, 1, 1)

    def test_two_users_do_not_meet(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        provider.enqueue(*[images(RED)] * 4)
        other = drawing.make_key(person("other"))
        mine, theirs = post(drawing), post(drawing, user=other)
        assert (replayed(mine), replayed(theirs)) == (False, False)
        assert mine.json()["data"][0]["url"] != theirs.json()["data"][0]["url"]
        assert len(provider.requests) == 2
        # Nor does anybody learn that another has used a key.
        assert post(drawing, {**ASK, "prompt": "y"}, key="k-2", user=other).status_code == 200
        assert post(drawing, key="k-2").status_code == 200

    def test_another_request_under_the_key_is_422(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        provider.enqueue(images(RED), images(RED))
        assert post(drawing).status_code == 200
        for body in ({**ASK, "prompt": "y"}, {**ASK, "n": 1}, {**ASK, "response_format": "b64_json"}):
            assert refused(post(drawing, body)) == (422, "idempotency_key_reused", "Idempotency-Key")
        assert refused(post(drawing, path="/api/scripted/images/generations"))[0] == 422
        # Another route is another request.
        assert edit(drawing).status_code == 200
        assert len(provider.requests) == 2

    def test_forms_are_compared_by_their_parts(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        provider.enqueue(images(RED))
        first, second = edit(drawing, n="1"), edit(drawing, n="1")
        assert first.request.headers["content-type"] != second.request.headers["content-type"]
        assert (replayed(first), replayed(second)) == (False, True)
        assert refused(edit(drawing, image=BLUE, n="1"))[0] == 422
        assert refused(edit(drawing, n="2"))[0] == 422
        assert len(provider.requests) == 1

    def test_an_edit_as_json(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        provider.enqueue(images(RED))
        body = {**ASK, "images": [{"image_url": f"data:image/png;base64,{b64(RED)}"}]}
        first, second = post(drawing, body, path=EDITS), post(drawing, body, path=EDITS)
        assert [(answer.status_code, replayed(answer)) for answer in (first, second)] == [(200, False), (200, True)]
        # An address that cannot be read was asked of nobody: the key is free.
        bad = {**ASK, "images": [{"image_url": "data:image/png;base64,!!"}]}
        for _ in range(2):
            answer = post(drawing, bad, key="k-2", path=EDITS)
            error = check_error(answer.json())
            assert (answer.status_code, error["code"], replayed(answer)) == (400, "invalid_image_url", False)
        assert IdempotentAnswer.objects.count() == 1
        assert len(provider.requests) == 1

    def test_a_key_that_may_not_gets_nothing_of_it(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        provider.enqueue(images(RED))
        owner = person("owner")
        wide, narrow = drawing.make_key(owner), drawing.make_key(owner, models=["other"])
        assert post(drawing, user=wide).status_code == 200
        assert refused(post(drawing, user=narrow))[:2] == (403, "model_not_allowed")

    def test_a_stream_is_given_again_by_its_end(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        about = {"created_at": 1, "size": "1x1", "quality": "low", "background": "opaque", "output_format": "png"}
        part = {"type": "image_generation.partial_image", "b64_json": b64(BLUE), "partial_image_index": 0, **about}
        end = {"type": "image_generation.completed", "b64_json": b64(RED), "usage": GPT_USAGE, **about}
        provider.enqueue(events(part, end))
        body = {**ASK, "stream": True, "partial_images": 1, "usage": {"include": True}}
        first, second = post(drawing, body), post(drawing, body)
        told = [json.loads(event.partition("data: ")[2]) for event in first.text.strip().split("\n\n")]
        again = [json.loads(event.partition("data: ")[2]) for event in second.text.strip().split("\n\n")]
        assert [event["type"] for event in told] == [part["type"], end["type"]]
        assert again == told[1:]
        assert second.headers["content-type"] == first.headers["content-type"]
        assert (replayed(second), len(provider.requests), len(rows())) == (True, 1, 1)

    def test_who_left_finds_the_answer(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        provider.on("m", lambda _: slow())
        headers = {**drawing.auth(), "idempotency-key": "k-1"}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{drawing.url}{GENERATIONS}", headers=headers, json=ASK, timeout=0.4)
        assert until_answered(lambda: post(drawing)).status_code == 200
        assert replayed(post(drawing))
        assert not provider.requests[0].left.is_set()
        assert [(row.status, row.images) for row in rows()] == [("ok", 1)]
        assert len(provider.requests) == 1

    def test_without_the_key_who_leaves_is_not_waited_for(
        self, drawing: LiveGateway, provider: ScriptedProvider
    ) -> None:
        provider.on("m", lambda _: slow(5))
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{drawing.url}{GENERATIONS}", headers=drawing.auth(), json=ASK, timeout=0.4)
        assert provider.requests[0].left.wait(5)
        assert IdempotentAnswer.objects.count() == 0


def until_answered(ask: Callable[[], httpx.Response], seconds: float = 45) -> httpx.Response:
    """As a client does that hears Retry-After."""
    deadline = time.monotonic() + seconds
    while (answer := ask()).status_code == 409 and time.monotonic() < deadline:
        time.sleep(0.3)
    return answer


class TestFailures:
    @pytest.mark.parametrize(
        "failure",
        [answers.error(400, "no"), answers.error(429, "slow down"), answers.error(500), answers.error(401)],
        ids=["400", "429", "500", "401"],
    )
    def test_what_a_provider_refused_may_run_again(
        self, drawing: LiveGateway, provider: ScriptedProvider, failure: Answer
    ) -> None:
        provider.enqueue(failure, images(RED))
        assert post(drawing).status_code >= 400
        again = post(drawing)
        assert (again.status_code, replayed(again)) == (200, False)

    @pytest.mark.parametrize(("status", "runs_again"), [("UNAVAILABLE", True), ("DEADLINE_EXCEEDED", False)])
    def test_the_same_at_gemini(
        self, gateway: LiveGateway, provider: ScriptedProvider, status: str, runs_again: bool
    ) -> None:
        gateway.add_provider(provider, "m", adapter="gemini")
        failed = answers.reply_json({"error": {"status": status, "message": "x"}}, status=503)
        provider.enqueue(failed, failed)
        assert [replayed(post(gateway)) for _ in range(2)] == [False, not runs_again]

    def test_what_no_provider_heard_of_may_run_again(self, gateway: LiveGateway, provider: ScriptedProvider) -> None:
        row = gateway.add_provider("http://127.0.0.1:9/v1", "m")
        assert post(gateway, {**ASK, "model": "unknown"}).status_code == 404
        assert post(gateway, {**ASK, "n": 0}).status_code == 422
        assert post(gateway).status_code == 502
        row.base_url = provider.base_url
        row.save()
        gateway.reload()
        provider.enqueue(images(RED))
        assert post(gateway).status_code == 200
        limited = gateway.make_key(person("limited"), requests_per_minute=1)
        provider.enqueue(images(RED))
        assert post(gateway, key="a", user=limited).status_code == 200
        assert post(gateway, key="b", user=limited).status_code == 429
        assert IdempotentAnswer.objects.filter(owner__username="limited").count() == 1

    @pytest.mark.parametrize(
        ("failure", "status"),
        [
            (answers.cut_short(b'{"data": [', 1000), 502),
            (answers.raw(b"<html>"), 502),
            (images({"b64_json": "aGVsbG8="}, usage=GPT_USAGE), 502),
            (answers.error(504), 504),
            (answers.error(520), 502),
            (answers.error(524), 504),
        ],
        ids=["cut", "no JSON", "paid", "a proxy's", "Cloudflare's 520", "Cloudflare's 524"],
    )
    def test_what_may_have_been_paid_is_not_done_again(
        self, drawing: LiveGateway, provider: ScriptedProvider, failure: Answer, status: int
    ) -> None:
        provider.enqueue(failure, images(RED))
        first, second = post(drawing), post(drawing)
        assert (first.status_code, second.status_code) == (status, status)
        assert first.json() == second.json()
        assert (first.headers["x-should-retry"], second.headers["x-should-retry"]) == ("false", "false")
        assert (replayed(first), replayed(second)) == (False, True)
        assert (len(provider.requests), len(rows())) == (1, 1)

    def test_a_stream_that_broke_after_its_beginning(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        part = {"type": "image_generation.partial_image", "b64_json": b64(BLUE), "partial_image_index": 0}
        provider.enqueue(events(part), images(RED))
        body = {**ASK, "stream": True}
        first = post(drawing, body)
        assert "event: error" in first.text
        # The caller hears of it before it is written down.
        while (second := post(drawing, body)).status_code == 409:
            assert refused(second)[1] == "request_in_progress"
            time.sleep(0.05)
        assert second.text == first.text[first.text.index("event: error") :]
        assert replayed(second)
        assert len(provider.requests) == 1

    def test_a_key_is_checked(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        for key in ("", "x" * 256, "é".encode(), b"a\tb"):
            for path, body in ((GENERATIONS, {"json": ASK}), ("/backend-api/v2/files/b", {"files": {"files": b"x"}})):
                headers = {**drawing.auth(), "idempotency-key": key}
                answer = drawing.http.post(path, headers=headers, **body)  # type: ignore[arg-type]
                assert refused(answer) == (400, "invalid_header", "Idempotency-Key"), key
        twice = [*drawing.auth().items(), ("idempotency-key", "a"), ("idempotency-key", "b")]
        assert refused(drawing.http.post(GENERATIONS, headers=twice, json=ASK))[0] == 400
        provider.enqueue(images(RED))
        assert post(drawing, key="x" * 255).status_code == 200

    def test_chats_ignore_it(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        found = [post(drawing, body, path="/v1/chat/completions") for _ in range(2)]
        assert [replayed(answer) for answer in found] == [False, False]
        assert len(provider.chats) == 2

    def test_strangers_are_told_that_it_has_no_effect(
        self, drawing: LiveGateway, provider: ScriptedProvider, settings: Any
    ) -> None:
        assert drawing.key
        settings.ANONYMOUS_ACCESS = True
        provider.enqueue(images(RED), images(BLUE))
        body = {**ASK, "response_format": "b64_json"}
        for colour in (RED, BLUE):
            answer = drawing.http.post(GENERATIONS, headers={"idempotency-key": "k"}, json=body)
            assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == colour
            assert "Idempotency-Key" in answer.headers["warning"]


class TestTime:
    def test_after_a_day_it_is_a_new_key(self, drawing: LiveGateway, provider: ScriptedProvider) -> None:
        provider.enqueue(images(RED), images(BLUE))
        assert post(drawing).status_code == 200
        IdempotentAnswer.objects.update(created_at=timezone.now() - timedelta(hours=23, minutes=59))
        assert replayed(post(drawing))
        IdempotentAnswer.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))
        again = post(drawing, {**ASK, "prompt": "another"})
        assert (again.status_code, replayed(again)) == (200, False)
        assert IdempotentAnswer.objects.count() == 1

    def test_what_is_over_is_purged_and_what_runs_is_not(self, transactional_db: None) -> None:
        owner, now = person("owner"), timezone.now()
        long_ago = now - timedelta(hours=25)

        def row(key: str, state: str, created: Any, lease: Any = None) -> None:
            IdempotentAnswer.objects.create(
                owner=owner, route="images", key=key, state=state, created_at=created, lease_until=lease
            )

        row("old", "done", long_ago)
        row("left", "running", long_ago, now - timedelta(seconds=1))
        row("runs", "running", long_ago, now + timedelta(minutes=1))
        row("new", "done", now)
        assert idempotency.purge() == 2
        assert set(IdempotentAnswer.objects.values_list("key", flat=True)) == {"runs", "new"}
        owner.delete()
        assert not IdempotentAnswer.objects.exists()

    def test_what_is_taken_while_others_are_purged_stays(self, transactional_db: None) -> None:
        asked = idempotency.Asked(person("owner").pk, "images", "old", "digest")
        long_ago = timezone.now() - timedelta(hours=25)
        IdempotentAnswer.objects.create(
            owner_id=asked.owner_id, route="images", key="old", state="done", created_at=long_ago
        )
        taken: list[Any] = []

        def take_first(execute: Any, sql: str, *more: Any) -> Any:
            if sql.startswith("DELETE") and not taken:
                taken.append(idempotency._entered(asked, "holder"))
            return execute(sql, *more)

        with connection.execute_wrapper(take_first):
            assert idempotency.purge() == 0
        assert IdempotentAnswer.objects.get().holder == "holder"

    def test_a_long_one_keeps_its_lease(
        self, drawing: LiveGateway, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(idempotency, "LEASE", timedelta(seconds=1))
        monkeypatch.setattr(idempotency, "RENEW_SECONDS", 0.2)
        provider.on("m", lambda _: slow(3))
        found: list[httpx.Response] = []
        first = threading.Thread(target=lambda: found.append(post(drawing)))
        first.start()
        time.sleep(2)
        assert refused(post(drawing))[0] == 409
        first.join()
        assert (found[0].status_code, len(provider.requests)) == (200, 1)

    def test_what_is_too_large_is_not_done_again_either(
        self, drawing: LiveGateway, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        provider.enqueue(images(RED), images(RED))
        body = {**ASK, "response_format": "b64_json"}
        monkeypatch.setattr(idempotency, "MAX_BYTES", 10)
        assert post(drawing, body).status_code == 200
        assert refused(post(drawing, body)) == (409, "answer_not_kept", "Idempotency-Key")
        assert post(drawing, body).headers["x-should-retry"] == "false"
        assert len(provider.requests) == 1
        monkeypatch.setattr(idempotency, "MAX_BYTES", 1000)
        monkeypatch.setattr(idempotency, "MAX_OWNER_BYTES", 500)
        for key in "ab":
            provider.enqueue(images(RED))
            assert post(drawing, body, key=key).status_code == 200
        assert sum(row.size for row in IdempotentAnswer.objects.all()) <= 500


def rename(before: str, after: str) -> None:
    """What is not there cannot be written."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {before} RENAME TO {after}")
    connection.close()


class TestAway:
    TABLE, GONE = IdempotentAnswer._meta.db_table, "gone"

    def test_no_provider_is_asked_while_nobody_knows_whether_it_was(
        self, drawing: LiveGateway, provider: ScriptedProvider
    ) -> None:
        assert drawing.key
        rename(self.TABLE, self.GONE)
        try:
            answer = post(drawing)
        finally:
            rename(self.GONE, self.TABLE)
        assert (answer.status_code, check_error(answer.json())["code"]) == (503, "storage_unavailable")
        assert (provider.requests, rows()) == ([], [])

    def test_what_was_made_is_handed_over_also_when_it_cannot_be_kept(
        self, drawing: LiveGateway, provider: ScriptedProvider
    ) -> None:
        assert drawing.key
        provider.enqueue(slow(2), images(BLUE))
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(post, drawing)
            provider.wait_for(1, 20, "/images/generations")
            rename(self.TABLE, self.GONE)
            try:
                assert first.result(40).status_code == 200
            finally:
                rename(self.GONE, self.TABLE)
        # Its lease is not over: nobody begins anew at once.
        assert refused(post(drawing))[:2] == (409, "request_in_progress")
        IdempotentAnswer.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        again = post(drawing)
        assert (again.status_code, replayed(again)) == (200, False)


class TestFiles:
    def test_an_upload_that_comes_again_is_one(self, gateway: LiveGateway) -> None:
        files = ("a.txt", b"some words"), ("b.png", RED)
        first, second = put(gateway, *files), put(gateway, *files)
        assert (first.status_code, replayed(first)) == (200, False)
        assert first.json() == second.json() == {
            "bucket_id": "b", "files": ["a.txt"], "media": [{"name": "b.png", "width": 32, "height": 24}], "skipped": []
        }  # fmt: skip
        assert replayed(second)
        assert Document.objects.count() == 2
        # Deleted meanwhile: it stays deleted.
        assert gateway.http.delete("/backend-api/v2/files/b", headers=gateway.auth()).status_code == 200
        assert replayed(put(gateway, *files))
        assert Bucket.objects.count() == 0

    def test_another_upload_is_422(self, gateway: LiveGateway) -> None:
        assert put(gateway, ("a.txt", b"words")).status_code == 200
        for files, bucket in (
            ([("a.txt", b"other")], "b"),
            ([("b.txt", b"words")], "b"),
            ([("a.txt", b"words"), ("b.txt", b"words")], "b"),
            ([("a.txt", b"words")], "c"),
        ):
            assert refused(put(gateway, *files, bucket=bucket))[:2] == (422, "idempotency_key_reused")
        assert list(Document.objects.values_list("bucket__label", "label")) == [("b", "a.txt")]

    def test_two_users_do_not_meet(self, gateway: LiveGateway) -> None:
        other = gateway.make_key(person("other"))
        assert [replayed(put(gateway, ("a.txt", b"words"), user=user)) for user in (None, other)] == [False, False]
        assert Bucket.objects.count() == 2

    def test_a_failed_upload_may_run_again(self, gateway: LiveGateway, settings: Any) -> None:
        settings.MEDIA_QUOTA_BYTES = 2
        assert put(gateway, ("a.txt", b"words")).status_code == 413
        settings.MEDIA_QUOTA_BYTES = 1000
        again = put(gateway, ("a.txt", b"words"))
        assert (again.status_code, replayed(again)) == (200, False)

    def test_twenty_at_once_are_one(self, gateway: LiveGateway) -> None:
        assert gateway.key

        def send(_: int) -> httpx.Response:
            headers = {**gateway.auth(), "idempotency-key": "k"}
            files = [("files", ("a.png", picture("green")))]
            return httpx.post(f"{gateway.url}/backend-api/v2/files/b", headers=headers, files=files, timeout=40)

        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(send, range(20)))
        told = Counter((answer.status_code, replayed(answer)) for answer in found)
        assert told[200, False] == 1, told
        assert set(told) <= {(200, False), (200, True), (409, False)}
        assert (StoredFile.objects.count(), Blob.objects.count()) == (1, 1)


CONNECT = """
from gateway.models import Provider, ProviderModel
row = Provider.objects.create(
    name="Scripted", adapter="openai_chat", base_url="{url}", allow_private=True, auth_style="none"
)
ProviderModel.objects.create(provider=row, public_id="m")
"""
COUNTS = """
from gateway.models import IdempotentAnswer, UsageEvent
from media.models import StoredFile
print("COUNTS", sorted(UsageEvent.objects.values_list("status", flat=True)), StoredFile.objects.count(),
    list(IdempotentAnswer.objects.values_list("state", flat=True)))
"""

# Twenty seconds go by for the one row, as far as it is concerned; it must not be taken for longer.
LATER = """
from datetime import timedelta
from django.utils import timezone
from gateway.idempotency import LEASE
from gateway.models import IdempotentAnswer
row = IdempotentAnswer.objects.get(state="running", lease_until__lte=timezone.now() + LEASE)
row.lease_until = timezone.now() - timedelta(seconds=1)
row.save()
"""


def counts(gateway: GatewayProcess) -> str:
    return gateway.manage("shell", "-v", "0", "-c", COUNTS).stdout.partition("COUNTS ")[2].strip()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_killed_server_leaves_no_key_taken(
    gateway_process: Any, provider: ScriptedProvider, request: pytest.FixtureRequest, database: str
) -> None:
    where = {"DATABASE_URL": request.getfixturevalue("postgres_url")} if database == "postgres" else {}
    provider.on("m", lambda _: slow(30) if len(provider.requests) == 1 else images(RED))
    gateway: GatewayProcess = gateway_process(wait=False, **where)
    gateway.kill()
    assert gateway.manage("shell", "-v", "0", "-c", CONNECT.format(url=provider.base_url)).returncode == 0
    gateway.start()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, gateway)
        provider.wait_for(1, 20, "/images/generations")
        assert refused(post(gateway))[0] == 409
        gateway.kill()
        with pytest.raises(httpx.TransportError):
            first.result(20)
    later = gateway.manage("shell", "-v", "0", "-c", LATER)
    assert later.returncode == 0, later.stderr
    gateway.start()
    answer = post(gateway)
    assert (answer.status_code, replayed(answer)) == (200, False), answer.text
    assert replayed(post(gateway))
    assert len(provider.requests) == 2
    gateway.stop()
    assert counts(gateway) == "['interrupted', 'ok'] 1 ['done']"


def test_a_process_that_ends_waits_for_what_is_being_kept() -> None:
    """Whoever asked for it is gone by then, and its task cancelled."""
    done: list[bool] = []

    async def run() -> None:
        async def keep() -> None:
            await asyncio.sleep(0.1)
            done.append(True)

        asking = asyncio.create_task(idempotency._through(keep()))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.sleep(0)
        assert (idempotency.busy(), done) == (True, [])
        await runtime.stop()
        assert (idempotency.busy(), done) == (False, [True])

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_server_that_stops_gives_the_key_back_at_once(gateway_process: Any, provider: ScriptedProvider) -> None:
    provider.on("m", lambda _: slow(30) if len(provider.requests) == 1 else images(RED))
    gateway: GatewayProcess = gateway_process(wait=False, STOP_GRACE_SECONDS="1")
    gateway.kill()
    assert gateway.manage("shell", "-v", "0", "-c", CONNECT.format(url=provider.base_url)).returncode == 0
    gateway.start()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, gateway)
        provider.wait_for(1, 20, "/images/generations")
        assert gateway.stop() == 0
        told = first.result(20)
    assert (told.status_code, told.json()["error"]["code"]) == (503, "server_stopping")
    assert "Traceback" not in gateway.output
    assert "pending" not in gateway.output
    gateway.start()
    again = post(gateway)
    assert (again.status_code, replayed(again)) == (200, False), again.text


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.timeout(180)
def test_several_workers_do_it_once(
    gateway_process: Any, provider: ScriptedProvider, postgres_url: str, redis_url: str
) -> None:
    provider.on("m", lambda _: slow())
    gateway: GatewayProcess = gateway_process(
        "--workers", "2", wait=False, DATABASE_URL=postgres_url, REDIS_URL=redis_url
    )
    gateway.kill()
    assert gateway.manage("shell", "-v", "0", "-c", CONNECT.format(url=provider.base_url)).returncode == 0
    gateway.start()
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda _: post(gateway), range(50)))
    told = Counter((answer.status_code, replayed(answer)) for answer in found)
    assert told[200, False] == 1, told
    assert set(told) <= {(200, False), (200, True), (409, False)}
    gateway.stop()
    assert (len(provider.requests), counts(gateway)) == (1, "['ok'] 1 ['done']")
