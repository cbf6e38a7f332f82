"""The phases of a measurement, and the two programs that make its traffic."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

from benchmarks import process

HERE = Path(__file__).resolve().parent
GATEWAY_CORE = os.environ.get("GATEWAY_CORE", "0")
LOAD_CORE = os.environ.get("LOAD_CORE", "1")
# A phase during which others used more of the machine than this, in cores, is marked and repeated.
BUSY = 0.35
ENOUGH = 50

# Options of load.c. Streams start over the warm-up (-w); -g is how long open ones may take to end afterwards.
PHASES = {
    "plain1": "-c 1 -t 2 -w 0.5",
    "plain32": "-c 32 -t 2.5 -w 0.6",
    "plain128": "-c 128 -t 2 -w 0.6",
    # Five chunks, so that a phase sees many first ones.
    "stream1": "-s -n 5 -d 20 -c 1 -t 2.5 -w 0.3",
    "stream100": "-s -n 100 -d 20 -c 100 -t 3 -w 2.2 -g 3",
    "stream1000": "-s -n 100 -d 20 -c 1000 -t 3.5 -w 3 -g 2.5",
    "hold1000": "-s -n 20 -d 200 -c 1000 -t 2.5 -w 4 -g 2",
    "flood": "-s -n 100 -d 0 -c 16 -t 2 -w 0.5",
    # As stream100, from a provider that speaks Anthropic's protocol.
    "translated100": "-m translated -s -n 100 -d 20 -c 100 -t 3 -w 2.2 -g 3",
}
OURS_ALONE = ("translated100",)
WARM_UP = ("-c 4 -t 0.8 -w 0.2", "-s -n 10 -d 2 -c 4 -t 0.5 -w 0.2")


@dataclass(frozen=True)
class Gateway:
    """Something that listens: where, with which key, and the process to measure (none for the simulator itself)."""

    name: str
    url: str
    key: str
    pid: int | None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build(folder: Path) -> Path:
    """Compiles sim and load into the folder. Ends the program where there is no compiler."""
    if not (shutil.which("cc") and shutil.which("taskset")):
        raise SystemExit("This needs a C compiler and taskset (Debian: apt install build-essential util-linux).")
    folder.mkdir(parents=True, exist_ok=True)
    for source in (HERE / "upstream/sim.c", HERE / "load/load.c"):
        subprocess.run(["cc", "-O2", "-o", folder / source.stem, source], check=True)
    return folder


@contextlib.contextmanager
def simulator(tools: Path) -> Iterator[Gateway]:
    """The provider that all are measured against, on the core of the clients."""
    port = free_port()
    command = ["taskset", "-c", LOAD_CORE, str(tools / "sim"), str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
        try:
            wait_for(port, 10, running)
            yield Gateway("direct", f"http://127.0.0.1:{port}", "sk-bench", running.pid)
        finally:
            running.kill()


def end_on_signals() -> None:
    """SIGTERM and SIGINT end the program as an exception does, so that what it started ends with it."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


def wait_for(port: int, seconds: float = 30, running: subprocess.Popen[bytes] | None = None) -> None:
    """Raises RuntimeError when nothing accepts connections there in time, or the process ended."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if running is not None and running.poll() is not None:
            raise RuntimeError(f"ended with status {running.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"did not listen within {seconds:.0f} s")


def listens(gateway: Gateway) -> bool:
    port = int(gateway.url.rsplit(":", 1)[1])
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def stop(running: subprocess.Popen[bytes]) -> None:
    """Ends the process and what it started: politely, then for good."""
    family = process.tree(running.pid)
    running.send_signal(signal.SIGTERM)
    try:
        running.wait(40)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
    for pid in family:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def send(tools: Path, gateway: Gateway, options: str, timeout: float = 300) -> dict[str, Any]:
    """One run of the load generator: what it counted. Raises RuntimeError with its words when it gives no count."""
    command = ["taskset", "-c", LOAD_CORE, str(tools / "load"), "-u", f"{gateway.url}/v1/chat/completions"]
    command += ["-m", "sim", "-H", f"Authorization: Bearer {gateway.key}", *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise RuntimeError(f"load: status {done.returncode}: {(done.stdout + done.stderr)[:300]}") from None
    return found


class _Peak:
    """The most memory that a process had while the block ran."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.before = self.most = process.memory_mb(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            self.most = max(self.most, process.memory_mb(self.pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()


def quiet(seconds: float) -> None:
    """Returns when nobody uses the machine much, or after so many seconds."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        before = process.machine_seconds()
        time.sleep(0.3)
        if process.machine_seconds() - before < 0.3 * BUSY:
            return


def measure(tools: Path, gateway: Gateway, options: str, provider: Gateway) -> dict[str, Any]:
    """A run of load beside what it cost the gateway.

    Adds: us_per_request, us_per_chunk (CPU microseconds), cores (CPU used by the gateway), mb_before, mb (MB),
    other (CPU used by anything that is not part of the measurement, in cores), busy (true when that was too much).
    """
    watched = [pid for pid in {gateway.pid, provider.pid} if pid]
    with _Peak(gateway.pid or os.getpid()) as peak:
        machine, own = process.machine_seconds(), process.own_seconds()
        before = {pid: process.cpu_seconds(pid) for pid in watched}
        began = time.monotonic()
        found = send(tools, gateway, options)
        used = {pid: process.cpu_seconds(pid) - before[pid] for pid in watched}
        seconds = time.monotonic() - began
        ours = sum(used.values()) + process.own_seconds() - own
        other = max(0.0, process.machine_seconds() - machine - ours) / seconds
    found |= {"other": round(other, 3), "busy": other > BUSY}
    if gateway.pid and gateway.pid != provider.pid:
        cpu = used[gateway.pid]
        found |= {"cores": round(cpu / seconds, 3), "mb_before": round(peak.before, 1), "mb": round(peak.most, 1)}
        # A handful of answers says nothing about the cost of one.
        if found["ok"] >= ENOUGH:
            found["us_per_request"] = round(cpu / found["ok"] * 1e6, 2)
        if found["stream"] and found["chunks_total"] >= ENOUGH:
            found["us_per_chunk"] = round(cpu / found["chunks_total"] * 1e6, 2)
    return found
