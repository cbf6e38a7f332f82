"""What a run needs: the gateway as a process of its own, its database, Redis, the peers; and ways to disturb them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg

from tests.faults.cases import STREAM_TOTAL
from tests.faults.proxy import Proxy
from tests.faults.verdict import Person, Row, Vitals
from tests.support.gateway import GatewayProcess, free_port, make_template
from tests.support.services import ROOT

SETTINGS = {
    "STREAM_TOTAL_SECONDS": str(STREAM_TOTAL),
    "HEARTBEAT_SECONDS": "1",
    "MAX_STREAMS_PER_KEY": "0",
    "STOP_GRACE_SECONDS": "10",
    "LOG_LEVEL": "WARNING",
    "LOG_FORMAT": "plain",
    # Says where a worker was that dies of a signal.
    "PYTHONFAULTHANDLER": "1",
}
QUERY = (
    "SELECT request_id, user_id, api_key_id, requested_model, stream, status, http_status, prompt_tokens, "
    "completion_tokens FROM gateway_usageevent"
)
# What nothing but a bug writes to the log.
TRACES = re.compile(
    r"^.*(?:never (?:retrieved|awaited)|Unclosed|unhandled|request failed|usage row \S+ cannot be written|"
    r"Internal Server Error|deadlock).*",
    re.MULTILINE | re.IGNORECASE,
)


class Peers:
    """The faulty provider and its proxy, in one process."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.peers"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout
        ports = json.loads(self._process.stdout.readline())
        self.provider, self.proxy = ports["provider"], ports["proxy"]
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def seen(self) -> dict[str, int]:
        """How often each mark arrived."""
        return dict(httpx.get(f"http://127.0.0.1:{self.provider}/seen", timeout=30).json())


class Redis:
    """A server of its own on a spare port, without files."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen(["redis-server", *arguments], stdout=subprocess.DEVNULL)
        for _ in range(200):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Gateway:
    """`manage.py api` with the rig's rows. With a `database` (PostgreSQL's URL) it is reached through a proxy."""

    def __init__(
        self,
        folder: Path,
        peers: Peers,
        *,
        workers: int = 1,
        database: str = "",
        redis: str = "",
        settings: Mapping[str, str] = SETTINGS,
    ) -> None:
        self.folder = folder
        self._settings = settings
        self.workers = workers
        self.database = database
        self._peers = peers
        self._redis = redis
        self.database_proxy: Proxy | None = None

    async def start(self) -> None:
        environment = dict(self._settings)
        if self.database:
            environment["DATABASE_URL"] = self.database
        if self._redis:
            environment["REDIS_URL"] = self._redis
        template = await asyncio.to_thread(make_template, self.folder / "template", **environment)
        probe = self.folder / "probe"
        probe.mkdir()
        environment |= {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "tests/faults/probe"), str(ROOT)]),
            "FAULTS_PROBE": str(probe),
        }
        arguments = ["--workers", str(self.workers)]
        # Beside the folder, which may be a full disk.
        output = self.folder.with_suffix(".log")
        self.process = GatewayProcess(template, self.folder / "data", arguments, environment, output)
        self.people = await asyncio.to_thread(self._make_rows)
        if self.database:
            parts = urlsplit(self.database)
            self.database_proxy = await Proxy(parts.port or 5432, obeys=False).start()
            place = f"{parts.username}@127.0.0.1:{self.database_proxy.port}"
            self.process.environment["DATABASE_URL"] = urlunsplit(parts._replace(netloc=place))
        await asyncio.to_thread(self.process.start, 60)

    def _make_rows(self) -> list[Person]:
        ports = [str(port) for port in (self._peers.provider, self._peers.proxy, free_port())]
        made = subprocess.run(
            [sys.executable, "-m", "tests.faults.rows", *ports],
            env=self.process.environment, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return [Person(*item) for item in json.loads(made.stdout)]

    async def end(self) -> int | None:
        """The exit status after SIGTERM. None: it was killed, with its workers, because it did not end by itself."""
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired, AttributeError):
            code = await asyncio.to_thread(self.process.stop, signal.SIGTERM, 30)
        if code is None:
            for pid in self.worker_pids():
                os.kill(pid, signal.SIGRTMIN)
            await asyncio.sleep(2)
            for pid in self.worker_pids():
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        return code

    async def stop(self) -> int | None:
        """As `end`, and with what stands around it."""
        code = await self.end()
        if self.database_proxy:
            await self.database_proxy.stop()
        return code

    def rows(self) -> list[Row]:
        if self.database:
            with psycopg.connect(self.database) as connection:
                found: list[Any] = connection.execute(QUERY.encode()).fetchall()
        else:
            with contextlib.closing(sqlite3.connect(self.process.folder / "db.sqlite3", timeout=30)) as connection:
                found = connection.execute(QUERY).fetchall()
        return [Row(*row[:4], bool(row[4]), *row[5:7], (row[7], row[8])) for row in found]

    def worker_pids(self) -> list[int]:
        """The processes that answer."""
        assert self.process.process
        main = self.process.process.pid
        if self.workers == 1:
            return [main] if self.process.running is None else []
        return [pid for pid in _children(main) if b"spawn_main" in _read(f"/proc/{pid}/cmdline")]

    def journal(self) -> list[str]:
        return [path.name for path in (self.process.folder / "spool").glob("*.log")]

    def traces(self) -> list[str]:
        """Lines of the log that nothing but a bug writes."""
        return [found.group()[:300] for found in TRACES.finditer(self.process.output)]

    def keep_log(self) -> None:
        """Where FAULTS_LOG says."""
        if keep := os.environ.get("FAULTS_LOG"):
            Path(keep).write_text(self.process.output, encoding="utf-8")

    def vitals(self) -> dict[int, Vitals]:
        ports = {self.process.port, self._peers.provider, self._peers.proxy}
        return {pid: self._vitals_of(pid, _inodes(ports)) for pid in self.worker_pids()}

    def _vitals_of(self, pid: int, inodes: set[str]) -> Vitals:
        links = []
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(str(path.readlink()))
        sockets = sum(link in inodes for link in links)
        status = _read(f"/proc/{pid}/status").decode()
        fields = dict(re.findall(r"(\w+):\s+(\d+)", status))
        return Vitals(
            self._tasks(pid), sockets, len(links) - sockets, int(fields["Threads"]), int(fields["VmRSS"]) / 1024
        )

    def _tasks(self, pid: int) -> int:
        answer = self.folder / "probe" / f"{pid}.tasks"
        answer.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR2)
        for _ in range(250):
            if answer.exists():
                return int(answer.read_text(encoding="utf-8"))
            time.sleep(0.02)
        raise AssertionError(f"worker {pid} does not answer a signal within 5 s")

    def kill_worker(self, chance: random.Random) -> None:
        """SIGKILL to one that answers."""
        if pids := self.worker_pids():
            os.kill(chance.choice(pids), signal.SIGKILL)

    async def revive(self) -> None:
        """Until it answers again, with all its workers; a lone worker is started anew."""
        if self.workers == 1:
            await asyncio.to_thread(self.process.wait, 10)
            await asyncio.to_thread(self.process.start, 60)
            return
        for _ in range(300):
            if len(self.worker_pids()) == self.workers:
                return
            await asyncio.sleep(0.1)
        raise AssertionError("a killed worker was not replaced within 30 s")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """SQLite: nobody else can write. PostgreSQL: away, its connections reset."""
        if self.database_proxy is not None:
            self.database_proxy.cut()
            try:
                yield
            finally:
                self.database_proxy.restore()
            return
        connection = sqlite3.connect(self.process.folder / "db.sqlite3", timeout=30, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """The disk with the data folder takes no more; only for one that was `mounted`."""
        filler = self.folder / "filler"
        try:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                # Page by page at the end, so that nothing fits any more.
                for size in (2**20, 4096):
                    with contextlib.suppress(OSError):
                        while file.write(b"\0" * size):
                            pass
            yield
        finally:
            filler.unlink(missing_ok=True)

    def terminate_connections(self) -> None:
        """PostgreSQL: ends every session of the gateway's."""
        with psycopg.connect(self.database, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@contextlib.contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[bool]:
    """A small disk of its own (tmpfs) at this folder; False where this user may not mount."""
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "g4fsite-faults", str(folder)]
    done = subprocess.run(["mount", *options], capture_output=True, check=False).returncode == 0
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        stat = _read(str(path)).decode("utf-8", "replace")
        # The name in parentheses may hold spaces.
        if stat and int(stat.rpartition(")")[2].split()[1]) == parent:
            found.append(int(path.parent.name))
    return sorted(found)


def _inodes(ports: set[int]) -> set[str]:
    """The links of /proc/PID/fd that are connections from or to these ports."""
    found = set()
    for line in _read("/proc/net/tcp").decode().splitlines()[1:]:
        local, far, state, inode = (line.split()[at] for at in (1, 2, 3, 9))
        used = {int(end.rpartition(":")[2], 16) for end in (local, far)}
        if state != "0A" and used & ports:
            found.add(f"socket:[{inode}]")
    return found
