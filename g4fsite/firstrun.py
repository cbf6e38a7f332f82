"""What a fresh installation needs in its database: a first admin, a first key, the demo provider."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.finders import get_finders
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor

from g4fsite.models import SetupToken
from gateway.models import ApiKey, Provider, ProviderModel
from gateway.models.keys import digest_of

DEMO = "Demo"
ADOPTED = "G4F_API_KEY"


@dataclass(frozen=True)
class FirstAdmin:
    """Shown once and kept nowhere."""

    username: str
    password: str
    key: str


def first_admin() -> Any:
    """The oldest active superuser, or None."""
    return get_user_model().objects.filter(is_superuser=True, is_active=True).order_by("id").first()


@transaction.atomic
def make_first_admin() -> FirstAdmin | None:
    """None when there is a user already."""
    if get_user_model().objects.exists():
        return None
    password = secrets.token_urlsafe(12)
    user = get_user_model().objects.create_superuser("admin", "", password)
    _, key = ApiKey.make(user, "first key")
    return FirstAdmin("admin", password, key)


def waiting_admin() -> Any:
    """The first administrator, while the link that was printed for them has not been used and nobody signed in."""
    user = first_admin()
    if user is None or user.last_login or not SetupToken.objects.filter(user=user, used_at=None).exists():
        return None
    return user


@transaction.atomic
def ensure_demo() -> None:
    provider, _ = Provider.objects.get_or_create(
        name=DEMO,
        defaults={
            "label": "Demo (no model)",
            "adapter": "demo",
            "auth_style": Provider.Auth.NONE,
            "default_model": "demo",
            "priority": 1_000_000,
        },
    )
    if not provider.enabled:
        provider.enabled = True
        provider.save()
    ProviderModel.objects.get_or_create(
        provider=provider,
        public_id="demo",
        defaults={
            **dict.fromkeys(("chat", "tools", "json", "embeddings", "image"), True),
            **dict.fromkeys(("vision", "audio", "video", "reasoning"), False),
        },
    )


@transaction.atomic
def adopt_key(plain: str) -> None:
    """Makes `plain` a key of the first admin; one that was adopted before and differs is revoked."""
    digest = digest_of(plain.encode()).hex()
    for row in ApiKey.objects.filter(name=ADOPTED, revoked_at=None).exclude(digest=digest):
        row.revoke()
    known = ApiKey.objects.filter(digest=digest).first()
    if known is None:
        ApiKey.make(first_admin(), ADOPTED, key=plain)
    elif known.revoked_at is not None:
        known.revoked_at = None
        known.save()


def local_servers_notice() -> list[str]:
    """Lines that offer the model servers found on this machine; silent once a real provider is there."""
    from gateway.discovery import find_local_servers

    if Provider.objects.exclude(adapter="demo").exists():
        return []
    return [
        f"Found {found.label} at {found.base_url} ({found.models} models). To use it: ./manage.py {found.command}"
        for found in find_local_servers()
    ]


def copy_before_migrating() -> Path | None:
    """A copy of a SQLite database that is about to be migrated; None where there is nothing to copy."""
    executor = MigrationExecutor(connection)
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if connection.vendor != "sqlite" or not pending or not executor.loader.applied_migrations:
        return None
    folder = Path(settings.DATA_DIR) / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"before-migrating-{datetime.now(UTC):%Y%m%d-%H%M%S}.sqlite3"
    with closing(sqlite3.connect(path)) as copy:
        connection.ensure_connection()
        connection.connection.backup(copy)
    path.chmod(0o600)
    return path


def static_files_changed() -> bool:
    """Whether files were added, removed or touched since they were last collected; remembers what it saw."""
    seen = hashlib.sha256(settings.VERSION.encode())
    for finder in get_finders():
        for name, storage in finder.list([]):
            info = Path(storage.path(name)).stat()
            seen.update(f"{name} {info.st_size} {info.st_mtime_ns}\n".encode())
    stamp = Path(settings.STATIC_ROOT) / ".collected"
    if stamp.exists() and stamp.read_text(encoding="ascii") == seen.hexdigest():
        return False
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(seen.hexdigest(), encoding="ascii")
    return True
