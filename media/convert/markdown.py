"""A file as Markdown: what it is, who reads it, and the members of archives."""

from __future__ import annotations

import io
import json
import os
import stat
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, NamedTuple

from media.convert import run, texts
from media.convert.errors import Busy, ConversionError, Unreadable, Unsupported
from media.convert.sorts import MEDIA, Sort, sort_of

MAX_CHARS = run.MAX_TEXT_BYTES
# An archive's members share this; each still has 20 seconds at most.
ARCHIVE_SECONDS = 60


class Reading(NamedTuple):
    """`encoding` is a text's that can be read as it is: then `text` is empty. `skipped`: an archive's members.

    `late`: it is of a sort that is read, and was not.
    """

    sort: Sort
    encoding: str = ""
    text: str = ""
    skipped: tuple[str, ...] = ()
    late: bool = False


def markdown_of(source: str | Path | bytes | IO[bytes], label: str) -> str:
    """The Markdown of a whole file: a path, its bytes, or an open file. `label` is the name its owner gave it.

    Takes up to 20 seconds (archives: 60), so never on an event loop. Raises ConversionError, whose `status` is 415 for
    what nothing here reads, 422 for what cannot be read, 503 when too many files are being read.
    """
    with _opened(source) as file:
        found = reading(file, label, media=True)
        if not found.encoding:
            return found.text
        file.seek(0)
        text, cut = texts.first(texts.decoded(file, found.encoding), MAX_CHARS)
        return text + cut_note() if cut else text


def cut_note() -> str:
    return run.CUT.format(run.MAX_TEXT_BYTES >> 20)


def reading(file: IO[bytes], label: str, media: bool = False, late: bool = False) -> Reading:
    """What an open file is and says. With `media`, pictures are read too; `late`: no child is started.

    Raises ConversionError.
    """
    sort, encoding = sort_of(file, label)
    if sort == "text":
        return Reading(sort, encoding)
    if sort in MEDIA and not (media and sort == "picture"):
        if media:
            raise Unsupported("Sound and film are not read as documents.")
        return Reading(sort)
    if late:
        return Reading(sort, late=True)
    with run.workplace() as folder:
        if sort == "zip":
            return _archive(file, folder)
        try:
            return Reading(sort, text=_converted(sort, encoding, file, folder))
        except Unreadable:
            if sort != "table":
                raise
            # Too large for a table, or a text that only looks like one: models read it as it is.
            return Reading("text", encoding)


def _converted(sort: Sort, encoding: str, file: IO[bytes], folder: Path, seconds: float = run.SECONDS) -> str:
    if not encoding or encoding in ("utf-8", "utf-8-sig"):
        answer = run.convert(sort, file, folder, seconds)
    else:
        with tempfile.TemporaryFile() as plain:
            for text in texts.decoded(file, encoding):
                plain.write(text.encode())
            plain.seek(0)
            answer = run.convert(sort, plain, folder, seconds)
    return answer.text.lstrip("\ufeff") + (cut_note() if answer.cut else "")


def _archive(file: IO[bytes], folder: Path) -> Reading:
    """Its members one after the other, each framed with its name."""
    listed = json.loads(run.convert("zip", file, folder).text)
    deadline = time.monotonic() + ARCHIVE_SECONDS
    skipped = [f"{name}: {reason}" for name, reason in listed["skipped"]]
    parts: list[str] = []
    left = MAX_CHARS
    for index, name in enumerate(listed["names"]):
        try:
            with _member(folder, index) as member, run.workplace() as inner:
                text = _read_member(member, str(name), inner, deadline, left)
        except Busy:
            raise
        except ConversionError as error:
            skipped.append(f"{name}: {error.message}")
            continue
        left -= len(text)
        parts.append(framed(str(name), text))
        if left <= 0:
            parts.append(cut_note())
            break
    if not parts:
        raise Unreadable("There is nothing in the archive that can be read.")
    return Reading("zip", text="".join(parts), skipped=tuple(skipped))


def _read_member(file: IO[bytes], name: str, folder: Path, deadline: float, most: int) -> str:
    sort, encoding = sort_of(file, name)
    if sort == "text":
        return texts.first(texts.decoded(file, encoding), most)[0]
    if sort in MEDIA or sort == "zip":
        raise Unsupported("archives and media in archives are not opened")
    seconds = min(run.SECONDS, deadline - time.monotonic())
    if seconds < 1:
        raise Unreadable("no time is left for it")
    return _converted(sort, encoding, file, folder, seconds)[:most]


def _member(folder: Path, index: int) -> IO[bytes]:
    """What the child left; it may have been taken over, so nothing but a file of its own is opened."""
    try:
        handle = os.open(folder / str(index), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise Unreadable("it could not be unpacked") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Unreadable("it could not be unpacked")
    return os.fdopen(handle, "rb")


def framed(name: str, text: str) -> str:
    """One file among several, as g4f's clients know it."""
    return f"<!-- File: {shown(name)} -->\n{text}\n<-- End -->\n\n"


def shown(name: str) -> str:
    """A name that stays within the line that frames its file."""
    return "".join(char if char.isprintable() else " " for char in name).replace("-->", "-- >")


def _opened(source: str | Path | bytes | IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    if isinstance(source, (str, Path)):
        return Path(source).open("rb")
    # Who gave an open file closes it.
    return io.BytesIO(source) if isinstance(source, bytes) else nullcontext(source)
