"""A file as JSON objects, one conversation each, without ever having more than one of them parsed.

All the forms are an array of objects. Its elements are found by their brackets, so that one that is broken spoils no
other, and a large file costs little memory and never holds up the interpreter for long.
"""

from __future__ import annotations

import errno
import json
import math
import mmap
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from itertools import islice
from typing import IO, Any

import orjson
from django.conf import settings

from gateway.chat import has_too_many_values
from gateway.errors import BadRequest

# Of all that is unpacked of a zip file, of one conversation, and of members that are looked at.
UNPACKED_BYTES = 512 * 1024 * 1024
ONE_BYTES = 32 * 1024 * 1024
MEMBERS = 1000
# Entries of an archive's directory, each of which becomes an object before any is looked at.
MOST_ENTRIES = 10_000
ENTRY = re.compile(rb"PK\x01\x02")
# The others unpack all that they are given at once: a few bytes become gigabytes before anyone can count them.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MAX_RATIO = 200
COPY = 256 * 1024
# A string that never ends is one token as well: looked for again at each of its quotes it would take for ever.
TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
OPEN, CLOSE = b"[{", b"]}"
BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*+")


class Broken(Exception):
    """A conversation that is no JSON, or too large; the message is for the report."""


Element = dict[str, Any] | Broken


@contextmanager
def documents(source: IO[bytes] | bytes) -> Iterator[Iterable[Element]]:
    """The conversations of a JSON file or of those in a zip file. Raises BadRequest where it is neither."""
    with _spooled(source) as file:
        head = file.read(4)
        file.seek(0)
        if head == b"PK\x03\x04":
            yield _in_zip(file)
        else:
            yield _in_json(file)


@contextmanager
def _spooled(source: IO[bytes] | bytes) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as file:
        if isinstance(source, bytes):
            file.write(source)
        else:
            while piece := source.read(COPY):
                file.write(piece)
        file.seek(0)
        yield file


def _in_zip(file: IO[bytes]) -> Iterator[Element]:
    """Of the members `conversations*.json`, wherever in the archive; of one other, if it is the only JSON."""
    _check_entries(file)
    try:
        with zipfile.ZipFile(file) as archive:
            left = UNPACKED_BYTES
            for member in _members(archive):
                with tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR) as unpacked:
                    left -= _unpack(archive, member, unpacked, left)
                    yield from _in_json(unpacked)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise _no_zip(error) from None
    except OSError as error:
        # A member that begins outside of the file. A disk that is full is no fault of the sender's.
        if error.errno != errno.EINVAL:
            raise
        raise _no_zip(error) from None


def _no_zip(error: Exception) -> BadRequest:
    return BadRequest(f"The zip file cannot be read: {type(error).__name__}.", code="invalid_import")


def _check_entries(file: IO[bytes]) -> None:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        entries = sum(1 for _ in islice(ENTRY.finditer(data), MOST_ENTRIES + 1))
    if entries > MOST_ENTRIES:
        raise BadRequest(f"The zip file holds more than {MOST_ENTRIES} files.", status=413, code="request_too_large")


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    found = [info for info in archive.infolist()[:MEMBERS] if info.filename.lower().endswith(".json")]
    named = [info for info in found if fnmatch(info.filename.rsplit("/", 1)[-1].lower(), "*conversations*.json")]
    chosen = named or (found if len(found) == 1 else [])
    if not chosen:
        raise BadRequest("The zip file has no conversations.json.", code="invalid_import")
    return sorted(chosen, key=lambda info: info.filename)


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, to: IO[bytes], most: int) -> int:
    """How many bytes it had. What the archive says of sizes is not believed."""
    size = 0
    if member.compress_type not in PACKED:
        raise BadRequest("The zip file is packed by another method than deflate.", code="invalid_import")
    with archive.open(member) as packed:
        while piece := packed.read(COPY):
            size += len(piece)
            if size > most or size > COPY + MAX_RATIO * max(member.compress_size, 1):
                raise BadRequest("The zip file holds too much.", status=413, code="request_too_large")
            to.write(piece)
    to.flush()
    to.seek(0)
    return size


def _in_json(file: IO[bytes]) -> Iterator[Element]:
    file.seek(0, 2)
    if not file.tell():
        raise _no_json()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = _begin(data)
        if data[start : start + 1] == b"{":
            yield _parsed(bytes(data[start:])) if len(data) <= ONE_BYTES else Broken("It is too large.")
            return
        for first, last in _spans(data, start):
            yield _parsed(data[first:last]) if last - first <= ONE_BYTES else Broken("It is too large.")


def _begin(data: mmap.mmap) -> int:
    found = BEGINNING.match(data)
    start = found.end() if found else 0
    if data[start : start + 1] not in (b"[", b"{"):
        raise _no_json()
    return start


def _no_json() -> BadRequest:
    return BadRequest("The file is neither JSON nor a zip file.", code="invalid_import")


def _spans(data: mmap.mmap, start: int) -> Iterator[tuple[int, int]]:
    """Where the elements of the array begin and end that hold anything; one that never ends, to the end of the file."""
    depth = begun = 0
    for token in TOKEN.finditer(data, start):
        kind = data[token.start()]
        if kind in OPEN:
            depth += 1
            if depth == 2:
                begun = token.start()
        elif kind in CLOSE:
            depth -= 1
            if depth == 1:
                yield begun, token.end()
            elif depth == 0:
                return
    yield (begun, len(data)) if depth > 1 else (len(data), len(data))


def _parsed(text: bytes) -> Element:
    if not text:
        return Broken("The file ends in the middle.")
    if has_too_many_values(text):
        return Broken("It holds too many values.")
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = _leniently(text)
    if isinstance(found, Broken):
        return found
    return found if isinstance(found, dict) else Broken("It is no JSON object.")


def _leniently(text: bytes) -> Any:
    """Halves of characters, which other servers let through, are no reason to lose a conversation."""
    try:
        words = text.decode("utf-8", "replace")
        return json.loads(words, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)
    except (ValueError, RecursionError):
        return Broken("It is not valid JSON.")


def _whole(text: str) -> int | float | None:
    """As orjson reads it: what has more than 64 bits is no integer that could be written again."""
    number = int(text) if len(text) < 20 else None
    return number if number is not None and abs(number) < 2**63 else _finite(text)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None
