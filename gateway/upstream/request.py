"""What is sent to a provider, made from constants and its row.

Nothing of a caller's request travels in the head, but for checked names that an adapter puts among the row's headers.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlencode, urlsplit

from gateway.errors import UpstreamBroken
from gateway.targets import Endpoint, Target
from gateway.upstream.pool import Origin, Proxy

USER_AGENT = "g4fsite/0.1"
MAX_PREPARED = 64
PORTS = {"http": 80, "https": 443}
UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
RESOURCE = re.compile(r"[\x21-\x7e]+\Z")


@dataclass(frozen=True, slots=True)
class Prepared:
    """`head` lacks the length of the body and the blank line, which end it."""

    origin: Origin
    head: bytes


def prepared(target: Target, path: str, *, stream: bool) -> Prepared:
    """Made once per target and path. Raises UpstreamBroken for a row that cannot be sent to."""
    found: Prepared | None = target.prepared.get((path, stream))
    if found is None:
        if len(target.prepared) >= MAX_PREPARED:
            # A path may name a conversation, and then no other request has it.
            target.prepared.clear()
        found = target.prepared[path, stream] = _prepare(target, path, stream=stream)
    return found


def other(target: Target, path: str, content_type: str, *, stream: bool, accept: str = "") -> Prepared:
    """A POST of something else than JSON, such as a form whose boundary no other request has. Raises UpstreamBroken."""
    headers = {**_headers(target.endpoint, target.credential, stream=stream), "content-type": content_type}
    if accept:
        headers["accept"] = accept
    return _made(target, "POST", _url(target.endpoint, target.credential, path), headers)


def getting(target: Target, path: str) -> Prepared:
    """A GET of a path below the base URL. Raises UpstreamBroken."""
    return _made(target, "GET", _url(target.endpoint, target.credential, path), _getting_headers(target))


def getting_own(target: Target, url: str) -> Prepared | None:
    """A GET of a whole URL on the provider's own server, with its trust; None for every other server's.

    Raises UpstreamBroken.
    """
    if not is_own(target.endpoint, url):
        return None
    return _made(target, "GET", url.partition("#")[0], _getting_headers(target))


def is_own(endpoint: Endpoint, url: str) -> bool:
    """Whether scheme, host and port are the base URL's."""
    try:
        own, asked = urlsplit(endpoint.base_url), urlsplit(url)
        if "@" in asked.netloc or asked.scheme not in PORTS:
            return False
        places = [(part.scheme, part.hostname, part.port or PORTS[part.scheme]) for part in (own, asked)]
    except (ValueError, KeyError):
        return False
    return places[0] == places[1]


def _getting_headers(target: Target) -> dict[str, str]:
    headers = {**_headers(target.endpoint, target.credential, stream=False), "accept": "*/*"}
    headers.pop("content-type", None)
    return headers


def _prepare(target: Target, path: str, *, stream: bool) -> Prepared:
    headers = _headers(target.endpoint, target.credential, stream=stream)
    return _made(target, "POST", _url(target.endpoint, target.credential, path), headers)


def _made(target: Target, method: str, address: str, headers: dict[str, str]) -> Prepared:
    endpoint = target.endpoint
    try:
        url = urlsplit(address)
        port = url.port or PORTS[url.scheme]
        host = url.hostname or ""
        proxy = _proxy(endpoint.proxy) if endpoint.proxy else None
    except (ValueError, KeyError) as error:
        raise UpstreamBroken(f"The connection to {target.provider} failed.") from error
    resource = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if not host or not RESOURCE.match(resource):
        raise UpstreamBroken(f"The connection to {target.provider} failed.")
    # A row's own Host names a virtual server behind the address.
    authority = headers.pop("host", url.netloc.rpartition("@")[2])
    relayed = b""
    if proxy is not None and url.scheme == "http":
        # RFC 9112, section 3.2.2: to a proxy the whole address is said.
        resource = f"http://{url.netloc}{resource}"
        relayed = proxy.credentials
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"host": authority, **headers}.items())
    head = f"{method} {resource} HTTP/1.1\r\n{lines}".encode() + relayed + b"content-length: "
    return Prepared(Origin(url.scheme, host, port, not endpoint.allow_private, proxy), head)


def _headers(endpoint: Endpoint, credential: str, *, stream: bool) -> dict[str, str]:
    """By lower-case name; the row's own replace ours. Raises UpstreamBroken when one cannot be sent."""
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream" if stream else "application/json",
        "accept-encoding": "identity",
        "user-agent": USER_AGENT,
    }
    headers.update((name.lower(), value) for name, value in endpoint.headers)
    if credential and endpoint.auth_style == "bearer":
        headers["authorization"] = f"Bearer {credential}"
    elif credential and endpoint.auth_style == "header":
        headers[endpoint.auth_name.lower()] = credential
    elif credential and endpoint.auth_style == "cookies":
        headers["cookie"] = credential
    for name in ("content-length", "transfer-encoding", "connection"):
        headers.pop(name, None)
    if not all(NAME.match(name) and not UNSAFE.search(value) for name, value in headers.items()):
        raise UpstreamBroken(f"{endpoint.name} is configured with a header that cannot be sent.")
    return headers


def _url(endpoint: Endpoint, credential: str, path: str) -> str:
    query = endpoint.query
    if credential and endpoint.auth_style == "query":
        query = "&".join(filter(None, (query, urlencode({endpoint.auth_name: credential}))))
    mark = "&" if "?" in path else "?"
    return endpoint.base_url + path + (f"{mark}{query}" if query else "")


def _proxy(url: str) -> Proxy:
    """Raises ValueError or KeyError."""
    parts = urlsplit(url)
    credentials = b""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        credentials = b"proxy-authorization: Basic %b\r\n" % base64.b64encode(pair)
    return Proxy(parts.scheme, parts.hostname or "", parts.port or PORTS[parts.scheme], credentials)
