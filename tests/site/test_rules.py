"""Rules that no test of behaviour can hold: who opens connections, and that certificates are always checked."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connection
from django.db.backends.sqlite3.base import DatabaseWrapper

from g4fsite.settings import _database
from tests.support.services import ROOT

APPS = ("g4fsite", "gateway", "conversations", "media")
NETWORK = {
    "aiohttp",
    "aiohappyeyeballs",
    "boto3",
    "botocore",
    "http",
    "httpx",
    "httptools",
    "requests",
    "socket",
    "ssl",
    "urllib3",
}
# What each of them has to do with the network; docs/architecture.md names those that lead outside.
MAY = {
    "gateway/upstream/connection.py": "one connection to a provider",
    "gateway/upstream/pool.py": "makes those connections",
    "gateway/engines/child.py": "hands llama.cpp the socket on which it listens",
    "gateway/engines/engine.py": "binds a port of this machine for llama.cpp",
    "gateway/discovery.py": "asks a provider on an operator's behalf",
    "media/s3.py": "keeps files in the operator's S3 storage",
    "media/fetch.py": "fetches what callers give addresses of",
    "g4fsite/server.py": "listens",
    "g4fsite/stopping.py": "takes over what the kernel accepted before the port closes",
    "g4fsite/supervisor.py": "hands the listening socket to workers",
    "g4fsite/management/commands/api.py": "binds the address before it starts the server",
}
UNCHECKED = re.compile(r"verify\s*=\s*False|CERT_NONE|check_hostname\s*=\s*False|_create_unverified|ssl\s*=\s*False")


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in (ROOT / folder).rglob("*.py") if "migrations" not in path.parts)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module.split(".")[0]} | ({node.module} if node.module == "urllib.request" else set())
    return found


def test_only_these_files_may_open_connections() -> None:
    found = {str(path.relative_to(ROOT)) for path in sources(*APPS) if imported(path) & (NETWORK | {"urllib.request"})}
    assert found == set(MAY)


def test_nothing_turns_the_check_of_certificates_off() -> None:
    files = [*sources(*APPS, "scripts", "deploy"), *(ROOT / "deploy").rglob("*"), ROOT / "manage.py"]
    read = [path for path in files if path.is_file()]
    assert len(read) > 100
    assert [str(path) for path in read if UNCHECKED.search(path.read_text(encoding="utf-8", errors="replace"))] == []


def test_sqlite_is_set_up_to_wait_and_not_to_fail(tmp_path: Path) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("SQLite's own settings")
    # As it was read from the environment: the tests' own database does without some safety.
    options = _database()["OPTIONS"]
    opened = DatabaseWrapper({**connection.settings_dict, "OPTIONS": options, "NAME": tmp_path / "db.sqlite3"})
    said = {}
    with closing(opened.get_new_connection(opened.get_connection_params())) as raw:
        for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout"):
            said[name] = raw.execute(f"PRAGMA {name}").fetchone()[0]
    assert said == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 5000}
    assert options["transaction_mode"] == "IMMEDIATE"
    assert not connection.settings_dict["ATOMIC_REQUESTS"]
