"""Bumps the configuration version whenever a row that requests depend on is saved or deleted."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models.signals import post_delete, post_save

from gateway.models import (
    AliasTarget,
    ApiKey,
    ConfigVersion,
    Credential,
    ModelAlias,
    Price,
    Provider,
    ProviderModel,
    UserLimits,
)

WATCHED = (Provider, Credential, ProviderModel, ModelAlias, AliasTarget, Price, ApiKey, UserLimits, get_user_model())


def _changed(sender: Any, update_fields: frozenset[str] | None = None, raw: bool = False, **kwargs: Any) -> None:
    # Signing in writes `last_login`; that concerns no request.
    if raw or (update_fields is not None and set(update_fields) <= {"last_login", "last_used_at"}):
        return
    ConfigVersion.bump()


for model in WATCHED:
    post_save.connect(_changed, sender=model, dispatch_uid=f"version-save-{model.__name__}")
    post_delete.connect(_changed, sender=model, dispatch_uid=f"version-delete-{model.__name__}")
