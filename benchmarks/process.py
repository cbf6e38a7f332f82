"""What the kernel knows about a process and the processes it started: CPU time, memory, files, threads (Linux)."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import time
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
# clock_gettime(2) of another process: the complement of its id, shifted, and CPUCLOCK_SCHED.
SCHEDULED = 2


def tree(pid: int) -> list[int]:
    """The process and its descendants that live."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found = [pid]
    for known in found:
        found += children.get(known, [])
    return found


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; the name before them may hold anything."""
    return (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()


def cpu_seconds(pid: int) -> float:
    """CPU time of the tree, to the nanosecond, with threads that ended and children that were waited for."""
    total = 0.0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            total += time.clock_gettime((~each << 3) | SCHEDULED)
            total += sum(int(value) for value in _stat(each)[13:15]) / TICKS
    return total


def own_seconds() -> float:
    """CPU time of this process and of the children it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def machine_seconds() -> float:
    """CPU time of the whole machine, and what its host took away."""
    fields = [int(value) for value in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


def memory_mb(pid: int) -> float:
    """Resident memory of the tree in MB; pages that processes share are counted once (PSS)."""
    total = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            text = (PROC / str(each) / "smaps_rollup").read_text()
            total += int(text.split("Pss:", 1)[1].split()[0])
    return total / 1024


def open_files(pid: int) -> int:
    return sum(_count(each, "fd") for each in tree(pid))


def threads(pid: int) -> int:
    return sum(_count(each, "task") for each in tree(pid))


def _count(pid: int, folder: str) -> int:
    with contextlib.suppress(OSError):
        return sum(1 for _ in (PROC / str(pid) / folder).iterdir())
    return 0


def machine() -> str:
    """One line: processor, cores, memory, kernel."""
    info = (PROC / "cpuinfo").read_text()
    model = info.split("model name", 1)[1].split(":", 1)[1].split("\n", 1)[0].strip() if "model name" in info else "?"
    memory = int((PROC / "meminfo").read_text().split()[1]) / 1024 / 1024
    return f"{os.cpu_count()} × {model}, {memory:.0f} GB, Linux {platform.release()}"
