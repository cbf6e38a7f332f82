"""A thousand requests, a fifth of them faulted, while a worker is killed and the database goes away: the bounded run.

The full one is `make soak`. A violation names its request; the seed repeats the run.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.faults.soak import Options, soak, table
from tests.support import services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
OPTIONS = Options(requests=1000, seed=20261121, period=2.0, lanes=16)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.redis])])
def database(request: pytest.FixtureRequest) -> str:
    """SQLite under one worker; PostgreSQL and Redis under two."""
    name: str = request.param
    if name == "postgres":
        services.require("redis server")
    if name == "sqlite" and os.environ.get("DATABASE_URL", "").startswith("postgres"):
        pytest.skip("the tests run on PostgreSQL: the fault rig's part on SQLite belongs to those on SQLite")
    return name


def test_nothing_is_lost_doubled_hung_or_crossed(database: str) -> None:
    report = asyncio.run(soak(database, OPTIONS))
    print(table(report))
    assert not report.problems, "\n".join(report.problems[:20])
    assert report.verdict.counts["answer whole"] > 700
    assert {"kill", "lock"} <= set(report.disturbed)
