"""Whether the process lives, whether it can serve, and its counters."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Any

import orjson
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.authentication import client_address, credential_in, principal_for
from gateway.errors import NotAllowed
from gateway.surfaces.exchange import Exchange
from gateway.usage import writer

BACKLOG_LIMIT = 50_000


async def health(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI, in front of Django, because probes come with any Host: `/health` and `/livez` ask nothing,
    `/readyz` is 503 with what is wrong unless the database answers and the journal is not backed up."""
    problems: list[str] = []
    status = 200 if scope["method"] in ("GET", "HEAD") else 405
    if status == 200 and scope["path"] == "/readyz":
        problems = await sync_to_async(_problems)()
        status = 503 if problems else 200
    body = {"status": "failing" if problems else "ok"} | ({"problems": problems} if scope["path"] == "/readyz" else {})
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"allow", b"GET, HEAD")]
    await Exchange(scope, receive, send).reply(status, headers, orjson.dumps(body))


def _problems() -> list[str]:
    problems = []
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM django_migrations LIMIT 1")
    except DatabaseError:
        problems.append("database")
        connection.close()
    if writer.spool.waiting() > BACKLOG_LIMIT:
        problems.append("usage")
    return problems


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
    return principal_for(key, address, "").is_staff
