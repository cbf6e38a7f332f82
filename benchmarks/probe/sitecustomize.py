"""On the path of a measured server only while its memory is watched: SIGUSR2 writes its number of asyncio tasks."""

import asyncio
import os
import signal
from pathlib import Path
from types import FrameType


def _report(number: int, frame: FrameType | None) -> None:
    try:
        count = str(len(asyncio.all_tasks()))
    except RuntimeError:
        count = ""
    file = Path(os.environ["TASKS_FILE"])
    file.with_suffix(".new").write_text(count)
    file.with_suffix(".new").replace(file)


if "TASKS_FILE" in os.environ:
    signal.signal(signal.SIGUSR2, _report)
