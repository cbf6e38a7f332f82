"""Whether the processes of this machine still live: each holds a lock on a file, which the kernel lets go with it.

Leases tell the same everywhere, but only after their time. Files that nobody has locked tell it at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)


class Mark:
    """The file of one worker, named by the last part of its name, and locked while it lives."""

    def __init__(self, folder: Path, worker: str) -> None:
        self._folder = folder
        self._worker = worker
        self._fd: int | None = None
        self._path = folder / f"{worker.rpartition(':')[2]}.lock"

    def hold(self) -> None:
        """Where it cannot be made, the lease alone tells."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = self._locked()
        except OSError as error:
            log.warning("%s cannot be made: %s", self._path, error.strerror)

    def _locked(self) -> int:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                # Between opening and locking another worker may have taken it for that of a dead one.
                if os.fstat(fd).st_nlink:
                    os.pwrite(fd, self._worker.encode(), 0)
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def release(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None


def living(folder: Path) -> set[str]:
    """The names of workers that live, as far as this machine can tell."""
    found = set()
    for path in folder.glob("*.lock"):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                found.add(os.pread(fd, 200, 0).decode())
            finally:
                os.close(fd)
    return found - {""}


@contextlib.contextmanager
def dead(folder: Path) -> Iterator[list[str]]:
    """The names of workers that died; their files go when the block has done what it does about them."""
    found: list[tuple[int, Path]] = []
    try:
        for path in folder.glob("*.lock"):
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_RDWR)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(fd)
                else:
                    found.append((fd, path))
        yield [os.pread(fd, 200, 0).decode() for fd, _ in found]
        for _, path in found:
            path.unlink(missing_ok=True)
    finally:
        for fd, _ in found:
            os.close(fd)
