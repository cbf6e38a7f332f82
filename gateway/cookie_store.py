"""Keeps uploaded cookies, encrypted, as a credential of each provider that they are for."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.db import transaction

from gateway.cookies import Cookie, for_host, read, stored
from gateway.models import Credential, Provider

log = logging.getLogger(__name__)

LABEL = "uploaded cookies"


def keep(files: Iterable[tuple[str, bytes]]) -> list[str]:
    """Names of the providers that have new cookies; what is for none of them is dropped.

    `files` are names and contents. All are kept or none: raises `gateway.cookies.BadCookies`.
    """
    cookies = [cookie for name, data in files for cookie in read(name, data)]
    changed = []
    with transaction.atomic():
        for provider in Provider.objects.select_for_update().filter(auth_style=Provider.Auth.COOKIES):
            fitting = for_host(cookies, provider.base_url)
            if fitting:
                _replace(provider, fitting)
                changed.append(provider.name)
    log.info("cookies were uploaded for %s", ", ".join(changed) or "no provider")
    return changed


def _replace(provider: Provider, cookies: list[Cookie]) -> None:
    # A new row: what the breaker learnt of the old cookies says nothing about these.
    provider.credentials.filter(label=LABEL).delete()
    Credential.objects.create(provider=provider, label=LABEL, secret=stored(cookies))
