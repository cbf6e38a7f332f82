"""The usage list and the overview: read-only, filtered, bounded, and only for who may see them."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import Q
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gateway.admin import usage
from gateway.models import ApiKey, Price, Provider, ProviderModel, UsageEvent
from gateway.models.usage import not_ok
from tests.people import person

pytestmark = pytest.mark.django_db
LIST = "/admin/gateway/usageevent/"
ids = itertools.count()


@pytest.fixture
def admin(client: Client, charlie: User) -> Client:
    client.force_login(charlie)
    return client


def event(at: datetime | None = None, **fields: Any) -> UsageEvent:
    values = {"status": "ok", "http_status": 200, "model": "m", "surface": "v1", "provider_name": "One", **fields}
    return UsageEvent.objects.create(request_id=f"req_{next(ids):032x}", created_at=at or timezone.now(), **values)


def shown(client: Client, query: str = "") -> int:
    return client.get(LIST + query).content.decode().count('class="field-when')


def test_it_is_filtered(admin: Client, alice: User) -> None:
    row = Provider.objects.create(name="One", adapter="demo")
    event(timezone.now() - timedelta(days=3), stream=True)
    event(timezone.now() - timedelta(hours=3), status="error", http_status=502, error_code="provider_not_working")
    event(provider=row, user=alice)
    assert shown(admin) == 3
    assert shown(admin, "?within=1h") == 1
    assert shown(admin, "?within=24h") == 2
    assert shown(admin, "?status__exact=error") == 1
    assert shown(admin, f"?provider={row.pk}") == 1
    assert shown(admin, "?stream__exact=1") == 1
    assert shown(admin, f"?user={alice.pk}") == 1
    assert shown(admin, "?user=alice&within=7d") == 1
    assert shown(admin, "?user=nobody") == 0


@pytest.mark.parametrize(
    "query",
    [
        "?within=x", "?provider=x", f"?provider={'9' * 30}", f"?user={'9' * 30}", "?user=%00", "?provider=²", "?p=999",
        "?p=x", "?q=%00", "?q=" + "x" * 5000, "?all=", "?o=1.2.3", "?id__gt=x", "?user__password__startswith=a", "?e=1",
    ],
)  # fmt: skip
def test_odd_queries_do_not_fail(admin: Client, query: str) -> None:
    event()
    assert admin.get(LIST + query).status_code in (200, 302, 400)


@pytest.mark.parametrize("page", ["usageevent", "providermodel", "provider", "apikey", "modelalias"])
def test_no_list_fails_on_nul(admin: Client, page: str) -> None:
    for query in ("?model=%00", "?name=%00", "?public_id__startswith=%00", "?q=%00", "?%00=1", "?state=%00"):
        assert admin.get(f"/admin/gateway/{page}/{query}").status_code < 500


def test_within_nothing_is_nothing(admin: Client) -> None:
    event(timezone.now() - timedelta(days=40))
    assert shown(admin, "?within=30d") == 0


def test_a_whole_request_id_is_found(admin: Client) -> None:
    wanted = [event() for _ in range(3)][1]
    assert shown(admin, f"?q={wanted.request_id}") == 1
    assert shown(admin, f"?q={wanted.request_id[:10]}") == 0


def test_nobody_changes_it(admin: Client) -> None:
    row = event()
    assert admin.get(f"{LIST}add/").status_code == 403
    assert admin.post(f"{LIST}{row.pk}/change/", {"status": "error"}).status_code == 403
    assert admin.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert UsageEvent.objects.get().status == "ok"


def test_one_request_is_told_in_full(admin: Client, alice: User) -> None:
    provider = Provider.objects.create(name="One", adapter="demo")
    model = ProviderModel.objects.create(provider=provider, public_id="m")
    price = Price.objects.create(model=model, input=150_000_000, output=600_000_000, valid_from=timezone.now())
    key, _ = ApiKey.make(alice, "laptop")
    tried = [
        {"provider": "One", "model": "m", "ms": 31, "status": 502, "code": "x"},
        {"provider": "Two", "model": "n", "ms": 9},
    ]
    row = event(user=alice, api_key=key, price=price, cost=1_500_000_000, first_token_ms=420, attempts=tried)
    page = admin.get(f"{LIST}{row.pk}/change/").content.decode()
    for text in ("laptop", "$0.1500 in, $0.6000 out", "$1.50", "0.42 s", "One/m", "502 x, 31 ms", "answered, 9 ms"):
        assert text in page


def test_rows_outlive_what_they_speak_of(admin: Client) -> None:
    row = event(user_id=999, api_key_id=999, price_id=999, provider_id=999, attempts="odd")
    assert shown(admin) == 1
    assert admin.get(f"{LIST}{row.pk}/change/").status_code == 200
    UsageEvent.objects.all().delete()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL reads a small table whole")
@pytest.mark.parametrize(
    "wanted",
    [Q(user=1), Q(api_key=1), Q(provider=1), *(not_ok(status) for status in ("error", "cancelled", "interrupted"))],
)
def test_newest_rows_are_found_by_an_index(wanted: Q, db: None) -> None:
    plan = UsageEvent.objects.filter(wanted).order_by("-id")[:50].explain()
    assert "USING INDEX" in plan, plan
    assert "TEMP B-TREE" not in plan, plan


def test_its_cost_does_not_grow_with_the_table(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "DEEPEST", 100)
    monkeypatch.setattr(usage.UsageEventAdmin, "deepest", 100)
    for _ in range(160):
        event()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        page = admin.get(LIST).content.decode()
    assert "the newest 100 requests" in page
    assert len(queries) < 10
    assert not any("COUNT(" in query["sql"] for query in queries)
    assert "?p=2" in page
    assert "?p=3" not in page


def test_the_overview_is_for_who_may_see_usage(client: Client) -> None:
    event()
    dora = person("dora", is_staff=True)
    client.force_login(dora)
    assert "fig-requests" not in client.get("/admin/").content.decode()
    dora.user_permissions.add(Permission.objects.get(codename="view_usageevent"))
    page = client.get("/admin/").content.decode()
    assert "fig-requests" in page
    assert "/admin/gateway/provider/" not in page


@pytest.mark.parametrize(
    "query", ["", "?period=7d", "?period=30d", "?period=x&provider=x", "?provider=" + "x" * 500, "?provider=%3Cb%3E"]
)
def test_the_overview_is_drawn(admin: Client, query: str) -> None:
    Provider.objects.create(name="One", adapter="openai_chat", base_url="https://a.example/v1")
    event(first_token_ms=300, prompt_tokens=5)
    page = admin.get(f"/admin/{query}").content.decode()
    assert page.count('<svg class="plot"') == 4
    assert page.count("<summary>Numbers</summary>") == 4
    assert "<b>x" not in page
    assert "style=" not in page


def test_the_door_to_the_admin_is_the_common_one(client: Client, alice: User, charlie: User) -> None:
    assert client.get("/admin/gateway/provider/")["Location"] == "/admin/login/?next=/admin/gateway/provider/"
    assert client.get("/admin/login/?next=/admin/")["Location"] == "/accounts/login/?next=/admin/"
    client.force_login(alice)
    assert client.get("/admin/login/?next=/admin/").status_code == 403
    client.force_login(charlie)
    assert client.get("/admin/login/?next=https://evil.example/")["Location"] == "/admin/"
    assert client.post("/admin/logout/")["Location"] == "/accounts/login/"
