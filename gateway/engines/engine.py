"""One llama.cpp: its process, its port, its log, and when it is started again."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import subprocess  # nosec B404 - runs the operator's own interpreter
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from django.conf import settings

from gateway.engines import places
from gateway.engines.places import FAILING, LOADING, READY, Place

log = logging.getLogger(__name__)

CHILD = Path(__file__).with_name("child.py")
CONTEXT = 4096
MAX_LOG = 1024 * 1024
LONGEST_PAUSE = 60.0
# After so long without a fault the pauses begin anew.
STEADY_SECONDS = 120.0
STOP_SECONDS = 3.0
# Secrets of ours are in the environment, and names like PORT would steer the child.
PASSED = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "TZ")
PASSED_PREFIXES = ("LC_", "CUDA_", "GGML_", "HIP_", "OMP_", "VK_")


@dataclass(frozen=True, slots=True)
class Spec:
    """What runs: a change of it means another process."""

    provider_id: int
    path: str
    alias: str
    context: int
    embedding: bool


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in PASSED or name.startswith(PASSED_PREFIXES)}


def _listening(port: int) -> socket.socket:
    """A socket on that port if it is free, else on any. It stays open here, so that nobody else takes the port."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(("127.0.0.1", port))
    except OSError:
        made.bind(("127.0.0.1", 0))
    made.listen(128)
    return made


class Engine:
    """Belongs to the thread that calls it: the child is killed when that thread ends."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        before = places.read(spec.provider_id)
        self._socket = _listening(before.port if before else 0)
        self._log = log_of(spec.provider_id)
        self._process: subprocess.Popen[bytes] | None = None
        self._ready_fd = -1
        self._failures = 0
        self._since = 0.0
        key = before.key if before else secrets.token_urlsafe(32)
        self.place = Place(self._socket.getsockname()[1], key)
        places.write(spec.provider_id, self.place)

    def tick(self) -> Place:
        """Looks after the child; called again and again. Returns how it is."""
        if self._process is None:
            if time.time() >= self.place.retry_at:
                self._start()
        elif (status := self._process.poll()) is not None:
            self._let_go()
            self._failed(f"It ended with {status}. {last_line(self._log)}".strip())
        elif self.place.state == LOADING and self._said_ready():
            log.info("the model %s is ready", self.spec.alias)
            self._now(READY)
        elif self._failures and time.monotonic() - self._since > STEADY_SECONDS:
            self._failures = 0
        bound(self._log)
        return self.place

    def stop(self) -> None:
        """Ends the child, and lets the port go. Port and key stay in the file, for whoever starts it next."""
        self._let_go()
        self._now(LOADING)
        self._socket.close()

    def _now(self, state: str, problem: str = "", pause: float = 0.0) -> None:
        pid = self._process.pid if self._process else 0
        retry_at = time.time() + pause if pause else 0.0
        self.place = replace(self.place, state=state, problem=problem[:500], pid=pid, retry_at=retry_at)
        self._since = time.monotonic()
        places.write(self.spec.provider_id, self.place)

    def _failed(self, problem: str) -> None:
        pause = min(2.0**self._failures, LONGEST_PAUSE)
        self._failures += 1
        log.warning("llama.cpp for %s: %s It is started again in %d s.", self.spec.alias, problem, pause)
        self._now(FAILING, problem, pause)

    def _start(self) -> None:
        if not Path(self.spec.path).is_file():
            self._failed(f"There is no file {self.spec.path}.")
            return
        self._ready_fd, ready = os.pipe()
        os.set_blocking(self._ready_fd, False)
        try:
            with self._log.open("ab") as output:
                self._process = self._spawn(output, ready)
            self._tell(ready)
        except OSError as error:
            self._let_go()
            self._failed(f"It cannot be started: {error.strerror}.")
        else:
            self._now(LOADING)
        finally:
            os.close(ready)

    def _spawn(self, output: IO[bytes], ready: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 # nosec B603 - the operator's own interpreter, no shell
            [settings.LOCAL_ENGINE_PYTHON, str(CHILD), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=environment(),
            pass_fds=(self._socket.fileno(), ready),
            # Ctrl-C at a terminal is for the gateway, whose callers still get their answers.
            start_new_session=True,
        )

    def _tell(self, ready: int) -> None:
        """By standard input, because others see what is on a command line. Raises OSError."""
        model = {
            "model": self.spec.path,
            "model_alias": self.spec.alias,
            "n_ctx": self.spec.context,
            "embedding": self.spec.embedding,
            "verbose": False,
        }
        wanted = {"key": self.place.key, "socket_fd": self._socket.fileno(), "ready_fd": ready, "model": model}
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        self._process.stdin.flush()

    def _said_ready(self) -> bool:
        try:
            return bool(os.read(self._ready_fd, 16))
        except BlockingIOError:
            return False

    def _let_go(self) -> None:
        """The end of its standard input ends the child; one that does not see it is killed."""
        process, self._process = self._process, None
        if self._ready_fd >= 0:
            os.close(self._ready_fd)
            self._ready_fd = -1
        if process is None:
            return
        with contextlib.suppress(OSError):
            assert process.stdin
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def log_of(provider_id: int) -> Path:
    folder = Path(settings.DATA_DIR) / "logs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"engine-{provider_id}.log"


def last_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:300]


def bound(path: Path) -> None:
    """Keeps what is written now and once as much before; the child appends, so it goes on at the new beginning."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > MAX_LOG:
            path.with_suffix(".log.1").write_bytes(path.read_bytes()[-MAX_LOG:])
            os.truncate(path, 0)
