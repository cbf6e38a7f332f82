"""On the path of the rig's gateways alone: SIGUSR2 makes a process write down how many asyncio tasks it has,
SIGRTMIN where all its threads and tasks stand, into its log."""

import asyncio
import contextlib
import faulthandler
import os
import signal
from pathlib import Path
from types import FrameType


def _write(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(RuntimeError, OSError):
        tasks = asyncio.all_tasks(asyncio.get_running_loop())
        made = Path(os.environ["FAULTS_PROBE"]) / f"{os.getpid()}.tmp"
        made.write_text(str(len(tasks)), encoding="utf-8")
        made.rename(made.with_suffix(".tasks"))


def _tell(number: int, frame: FrameType | None) -> None:
    faulthandler.dump_traceback()
    with contextlib.suppress(RuntimeError):
        for task in asyncio.all_tasks(asyncio.get_running_loop()):
            task.print_stack(limit=6)


if "FAULTS_PROBE" in os.environ:
    signal.signal(signal.SIGRTMIN, _tell)
    signal.signal(signal.SIGUSR2, _write)
