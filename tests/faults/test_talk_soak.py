"""Some hundred conversations while everything around the gateway breaks once: the bounded run.

The full one is `make soak`. A violation names its request; the seed repeats the questions.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.faults.talk_soak import TalkOptions, talk_soak, talk_table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
OPTIONS = TalkOptions(requests=100, seed=20261122, lanes=16, period=0.6, seconds=1.5, spared=("stop",))


def test_conversations_lose_nothing() -> None:
    """On SQLite under one process; what a kill takes at most is measured by the full run, on a machine at rest."""
    if os.environ.get("DATABASE_URL", "").startswith("postgres"):
        pytest.skip("the tests run on PostgreSQL: the fault rig's part on SQLite belongs to those on SQLite")
    report = asyncio.run(talk_soak("sqlite", OPTIONS))
    print(talk_table(report))
    problems = [problem for problem in report.problems if "kill -9 lost" not in problem]
    assert not problems, "\n".join(problems[:20])
    assert report.verdict.counts["answer done"] > 50
    assert report.verdict.counts["streams cut and rejoined"] > 40
    assert {"kill", "lock"} <= set(report.disturbed)
