"""Files over HTTP: whose they are, which part is sent, what a browser may do with them, and signed addresses."""

from __future__ import annotations

import re
import socket
import threading
import time
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
from django.core.signing import TimestampSigner
from django.test import Client
from django.utils.crypto import salted_hmac
from PIL import Image

from media import links
from media.models import StoredFile
from media.store import keep, remove
from tests.people import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import User

    from tests.support.gateway import LiveGateway

pytestmark = pytest.mark.django_db(transaction=True)
ROUTES = ("media", "images", "thumbnail")
TEXT = bytes(range(32, 127)) * 100


@pytest.fixture(autouse=True)
def _own_folder(stored_paths: Any) -> None:
    """Each test has a storage of its own."""


@pytest.fixture
def get(gateway: LiveGateway, alice: User) -> Callable[..., Any]:
    """Asks as Alice, or with the credentials given."""
    key = gateway.make_key(alice)

    def ask(path: str, method: str = "GET", *, key: str | None = key, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return gateway.http.request(method, path, headers={**({"x-api-key": key} if key else {}), **named})

    return ask


@pytest.fixture
def text(alice: User) -> StoredFile:
    return keep(alice.pk, TEXT, label="notes.txt", source="upload")


@pytest.fixture
def photo(alice: User, picture: Any) -> StoredFile:
    return keep(
        alice.pk, picture("JPEG", (900, 600)), label="photo.jpg", source="generated", prompt="A red fox, running"
    )


def code(response: Any) -> Any:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error["code"]


class TestWhoMaySee:
    def test_the_owner_by_any_credential_and_nobody_else(
        self, gateway: LiveGateway, get: Any, photo: StoredFile, alice: User, bob: User
    ) -> None:
        key, others = gateway.make_key(alice), gateway.make_key(bob)
        for path in [f"/{route}/{photo.name}" for route in ROUTES]:
            for headers in ({"authorization": f"Bearer {key}"}, {"g4f_api_key": key}, {"x_api_key": key}):
                assert get(path, key=None, **headers).status_code == 200
            for method in ("GET", "HEAD"):
                assert get(path, method, key=None).status_code == 401
                assert get(path, method, key="sk-wrong").status_code == 401
                assert get(path, method, key=others).status_code == 404
            missing = get("/media/1_none_00.png", key=others)
            assert get(path, key=others).json() == missing.json()
            assert code(missing) == "file_not_found"
            assert code(get(path, key=None)) == "invalid_api_key"
            assert get(path, key=others).headers["cache-control"] == "no-store"

    def test_a_browsers_session(self, gateway: LiveGateway, photo: StoredFile, alice: User, bob: User) -> None:
        assert gateway.key
        for user, status in ((alice, 200), (bob, 404)):
            client = Client()
            assert client.login(username=user.username, password=PASSWORD)
            cookie = f"sessionid={client.cookies['sessionid'].value}"
            answer = gateway.http.get(links.session_path(photo), headers={"cookie": cookie})
            assert answer.status_code == status
        assert photo.name.startswith(f"{int(photo.created_at.timestamp())}_a-red-fox-running_")

    def test_strangers_are_none_where_anonymous_access_is_allowed(self, get: Any, photo: Any, settings: Any) -> None:
        settings.ANONYMOUS_ACCESS = True
        assert get(f"/media/{photo.name}", key=None).status_code == 404

    def test_folders_and_paths_of_the_disk_are_404(self, get: Any, text: StoredFile) -> None:
        paths = ["", "/", "/.", "/../db.sqlite3", "/%2e%2e/db.sqlite3", "/..%2fdb.sqlite3", "/%00", "/a%00b", "/a/b"]
        for route in ROUTES:
            for path in [*paths, "/é", "/%ff", "/" + "a" * 3000]:
                assert get(f"/{route}{path}").status_code == 404, path

    def test_a_file_has_no_other_address(self, get: Any, text: StoredFile) -> None:
        for name in (text.blob.path, text.label, str(text.pk), text.sha256, f"{text.name}/"):
            assert get(f"/media/{name}").status_code == 404

    def test_reading_is_all(self, get: Any, text: StoredFile) -> None:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = get(f"/media/{text.name}", method)
            assert (answer.status_code, code(answer)) == (405, "method_not_supported")
        assert StoredFile.objects.count() == 1

    def test_what_was_deleted_is_gone(self, get: Any, text: StoredFile) -> None:
        signed = links.signed_url(text, "")
        remove(text)
        assert get(f"/media/{text.name}").status_code == get(signed, key=None).status_code == 404


class TestSignedAddresses:
    def test_it_is_enough_by_itself(self, gateway: LiveGateway, get: Any, photo: StoredFile, bob: User) -> None:
        url = links.signed_url(photo, gateway.url)
        for key in (None, "sk-wrong", gateway.make_key(bob)):
            answer = get(url, key=key)
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
            assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        small = links.signed_url(photo, gateway.url, path=links.thumbnail_path(photo))
        assert get(small, key=None).status_code == 200

    def test_one_letter_changed_is_403(self, get: Any, text: StoredFile) -> None:
        url = links.signed_url(text, "")
        path, query = url.split("?")
        for index in (len("expires="), len("expires=") + 9, len(query) - 1, len(query) - 64):
            changed = query[:index] + ("1" if query[index] != "1" else "2") + query[index + 1 :]
            answer = get(f"{path}?{changed}", key=None)
            assert (answer.status_code, code(answer)) == (403, "invalid_signature")

    def test_another_path_is_403(self, get: Any, text: StoredFile, photo: StoredFile) -> None:
        query = links.signed_url(text, "").split("?")[1]
        for path in (f"/media/{photo.name}", f"/thumbnail/{text.name}", f"/images/{text.name}", "/media/none.png"):
            assert get(f"{path}?{query}", key=None).status_code == 403

    def test_after_its_time_it_is_403(self, get: Any, text: StoredFile) -> None:
        assert get(links.signed_url(text, "", seconds=60), key=None).status_code == 200
        for seconds in (0, -1, -3600):
            answer = get(links.signed_url(text, "", seconds=seconds), key=None)
            assert (answer.status_code, code(answer)) == (403, "invalid_signature")
            assert "no longer valid" in answer.json()["error"]["message"]

    def test_tokens_for_other_uses_are_none(self, get: Any, text: StoredFile) -> None:
        path, expires = links.session_path(text), int(time.time()) + 100
        others = [
            salted_hmac("g4fsite.share", f"{path}\n{expires}", algorithm="sha256").hexdigest(),
            salted_hmac("g4fsite.resume", f"{path}\n{expires}", algorithm="sha256").hexdigest(),
            TimestampSigner(salt="g4fsite.media").sign(path),
            "",
            "é\x00",
            "0" * 64,
        ]
        for token in others:
            answer = get(f"{path}?expires={expires}&signature={quote(token)}", key=None)
            assert answer.status_code == 403

    def test_halves_are_403_even_for_the_owner(self, get: Any, text: StoredFile) -> None:
        queries = ["signature=x", "expires=1", "expires=-1&signature=", "expires=" + "9" * 20 + "&signature=a"]
        for query in [*queries, "expires=²&signature=a"]:
            assert get(f"/media/{text.name}?{query}").status_code == 403

    def test_those_of_a_deactivated_user_are_over(self, get: Any, text: StoredFile, alice: User) -> None:
        url = links.signed_url(text, "")
        alice.is_active = False
        alice.save()
        assert get(url, key=None).status_code == 404

    def test_the_base_is_the_requests_or_the_public_one(self, settings: Any) -> None:
        scope = {"scheme": "http", "headers": [(b"host", b"localhost:80"), (b"x-forwarded-proto", b"https")]}
        assert links.base_of(scope) == "http://localhost:80"
        settings.TRUSTED_PROXIES = 1
        assert links.base_of(scope) == "https://localhost:80"
        settings.PUBLIC_URL = "https://ai.example.org"
        assert links.base_of(scope) == "https://ai.example.org"


class TestParts:
    def test_one_range_or_all(self, get: Any, text: StoredFile) -> None:
        parts = [
            ("bytes=0-0", 0, 1), ("bytes=5-9", 5, 10), ("bytes=9490-", 9490, 9500), ("bytes=-10", 9490, 9500),
            ("bytes=9000-99999999", 9000, 9500), ("bytes=-99999999", 0, 9500), ("bytes= 5 - 9", 5, 10),
        ]  # fmt: skip
        wholes = ["bytes=5-4", "bytes=-", "bytes=a-b", "rows=0-1", "", "bytes=９-", "bytes=" + "9" * 4000 + "-"]
        for asked, start, end in [*parts, *((asked, 0, 9500) for asked in wholes)]:
            begun = time.monotonic()
            answer = get(f"/media/{text.name}", range=asked.encode())
            assert time.monotonic() - begun < 1
            assert (answer.status_code, answer.content) == (200 if asked in wholes else 206, TEXT[start:end]), asked
            assert answer.headers["content-length"] == str(end - start)
            assert answer.headers.get("content-range") == (None if asked in wholes else f"bytes {start}-{end - 1}/9500")

    def test_behind_the_end_and_several_are_416(self, get: Any, text: StoredFile) -> None:
        several = ("bytes=0-0,2-3", "bytes=" + "0-0," * 100, "bytes=,", "bytes = 0-0 , 2-3")
        for asked in ("bytes=9500-", "bytes=9500-9600", "bytes=-0", *several):
            begun = time.monotonic()
            answer = get(f"/media/{text.name}", range=asked)
            assert time.monotonic() - begun < 1
            assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */9500"), asked
            # The next question about the same address may be another.
            assert answer.headers["cache-control"] == "no-store"
        assert get(f"/media/{text.name}", range="bytes=0-0,2-3", if_range='"other"').status_code == 200

    def test_a_head_has_all_but_the_body(self, get: Any, text: StoredFile) -> None:
        whole, head = get(f"/media/{text.name}"), get(f"/media/{text.name}", "HEAD")
        for name in ("content-length", "content-type", "etag", "last-modified", "accept-ranges", "cache-control"):
            assert head.headers[name] == whole.headers[name]
        assert head.content == b""
        assert get(f"/media/{text.name}", "HEAD", range="bytes=0-4").headers["content-length"] == "5"

    def test_a_head_asks_the_storage_for_no_bytes(self, get: Any, text: StoredFile, monkeypatch: Any) -> None:
        from django.core.files.storage import default_storage

        opened: list[str] = []
        storage = type(default_storage._wrapped)
        real = storage.part

        def counted(self: Any, name: str, *span: int) -> Any:
            opened.append(name)
            return real(self, name, *span)

        monkeypatch.setattr(storage, "part", counted)
        assert get(f"/media/{text.name}", "HEAD").status_code == 200
        assert opened == []
        assert get(f"/media/{text.name}").status_code == 200
        assert opened == [text.blob.path]
        default_storage.delete(text.blob.path)
        assert get(f"/media/{text.name}", "HEAD").status_code == 404

    def test_what_the_client_has_is_not_sent_again(self, get: Any, text: StoredFile) -> None:
        path, first = f"/media/{text.name}", get(f"/media/{text.name}")
        etag, modified = first.headers["etag"], first.headers["last-modified"]
        assert etag == f'"{text.sha256}"'
        for headers in (
            {"if_none_match": etag}, {"if_none_match": "*"}, {"if_none_match": f'"x", W/{etag}'},
            {"if_modified_since": modified},
            {"if_none_match": etag, "range": "bytes=0-1"},
        ):  # fmt: skip
            answer = get(path, **headers)
            assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
            assert answer.headers["cache-control"].startswith("private")
        assert get(path, if_none_match='"x"', if_modified_since=modified).status_code == 200
        # Not even that it has not changed is for others.
        assert get(path, key=None, if_none_match=etag).status_code == 401

    def test_a_part_is_sent_only_of_what_the_client_began_with(self, get: Any, text: StoredFile) -> None:
        path, first = f"/media/{text.name}", get(f"/media/{text.name}")
        for value, status in (
            (first.headers["etag"], 206), (first.headers["last-modified"], 206), ('"other"', 200),
            (f"W/{first.headers['etag']}", 200),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 200), ("nonsense", 200),
        ):  # fmt: skip
            assert get(path, range="bytes=0-1", if_range=value).status_code == status


class TestWhatABrowserMayDo:
    def test_what_may_run_is_for_the_disk(self, get: Any, alice: User) -> None:
        files = [
            (b"<!doctype html><script>alert(1)</script>", "text/html", "text/html; charset=utf-8"),
            (b'<svg onload="alert(1)"/>', "image/svg+xml", "text/plain; charset=utf-8"),
            (b'<?xml version="1.0"?><a/>', "text/xml", "text/xml; charset=utf-8"),
            (b"%PDF-1.4 \n%%EOF", "image/png", "application/pdf"),
            (b"alert(1)", "image/png", "text/plain; charset=utf-8"),
            (b"PK\x03\x04" + bytes(60), "image/png", "application/zip"),
        ]
        for data, declared, sent in files:
            stored = keep(alice.pk, data, label="innocent.png", source="upload", content_type=declared)
            for route in ROUTES:
                answer = get(f"/{route}/{stored.name}")
                assert (answer.status_code, answer.content) == (200, data)
                assert answer.headers["content-type"] == sent
                assert answer.headers["content-disposition"].startswith("attachment")
                self.confined(answer)

    def confined(self, answer: Any) -> None:
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"

    def test_pictures_are_shown(self, get: Any, alice: User, picture: Any) -> None:
        for kind in ("PNG", "JPEG", "GIF", "WEBP"):
            stored = keep(alice.pk, picture(kind), label="lies.html", source="upload", content_type="text/html")
            answer = get(f"/media/{stored.name}")
            assert answer.headers["content-type"] == f"image/{kind.lower()}"
            assert answer.headers["content-disposition"].startswith("inline")
            assert Image.open(BytesIO(answer.content)).format == kind
            self.confined(answer)

    def test_sound_is_played(self, get: Any, alice: User) -> None:
        stored = keep(alice.pk, b"ID3\x03\x00" + bytes(100), label="a.mp3", source="generated")
        answer = get(f"/media/{stored.name}")
        assert answer.headers["content-type"] == "audio/mpeg"
        assert answer.headers["content-disposition"] == 'inline; filename="a.mp3"'

    def test_names_are_one_header_line(self, get: Any, alice: User) -> None:
        labels = [
            'a"b\r\nX: 1',
            "\u202egnp.exe",
            "x" * 300 + ".txt",
            "ä ö.txt",
            "a;b=c.txt",
            "\\",
            "",
            "\x00\x7f",
            "\ud800",
        ]
        quoted, extended = r'filename="(?:[ !#-\[\]-~]|\\["\\])*"', r"filename\*=utf-8''[A-Za-z0-9!#$&+.^_`|~%()*-]+"
        for label in [*labels, "\ud800"]:
            stored = keep(alice.pk, b"text", label=label, source="upload")
            answer = get(f"/media/{stored.name}")
            assert answer.status_code == 200
            (value,) = answer.headers.get_list("content-disposition")
            assert re.fullmatch(rf"attachment; (?:{quoted}|{extended})", value), value
            assert "\u202e" not in stored.label
            assert len(stored.label) <= 255
            assert "x" not in answer.headers
            assert stored.label.endswith(".txt") == label.endswith(".txt")

    def test_metadata_of_cameras_never_leaves(self, get: Any, alice: User, picture: Any) -> None:
        from tests.media.test_pictures import secret_exif

        data = picture("JPEG", (900, 600), exif=secret_exif(6))
        assert b"MARKED-PLACE" in data
        stored = keep(alice.pk, data, label="a.jpg", source="upload")
        for route in ROUTES:
            served = get(f"/{route}/{stored.name}").content
            assert b"MARKED" not in served
            assert not Image.open(BytesIO(served)).getexif()


class TestThumbnails:
    def test_it_is_made_once_and_kept(self, get: Any, photo: StoredFile, stored_paths: Any) -> None:
        first, again = get(f"/thumbnail/{photo.name}"), get(f"/thumbnail/{photo.name}")
        image = Image.open(BytesIO(first.content))
        assert (image.size, first.headers["content-type"]) == ((400, 267), "image/webp")
        assert first.content == again.content
        assert first.headers["etag"] == again.headers["etag"] != f'"{photo.sha256}"'
        assert first.headers["content-disposition"] == 'inline; filename="photo.webp"'
        assert len(stored_paths()) == 2
        assert get(f"/thumbnail/{photo.name}", if_none_match=first.headers["etag"]).status_code == 304
        assert get(f"/thumbnail/{photo.name}", range="bytes=0-3").content == b"RIFF"

    def test_small_pictures_and_other_files_are_sent_themselves(
        self, get: Any, alice: User, text: StoredFile, picture: Any
    ) -> None:
        small = keep(alice.pk, picture(), label="s.png", source="upload")
        for stored in (small, text):
            assert get(f"/thumbnail/{stored.name}").content == get(f"/media/{stored.name}").content

    def test_it_goes_with_its_picture(self, get: Any, photo: StoredFile, stored_paths: Any) -> None:
        get(f"/thumbnail/{photo.name}")
        remove(photo)
        assert stored_paths() == []


class TestLargeFiles:
    def test_a_client_that_does_not_read_holds_nobody_up(self, gateway: LiveGateway, alice: User, get: Any) -> None:
        """Forty readers that stop after the head, and one that wants a file now."""
        stored = keep(alice.pk, b"0123456789abcdef" * (1024 * 1024), label="large.txt", source="upload")
        url = urlsplit(links.signed_url(stored, gateway.url))
        head = f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        threads, idle = threading.active_count(), []
        for _ in range(40):
            connection = socket.create_connection((url.hostname or "", url.port or 0))
            connection.sendall(head)
            idle.append(connection)
        try:
            begun = time.monotonic()
            answer = get(f"/media/{stored.name}")
            assert len(answer.content) == stored.size
            assert time.monotonic() - begun < 5
            for connection in idle:
                assert connection.recv(12) == b"HTTP/1.1 200"
            # Those that read from the disk, and none for each reader.
            assert threading.active_count() - threads < 30
        finally:
            for connection in idle:
                connection.close()

    def test_a_file_whose_bytes_are_gone_is_404(self, get: Any, text: StoredFile) -> None:
        from django.core.files.storage import default_storage

        default_storage.delete(text.blob.path)
        answer = get(f"/media/{text.name}")
        assert (answer.status_code, code(answer)) == (404, "file_not_found")


def test_the_schema_has_the_routes(gateway: LiveGateway) -> None:
    schema = gateway.http.get("/schema/", headers=gateway.auth()).json()
    for route in ROUTES:
        assert "200" in schema["paths"][f"/{route}/{{name}}"]["get"]["responses"]
