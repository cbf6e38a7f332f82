"""Starts the child that opens one file, holds it to its bounds, and reads what it has made."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess  # nosec B404 - one fixed program, no shell
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from django.conf import settings

from media.convert.errors import Busy, Unreadable, Unsupported
from media.convert.sorts import HEAVY, Sort

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 20
# Of address space, not of memory in use.
MEMORY_MB, HEAVY_MEMORY_MB = 256, 768
MAX_TEXT_BYTES = 10 * 1024 * 1024
AT_ONCE = 2
WAIT_SECONDS = 60
INPUT = "input"
WORKPLACE = "g4fsite-convert-"
# Isolated: nothing of the environment, of the user's folders, or of the working folder is imported.
BOOT = (
    "import sys; sys.path.insert(0, {root!r}); from media.convert import child; "
    "del sys.path[0]; child.run(sys.argv[1:])"
)
CUT = "\n\n[Cut here: the text is longer than {} MB.]\n"

_places = threading.BoundedSemaphore(AT_ONCE)


class Answer(NamedTuple):
    text: str
    cut: bool


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder of its own for one file's conversion, where `media.sweep` finds it when this process is killed."""
    place = settings.FILE_UPLOAD_TEMP_DIR if Path(settings.FILE_UPLOAD_TEMP_DIR).is_dir() else None
    with tempfile.TemporaryDirectory(prefix=WORKPLACE, dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def convert(sort: Sort, file: IO[bytes], folder: Path, seconds: float = SECONDS) -> Answer:
    """What the child says of a file, in its folder. Raises ConversionError."""
    # A copy: the child shares what it is given, the place in it too, and uploads may be in memory or far away.
    file.seek(0)
    with (folder / INPUT).open("wb") as copy:
        shutil.copyfileobj(file, copy)
    if not _places.acquire(timeout=WAIT_SECONDS):
        raise Busy("Too many files are being read. Try again in a moment.")
    try:
        with (folder / INPUT).open("rb") as given, tempfile.TemporaryFile() as output:
            status = _run(sort, given, output, folder, seconds)
            output.seek(0)
            return _answer(status, output)
    finally:
        _places.release()


def _run(sort: Sort, file: IO[bytes], output: IO[bytes], folder: Path, seconds: float) -> int:
    """The child's exit status; negative when a signal ended it."""
    heavy = sort in HEAVY
    python = (heavy and settings.DOCUMENTS_PYTHON) or sys.executable
    command = [
        python, "-I", "-B", "-c", BOOT.format(root=str(ROOT)), sort, str(folder),
        str(HEAVY_MEMORY_MB if heavy else MEMORY_MB), str(SECONDS), str(MAX_TEXT_BYTES),
        "unconfined" if settings.DOCUMENTS_UNCONFINED else "confined",
    ]  # fmt: skip
    try:
        process = subprocess.Popen(  # noqa: S603 # nosec B603 - the program is ours, the file is only its input
            command,
            stdin=file,
            stdout=output,
            stderr=subprocess.DEVNULL,
            env=_environment(folder),
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        log.error("the program that reads documents cannot be started: %s", error)
        raise Unsupported("This server cannot start the program that reads documents.") from None
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise Unreadable(f"Reading the file took longer than {SECONDS} seconds.") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of the server's: it holds secrets. One thread each, because every thread takes address space."""
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def _answer(status: int, output: IO[bytes]) -> Answer:
    line = output.readline(4096)
    try:
        head = json.loads(line)
        error, code, cut = str(head["error"]), int(head["status"]), bool(head["cut"])
    except (ValueError, KeyError, TypeError):
        raise Unreadable(_died(status)) from None
    if error:
        raise (Unsupported if code == Unsupported.status else Unreadable)(error)
    if status:
        raise Unreadable(_died(status))
    data = output.read(MAX_TEXT_BYTES + 1)
    return Answer(data[:MAX_TEXT_BYTES].decode("utf-8", "replace").replace("\x00", "\ufffd"), cut)


def _died(status: int) -> str:
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"Reading the file took longer than {SECONDS} seconds."
    return "The file could not be read: it is damaged, or needs too much memory."
