"""Buckets over a real server: what goes in, what comes out, and that nobody sees another's."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.core.files.storage import default_storage
from django.db import OperationalError
from PIL import Image

from media import buckets, downloads
from media.convert import run
from media.models import Blob, Bucket, Document, Quota, StoredFile
from media.store import usage_of
from tests import people
from tests.media.conftest import picture
from tests.support import documents
from tests.support.converting import PYTHON
from tests.support.documents import WORD
from tests.support.gateway import LiveGateway
from tests.support.sounds import wav

BASE = "/backend-api/v2/files"
pytestmark = pytest.mark.usefixtures("_own_folder")


@pytest.fixture
def _own_folder(stored_paths: Any, settings: Any) -> None:
    # What becomes of documents has nothing to do with where they are kept.
    settings.DOCUMENTS_PYTHON = PYTHON if settings.MEDIA_STORAGE == "file" else "/nowhere"


class Person:
    """Somebody with a key and what they do with buckets."""

    def __init__(self, gateway: LiveGateway, user: Any) -> None:
        self.user = user
        self.headers = gateway.auth(gateway.make_key(user))
        self._http = gateway.http

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        return self._http.request(method, path, headers=headers, **more)

    def put(self, bucket: str, *files: tuple[str, bytes], **more: Any) -> httpx.Response:
        # Documents take a second each, and longer where much else goes on.
        return self.ask("POST", f"{BASE}/{bucket}", files=[("files", file) for file in files], timeout=60, **more)

    def text(self, bucket: str, **query: str) -> str:
        answer = self.ask("GET", f"{BASE}/{bucket}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.text

    def frames(self, bucket: str, **query: str) -> list[dict[str, Any]]:
        answer = self.ask("GET", f"{BASE}/{bucket}/stream", params=query)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = [line for line in answer.text.split("\n\n") if line and not line.startswith(":")]
        assert all(line.startswith("data: ") for line in lines)
        return [json.loads(line[6:]) for line in lines]


@pytest.fixture
def ann(gateway: LiveGateway) -> Person:
    return Person(gateway, people.alice())


@pytest.fixture
def ben(gateway: LiveGateway) -> Person:
    return Person(gateway, people.bob())


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    return dict(error)


def kept(user: Any) -> tuple[int, int, int]:
    return (
        Bucket.objects.filter(owner=user).count(),
        StoredFile.objects.filter(owner=user).count(),
        Blob.objects.count(),
    )


def test_files_go_in_and_their_text_comes_out(ann: Person) -> None:
    answer = ann.put("my-bucket", ("a.txt", b"one"), ("b.csv", b"x,y\n1,2\n"), ("c.png", picture(size=(20, 10))))
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "bucket_id": "my-bucket",
        "files": ["a.txt", "b.csv.md"],
        "media": [{"name": "c.png", "width": 20, "height": 10}],
        "skipped": [],
    }
    table = "| x | y |\n| --- | --- |\n| 1 | 2 |"
    whole = f"<!-- File: a.txt -->\none\n<-- End -->\n\n<!-- File: b.csv.md -->\n{table}\n<-- End -->\n\n"
    whole += "<!-- File: c.png.md -->\nFormat: PNG\nSize: 20 x 10\n<-- End -->\n\n"
    for _ in range(2):
        assert ann.text("my-bucket") == whole
    frames = ann.frames("my-bucket")
    assert frames[-1] == {"action": "done", "size": len(whole)}
    assert {"action": "media", "filename": "c.png"} in frames
    assert [frame["size"] for frame in frames if frame["action"] == "load"][-1] == len(whole)
    assert not any(frame["action"] == "delete_files" for frame in frames)
    assert ann.ask("GET", "/files/my-bucket/stream").status_code == 200
    assert ann.ask("GET", "/files/my-bucket").text == whole


def test_accept_asks_for_the_stream_too(ann: Person) -> None:
    ann.put("b", ("a.txt", b"one"))
    answer = ann.ask("GET", f"{BASE}/b", headers={"accept": "text/event-stream"})
    assert answer.text.endswith('data: {"action":"done","size":38}\n\n')
    head = ann.ask("HEAD", f"{BASE}/b")
    assert (head.status_code, head.text) == (200, "")
    assert head.headers["content-type"].startswith("text/plain")
    assert head.headers["cache-control"] == "no-store"


def test_files_of_eighteen_types(ann: Person, settings: Any) -> None:
    files = {**documents.simple(), **documents.heavy()}
    assert len(files) == 18
    if not os.access(settings.DOCUMENTS_PYTHON, os.X_OK):
        files = documents.simple()
    answer = ann.put("b", *files.items())
    assert answer.status_code == 200, answer.text
    assert answer.json()["skipped"] == []
    text = ann.text("b")
    assert text.count(WORD) >= len(files)
    assert "<!-- File: x/y.txt -->" in text


def test_another_users_bucket_is_none(ann: Person, ben: Person, gateway: LiveGateway) -> None:
    ann.put("my-bucket", ("a.txt", b"planted"), ("p.png", picture()))
    missing = refused(ben.ask("GET", f"{BASE}/nowhere"), 404, "bucket_not_found")
    for method, path in (
        ("GET", f"{BASE}/my-bucket"), ("GET", f"{BASE}/my-bucket/stream"), ("DELETE", f"{BASE}/my-bucket"),
        ("GET", "/files/my-bucket"), ("HEAD", f"{BASE}/my-bucket"),
    ):  # fmt: skip
        answer = ben.ask(method, path)
        assert answer.status_code == 404
        if method != "HEAD":
            assert refused(answer, 404, "bucket_not_found") == missing
    assert ben.put("my-bucket", ("a.txt", b"other")).status_code == 200
    assert "planted" not in ben.text("my-bucket")
    assert "other" not in ann.text("my-bucket")
    assert ben.ask("DELETE", f"{BASE}/my-bucket").json() == {"message": "Bucket deleted successfully"}
    assert "planted" in ann.text("my-bucket")
    for method in ("GET", "POST", "DELETE"):
        refused(gateway.http.request(method, f"{BASE}/my-bucket"), 401, "invalid_api_key")


def test_deleting_takes_everything_along(ann: Person, stored_paths: Callable[[], list[str]]) -> None:
    ann.put("b", ("a.txt", b"one"), ("b.csv", b"x,y\n1,2\n"), ("c.png", picture()))
    assert stored_paths()
    assert ann.ask("DELETE", f"{BASE}/b").status_code == 200
    assert kept(ann.user) == (0, 0, 0)
    assert stored_paths() == []
    refused(ann.ask("DELETE", f"{BASE}/b"), 404, "bucket_not_found")


def test_an_upload_without_a_file_creates_nothing(ann: Person) -> None:
    error = refused(ann.ask("POST", f"{BASE}/b", files={"x": (None, "y")}), 400, "missing_required_parameter")
    assert error["param"] == "files"
    refused(ann.ask("POST", f"{BASE}/b", json={}), 415, "unsupported_media_type")
    assert kept(ann.user) == (0, 0, 0)


def test_what_is_not_supported_is_skipped_and_if_nothing_is_left_refused(ann: Person) -> None:
    bad = ("a.exe", b"MZ\x90\x00" + bytes(90))
    answer = ann.put("b", bad, ("a.txt", b"one"))
    assert answer.json()["files"] == ["a.txt"]
    assert [item["name"] for item in answer.json()["skipped"]] == ["a.exe"]
    error = refused(ann.put("c", bad), 415, "unsupported_file_type")
    assert "a.exe" in error["message"]
    refused(ann.put("c", ("a.ipynb", b"{}")), 422, "unreadable_file")
    refused(ann.put("c", ("a.txt", b"")), 422, "unreadable_file")
    refused(ann.put("c", ("a.png", picture()[:50])), 422, "invalid_image")
    assert kept(ann.user)[:2] == (1, 1)


CUT = {**documents.heavy(), "z.zip": documents.zipped({"a": "b"})}


@pytest.mark.parametrize(("label", "data"), [(label, data[: len(data) // 3]) for label, data in CUT.items()])
def test_cut_files_are_no_fault_of_the_server(ann: Person, label: str, data: bytes) -> None:
    assert ann.put("c", (label, data)).status_code in (415, 422)
    assert kept(ann.user) == (0, 0, 0)


def test_too_many_and_too_large_files_leave_nothing(ann: Person, settings: Any) -> None:
    refused(ann.put("b", *((f"{at}.txt", b"x") for at in range(51))), 400, "array_above_max_length")
    fields = [("x", (None, b"y"))] * 1001
    refused(ann.ask("POST", f"{BASE}/b", files=fields), 400, "array_above_max_length")
    large = b"x" * (25 * 1024 * 1024 + 1)
    refused(ann.put("b", ("a.txt", b"one"), ("b.txt", large)), 413, "file_too_large")
    assert kept(ann.user) == (0, 0, 0)
    assert ann.put("b", ("b.txt", large[:-1])).json()["files"] == ["b.txt"]


def test_a_full_quota_refuses_all_and_gives_way_after_a_delete(
    ann: Person, stored_paths: Callable[[], list[str]]
) -> None:
    Quota.objects.create(user=ann.user, max_bytes=2500)
    assert ann.put("old", ("a.txt", b"a" * 2000)).status_code == 200
    before = (kept(ann.user), stored_paths(), usage_of(ann.user.pk))
    for bucket in ("new", "old"):
        refused(ann.put(bucket, ("b.txt", b"b" * 100), ("c.txt", b"c" * 1000)), 413, "quota_exceeded")
    assert (kept(ann.user), stored_paths(), usage_of(ann.user.pk)) == before
    assert ann.ask("DELETE", f"{BASE}/old").status_code == 200
    assert ann.put("new", ("b.txt", b"b" * 100), ("c.txt", b"c" * 1000)).status_code == 200


def test_an_upload_that_is_cut_off_leaves_nothing(ann: Person, gateway: LiveGateway, settings: Any) -> None:
    parts = urlsplit(gateway.url)
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n' + b"y" * 3_000_000
    with socket.create_connection((parts.hostname, parts.port)) as connection:  # type: ignore[arg-type]
        head = f"POST {BASE}/b HTTP/1.1\r\nHost: localhost\r\nAuthorization: {ann.headers['authorization']}\r\n"
        kind = "Content-Type: multipart/form-data; boundary=x\r\n"
        connection.sendall(f"{head}{kind}Content-Length: 9000000\r\n\r\n".encode() + body)
        time.sleep(0.2)
    time.sleep(0.2)
    assert kept(ann.user) == (0, 0, 0)
    assert list(settings.FILE_UPLOAD_TEMP_DIR.iterdir()) == []


def test_the_second_file_of_a_name_takes_the_place_of_the_first(
    ann: Person, stored_paths: Callable[[], list[str]]
) -> None:
    ann.put("b", ("a.txt", b"first"), ("z.txt", b"other"))
    ann.put("b", ("a.txt", b"second"))
    assert ann.text("b") == "<!-- File: a.txt -->\nsecond\n<-- End -->\n\n<!-- File: z.txt -->\nother\n<-- End -->\n\n"
    assert kept(ann.user)[1] == len(stored_paths()) == 2
    ann.put("b", ("a.txt", b"third"), ("a.txt", b"fourth"))
    assert "third" not in ann.text("b")
    assert Document.objects.count() == 2


def test_many_uploads_at_once_of_one_name_leave_one(ann: Person, stored_paths: Callable[[], list[str]]) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda at: ann.put("b", ("a.txt", b"%d" % at * 9)).status_code, range(6)))
    assert answers == [200] * 6
    assert (Document.objects.count(), StoredFile.objects.count(), len(stored_paths())) == (1, 1, 1)
    assert ann.text("b").count("<!-- File") == 1


def test_a_bucket_that_is_deleted_during_an_upload_is_missing(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(*given: Any, **more: Any) -> Any:
        Bucket.objects.all().delete()
        return real(*given, **more)

    real = buckets.reading
    monkeypatch.setattr(buckets, "reading", vanish)
    refused(ann.put("b", ("a.txt", b"x")), 404, "bucket_not_found")
    assert kept(ann.user) == (0, 0, 0)


def test_readers_that_leave_start_no_second_conversion(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "READING_SECONDS", -1.0)
    ann.put("b", ("a.csv", b"x,y\n1,2\n"))
    read: list[str] = []
    real = run.convert

    def slow(sort: Any, *given: Any, **more: Any) -> Any:
        read.append(sort)
        time.sleep(2)
        return real(sort, *given, **more)

    monkeypatch.setattr(run, "convert", slow)
    for _ in range(4):
        with pytest.raises(httpx.ReadTimeout):
            ann.ask("GET", f"{BASE}/b", timeout=0.3)
    assert "| 1 | 2 |" in ann.text("b")
    assert read == ["table"]


def test_a_bucket_that_another_upload_gives_up_is_made_again(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one had made it, and could put nothing into it."""

    def vanish(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(buckets, "reading", real)
        Bucket.objects.all().delete()
        return real(*given, **more)

    real = buckets.reading
    monkeypatch.setattr(buckets, "reading", vanish)
    assert ann.put("b", ("a.txt", b"words")).status_code == 200
    assert "words" in ann.text("b")
    assert kept(ann.user)[1:] == (1, 1)


def test_a_replacement_that_fails_leaves_everything_as_it_was(
    ann: Person, monkeypatch: pytest.MonkeyPatch, stored_paths: Callable[[], list[str]]
) -> None:
    ann.put("b", ("a.txt", b"old words"), ("b.txt", b"more old words"))
    before, paths = ann.text("b"), sorted(stored_paths())
    real = Document.save

    def second_fails(document: Document, **more: Any) -> None:
        if document.label == "b.txt":
            raise OperationalError("the database went away")
        real(document, **more)

    monkeypatch.setattr(Document, "save", second_fails)
    refused(ann.put("b", ("a.txt", b"new"), ("b.txt", b"newer")), 503, "storage_unavailable")
    assert (ann.text("b"), sorted(stored_paths())) == (before, paths)


def test_many_readers_convert_a_file_once(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "READING_SECONDS", -1.0)
    ann.put("b", ("a.csv", b"x,y\n1,2\n"))
    read: list[str] = []
    real = run.convert

    def counted(sort: Any, *given: Any, **more: Any) -> Any:
        read.append(sort)
        return real(sort, *given, **more)

    monkeypatch.setattr(run, "convert", counted)
    with ThreadPoolExecutor(6) as pool:
        texts = list(pool.map(lambda _: ann.text("b"), range(6)))
    assert all("| 1 | 2 |" in text for text in texts)
    assert read == ["table"]


def test_what_finds_nobody_to_read_it_waits(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WAIT_SECONDS", 0.01)
    for _ in range(run.AT_ONCE):
        run._places.acquire()
    try:
        assert ann.put("b", ("a.csv", b"x,y\n1,2\n")).json()["files"] == ["a.csv.md"]
        refused(ann.ask("GET", f"{BASE}/b"), 503, "conversion_busy")
    finally:
        for _ in range(run.AT_ONCE):
            run._places.release()
    assert "| 1 | 2 |" in ann.text("b")


def test_equal_content_is_stored_once(ann: Person, ben: Person, stored_paths: Callable[[], list[str]]) -> None:
    ann.put("b", ("a.txt", b"the same"), ("c.txt", b"the same"))
    assert len(stored_paths()) == 1
    ben.put("b", ("a.txt", b"the same"))
    assert len(stored_paths()) == 2
    ann.ask("DELETE", f"{BASE}/b")
    assert "the same" in ben.text("b")


def test_reading_deletes_only_what_it_is_asked_to(ann: Person) -> None:
    ann.put("b", ("a.txt", b"one"), ("b.csv", b"x,y\n1,2\n"), ("c.png", picture()))
    whole = ann.text("b")
    for value in ("", "false", "0"):
        assert not any(frame["action"] == "delete_files" for frame in ann.frames("b", delete_files=value))
    assert Document.objects.filter(original=None).count() == 0
    frames = ann.frames("b", delete_files="true")
    assert [frame["action"] for frame in frames][-2:] == ["delete_files", "done"]
    assert [document.label for document in Document.objects.filter(original=None)] == ["b.csv"]
    assert ann.text("b") == whole


def test_a_link_elsewhere_cannot_make_a_browser_delete(gateway: LiveGateway, ann: Person) -> None:
    from django.test import Client

    ann.put("b", ("b.csv", b"x,y\n1,2\n"))
    session = Client()
    session.force_login(ann.user)
    cookies = {name: morsel.value for name, morsel in session.cookies.items()}
    url = f"{gateway.url}{BASE}/b"
    for site in ("cross-site", "none", None):
        headers = {"sec-fetch-site": site} if site else {}
        answer = httpx.get(url, params={"delete_files": "true"}, cookies=cookies, headers=headers)
        refused(answer, 403, "csrf_failed")
    assert httpx.get(url, cookies=cookies).status_code == 200
    assert httpx.post(url, files={"files": ("a.txt", b"x")}, cookies=cookies).status_code == 403
    answer = httpx.get(url, params={"delete_files": "true"}, cookies=cookies, headers={"sec-fetch-site": "same-origin"})
    assert answer.status_code == 200


def test_large_texts_show_progress(ann: Person) -> None:
    ann.put("b", ("a.txt", "ü".encode() * 1_500_000))
    frames = ann.frames("b")
    sizes = [frame["size"] for frame in frames if frame["action"] == "load"]
    assert len(sizes) >= 10
    assert sizes == sorted(sizes)
    assert sizes[-1] == frames[-1]["size"] > 3_000_000


def test_what_was_late_is_read_with_the_bucket(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "READING_SECONDS", -1)
    assert ann.put("b", ("a.csv", b"x,y\n1,2\n"), ("b.ipynb", b"{}")).json()["files"] == ["a.csv.md", "b.ipynb.md"]
    assert set(Document.objects.values_list("state", flat=True)) == {"waiting"}
    assert "| 1 | 2 |" in ann.text("b")
    assert dict(Document.objects.values_list("label", "state")) == {"a.csv": "read", "b.ipynb": "failed"}
    assert Document.objects.get(label="b.ipynb").error
    assert ann.frames("b")[-1]["action"] == "done"


def test_a_picture_says_what_it_is_and_not_where_it_was_taken(ann: Person) -> None:
    exif = Image.Exif()
    exif[270], exif[271], exif[306] = "Our\nhouse\x1b", "Acme", "2026:11:20 10:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[29] = "2026:11:20"
    ann.put("b", ("c.jpg", picture("JPEG", (30, 20), exif=exif)))
    words = "Format: JPEG\nSize: 30 x 20\nDescription: Our house\nMake: Acme\nDate: 2026:11:20 10:00:00"
    assert ann.text("b") == f"<!-- File: c.jpg.md -->\n{words}\n<-- End -->\n\n"
    assert ann.frames("b")[-2:] == [{"action": "media", "filename": "c.jpg"}, {"action": "done", "size": 124}]
    assert Image.open(BytesIO(ann.ask("GET", "/files/b/media/c.jpg").content)).getexif() == {}
    assert usage_of(ann.user.pk)[1] == 1
    # One that takes the other's place brings its own words.
    ann.put("b", ("c.jpg", picture("JPEG", (9, 9))))
    assert ann.text("b") == "<!-- File: c.jpg.md -->\nFormat: JPEG\nSize: 9 x 9\n<-- End -->\n\n"


def test_a_bucket_of_sound_has_no_text(ann: Person) -> None:
    ann.put("b", ("c.wav", wav()))
    assert ann.text("b") == ""
    assert ann.frames("b") == [{"action": "media", "filename": "c.wav"}, {"action": "done", "size": 0}]


def test_silence_is_broken(ann: Person, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.HEARTBEAT_SECONDS = 0.2
    monkeypatch.setattr(buckets, "READING_SECONDS", -1)
    ann.put("b", ("a.csv", b"x,y\n1,2\n"))
    slow = run.convert
    monkeypatch.setattr("media.convert.run.convert", lambda *given: (time.sleep(0.7), slow(*given))[1])
    answer = ann.ask("GET", f"{BASE}/b/stream")
    assert ": waiting\n\n" in answer.text


def test_a_missing_file_ends_the_stream_with_an_error(ann: Person) -> None:
    ann.put("b", ("a.txt", b"one"), ("b.txt", b"two"))
    default_storage.delete(StoredFile.objects.get(label="b.txt").blob.path)
    frames = ann.frames("b")
    assert frames[-1]["error"]["code"] == "file_not_found"
    with pytest.raises(httpx.RemoteProtocolError):
        ann.ask("GET", f"{BASE}/b")


def test_a_long_text_is_made_shorter_when_asked(ann: Person) -> None:
    lines = [f"The otter number {at} swims in river {at % 7}." for at in range(400)] + ["Nothing more."]
    ann.put("b", ("a.txt", " ".join(lines).encode()))
    whole, short = ann.text("b"), ann.text("b", refine_chunks_with_spacy="true")
    assert 1000 < len(short) < len(whole) / 2
    assert all(line in whole for line in short.splitlines())
    frames = ann.frames("b", refine_chunks_with_spacy="1")
    assert frames[0]["action"] == "refine"
    assert frames[-1] == {"action": "done", "size": len(short.encode())}


def test_what_is_too_long_to_be_made_shorter_is_cut_with_a_notice(ann: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.surfaces.files.reading.MAX_REFINED", 3000)
    ann.put("b", ("a.txt", b"A sentence with words. " * 100), ("b.txt", b"Another one of words. " * 100))
    assert ann.text("b", refine_chunks_with_spacy="true").endswith("more text than is made shorter in one go.]\n")
    monkeypatch.setattr("gateway.surfaces.files.reading.MAX_REFINED", 30_000)
    assert "[Cut here" not in ann.text("b", refine_chunks_with_spacy="true")


def test_odd_methods_names_and_ids(ann: Person) -> None:
    assert ann.ask("PUT", f"{BASE}/b").status_code == 405
    assert ann.ask("POST", f"{BASE}/b/stream").status_code == 405
    assert ann.ask("OPTIONS", f"{BASE}/b").status_code == 204
    assert refused(ann.put("b" * 256, ("a.txt", b"x")), 400, "invalid_value")["param"] == "bucket_id"
    assert ann.put("ü%20b", ("../../a\r\nb.txt", b"x")).status_code == 200
    assert ann.ask("GET", f"{BASE}/ü%20b").text.startswith("<!-- File: a")
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename=""\r\n'
    part = head + b"Content-Type: text/csv\r\n\r\na,b\r\n--x--\r\n"
    answer = ann.ask("POST", f"{BASE}/n", content=part, headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.json()["files"] == ["file.csv.md"]


def test_a_key_for_another_door_is_refused(gateway: LiveGateway, ann: Person) -> None:
    ann.put("b", ("c.png", picture()))
    [own] = store_of(ann, "drawn.png")
    files = ("/files/b/media/c.png", "/files/b/thumbnail/c.png", "/search/image")
    for surface in ("v1", "api"):
        headers = gateway.auth(gateway.make_key(ann.user, surface, surfaces=[surface]))
        for path in (f"{BASE}/b", "/files/b", "/files/b/stream", *files):
            refused(gateway.http.get(path, headers=headers), 403, "surface_not_allowed")
        # What was drawn is told as such an address.
        for place in ("media", "images", "thumbnail"):
            assert gateway.http.get(f"/{place}/{own.name}", headers=headers).status_code == 200
    headers = gateway.auth(gateway.make_key(ann.user, "backend", surfaces=["backend"]))
    for path in (f"{BASE}/b", "/files/b", f"/media/{own.name}", *files):
        assert gateway.http.get(path, headers=headers).status_code in (200, 302)


# Addresses.


PAGES: dict[str, tuple[str, bytes]] = {
    "/": (
        "text/html",
        b"<html><p>start <a href='/one'>1</a> <a href='/two#x'>2</a> <a href='https://else.test/'>e</a>",
    ),
    "/one": ("text/html", b"<html><p>page one <a href='/three'>3</a> <a href='/'>back</a>"),
    "/two": ("text/plain", b"page two"),
    "/three": ("text/html", b"<html><p>page three <a href='/four'>4</a>"),
    "/four": ("text/html", b"<html><p>page four"),
}


@pytest.fixture
def site(settings: Any) -> Iterator[tuple[str, list[str]]]:
    """A small site on this machine, and what was asked of it."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            kind, body = PAGES.get(self.path, ("text/plain", b""))
            self.send_response(200 if body else 404)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *given: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings.FETCH_PORTS = frozenset({server.server_port})
        settings.FETCH_PRIVATE_HOSTS = frozenset({"127.0.0.1"})
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def wanted(*items: Any) -> tuple[str, bytes]:
    return "downloads.json", json.dumps(items).encode()


def test_addresses_are_fetched_once_as_deep_as_asked(ann: Person, site: tuple[str, list[str]]) -> None:
    url, asked = site
    assert ann.put("b", wanted({"urls": [f"{url}/"], "max_depth": 1}, {"url": f"{url}/gone"})).status_code == 200
    assert asked == []
    frames = ann.frames("b")
    assert [frame["count"] for frame in frames if frame["action"] == "download"][-1] == 3
    assert sorted(asked) == ["/", "/gone", "/one", "/two"]
    text = ann.text("b")
    assert f"<!-- File: {url}/two -->\npage two\n<-- End -->" in text
    assert "page one" in text
    assert "page three" not in text
    assert len(asked) == 4


def test_many_readers_fetch_a_page_once(ann: Person, site: tuple[str, list[str]]) -> None:
    url, asked = site
    ann.put("b", wanted({"urls": [f"{url}/one", f"{url}/two"]}))
    with ThreadPoolExecutor(6) as pool:
        texts = list(pool.map(lambda _: ann.text("b"), range(6)))
    assert all("page one" in text and "page two" in text for text in texts)
    assert sorted(asked) == ["/one", "/two"]


def test_depth_is_bounded(ann: Person, site: tuple[str, list[str]]) -> None:
    url, asked = site
    ann.put("b", wanted({"url": f"{url}/", "max_depth": 99}))
    ann.text("b")
    assert "/three" in asked
    assert "/four" not in asked


def test_addresses_inside_are_refused(ann: Person, site: tuple[str, list[str]], settings: Any) -> None:
    url, asked = site
    settings.FETCH_PRIVATE_HOSTS = frozenset()
    ann.put("b", wanted({"url": f"{url}/"}, {"url": "file:///etc/passwd"}))
    assert ann.frames("b")[-1] == {"action": "done", "size": 0}
    assert asked == []
    assert "private network" in Document.objects.get().error


@pytest.mark.parametrize("data", [b"{}", b"[]", b"[1]", b'[{"url": 1}]', b'[{"urls": "x"}]', b"[" * 9999, b"no"])
def test_other_lists_are_texts(data: bytes) -> None:
    assert downloads.parsed(data) is None


def test_a_list_of_addresses_is_bounded() -> None:
    found = downloads.parsed(json.dumps([{"urls": [f"http://a/{at}" for at in range(99)], "max_depth": True}]).encode())
    assert found is not None
    assert len(found.addresses) == downloads.MAX_ADDRESSES
    assert found.addresses[0] == ("http://a/0", 1)


def test_a_hanging_document_is_one_files_422_and_the_server_lives(
    ann: Person, gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.DOCUMENTS_PYTHON = ""
    monkeypatch.setattr(run, "BOOT", "import time; time.sleep(30) # {root!r}")
    real = run.convert
    monkeypatch.setattr("media.convert.run.convert", lambda sort, file, folder, *_: real(sort, file, folder, 1))
    refused(ann.put("b", ("a.pdf", documents.pdf())), 422, "unreadable_file")
    assert gateway.http.get("/health").status_code == 200
    assert kept(ann.user) == (0, 0, 0)


# Media and search.


def test_media_are_served_to_their_owner_alone(ann: Person, ben: Person, gateway: LiveGateway) -> None:
    ann.put("b", ("c d.png", picture(size=(900, 600))), ("a.txt", b"x"))
    whole = ann.ask("GET", "/files/b/media/c%20d.png")
    assert (whole.status_code, whole.headers["content-type"]) == (200, "image/png")
    assert whole.headers["cache-control"] == "private, no-cache"
    small = ann.ask("GET", "/files/b/thumbnail/c%20d.png")
    assert small.status_code == 200
    assert len(small.content) < len(whole.content)
    etag = whole.headers["etag"]
    assert ann.ask("GET", "/files/b/media/c%20d.png", headers={"if-none-match": etag}).status_code == 304
    part = ann.ask("GET", "/files/b/media/c%20d.png", headers={"range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, whole.content[:10])
    missing = refused(ann.ask("GET", "/files/b/media/none.png"), 404, "file_not_found")
    for kind in ("media", "thumbnail"):
        assert refused(ben.ask("GET", f"/files/b/{kind}/c%20d.png"), 404, "file_not_found") == missing
        stranger = gateway.http.get(
            f"/files/b/{kind}/c%20d.png", params={"signature": "0" * 64, "expires": "99999999999"}
        )
        refused(stranger, 401, "invalid_api_key")
    refused(ann.ask("GET", "/files/b/media/a.txt"), 404, "file_not_found")
    for method in ("GET", "HEAD"):
        odd = ann.ask(method, "/files/b/other/c%20d.png")
        assert odd.status_code == 400
    assert refused(ann.ask("GET", "/files/b/other/c%20d.png"), 400, "invalid_value")["message"] == "Invalid file type."
    assert gateway.http.get("/files/b/other/c%20d.png").status_code == 401
    ann.put("b", ("c d.png", picture(size=(30, 30))))
    assert ann.ask("GET", "/files/b/media/c%20d.png", headers={"if-none-match": etag}).status_code == 200


def store_of(person: Person, *labels: str) -> list[StoredFile]:
    from media.store import keep

    return [
        keep(person.user.pk, picture(mark=(at, 7, 7)), label=label, source="generated", prompt=f"a {label}")
        for at, label in enumerate(labels)
    ]


def hits(person: Person, terms: str, **query: Any) -> list[str]:
    answer = person.ask("GET", f"/search/{terms}", params=query, headers={"accept": "application/json"})
    assert answer.status_code == 200, answer.text
    return [item["label"] for item in answer.json()["data"]]


def test_search_leads_to_ones_own_files(ann: Person, ben: Person) -> None:
    fox, otter, other = store_of(ann, "Red Fox.png", "red otter.png", "100%_sure.png")
    ann.put("b", ("red.csv", b"a,b\n"))
    answer = ann.ask("GET", "/search/image+RED")
    assert (answer.status_code, answer.headers["location"]) == (302, f"/media/{otter.name}")
    assert answer.headers["cache-control"] == "no-store"
    assert ann.ask("GET", "/search/image+red", params={"skip": 1}).headers["location"] == f"/media/{fox.name}"
    refused(ann.ask("GET", "/search/image+red", params={"skip": 2}), 404, "file_not_found")
    refused(ben.ask("GET", "/search/image+red"), 404, "file_not_found")
    assert hits(ann, "red") == ["red.csv", "red otter.png", "Red Fox.png"]
    assert hits(ann, "png+red") == ["red otter.png", "Red Fox.png"]
    assert hits(ann, "100%25_") == hits(ann, "%25") == [other.label]
    assert hits(ann, "r_d") == hits(ann, "nothing") == hits(ben, "red") == []
    assert len(hits(ann, "red+otter+image", min=2)) == 2
    store_of(ben, "red secret.png")
    assert hits(ann, "secret") == []


def test_search_by_chance(ann: Person) -> None:
    files = {f"/media/{file.name}" for file in store_of(ann, *(f"{at}.png" for at in range(8)))}
    places = {ann.ask("GET", "/search/png", params={"random": "true"}).headers["location"] for _ in range(30)}
    assert len(places) > 1
    assert places <= files
    seeded = {ann.ask("GET", "/search/png", params={"random": "seed"}).headers["location"] for _ in range(5)}
    assert len(seeded) == 1
    refused(ann.ask("GET", "/search/none", params={"random": "1"}), 404, "file_not_found")


def test_pages_of_hits(ann: Person) -> None:
    store_of(ann, *(f"{at}.png" for at in range(7)))
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        body = ann.ask("GET", "/search/png", params=query, headers={"accept": "application/json"}).json()
        seen += [item["label"] for item in body["data"]]
        if not body["has_more"]:
            break
        query["after"] = body["last_id"]
    assert seen == [f"{at}.png" for at in reversed(range(7))]
    assert set(body["data"][0]) >= {"id", "url", "content_type", "size", "prompt", "created"}


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/search/png?skip=x", "skip"), ("/search/png?skip=-1", "skip"), ("/search/png?skip=%C2%B2", "skip"),
        ("/search/png?min=x", "min"), ("/search/png?limit=101", "limit"), ("/search/png?after=x", "after"),
        ("/search/png?after=00000000-0000-0000-0000-000000000000", "after"), ("/search/+", "terms"),
        (f"/search/{'x' * 201}", "terms"), (f"/search/{'+'.join('abcdefghijk')}", "terms"),
    ],
)  # fmt: skip
def test_odd_searches_are_refused(ann: Person, path: str, param: str) -> None:
    answer = ann.ask("GET", path, headers={"accept": "application/json"})
    assert refused(answer, 400, "invalid_value")["param"] == param
