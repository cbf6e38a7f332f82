"""Who is calling: one check of credentials for both doors, DRF's views and the ASGI chat path."""

from __future__ import annotations

import ipaddress
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from io import BytesIO
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from gateway.errors import NotAllowed, NotAuthenticated
from gateway.models.keys import digest_of
from gateway.snapshot import KeyPolicy, Snapshot, store

Headers = Iterable[tuple[bytes, bytes]]
MAX_KEY_BYTES = 1024
KEY_HEADERS = frozenset((b"g4f-api-key", b"x-api-key"))
BLANK = ord(" ")
# Of this process alone, made anew at every start.
QUICK_KEY = secrets.token_bytes(32)


@dataclass(slots=True)
class Principal:
    """The caller. `key` is set when an API key spoke, else a browser session did; no user: anonymous access."""

    user_id: int | None
    username: str
    is_staff: bool
    key: KeyPolicy | None = None

    @property
    def unrestricted(self) -> bool:
        return self.key is None or not self.key.models

    def may_use(self, model: str) -> bool:
        return self.key is None or not self.key.models or model in self.key.models


ANONYMOUS = Principal(None, "", False)


# `/media`, `/images` and `/thumbnail` are none's: answers under each of the doors name addresses there.
SURFACES = {"v1": "v1", "api": "api", "backend-api": "backend", "files": "backend", "search": "backend"}


def surface_of(path: str) -> str:
    """Which door of an API key's scopes a path belongs to; empty for none."""
    return SURFACES.get(path.lstrip("/").split("/", 1)[0], "")


def credential_in(headers: Headers) -> bytes | None:
    """The API key among the headers. Raises NotAuthenticated when two differ or one is malformed."""
    key: bytes | None = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            if scheme.lower() != b"bearer":
                raise NotAuthenticated("Send the API key as `Authorization: Bearer KEY`.")
            # g4f's clients may append a provider's key after a space: it is not ours to use.
            found = rest.strip().split(b" ", 1)[0]
        elif name in KEY_HEADERS:
            found = value.strip()
        else:
            continue
        if key is not None and key != found:
            raise NotAuthenticated("Two different API keys were sent.")
        key = found
    if key is None:
        return None
    if not key or len(key) > MAX_KEY_BYTES:
        raise NotAuthenticated("The API key is empty or too long.")
    return key


def _usual_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """What `credential_in` finds where one key alone was sent as nearly all clients do; None: ask it."""
    sent = headers.get(b"authorization")
    if sent is None or not sent.startswith(b"Bearer ") or not KEY_HEADERS.isdisjoint(headers):
        return None
    key = sent[7:]
    return key if BLANK not in key and 0 < len(key) <= MAX_KEY_BYTES else None


def principal_for(key: bytes, path: str, address: Callable[[], str]) -> Principal:
    """Raises NotAuthenticated, or NotAllowed when the key is good but not for the door that `path` belongs to."""
    policy = _policy_of(key, store.current)
    if policy is None or policy.revoked:
        raise NotAuthenticated("Invalid API key.")
    check_time(policy)
    if policy.networks and not _inside(address(), policy):
        raise NotAuthenticated("This API key may not be used from your address.", code="ip_not_authorized")
    if policy.surfaces and surface_of(path) not in ("", *policy.surfaces):
        raise NotAllowed("This API key is not allowed on this surface.", code="surface_not_allowed")
    return Principal(policy.user_id, policy.username, policy.is_staff, policy)


def _policy_of(key: bytes, snapshot: Snapshot) -> KeyPolicy | None:
    """Keys that were good a moment ago are found by a faster keyed digest; nothing keeps the key itself.

    BLAKE2 needs no HMAC, so the secret may just come first; as its own `key` it would fill a block more.
    """
    quick = blake2b(QUICK_KEY + key, digest_size=32).digest()
    policy = snapshot.seen.get(quick)
    if policy is None:
        policy = snapshot.keys.get(digest_of(key))
        if policy is not None:
            snapshot.seen[quick] = policy
    return policy


def check_time(policy: KeyPolicy) -> None:
    if policy.expires_at is not None and policy.expires_at <= time.time():
        raise NotAuthenticated("This API key has expired.", code="key_expired")
    if policy.valid_from is not None and policy.valid_from > time.time():
        raise NotAuthenticated("This API key is not valid yet.", code="key_not_yet_valid")


def _inside(address: str, policy: KeyPolicy) -> bool:
    try:
        caller = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return False
    mapped = getattr(caller, "ipv4_mapped", None) or caller
    return any(mapped in network for network in policy.networks)


def client_address(peer: str, forwarded: str) -> str:
    """The caller's address: the peer's, or what the outermost of our own proxies saw.

    Each trusted proxy appends its peer to X-Forwarded-For, so only that many entries from the right count.
    """
    hops = settings.TRUSTED_PROXIES
    entries = [entry.strip() for entry in forwarded.split(",") if entry.strip()]
    if not hops or not entries:
        return peer
    return entries[-hops] if len(entries) >= hops else entries[0]


def scope_address(scope: dict[str, Any]) -> str:
    peer = (scope.get("client") or ("", 0))[0]
    if not settings.TRUSTED_PROXIES:
        return str(peer)
    forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    return client_address(str(peer), forwarded.decode("latin-1"))


def principal_by_key(scope: dict[str, Any]) -> Principal | None:
    """Who sent an API key; None where none was sent. It costs a digest and a look-up."""
    # Where no header came twice the edge has them by name.
    seen = scope.get("g4f.headers")
    key = _usual_key(seen) if seen is not None else None
    if key is None:
        key = credential_in(scope["headers"])
        if key is None:
            return None
    return principal_for(key, scope["path"], partial(scope_address, scope))


async def authenticate_scope(scope: dict[str, Any]) -> Principal:
    """The ASGI door. Only a browser session asks the database."""
    principal = principal_by_key(scope)
    if principal is not None:
        return principal
    if any(name == b"cookie" for name, _ in scope["headers"]):
        principal = await sync_to_async(_session_principal)(scope)
        if principal:
            return principal
    if settings.ANONYMOUS_ACCESS:
        return ANONYMOUS
    raise NotAuthenticated("Send an API key as `Authorization: Bearer KEY`.")


def _session_principal(scope: dict[str, Any]) -> Principal | None:
    from django.contrib.auth.middleware import get_user
    from django.contrib.sessions.middleware import SessionMiddleware

    # Without the body's headers DRF sees an empty body, and looks for the token in the header alone.
    headers = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"content-type")]
    request = ASGIRequest({**scope, "headers": headers}, BytesIO())
    try:
        SessionMiddleware(lambda _: None).process_request(request)  # type: ignore[arg-type]
        request.user = get_user(request)
        found = BrowserSessionAuthentication().authenticate(Request(request))
    except PermissionDenied as error:
        raise NotAllowed(str(error.detail), code="csrf_failed") from None
    finally:
        # This thread is no request of Django's, which would give it back.
        connection.close()
    return found[1] if found else None


class ApiKeyAuthentication(BaseAuthentication):
    """DRF's door; first in the list, so that a missing credential is 401 with `WWW-Authenticate: Bearer`."""

    def authenticate(self, request: Request) -> tuple[Any, Principal] | None:
        key = credential_in(self.headers_of(request))
        if key is None:
            return None
        peer, forwarded = request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", "")
        principal = principal_for(key, request.path, lambda: client_address(peer, forwarded))
        assert principal.user_id is not None, "a key has a user"
        user = get_user_model().objects.filter(pk=principal.user_id, is_active=True).first()
        if user is None:
            raise NotAuthenticated("Invalid API key.")
        return user, principal

    def headers_of(self, request: Request) -> Headers:
        scope = getattr(request, "scope", None)
        return scope["headers"] if scope else _header_pairs(request)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class BesideProvidersKey(ApiKeyAuthentication):
    """For routes to which pages send a provider's key as `x-api-key`: beside another credential it is not ours."""

    def headers_of(self, request: Request) -> Headers:
        return [(name, value) for name, value in super().headers_of(request) if name != b"x-api-key"]


def _header_pairs(request: Request) -> Headers:
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in request.headers.items()
    ]


class AnonymousAuthentication(BaseAuthentication):
    """Lets strangers in where the operator set ANONYMOUS_ACCESS."""

    def authenticate(self, request: Request) -> tuple[Any, Principal] | None:
        return (AnonymousUser(), ANONYMOUS) if settings.ANONYMOUS_ACCESS else None


class IsCaller(BasePermission):
    """Someone that one of the authentications knows."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.auth, Principal)


class BrowserSessionAuthentication(SessionAuthentication):
    """A signed-in browser, with CSRF checked on every unsafe method whatever the content type."""

    def authenticate(self, request: Request) -> tuple[Any, Principal] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        user = found[0]
        return user, Principal(user.pk, user.get_username(), user.is_staff)
