"""What the first start makes, and what every later one leaves alone."""

from __future__ import annotations

import io
import os
import sqlite3
import time
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from g4fsite import firstrun
from gateway import discovery
from gateway.models import ApiKey, ConfigVersion, Provider
from gateway.models.keys import digest_of
from tests.people import charlie


@pytest.mark.django_db
def test_the_first_admin_is_made_once() -> None:
    made = firstrun.make_first_admin()
    assert made is not None
    user = User.objects.get()
    assert user.is_superuser
    assert user.check_password(made.password)
    assert ApiKey.objects.get().digest == digest_of(made.key.encode()).hex()
    assert firstrun.make_first_admin() is None


@pytest.mark.django_db
def test_demo_is_made_once_and_comes_last() -> None:
    firstrun.ensure_demo()
    Provider.objects.update(enabled=False)
    firstrun.ensure_demo()
    demo = Provider.objects.get()
    assert demo.enabled
    assert demo.models.count() == 1
    later = Provider.objects.create(name="Later", adapter="openai_chat")
    assert later.priority == 10 < demo.priority


@pytest.mark.django_db
def test_a_key_of_any_form_is_adopted_and_replaced() -> None:
    owner = charlie()
    firstrun.adopt_key("short")
    firstrun.adopt_key("short")
    row = ApiKey.objects.get()
    assert (row.user, row.state(), "short" in row.prefix) == (owner, "active", False)
    firstrun.adopt_key("another-one-of-fourty-characters-or-so")
    row.refresh_from_db()
    assert row.state() == "revoked"
    firstrun.adopt_key("short")
    row.refresh_from_db()
    assert row.state() == "active"
    assert sorted(key.state() for key in ApiKey.objects.all()) == ["active", "revoked"]


@pytest.mark.django_db(transaction=True)
def test_the_command_prints_secrets_once() -> None:
    first, second, third = io.StringIO(), io.StringIO(), io.StringIO()
    call_command("firstrun", stdout=first)
    assert "sk-gw-" in first.getvalue()
    assert "/setup/" in first.getvalue()
    call_command("firstrun", stdout=second)
    # The link again, and nothing that can be used for longer, until somebody has signed in.
    assert "/setup/" in second.getvalue()
    assert "sk-gw-" not in second.getvalue()
    assert "password" not in second.getvalue()
    User.objects.update(last_login=timezone.now())
    call_command("firstrun", stdout=third)
    assert third.getvalue() == ""


@pytest.mark.django_db
def test_static_files_are_collected_only_when_they_changed(settings: Settings, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.css").write_text("a {}")
    settings.STATICFILES_DIRS = [source]
    settings.STATIC_ROOT = tmp_path / "static"
    assert firstrun.static_files_changed()
    assert not firstrun.static_files_changed()
    os.utime(source / "a.css", (time.time() + 9, time.time() + 9))
    assert firstrun.static_files_changed()


@pytest.mark.django_db(transaction=True)
def test_a_database_is_copied_before_it_is_migrated(settings: Settings, tmp_path: Path) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL is backed up by its own tools")
    settings.DATA_DIR = tmp_path
    assert firstrun.copy_before_migrating() is None
    ConfigVersion.bump()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'gateway'")
    try:
        path = firstrun.copy_before_migrating()
    finally:
        call_command("migrate", "gateway", fake=True, verbosity=0)
    assert path is not None
    with sqlite3.connect(path) as copy:
        assert copy.execute("SELECT number FROM gateway_configversion").fetchone()[0] > 0
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.django_db
def test_a_local_server_is_offered_with_the_exact_command(monkeypatch: pytest.MonkeyPatch) -> None:
    found = discovery.LocalServer("ollama", "Ollama", "http://127.0.0.1:11434", 3)
    monkeypatch.setattr(discovery, "find_local_servers", lambda: [found])
    (line,) = firstrun.local_servers_notice()
    assert "3 models" in line
    assert line.endswith("./manage.py provider add --preset ollama --sync")
    Provider.objects.create(name="Real", adapter="openai_chat")
    assert firstrun.local_servers_notice() == []
