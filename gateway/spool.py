"""The journal of usage: records appended to a file before and after each provider call, so that a killed
worker loses none and doubles none.

A worker writes segments `<worker>-<number>.log` and holds a lock on each until its rows are in the
database. Segments that nobody has locked belong to a worker that died: whoever finds them replays them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger(__name__)

SEGMENT_BYTES = 4 * 1024 * 1024
SEGMENT_SECONDS = 60.0
# A multiple of the size of a page.
WINDOW_BYTES = 256 * 1024
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Record = dict[str, Any]


class Segment:
    """One open, locked file. It is written through memory, a window at a time: what was copied there is the kernel's,
    and survives the process as what was written to a file does, but costs no system call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = self._opened()
        self.size = 0
        self.opened_at = time.monotonic()
        self._window: mmap.mmap | None = None
        self._room = 0
        self._mappable = True
        # Of the windows so far, in the file.
        self._end = 0

    def _opened(self) -> int:
        """Locked, and still in its folder: between opening and locking another worker may have swept it away."""
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return fd
            os.close(fd)

    def write(self, line: bytes) -> None:
        """Raises OSError when there is no room for it; the next record may find some."""
        size = len(line)
        if size > self._room and not self._moved(size):
            self._append(line)
        elif self._window is not None:
            self._window.write(line)
            self._room -= size
        self.size += size

    def _moved(self, size: int) -> bool:
        """Maps the next window; False where files cannot be mapped. Raises OSError when the disk is full.

        Room is taken on the disk first: a process that touches memory for which the disk has none is killed.
        """
        if not self._mappable:
            return False
        length = max(WINDOW_BYTES, -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY)
        try:
            os.posix_fallocate(self.fd, self._end, length)
            window = mmap.mmap(self.fd, length, offset=self._end)
        except OSError as error:
            if error.errno in FULL:
                raise
            # Some file systems of networks and virtual machines.
            self._mappable = False
            self._fill_up()
            return False
        self._fill_up()
        self._window, self._room = window, length
        self._end += length
        return True

    def _fill_up(self) -> None:
        """Ends the window so far with empty lines."""
        if self._window is not None:
            self._window.write(b"\n" * self._room)
            self._window.close()
        self._window, self._room = None, 0

    def _append(self, line: bytes) -> None:
        written = os.pwrite(self.fd, line, self._end)
        if written < len(line):
            # The next record goes over what there is of this one.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._end += written

    def close(self) -> None:
        if self._window is not None:
            # It holds the lock, too.
            self._window.close()
        os.close(self.fd)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.close()

    def leave(self) -> None:
        """Lets go of the file; it is replayed once this worker is gone."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, self._end - self._room)
        self.close()


class Spool:
    """Appends records of this worker; `take` hands finished ones over and says what may be deleted after."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.worker = f"{os.getpid()}x{secrets.token_hex(4)}"
        self._lock = threading.Lock()
        self._number = 0
        self._open: dict[str, bytes] = {}
        self._done: list[Record] = []
        self._complained = 0.0
        self._segment = self._next_segment()

    def _next_segment(self) -> Segment:
        self._number += 1
        return Segment(self.folder / f"{self.worker}-{self._number}.log")

    def begin(self, record: Record) -> None:
        """Called before a provider is asked."""
        line = b'{"begin":' + orjson.dumps(record) + b"}\n"
        with self._lock:
            self._open[record["request_id"]] = line
            self._write(line)

    def end(self, record: Record) -> None:
        """Called before the last byte is sent."""
        line = b'{"end":' + orjson.dumps(record) + b"}\n"
        with self._lock:
            self._open.pop(record["request_id"], None)
            self._done.append(record)
            self._write(line)

    def _write(self, line: bytes) -> None:
        try:
            self._segment.write(line)
        except OSError as error:
            # A full disk must not stop answers: the row is still in memory and reaches the database.
            if time.monotonic() - self._complained > 60:
                self._complained = time.monotonic()
                log.error("the usage journal cannot be written: %s", error.strerror)

    def take(self) -> tuple[list[Record], Segment | None]:
        """The finished records so far, and the segment to `remove` once they are committed, if one was closed."""
        with self._lock:
            done, self._done = self._done, []
            old = None
            age = time.monotonic() - self._segment.opened_at
            if self._segment.size > SEGMENT_BYTES or (self._segment.size and age > SEGMENT_SECONDS):
                old = self._rotated()
            return done, old

    def _rotated(self) -> Segment | None:
        try:
            fresh = self._next_segment()
        except OSError:
            return None
        old, self._segment = self._segment, fresh
        for line in self._open.values():
            self._write(line)
        return old

    def leave_segment(self) -> None:
        """Goes on in a fresh segment and keeps the one so far for replay."""
        with self._lock:
            old = self._rotated()
            if old is not None:
                old.leave()

    def put_back(self, records: list[Record]) -> None:
        with self._lock:
            self._done = records + self._done

    def waiting(self) -> int:
        return len(self._done)

    def close(self) -> None:
        """Leaves the file for replay if anything in it is not settled."""
        with self._lock:
            if self._open or self._done:
                self._segment.leave()
            else:
                self._segment.remove()


@contextlib.contextmanager
def orphans(folder: Path) -> Iterator[list[tuple[list[Record], list[Record]]]]:
    """Per dead worker: its finished records, and the begun ones that never ended. Deletes the files on success."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*-*.log")):
        groups.setdefault(path.name.rsplit("-", 1)[0], []).append(path)
    held: list[tuple[Path, int]] = []
    found = []
    try:
        for paths in groups.values():
            locked = _lock_all(paths)
            held += locked
            if locked:
                found.append(_records(locked))
        yield found
        for path, _ in held:
            path.unlink(missing_ok=True)
    finally:
        for _, fd in held:
            os.close(fd)


def _lock_all(paths: list[Path]) -> list[tuple[Path, int]]:
    """All or none: a worker that lives holds the lock of its last segment."""
    locked: list[tuple[Path, int]] = []
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(fd).st_nlink:
                os.close(fd)
                continue
        except OSError:
            os.close(fd)
            for _, other in locked:
                os.close(other)
            return []
        locked.append((path, fd))
    return locked


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _records(held: list[tuple[Path, int]]) -> tuple[list[Record], list[Record]]:
    begun: dict[str, Record] = {}
    ended: dict[str, Record] = {}
    for path, _ in held:
        for line in _content(path).split(b"\n"):
            with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
                # The last record of a killed worker may be torn, and zeros follow it.
                entry = orjson.loads(line)
                kind = "begin" if "begin" in entry else "end"
                (begun if kind == "begin" else ended)[entry[kind]["request_id"]] = entry[kind]
    return list(ended.values()), [record for name, record in begun.items() if name not in ended]
