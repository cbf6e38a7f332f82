"""Where the engine of each provider listens and how it is: a small file, written by the process that keeps it.

All workers of a machine share the files, so that each of them finds the one engine.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from django.conf import settings

LOADING, READY, FAILING = "loading", "ready", "failing"


@dataclass(frozen=True, slots=True)
class Place:
    """`key` is the engine's own API key; `retry_at` is when it is started again, in Unix seconds."""

    port: int
    key: str = field(repr=False)
    state: str = LOADING
    problem: str = ""
    pid: int = 0
    retry_at: float = 0.0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


# As this process last saw them; only the keeper's thread writes.
known: dict[int, Place] = {}


def folder() -> Path:
    found = Path(settings.DATA_DIR) / "engines"
    found.mkdir(mode=0o700, parents=True, exist_ok=True)
    return found


def _file(provider_id: int) -> Path:
    return folder() / f"{provider_id}.json"


def read(provider_id: int) -> Place | None:
    try:
        return Place(**orjson.loads(_file(provider_id).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write(provider_id: int, place: Place) -> None:
    path = _file(provider_id)
    fresh = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(orjson.dumps(place))
    fresh.replace(path)


def forget(provider_id: int) -> None:
    with contextlib.suppress(OSError):
        _file(provider_id).unlink()
