"""Reads multipart/form-data as it arrives (RFC 7578): bounded, and with files that are never whole in memory.

What is large goes to unnamed temporary files, so an upload that breaks off leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Self, cast

from django.conf import settings
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from gateway.errors import BadRequest, GatewayError

# Kept in memory of a file; and read from the connection between two visits of a thread.
MEMORY_BYTES = 1024 * 1024
CHUNK_BYTES = 256 * 1024
NAME_CHARACTERS = 255
# Controls, and characters that reverse or hide text where the name is shown.
ODD_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffd]")
PLAIN_CODINGS = (b"", b"7bit", b"8bit", b"binary")

# Parsing and spooling of large bodies; apart from the loop's own threads, which resolve names.
_threads = ThreadPoolExecutor(4, "uploads")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes and counts; a file has MAX_FILE_BYTES. The size of the whole body is the edge's to bound."""

    file_bytes: int = field(default_factory=lambda: int(settings.MAX_FILE_BYTES))
    files: int = 50
    fields: int = 1000
    field_bytes: int = 1024 * 1024


@dataclass(slots=True)
class Upload:
    """One file. `name` is its name in the form, `filename` the file's own, cut to its last part and cleaned.

    `content_type` is what the caller says and is not to be believed. `file` stands at its beginning, and reading it
    may block: do that in a thread, or `read` it there.
    """

    name: str
    filename: str
    content_type: str
    file: IO[bytes] = field(repr=False)
    size: int = 0

    def read(self) -> bytes:
        self.file.seek(0)
        return self.file.read()


@dataclass(slots=True)
class Form:
    """Texts and files, each by the name in the form and in the order they came. Close it, or use it in a `with`."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: list[Upload] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        """The last of that name, None where there is none."""
        found = self.fields.get(name)
        return found[-1] if found else None

    def texts(self, name: str) -> list[str]:
        """Those of a list: `name` repeated, or `name[]`."""
        return [*self.fields.get(name, ()), *self.fields.get(f"{name}[]", ())]

    def uploads(self, name: str) -> list[Upload]:
        """The files of `name`, `name[]`, `name[0]` and so on."""
        return [upload for upload in self.files if upload.name.split("[", 1)[0] == name]

    def close(self) -> None:
        for upload in self.files:
            upload.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def is_multipart(content_type: bytes) -> bool:
    return content_type.split(b";", 1)[0].strip().lower() == b"multipart/form-data"


async def read_form(content_type: bytes, chunks: AsyncIterable[bytes], bounds: Bounds | None = None) -> Form:
    """The form in a body of this Content-Type; the caller closes it.

    Raises BadRequest: 415 for other types, 413 for a file that is too large, 400 for what is malformed or too much;
    GatewayError 507 when there is no room for it. Whatever `chunks` raises passes, and nothing is left behind.
    """
    reader = FormReader(content_type, bounds or Bounds())
    try:
        await _feed(reader, chunks)
        return reader.finish()
    except BaseException:
        reader.form.close()
        raise


async def _feed(reader: FormReader, chunks: AsyncIterable[bytes]) -> None:
    """A small body is parsed where it is; of a larger one a thread takes a part at a time."""
    loop = asyncio.get_running_loop()
    waiting = bytearray()
    async for chunk in chunks:
        waiting += chunk
        if len(waiting) >= CHUNK_BYTES:
            await loop.run_in_executor(_threads, reader.feed, bytes(waiting))
            waiting.clear()
    if len(waiting) > CHUNK_BYTES // 4 or reader.fed:
        await loop.run_in_executor(_threads, reader.feed, bytes(waiting))
    else:
        reader.feed(bytes(waiting))


class FormReader:
    """The same without a loop: `feed` it, then `finish`. Both raise what `read_form` does."""

    def __init__(self, content_type: bytes, bounds: Bounds) -> None:
        self.form = Form()
        self.fed = False
        self._bounds = bounds
        self._ended = False
        self._name, self._value = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._upload: Upload | None = None
        self._field = ""
        self._text = bytearray()
        self._count = 0
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        self.fed = True
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise malformed(f"{str(error)[:200]}.") from None
        except OSError:
            raise GatewayError(
                "The server has no room for the upload.", status=507, code="insufficient_storage"
            ) from None

    def finish(self) -> Form:
        if not self._ended:
            raise malformed("it ends before its last boundary.")
        return self.form

    def _part_begins(self) -> None:
        self._headers, self._upload = {}, None
        self._text.clear()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _headers_end(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise malformed("a part has no name.")
        if self._headers.get(b"content-transfer-encoding", b"").strip().lower() not in PLAIN_CODINGS:
            raise malformed("a part has a transfer encoding; send it as it is.")
        self._field = _decoded(options[b"name"], "a part's name")
        if b"filename" not in options:
            self._begin_field()
        else:
            self._begin_file(options[b"filename"])

    def _begin_field(self) -> None:
        self._count += 1
        if self._count > self._bounds.fields:
            raise too_many(f"The form has more than {self._bounds.fields} fields.", None)

    def _begin_file(self, name: bytes) -> None:
        if len(self.form.files) >= self._bounds.files:
            raise too_many(f"The form has more than {self._bounds.files} files.", self._field[:100])
        kind = self._headers.get(b"content-type", b"application/octet-stream").decode("latin-1")
        spool = tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=str(settings.FILE_UPLOAD_TEMP_DIR))  # noqa: SIM115 - the form closes it
        self._upload = Upload(self._field, clean_name(name), kind[:255], cast("IO[bytes]", spool))
        self.form.files.append(self._upload)

    def _data(self, data: bytes, start: int, end: int) -> None:
        upload = self._upload
        if upload is None:
            if len(self._text) + end - start > self._bounds.field_bytes:
                raise too_large(f"The field is larger than {self._bounds.field_bytes} bytes.", self._field[:100])
            self._text += data[start:end]
            return
        upload.size += end - start
        if upload.size > self._bounds.file_bytes:
            raise too_large(f"The file is larger than {self._bounds.file_bytes} bytes.", upload.name[:100])
        upload.file.write(data[start:end])

    def _part_ends(self) -> None:
        upload = self._upload
        if upload is None:
            text = _decoded(bytes(self._text), f"'{self._field[:100]}'")
            self.form.fields.setdefault(self._field, []).append(text)
        elif not upload.filename and not upload.size:
            # A browser's form in which no file was chosen.
            self.form.files.pop().file.close()
        else:
            upload.file.seek(0)

    def _end(self) -> None:
        self._ended = True


def clean_name(name: bytes) -> str:
    """The last part of a path, without what would be odd in a listing or a header; may be empty."""
    text = name.decode("utf-8", "replace").replace("\\", "/").rsplit("/", 1)[-1]
    text = ODD_CHARACTERS.sub("", text).strip()
    stem, dot, ending = text.rpartition(".")
    if len(text) > NAME_CHARACTERS and dot and len(ending) < 20:
        return f"{stem[: NAME_CHARACTERS - len(ending) - 1]}.{ending}"
    return text[:NAME_CHARACTERS]


def _boundary(content_type: bytes) -> bytes:
    if not is_multipart(content_type):
        shown = content_type.split(b";", 1)[0].strip().decode("latin-1")[:100]
        raise BadRequest(
            f"Unsupported content type {shown!r}; send multipart/form-data.", status=415, code="unsupported_media_type"
        )
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= 200:
        raise malformed("the Content-Type names no usable boundary.")
    return boundary


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise malformed(f"{what} is not UTF-8.") from None


def malformed(why: str) -> BadRequest:
    return BadRequest(f"The multipart body cannot be read: {why}", code="invalid_multipart")


def too_large(message: str, param: str) -> BadRequest:
    return BadRequest(message, status=413, code="file_too_large", param=param)


def too_many(message: str, param: str | None) -> BadRequest:
    return BadRequest(message, code="array_above_max_length", param=param)
