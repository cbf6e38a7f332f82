"""The server's connections to its database: none is left behind, and dead ones are not used."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.support.gateway import GatewayProcess

Start = Callable[..., GatewayProcess]
pytestmark = pytest.mark.slow


def statuses(process: GatewayProcess, count: int) -> set[int]:
    """Of this many requests that ask the database, twenty at once."""
    with (
        httpx.Client(base_url=process.url, headers=process.auth(), timeout=30) as client,
        ThreadPoolExecutor(20) as many,
    ):
        return {found.status_code for found in many.map(lambda _: client.get("/v1/models"), range(count))}


def open_files(pid: int) -> list[str]:
    """Their names; one that closes while it is read is left out."""
    names = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            names.append(link.readlink().name)
    return names


def test_requests_leave_no_file_of_sqlite_open(gateway_process: Start) -> None:
    process = gateway_process()
    assert statuses(process, 300) == {200}
    assert process.process
    # As many as were at work at once, and those of the two threads beside them.
    assert open_files(process.process.pid).count("db.sqlite3") < 40


@pytest.mark.postgres
def test_a_database_that_came_back_is_not_noticed(gateway_process: Start, postgres_url: str) -> None:
    process = gateway_process(DATABASE_URL=postgres_url)
    assert statuses(process, 60) == {200}
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert ended
    assert ended[0] > 0
    assert statuses(process, 60) == {200}
