"""Fixtures for all tests: people, a scripted provider, and the gateway, in this process or in one of its own."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.support.environment import prepare

# Before anything reads Django's settings.
DATA_DIR = prepare()

from tests import people  # noqa: E402 - after prepare()
from tests.support import quick, services  # noqa: E402
from tests.support.gateway import GatewayProcess, LiveGateway, make_template, scratch_postgres  # noqa: E402
from tests.support.provider import ScriptedProvider  # noqa: E402

if TYPE_CHECKING:
    from django.contrib.auth.models import User


# How long a machine takes says nothing about a case: what else runs on it may slow the drawing of one by seconds.
hypothesis.settings.register_profile(
    "busy machines",
    hypothesis.settings.get_profile("ci" if os.environ.get("CI") else "default"),
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("busy machines")


def pytest_configure() -> None:
    # pytest-django leaves this to us, because the environment is prepared here and not before.
    import django

    django.setup()
    quick.prepare()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what starts the command: such a process has a database of its own, whichever this run has."""
    for item in items:
        if "gateway_template" in getattr(item, "fixturenames", ()):
            item.add_marker("process")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for service in services.KNOWN:
        if item.get_closest_marker(service):
            services.require(service)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says what did not run, and what to start so that it does."""
    reasons: dict[str, int] = defaultdict(int)
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section("not run")
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count} test{'s' if count > 1 else ''}: {reason}")


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """A database name of its own, so that two runs on one PostgreSQL do not meet."""
    from django.conf import settings

    database = settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.postgresql":
        database.setdefault("TEST", {})["NAME"] = f"test_g4fsite_{os.getpid()}"
        # Threads of tests end with connections that they never gave back; a server's own do not.
        database["OPTIONS"]["pool"]["max_size"] = 40


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """PostgreSQL drops no database that somebody is connected to, and threads of pools may still be."""
    from django.db import connection

    yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture
def alice(db: None) -> User:
    return people.alice()


@pytest.fixture
def bob(db: None) -> User:
    return people.bob()


@pytest.fixture
def charlie(db: None) -> User:
    return people.charlie()


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as scripted:
        yield scripted


@pytest.fixture
def gateway(transactional_db: None) -> Iterator[LiveGateway]:
    """The whole server on a port of this process, over the test database."""
    # Rows have the same ids in each test: what one has learnt of them is wrong in the next.
    from gateway.breaker import breaker

    breaker.clear()
    with LiveGateway() as live:
        yield live


@pytest.fixture(scope="session")
def gateway_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated data folder with a first user and key, made once and copied for each process."""
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def gateway_process(gateway_template: Path, tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Starts `manage.py api` on a fresh data folder, or on a database of the test's own (DATABASE_URL).

    With `wait=False` it is only spawned. What still runs at the end is killed.
    """
    started: list[GatewayProcess] = []

    def start(*arguments: str, wait: bool = True, **environment: str) -> GatewayProcess:
        template = gateway_template
        if "DATABASE_URL" in environment:
            template = make_template(tmp_path / f"seed{len(started)}", **environment)
        process = GatewayProcess(template, tmp_path / f"data{len(started)}", arguments, environment)
        started.append(process)
        return process.start() if wait else process.spawn()

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """An empty database of this test's own."""
    services.require("postgres")
    with scratch_postgres(services.POSTGRES_URL) as url:
        yield url


@pytest.fixture
def redis_url() -> str:
    services.require("redis")
    return services.REDIS_URL
