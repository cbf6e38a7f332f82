"""The configuration in memory: fresh within seconds, and serving on while the database is away."""

from __future__ import annotations

import time

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError

from gateway.models import ApiKey, ConfigVersion, Price, Provider, ProviderModel, UserLimits
from gateway.snapshot import SnapshotStore
from tests.people import person


@pytest.mark.django_db
def test_every_change_moves_the_version(alice: User) -> None:
    seen = [ConfigVersion.current()]

    def moved() -> bool:
        seen.append(ConfigVersion.current())
        return seen[-1] > seen[-2]

    provider = Provider.objects.create(name="A", adapter="demo")
    assert moved()
    model = ProviderModel.objects.create(provider=provider, public_id="m")
    assert moved()
    ApiKey.make(alice, "k")
    assert moved()
    limits = UserLimits.objects.create(user=alice, requests_per_minute=5)
    assert moved()
    limits.delete()
    assert moved()
    alice.is_active = False
    alice.save()
    assert moved()
    model.delete()
    assert moved()
    alice.save(update_fields=["last_login"])
    assert not moved()


@pytest.mark.django_db(transaction=True)
def test_a_change_is_seen_within_seconds_without_being_told() -> None:
    store = SnapshotStore()
    told: list[int] = []
    store.listeners.append(lambda snapshot: told.append(snapshot.version))
    store.start()
    store.start()
    try:
        assert not store.current.has_users
        person("late")
        Provider.objects.create(name="Late", adapter="demo")
        deadline = time.monotonic() + 5
        while "late" not in store.current.by_name and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "late" in store.current.by_name
        assert store.current.has_users
        assert len(told) >= 2
    finally:
        store.stop()


@pytest.mark.django_db(transaction=True)
def test_the_last_snapshot_serves_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.snapshot.POLL_SECONDS", 0.02)
    Provider.objects.create(name="A", adapter="demo")
    store = SnapshotStore()
    store.start()
    try:
        away = [DatabaseError("away"), DatabaseError("away"), RuntimeError("a bug")]

        def current() -> int:
            if away:
                raise away.pop(0)
            return -1

        monkeypatch.setattr(ConfigVersion, "current", current)
        deadline = time.monotonic() + 5
        while store.current.version != -1 and time.monotonic() < deadline:
            assert "a" in store.current.by_name
            time.sleep(0.01)
        assert store.current.version == -1
        # Said once for the outage, once for the bug.
        assert caplog.text.count("serving the last known one") == 2
    finally:
        store.stop()


@pytest.mark.django_db
def test_it_reloads_now_and_then_even_if_nobody_bumped(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SnapshotStore()
    store.reload()
    provider = Provider.objects.create(name="A", adapter="demo")
    store.refresh()
    # Past our signals, as with SQL by hand.
    Provider.objects.filter(pk=provider.pk).update(name="B")
    store.refresh()
    assert "a" in store.current.by_name
    monkeypatch.setattr("gateway.snapshot.FULL_RELOAD_SECONDS", -1)
    store.refresh()
    assert "b" in store.current.by_name


@pytest.mark.django_db
def test_prices_come_with_their_model() -> None:
    from django.utils import timezone

    provider = Provider.objects.create(name="A", adapter="demo")
    model = ProviderModel.objects.create(provider=provider, public_id="m", vision=True, tools=False, context_length=9)
    Price.objects.create(model=model, input=1, output=2, valid_from=timezone.now())
    store = SnapshotStore()
    policy = store.reload().by_model["m"][0]
    assert policy.flags == {"vision": True, "tools": False}
    assert (policy.context_length, policy.targets[0].prices[0].output) == (9, 2)
