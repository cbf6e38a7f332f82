"""Which services a test run can use; a missing one is named in a skip, or fails where CI promised it."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
POSTGRES_URL = os.environ.get("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/9")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome") or ""
NODE_MODULES = ROOT / "tests/clients/node/node_modules/openai"
REDIS_SERVER = shutil.which("redis-server") or ""
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""
# Sets the clock of one process; its program only names this library, which Debian keeps beside each architecture's.
FAKETIME = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")
CONSOLE_SCRIPT = Path(sys.executable).with_name("g4fsite")
ENGINE_PYTHON = Path(os.environ.get("G4FSITE_ENGINE_PYTHON") or ROOT / ".venv-engine/bin/python")
LANGCHAIN_PYTHON = Path(os.environ.get("G4FSITE_LANGCHAIN_PYTHON") or ROOT / ".venv-langchain/bin/python")
S3_PYTHON = Path(os.environ.get("G4FSITE_S3_PYTHON") or ROOT / ".venv-s3/bin/python")


def _listens(url: str, port: int) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or port), timeout=1).close()
    except OSError:
        return False
    return True


# Whether it is there, and what to do when it is not.
KNOWN: dict[str, tuple[Callable[[], bool], str]] = {
    "postgres": (lambda: _listens(POSTGRES_URL, 5432), "start PostgreSQL on 127.0.0.1:5432 or set TEST_POSTGRES_URL"),
    "redis": (lambda: _listens(REDIS_URL, 6379), "start Redis on 127.0.0.1:6379 or set TEST_REDIS_URL"),
    "redis server": (lambda: bool(REDIS_SERVER), "install the package redis-server"),
    "browser": (lambda: bool(CHROMIUM), "install the package chromium or set CHROMIUM to its path"),
    "node": (
        lambda: bool(shutil.which("node")) and NODE_MODULES.exists(),
        "install node 20 or later with npm and run tests/clients/node/install.sh",
    ),
    "nginx": (lambda: bool(NGINX), "install the package nginx-light"),
    "faketime": (lambda: bool(FAKETIME), "install the package faketime"),
    "console script": (CONSOLE_SCRIPT.exists, "run `make install`"),
    "s3": (
        lambda: S3_PYTHON.exists() and find_spec("storages") is not None,
        "run tests/media/s3/install.sh and `make install-dev EXTRAS=s3`",
    ),
    "langchain": (LANGCHAIN_PYTHON.exists, "run tests/clients/langchain/install.sh"),
    "speech": (
        lambda: any(ENGINE_PYTHON.parent.parent.glob("lib/python*/site-packages/espeakng_loader")),
        "run tests/engine/install.sh",
    ),
    "engine": (ENGINE_PYTHON.exists, "run tests/engine/install.sh, which builds llama.cpp in about three minutes"),
}


@cache
def missing(service: str) -> str:
    """Why tests that need this service cannot run, and what to do about it; empty when they can."""
    found, remedy = KNOWN[service]
    return "" if found() else f"{service} is not there: {remedy}"


def require(service: str) -> None:
    """Skips the running test without this service; under CI=true, where it was promised, fails it."""
    reason = missing(service)
    if not reason:
        return
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
