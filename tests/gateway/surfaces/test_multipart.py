"""Forms are read whole, however they are cut into pieces, or refused with a reason; nothing of them stays behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import BadRequest, GatewayError
from gateway.surfaces.exchange import ClientLeft
from gateway.surfaces.multipart import Bounds, Form, FormReader, clean_name, read_form

KIND = b"multipart/form-data; boundary=xyz"


def encoded(**form: Any) -> tuple[bytes, bytes]:
    """Content type and body as httpx, and so OpenAI's client, writes them."""
    request = httpx.Request("POST", "http://x.test", **form)
    return request.headers["content-type"].encode(), request.read()


def read(kind: bytes, body: bytes, size: int = 65536, bounds: Bounds | None = None) -> Form:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    return asyncio.run(read_form(kind, pieces(), bounds))


def part(name: str, value: bytes, *, filename: str | None = None, more: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    return f'--xyz\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{more}\r\n'.encode() + value + b"\r\n"


END = b"--xyz--\r\n"


def refused(body: bytes, kind: bytes = KIND, bounds: Bounds | None = None) -> GatewayError:
    with pytest.raises(BadRequest) as caught:
        read(kind, body, bounds=bounds)
    return caught.value


@pytest.mark.parametrize("size", [1, 7, 65536, 1 << 20])
def test_a_form_is_the_same_in_pieces_of_any_size(size: int) -> None:
    picture = os.urandom(3000) + b"\r\n--xy\r\n--" + b"\r" * 500
    kind, body = encoded(
        data={"prompt": "Zwei Füchse 🦊", "tag[]": ["a", "b"]},
        files=[("image[]", ("a.png", picture, "image/png")), ("image[]", ("b.png", b"", "image/png"))],
    )
    with read(kind, body, size) as form:
        assert form.text("prompt") == "Zwei Füchse 🦊"
        assert form.texts("tag") == ["a", "b"]
        assert form.text("nothing") is None
        first, second = form.uploads("image")
        assert (first.filename, first.content_type, first.size) == ("a.png", "image/png", len(picture))
        assert first.read() == picture
        assert (second.filename, second.size, second.read()) == ("b.png", 0, b"")


def test_what_is_large_goes_to_a_file_and_small_things_do_not() -> None:
    large = os.urandom(3_000_000)
    kind, body = encoded(files={"file": ("a.bin", large), "other": ("b.bin", b"small")})
    with read(kind, body) as form:
        [file], [other] = form.uploads("file"), form.uploads("other")
        assert file.file.fileno() > 0
        assert file.read() == large
        assert not other.file._rolled  # type: ignore[attr-defined]
    assert file.file.closed
    assert other.file.closed


def open_files() -> set[str]:
    return {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}


@pytest.mark.parametrize("error", [ClientLeft(), asyncio.CancelledError()])
def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path, settings: Any, error: BaseException) -> None:
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    seen: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield part("file", os.urandom(3_000_000), filename="a.bin")[:-100]
        seen.extend(name for name in open_files() if str(tmp_path) in name)
        raise error

    with pytest.raises(type(error)):
        asyncio.run(read_form(KIND, pieces()))
    assert seen, "the file was on its way to the disk"
    assert not [name for name in open_files() if str(tmp_path) in name]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_so(tmp_path: Path, settings: Any) -> None:
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path / "missing")
    with pytest.raises(GatewayError) as caught:
        read(KIND, part("file", bytes(2_000_000), filename="a.bin") + END)
    assert (caught.value.status, caught.value.code) == (507, "insufficient_storage")


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (b"application/json", 415, "unsupported_media_type"),
        (b"", 415, "unsupported_media_type"),
        (b"application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"multipart/mixed; boundary=xyz", 415, "unsupported_media_type"),
        (b"multipart/form-data", 400, "invalid_multipart"),
        (b"multipart/form-data; boundary=", 400, "invalid_multipart"),
        (b"multipart/form-data; boundary=" + b"x" * 201, 400, "invalid_multipart"),
    ],
)
def test_only_forms_are_read(kind: bytes, status: int, code: str) -> None:
    error = refused(part("a", b"b") + END, kind)
    assert (error.status, error.code) == (status, code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        part("a", b"b"),
        (part("a", b"b") + END)[:-6],
        b"--xyz\r\n\r\nnobody\r\n" + END,
        b"--xyz\r\nContent-Disposition: form-data\r\n\r\nb\r\n" + END,
        b'--xyz\r\nContent-Disposition: attachment; name="a"\r\n\r\nb\r\n' + END,
        part("a", b"Yg==", more="Content-Transfer-Encoding: base64\r\n") + END,
        part("a", b"\xff\xfe") + END,
        b'--xyz\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nb\r\n' + END,
        part("a", b"b", more="X: y\r\n" * 20) + END,
        part("a", b"b", more=f"X: {'y' * 5000}\r\n") + END,
        b"--xyz\r\nContent Disposition: form-data\r\n\r\nb\r\n" + END,
    ],
)
def test_a_malformed_form_is_refused(body: bytes) -> None:
    error = refused(body)
    assert (error.status, error.code) == (400, "invalid_multipart")


def test_bounds_name_what_is_too_much() -> None:
    bounds = Bounds(file_bytes=1000, files=2, fields=3, field_bytes=100)
    error = refused(part("image", bytes(1001), filename="a") + END, bounds=bounds)
    assert (error.status, error.code, error.param) == (413, "file_too_large", "image")
    error = refused(part("prompt", bytes(101)) + END, bounds=bounds)
    assert (error.status, error.code, error.param) == (413, "file_too_large", "prompt")
    error = refused(part("image", b"x", filename="a") * 3 + END, bounds=bounds)
    assert (error.status, error.code, error.param) == (400, "array_above_max_length", "image")
    error = refused(part("a", b"x") * 4 + END, bounds=bounds)
    assert (error.status, error.code) == (400, "array_above_max_length")
    whole = part("image", bytes(1000), filename="a") * 2 + part("a", bytes(100)) * 3 + END
    with read(KIND, whole, bounds=bounds) as form:
        assert [len(form.files), len(form.fields["a"])] == [2, 3]


def test_a_form_in_which_no_file_was_chosen_has_none() -> None:
    with read(KIND, part("image", b"", filename="") + part("a", b"b") + END) as form:
        assert (form.files, form.fields) == ([], {"a": ["b"]})


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        (b"a.png", "a.png"),
        (b"../../etc/passwd", "passwd"),
        (rb"C:\temp\b.png", "b.png"),
        ("Füchse 🦊.png".encode(), "Füchse 🦊.png"),
        (b"a\x00\r\nb.png", "ab.png"),
        ("a\u202egnp.exe".encode(), "agnp.exe"),
        (b"\xffa.png", "a.png"),
        (b"x" * 400 + b".png", "x" * 251 + ".png"),
        (b"x" * 400, "x" * 255),
        (b"/", ""),
    ],
)
def test_names_are_cut_to_their_last_part_and_cleaned(given: bytes, cleaned: str) -> None:
    assert clean_name(given) == cleaned


PIECES = st.lists(
    st.sampled_from([b"--xyz", b"--xyz--", b"\r\n", b"\r", b"\n", b"--", b": ", b";", b'"', b"=", b"\\"])
    | st.sampled_from([b"Content-Disposition", b"form-data", b'name="a"', b'filename="b"', b"Content-Type"])
    | st.binary(max_size=6),
    max_size=25,
).map(b"".join)


@given(PIECES, st.integers(1, 40))
@example(part("a", b"b") + END, 1)
def test_any_bytes_are_a_form_or_refused(body: bytes, size: int) -> None:
    reader = FormReader(KIND, Bounds())
    try:
        for at in range(0, len(body), size):
            reader.feed(body[at : at + size])
        form = reader.finish()
    except BadRequest as error:
        assert error.status == 400  # noqa: PT017 - what is read is right as well
    else:
        assert sum(map(len, form.fields)) + len(form.files) >= 0
    reader.form.close()


@pytest.fixture(autouse=True)
def _no_file_stays_open() -> Iterator[None]:
    before = open_files()
    yield
    assert not [name for name in open_files() - before if "/tmp" in name]
