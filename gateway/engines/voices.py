"""Runs `voice.py` for one request, off the event loop, as many at once as there are processors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings

from gateway.engines.engine import environment

log = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("voice.py")
REFUSED = 3

_places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


class Refused(Exception):
    """What was asked cannot be done; `param` is the field at fault."""

    def __init__(self, param: str, sentence: str) -> None:
        super().__init__(sentence)
        self.param = param


class Broken(Exception):
    """The process failed; the log says how."""


async def run(wanted: Mapping[str, Any], data: bytes = b"") -> bytes:
    """What the process gave. Raises Refused, Broken, OSError; ends the process when it is cancelled."""
    loop = asyncio.get_running_loop()
    async with _places.setdefault(loop, asyncio.Semaphore(os.cpu_count() or 1)):
        process = await asyncio.create_subprocess_exec(
            settings.LOCAL_ENGINE_PYTHON,
            str(SCRIPT),
            str(os.getpid()),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=environment(),
            start_new_session=True,
        )
        try:
            given, said = await process.communicate(json.dumps(wanted).encode() + b"\n" + data)
        except RuntimeError:
            # uvloop says so of a process that ended before it was told anything.
            await process.wait()
            raise Broken from None
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
    if process.returncode == REFUSED:
        param, _, sentence = said.decode(errors="replace").strip().rpartition("\n")[2].partition(": ")
        raise Refused(param, sentence)
    if process.returncode or not given:
        log.warning("speech ended with %s: %s", process.returncode, said.decode(errors="replace").strip()[-300:])
        raise Broken
    return given
