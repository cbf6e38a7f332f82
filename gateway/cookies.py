"""Cookies as credentials: what browsers export is read, cut to one provider's host, and becomes a `Cookie` header.

Two forms: a JSON list of {domain, name, value, path, secure, hostOnly, expires} as extensions and test tools export it
(only the first three are needed), and HAR, the record that browsers save of a page's requests. Who a cookie is for
follows RFC 6265, section 5.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from media.addresses import literal_address

SUFFIXES = (".json", ".har")
MAX_READ = 50_000
# Usual servers read no longer header line than 8 KB.
MAX_HEADER = 8_000
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}\Z")
VALUE = re.compile(r"[\x20-\x3a\x3c-\x7e]{0,4096}\Z")


class BadCookies(ValueError):
    """The file cannot be used; the message is a sentence that shows nothing of it."""


@dataclass(frozen=True, slots=True)
class Cookie:
    """`domain` in lower case without a leading dot; `expires` in Unix seconds, None: with the session."""

    domain: str
    name: str
    value: str
    path: str = "/"
    secure: bool = False
    host_only: bool = False
    expires: float | None = None

    @property
    def place(self) -> tuple[str, str, str]:
        """A later cookie with the same place replaces an earlier one."""
        return self.domain, self.path, self.name


def read(name: str, data: bytes) -> list[Cookie]:
    """The cookies of a file whose name ends in `.json` or `.har`. Raises BadCookies."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise BadCookies("The file is not valid JSON.") from None
    found = _of_har(value) if name.lower().endswith(".har") else _of_list(value)
    cookies = [cookie for cookie in found if cookie is not None]
    if len(cookies) > MAX_READ:
        raise BadCookies(f"The file holds more than {MAX_READ:,} cookies.")
    return cookies


def _of_list(value: Any) -> Iterator[Cookie | None]:
    # Playwright's saved state has the list under this name.
    items = value.get("cookies") if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise BadCookies("A list of cookies with domain, name and value is expected.")
    return (_cookie(item) for item in items)


def _of_har(value: Any) -> Iterator[Cookie | None]:
    log = value.get("log") if isinstance(value, dict) else None
    entries = log.get("entries") if isinstance(log, dict) else None
    if not isinstance(entries, list):
        raise BadCookies("This is no HAR file: it has no log.entries.")
    return (cookie for entry in entries if isinstance(entry, dict) for cookie in _of_request(entry.get("request")))


def _of_request(request: Any) -> Iterator[Cookie | None]:
    if not isinstance(request, dict) or not isinstance(request.get("url"), str):
        return
    host = _host(request["url"])
    if not host:
        return
    listed = request.get("cookies")
    items = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    for item in items or _of_headers(request.get("headers")):
        cookie = _cookie({**item, "domain": item.get("domain") or host, "hostOnly": not item.get("domain")})
        # What another site's server is said to have set was not sent with this request.
        if cookie is not None and _fits_host(cookie, host):
            yield cookie


def _of_headers(headers: Any) -> Iterator[dict[str, Any]]:
    for header in headers if isinstance(headers, list) else ():
        if isinstance(header, dict) and str(header.get("name")).lower() == "cookie":
            for pair in str(header.get("value")).split(";"):
                name, mark, value = pair.strip().partition("=")
                if mark:
                    yield {"name": name, "value": value}


def _cookie(item: Any) -> Cookie | None:
    """None for what is no cookie at all."""
    if not isinstance(item, dict):
        return None
    domain, name, value = item.get("domain"), item.get("name"), item.get("value")
    if not (isinstance(domain, str) and isinstance(name, str) and isinstance(value, str) and domain and name):
        return None
    path = item.get("path")
    # Browsers write a dot before the domain of a cookie that is also for the hosts below it.
    host_only = item.get("hostOnly", item.get("host_only"))
    return Cookie(
        domain=domain.strip().lower().lstrip("."),
        name=name,
        value=value,
        path=path if isinstance(path, str) and path.startswith("/") else "/",
        secure=item.get("secure") is True,
        host_only=host_only if isinstance(host_only, bool) else not domain.startswith("."),
        expires=_moment(item.get("expires", item.get("expirationDate", item.get("expiry")))),
    )


def _moment(value: Any) -> float | None:
    """Unix seconds of a number or an ISO time; None for cookies that end with the session (also written -1 or 0)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if value > 0 else None
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp() if found else None


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def _fits_host(cookie: Cookie, host: str) -> bool:
    """RFC 6265, section 5.1.3. A domain of one label (`com`) is for no host but itself."""
    if cookie.domain == host:
        return True
    if cookie.host_only or "." not in cookie.domain or literal_address(host) is not None:
        return False
    return host.endswith("." + cookie.domain)


def _fits_path(cookie: Cookie, path: str) -> bool:
    """RFC 6265, section 5.1.4."""
    return path == cookie.path or path.startswith(cookie.path if cookie.path.endswith("/") else cookie.path + "/")


def _fitting(cookies: Iterable[Cookie], url: str) -> list[Cookie]:
    parts, now = urlsplit(url), time.time()
    return [
        cookie
        for cookie in cookies
        if (cookie.expires is None or cookie.expires > now)
        and (not cookie.secure or parts.scheme == "https")
        and _fits_host(cookie, _host(url))
        and _fits_path(cookie, parts.path or "/")
        and _can_be_sent(cookie)
    ]


def _can_be_sent(cookie: Cookie) -> bool:
    return bool(NAME.match(cookie.name) and VALUE.match(cookie.value))


def for_host(cookies: Iterable[Cookie], base_url: str) -> list[Cookie]:
    """Those that a provider's host may be sent, each place once, the last one given.

    Raises BadCookies for one that cannot stand in a header, and for more than servers read.
    """
    host, now = _host(base_url), time.time()
    found = {cookie.place: cookie for cookie in cookies if _fits_host(cookie, host)}
    kept = [cookie for cookie in found.values() if cookie.expires is None or cookie.expires > now]
    if not all(map(_can_be_sent, kept)):
        raise BadCookies(f"A cookie of {host} holds characters that cannot be sent, or more than 4,096.")
    if sum(len(cookie.name) + len(cookie.value) + 3 for cookie in kept) > MAX_HEADER:
        raise BadCookies(f"The cookies of {host} are longer than {MAX_HEADER:,} bytes, which servers do not read.")
    return kept


def stored(cookies: Iterable[Cookie]) -> str:
    """What a credential keeps of them; `header` reads it."""
    return orjson.dumps([asdict(cookie) for cookie in cookies]).decode()


def header(secret: str, base_url: str) -> str:
    """The `Cookie` header for a provider, empty when none of its cookies is for that URL now.

    A secret that is no JSON list is the header itself, as an operator copied it.
    """
    if not secret.startswith("["):
        return secret
    try:
        fitting = _fitting(read("stored.json", secret.encode()), base_url)
    except (BadCookies, ValueError):
        # Typed by hand, or the base URL is none: there is nothing to send.
        return ""
    # RFC 6265, section 5.4: longer paths first.
    fitting.sort(key=lambda cookie: -len(cookie.path))
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in fitting)
