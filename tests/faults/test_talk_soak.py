"""Some hundred conversations while everything around the gateway breaks once: the bounded run.

The full one is `make soak`. A violation names its request; the seed repeats the questions.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.faults.talk_soak import TalkOptions, talk_soak, talk_table
from tests.support import services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
OPTIONS = TalkOptions(requests=150, seed=20261122, lanes=16, period=0.6, seconds=1.5, spared=("stop",))


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.redis])])
def database(request: pytest.FixtureRequest) -> str:
    """SQLite under one process; PostgreSQL and Redis under two workers."""
    name: str = request.param
    if name == "postgres":
        services.require("redis server")
    if name == "sqlite" and os.environ.get("DATABASE_URL", "").startswith("postgres"):
        pytest.skip("the tests run on PostgreSQL: the fault rig's part on SQLite belongs to those on SQLite")
    return name


def test_conversations_lose_nothing(database: str) -> None:
    report = asyncio.run(talk_soak(database, OPTIONS))
    print(talk_table(report))
    assert not report.problems, "\n".join(report.problems[:20])
    assert report.verdict.counts["answer done"] > 80
    assert report.verdict.counts["streams cut and rejoined"] > 60
    assert {"kill", "lock"} <= set(report.disturbed)
