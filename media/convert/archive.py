"""What is taken out of a zip file, and what is not: bombs, links, nested archives and names that lead elsewhere.

Office documents and books are zip files too: `check` is asked before a library opens one. Runs in the child.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from media.convert.errors import Unreadable

MAX_ENTRIES = 1000
MAX_BYTES = 100 * 1024 * 1024
MAX_RATIO = 100
# Small files may be all zeros: only what is large together makes a bomb.
RATIO_FROM = 1024 * 1024
MAX_NAME = 512
PIECE = 64 * 1024
NESTED = {".zip", ".jar", ".war", ".apk", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".cab", ".iso"}
XML = {".xml", ".rels", ".vml", ".opf", ".ncx", ".xhtml", ".html", ".htm", ".svg"}
# Entities are what makes a document type dangerous; books declare XHTML's and mean nothing by it.
ENTITY = [b"<!ENTITY", "<!ENTITY".encode("utf-16-le"), "<!ENTITY".encode("utf-16-be")]
# UTF-7 and others spell markup in ways that no search sees: parts of documents are UTF-8 or UTF-16.
END_OF_DIRECTORY = b"PK\x05\x06"


class Skipped(NamedTuple):
    name: str
    reason: str


class Archive:
    """An open zip file whose directory keeps the rules. Raises Unreadable."""

    def __init__(self, file: IO[bytes]) -> None:
        _check_directory(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, EOFError):
            raise Unreadable("The archive is damaged.") from None
        self.entries = self._zip.infolist()
        if len(self.entries) > MAX_ENTRIES:
            raise Unreadable(f"The archive has more than {MAX_ENTRIES} entries.")
        self._read = 0
        self._packed = sum(entry.compress_size for entry in self.entries)

    def members(self) -> Iterator[tuple[zipfile.ZipInfo, str]]:
        """The files in it, each with the reason for which it is left out, or ""."""
        for entry in self.entries:
            if not entry.is_dir():
                yield entry, _refusal(entry)

    def pieces(self, entry: zipfile.ZipInfo) -> Iterator[bytes]:
        """A member, unpacked bit by bit. Raises Unreadable as soon as all together are too much."""
        try:
            with self._zip.open(entry) as member:
                while piece := member.read(PIECE):
                    self._count(len(piece))
                    yield piece
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError, OSError):
            raise Unreadable("The archive is damaged, or encrypted.") from None

    def _count(self, size: int) -> None:
        self._read += size
        if self._read > MAX_BYTES:
            raise Unreadable(f"The archive holds more than {MAX_BYTES >> 20} MB.")
        if self._read > max(RATIO_FROM, self._packed * MAX_RATIO):
            raise Unreadable(f"The archive is packed more than {MAX_RATIO} to 1.")


def _check_directory(file: IO[bytes]) -> None:
    """By the count at the archive's end, before a million entries are read for objects."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 65557))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(END_OF_DIRECTORY)
    if at < 0 or len(tail) < at + 22:
        raise Unreadable("The archive is damaged.")
    # The directory's size bounds the entries whatever their count says: each takes 46 bytes and its name.
    count = int.from_bytes(tail[at + 10 : at + 12], "little")
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    if count > MAX_ENTRIES or length > MAX_ENTRIES * (46 + MAX_NAME):
        raise Unreadable(f"The archive has more than {MAX_ENTRIES} entries.")


def _refusal(entry: zipfile.ZipInfo) -> str:
    mode = entry.external_attr >> 16
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "it is a link or a device"
    if path.is_absolute() or ".." in path.parts or ":" in entry.filename or len(entry.filename) > MAX_NAME:
        return "its name leads out of the archive"
    if path.suffix.lower() in NESTED:
        return "archives in archives are not opened"
    if entry.flag_bits & 1:
        return "it is encrypted"
    return ""


def check(file: IO[bytes], must_have: str) -> None:
    """Reads a document's parts once: within the limits, and no XML that defines entities. Raises Unreadable."""
    archive = Archive(file)
    names = {entry.filename for entry in archive.entries}
    if must_have not in names:
        raise Unreadable("The file is not what its name says.")
    for entry, _ in archive.members():
        before = b""
        marked = PurePosixPath(entry.filename).suffix.lower() in XML
        for piece in archive.pieces(entry):
            if marked and any(word in before + piece for word in ENTITY):
                raise Unreadable("The document's XML defines entities.")
            before = piece[-32:]
    file.seek(0)


def unpack(file: IO[bytes], folder: Path) -> tuple[list[str], list[Skipped]]:
    """The names of the members, whose bytes are in `folder` as "0", "1" and so on; and what was left out."""
    archive = Archive(file)
    names: list[str] = []
    skipped: list[Skipped] = []
    for entry, reason in archive.members():
        if reason:
            skipped.append(Skipped(entry.filename[:MAX_NAME], reason))
            continue
        with (folder / str(len(names))).open("wb") as target:
            for piece in archive.pieces(entry):
                target.write(piece)
        names.append(entry.filename)
    return names, skipped
