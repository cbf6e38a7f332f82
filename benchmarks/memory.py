"""Does anything grow with the number of requests? Memory, open files, threads and tasks over 100,000 of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from benchmarks import process
from benchmarks.targets import Ours
from benchmarks.traffic import HERE, Gateway, send

# A process reaches its working size during the first requests; growth is counted from there.
FIRST = 10_000
STEPS = 5


def tasks(pid: int, file: Path) -> int:
    """The server's own count, asked for by a signal (probe/sitecustomize.py); -1 when it gives none."""
    file.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR2)
    for _ in range(50):
        time.sleep(0.1)
        with contextlib.suppress(OSError, ValueError):
            return int(file.read_text())
    return -1


def _sample(pid: int, file: Path, requests: int) -> dict[str, Any]:
    # Longer than the usage writer's pause, so that rows on their way are not taken for growth.
    time.sleep(1.5)
    return {
        "requests": requests,
        "mb": round(process.memory_mb(pid), 1),
        "files": process.open_files(pid),
        "threads": process.threads(pid),
        "tasks": tasks(pid, file),
    }


def watch(tools: Path, ours: Ours, total: int = 100_000) -> dict[str, Any]:
    """Samples after FIRST requests and after each fifth of `total` more, with the count of errors."""
    file = ours.folder / "tasks"
    errors = 0
    samples = []
    with ours.running(PYTHONPATH=str(HERE / "probe"), TASKS_FILE=str(file)) as gateway:
        assert gateway.pid is not None
        errors += _requests(tools, gateway, FIRST)
        samples.append(_sample(gateway.pid, file, 0))
        for step in range(1, STEPS + 1):
            errors += _requests(tools, gateway, total // STEPS)
            samples.append(_sample(gateway.pid, file, total // STEPS * step))
    return {"target": "ours", "phase": "memory", "err": errors, "samples": samples}


def _requests(tools: Path, gateway: Gateway, count: int) -> int:
    """How many of them did not get their answer."""
    return count - int(send(tools, gateway, f"-c 32 -t 240 -w 0 -N {count}")["ok"])
