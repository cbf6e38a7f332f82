"""Whether the process lives, whether it can serve, and its counters."""

from __future__ import annotations

import asyncio
import hmac
import os
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from g4fsite.draining import draining
from gateway.authentication import client_address, credential_in, principal_for
from gateway.errors import NotAllowed
from gateway.surfaces.exchange import Exchange
from gateway.usage import writer

BACKLOG_LIMIT = 50_000
# A probe gets its answer, also from a database that says nothing.
DATABASE_SECONDS = 2.0


async def health(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI, in front of Django, because probes come with any Host: `/health` and `/livez` ask nothing,
    `/readyz` is 503 with what is wrong, see `problems`."""
    body: dict[str, Any] = {"status": "ok"}
    status = 200 if scope["method"] in ("GET", "HEAD") else 405
    if status == 200 and scope["path"] == "/readyz":
        body["problems"] = found = await problems()
        if found:
            body["status"] = "draining" if draining.stopping else "failing"
            status = 503
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"allow", b"GET, HEAD")]
    await Exchange(scope, receive, send).reply(status, headers, orjson.dumps(body))


async def problems() -> list[str]:
    """Any of `draining` (the server is stopping; nothing else is asked then), `database`, `migrations`, `usage`."""
    if draining.stopping:
        return ["draining"]
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            found = await sync_to_async(_database_problems)()
    except TimeoutError:
        found = ["database"]
    if writer.spool.waiting() > BACKLOG_LIMIT:
        found.append("usage")
    return found


def _database_problems() -> list[str]:
    try:
        return [] if migrated() else ["migrations"]
    except DatabaseError:
        return ["database"]
    finally:
        # A pooled connection is for others between two probes.
        connection.close()


@cache
def known_migrations() -> dict[tuple[str, str], list[tuple[str, str]]]:
    """The migrations of this code, as it was when the process started, with those that each replaces."""
    return {name: list(found.replaces) for name, found in MigrationLoader(None).disk_migrations.items()}


def migrated() -> bool:
    """Whether the database has every migration of this code; it may have more. Raises DatabaseError."""
    applied = MigrationRecorder(connection).applied_migrations()
    return all(
        name in applied or (replaced and all(old in applied for old in replaced))
        for name, replaced in known_migrations().items()
    )


@require_safe
def version(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"version": settings.VERSION})


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text format, for METRICS_TOKEN, a staff key or a signed-in staff user."""
    if not _may_read_metrics(request):
        raise NotAllowed("Metrics need a staff key or METRICS_TOKEN.", code="permission_denied")
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder and Path(folder).is_dir():
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)


def _may_read_metrics(request: HttpRequest) -> bool:
    if request.user.is_authenticated and request.user.is_staff and request.user.is_active:
        return True
    pairs = [(name.lower().encode(), value.encode("utf-8", "replace")) for name, value in request.headers.items()]
    key = credential_in(pairs)
    if key is None:
        return False
    if settings.METRICS_TOKEN and hmac.compare_digest(key, settings.METRICS_TOKEN.encode()):
        return True
    address = client_address(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))
    return principal_for(key, "", lambda: address).is_staff
