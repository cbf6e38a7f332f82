"""The files in which several workers keep what Prometheus asks for, with room on the disk before they are mapped.

The library's own have holes: a worker that writes into one while the disk is full is killed by the kernel (SIGBUS).
"""

from __future__ import annotations

import errno
import os

from prometheus_client import mmap_dict, values

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Of a file that is new: as many as the library maps at first.
FIRST_BYTES = mmap_dict._INITIAL_MMAP_SIZE  # noqa: SLF001 - it has no other name
# More than a value takes beside its key.
BESIDE_KEY = 64


class ReservedDict(mmap_dict.MmapedDict):
    """Raises OSError where the disk has no room for another value; those that are there go on."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        if not read_mode:
            with open(filename, "ab") as file:  # noqa: PTH123 - the library's way, and its name is a text
                _reserve(file.fileno(), os.fstat(file.fileno()).st_size or FIRST_BYTES)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        needed, capacity = self._used + len(key.encode()) + BESIDE_KEY, self._capacity
        while needed > capacity:
            capacity *= 2
        if capacity > self._capacity:
            _reserve(self._f.fileno(), capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]


def _reserve(fd: int, size: int) -> None:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        # Some file systems of networks and virtual machines cannot.
        if error.errno in FULL:
            raise


def install() -> None:
    values.MmapedDict = ReservedDict  # type: ignore[attr-defined]
