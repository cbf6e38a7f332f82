"""What each of thousands of tests would pay for anew, made cheap once for the run."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Any

# What migrating has left there, for all tests.
KEPT = {"auth_permission", "django_content_type"}


def prepare() -> None:
    """Once, after `django.setup()`."""
    import httpx._transports.default as transports
    from django.conf import settings
    from django.test import TransactionTestCase

    TransactionTestCase._fixture_teardown = _empty_tables
    database = settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        # Of this process alone: nothing of a test's database has to outlive the machine.
        database["OPTIONS"]["init_command"] += " PRAGMA synchronous=OFF;"
    made, trusted = transports.create_ssl_context, cache(transports.create_ssl_context)

    def context(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        # Reading the authorities of the world takes 15 ms, for each client of each test.
        return trusted() if verify is True and cert is None else made(verify=verify, cert=cert, trust_env=trust_env)

    transports.create_ssl_context = context


@cache
def _questions() -> str:
    from django.db import connection

    names = sorted(set(connection.introspection.django_table_names()) - KEPT)
    return " UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {name})" for name in names)


def _empty_tables(self: object) -> None:
    """In place of Django's `flush`, which empties each table and makes all permissions anew: 25 times the work."""
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_questions())
        # In any order: references are checked when the transaction ends.
        for (name,) in cursor.fetchall():
            cursor.execute(f"DELETE FROM {name}")
