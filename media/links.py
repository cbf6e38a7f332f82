"""Addresses of files: for a signed-in browser, and signed ones that work for whoever holds them until they are over."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

from media.errors import LinkRefused
from media.models import StoredFile

# Part of the key: a token that was made for anything else is none here.
AUDIENCE = "media"
EXPIRES, SIGNATURE = "expires", "signature"


def session_path(stored: StoredFile) -> str:
    """For pages of ours: the browser's session opens it, nothing is signed."""
    return path_of(stored.name)


def path_of(name: str) -> str:
    return f"/media/{quote(name)}"


def thumbnail_path(stored: StoredFile) -> str:
    return f"/thumbnail/{quote(stored.name)}"


def signed_url(stored: StoredFile, base: str, seconds: int | None = None, *, path: str | None = None) -> str:
    """Absolute and good for `seconds` (MEDIA_URL_SECONDS), for this path and no other.

    `base` is `base_of`'s: scheme and host without a slash at the end.
    """
    return signed(path or session_path(stored), base, seconds)


def signed(path: str, base: str, seconds: int | None = None) -> str:
    """The same for a path, whether there is a file or not."""
    expires = int(time.time()) + (settings.MEDIA_URL_SECONDS if seconds is None else seconds)
    query = urlencode({EXPIRES: expires, SIGNATURE: _signature(path, expires)})
    return f"{base}{path}?{query}"


def check(path: str, expires: str, signature: str) -> None:
    """Raises LinkRefused unless `signed_url` made this and its time is not over.

    A name is one file of one user for good, so the path says whose it is.
    """
    known = len(expires) <= 12 and expires.isascii() and expires.isdigit()
    if not known or not constant_time_compare(_signature(path, int(expires)), signature):
        raise LinkRefused("The signature of this address is not valid.")
    if int(expires) <= time.time():
        raise LinkRefused("This address is no longer valid. Ask for the file again to get a new one.")


def _signature(path: str, expires: int) -> str:
    return salted_hmac(f"g4fsite.{AUDIENCE}", f"{path}\n{expires}", algorithm="sha256").hexdigest()


def base_of(scope: Mapping[str, Any]) -> str:
    """PUBLIC_URL, else scheme and host of an ASGI request whose Host was checked before."""
    if settings.PUBLIC_URL:
        return str(settings.PUBLIC_URL)
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"localhost").decode("latin-1")
    scheme = scope.get("scheme", "http")
    if settings.TRUSTED_PROXIES and headers.get(b"x-forwarded-proto", b"").strip() in (b"http", b"https"):
        scheme = headers[b"x-forwarded-proto"].decode().strip()
    return f"{scheme}://{host}"
