"""Asks a provider what it has: model lists, connection tests, and servers on this machine's usual ports.

The only place in the gateway for httpx: these calls are rare and made by operators, never by requests.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import httpx
import orjson
from django.core.exceptions import ValidationError

from gateway.adapters.failures import masked
from gateway.catalogue import UpstreamModel
from gateway.dialects import Dialect, dialect_of
from gateway.network import check_base_url
from gateway.presets import Preset, presets
from gateway.targets import Endpoint
from media.addresses import is_public

SECONDS = 10.0
LOCAL_SECONDS = 0.3
MAX_BYTES = 8 * 1024 * 1024
DETAILS_AT_ONCE = 4
MAX_LISTED = 5000
PAGES_SECONDS = 60.0
NO_LIST = {404, 405, 501}


class DiscoveryFailed(Exception):
    """The provider could not be asked; the message is a sentence without secrets."""

    def __init__(self, message: str, *, no_list: bool = False, unreachable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.unreachable = unreachable
        self.no_list = no_list


@dataclass(frozen=True, slots=True)
class Connection:
    """A test that went well: how many models are listed, or which model answered where there is no list."""

    milliseconds: int
    models: int | None = None
    answered: str = ""


@dataclass(frozen=True, slots=True)
class LocalServer:
    preset: str
    label: str
    base_url: str
    models: int

    @property
    def command(self) -> str:
        """The arguments of `manage.py` that make a provider of it."""
        own = presets()[self.preset].base_url
        at = "" if self.base_url == own else f" --base-url {self.base_url}"
        return f"provider add --preset {self.preset}{at} --sync"


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes


def _addresses(endpoint: Endpoint, url: httpx.URL) -> list[str]:
    """Where to connect: the name itself if it may be private or a proxy resolves it, else its checked addresses."""
    try:
        check_base_url(endpoint.base_url, allow_private=endpoint.allow_private)
    except ValidationError as error:
        raise DiscoveryFailed(" ".join(error.messages)) from None
    host = url.raw_host.decode("ascii")
    if endpoint.allow_private or endpoint.proxy:
        return [host]
    try:
        found = socket.getaddrinfo(host, url.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise DiscoveryFailed(f"the name {host} cannot be resolved.") from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    if not all(is_public(address) for address in addresses):
        raise DiscoveryFailed(f"{host} leads to a private address, which it may not use.")
    return addresses


def _headers(endpoint: Endpoint, credential: str, url: httpx.URL) -> dict[str, str]:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "g4fsite"}
    headers.update(endpoint.headers)
    # The connection goes to a checked address; the server still has to hear its name.
    headers["Host"] = url.netloc.decode("ascii")
    if credential and endpoint.auth_style == "bearer":
        headers["Authorization"] = f"Bearer {credential}"
    elif credential and endpoint.auth_style == "header":
        headers[endpoint.auth_name] = credential
    elif credential and endpoint.auth_style == "cookies":
        headers["Cookie"] = credential
    return headers


def _url(endpoint: Endpoint, credential: str, location: str) -> httpx.URL:
    query = endpoint.query
    if credential and endpoint.auth_style == "query":
        query += ("&" if query else "") + urlencode({endpoint.auth_name: credential})
    mark = "&" if "?" in location else "?"
    return httpx.URL(location + (f"{mark}{query}" if query else ""))


class _Deadline:
    """Cuts a request's connection when its time is over: a server that says a byte now and then is never silent for
    as long as httpx waits."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._socket: Any = None
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def watch(self, name: str, info: Mapping[str, Any]) -> None:
        """httpcore's trace of what it does."""
        if name.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.passed:
                self._cut()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()

    def _pass(self) -> None:
        self.passed = True
        self._cut()

    def _cut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not TLS' own, which would wait for an answer.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _exchange(client: httpx.Client, request: httpx.Request, seconds: float) -> _Reply:
    """One request, its answer bounded in size and time, head included."""
    with _Deadline(seconds) as deadline:
        request.extensions["trace"] = deadline.watch
        try:
            reply = _answered(client, request)
        except httpx.HTTPError:
            if not deadline.passed:
                raise
        else:
            # A body that was cut may look like one that has ended.
            if not deadline.passed:
                return reply
        raise httpx.ReadTimeout("the whole answer took too long")


def _answered(client: httpx.Client, request: httpx.Request) -> _Reply:
    response = client.send(request, stream=True)
    try:
        if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise DiscoveryFailed("it sent a compressed answer, though none was asked for.")
        body = bytearray()
        for piece in response.iter_raw():
            body += piece
            if len(body) > MAX_BYTES:
                raise DiscoveryFailed("its answer is larger than 8 MB.")
        return _Reply(response.status_code, bytes(body))
    finally:
        response.close()


def _fault(error: Exception) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection within 5 s."
    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {SECONDS:.0f} s."
    if isinstance(error, httpx.ProxyError):
        return "the proxy refused."
    if isinstance(error, httpx.ConnectError):
        certificate = "CERTIFICATE" in str(error).upper()
        return "its TLS certificate is not trusted." if certificate else "the connection was refused."
    return "what answers there does not speak HTTP as expected."


def _ask(endpoint: Endpoint, credential: str, method: str, location: str, body: bytes | None = None) -> _Reply:
    """Raises DiscoveryFailed for every fault of the network. No cause is chained: httpx's texts hold URLs."""
    try:
        url = _url(endpoint, credential, location)
        headers = _headers(endpoint, credential, url)
        if body is not None:
            headers["Content-Type"] = "application/json"
        timeout = httpx.Timeout(SECONDS, connect=5.0)
        with httpx.Client(proxy=endpoint.proxy, trust_env=False, follow_redirects=False, timeout=timeout) as client:
            return _first_reply(client, _addresses(endpoint, url), method, url, headers=headers, content=body)
    except DiscoveryFailed as failure:
        raise DiscoveryFailed(f"{endpoint.name}: {failure.message}") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise DiscoveryFailed(f"{endpoint.name}: {_fault(error)}", unreachable=True) from None


def _first_reply(client: httpx.Client, addresses: list[str], method: str, url: httpx.URL, **parts: Any) -> _Reply:
    """Tries each address until one can be connected to."""
    # The certificate has to be that of the name, whatever address was connected to.
    extensions = {"sni_hostname": url.raw_host.decode("ascii")}
    for number, address in enumerate(addresses, 1):
        request = client.build_request(method, url.copy_with(host=address), extensions=extensions, **parts)
        try:
            return _exchange(client, request, SECONDS)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if number == len(addresses):
                raise
    raise DiscoveryFailed("its name has no address.")


def _error_text(body: bytes, credential: str) -> str:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    error = decoded.get("error", decoded) if isinstance(decoded, dict) else {}
    said = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return masked(said, credential)[:300] if isinstance(said, str) else ""


def _checked(endpoint: Endpoint, credential: str, reply: _Reply, what: str) -> Any:
    """The decoded body of a good answer; raises DiscoveryFailed with what the status means."""
    name, status = endpoint.name, reply.status
    if status in (401, 402, 403):
        reason = "refused the credential" if credential else "wants a credential"
        raise DiscoveryFailed(f"{name} {reason} (status {status}).")
    if status == 429:
        raise DiscoveryFailed(f"{name} is limiting requests (status 429).")
    if 300 <= status < 400:
        raise DiscoveryFailed(f"{name} answered with a redirect (status {status}); set the base URL to where it leads.")
    if status in NO_LIST:
        raise DiscoveryFailed(f"{name} has no {what} at this base URL (status {status}).", no_list=True)
    if status not in (200, 201):
        said = _error_text(reply.body, credential) if status < 500 else ""
        raise DiscoveryFailed(f"{name} answered with status {status}{': ' + said if said else '.'}")
    try:
        return orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        raise DiscoveryFailed(f"{name} answered with something that is not JSON.") from None


def list_models(
    endpoint: Endpoint, credential: str = "", *, models_url: str = "", adapter: str = ""
) -> list[UpstreamModel]:
    """What the provider lists, in its order, with what it says of each. Raises DiscoveryFailed."""
    dialect = dialect_of(adapter)
    found = listed(endpoint, credential, dialect, models_url)
    if dialect.details is None or not found:
        return found
    with ThreadPoolExecutor(DETAILS_AT_ONCE) as pool:
        return list(pool.map(lambda model: _with_details(endpoint, credential, dialect, model), found))


def listed(endpoint: Endpoint, credential: str, dialect: Dialect, models_url: str) -> list[UpstreamModel]:
    """The list alone, all pages of it. Raises DiscoveryFailed."""
    if not dialect.list_path:
        raise DiscoveryFailed(f"{endpoint.name} has no list of models; name them with --model.", no_list=True)
    location = models_url or f"{endpoint.base_url}{dialect.list_path}"
    found: dict[str, UpstreamModel] = {}
    asked: Mapping[str, str] | None = {}
    until = time.monotonic() + PAGES_SECONDS
    try:
        while asked is not None and len(found) < MAX_LISTED and time.monotonic() < until:
            page = replace(endpoint, query="&".join(filter(None, [endpoint.query, urlencode(asked)])))
            decoded = _checked(endpoint, credential, _ask(page, credential, "GET", location), "model list")
            more = {model.public_id: model for model in dialect.read(decoded) if model.public_id not in found}
            found |= more
            asked = dialect.next_page(decoded) if more else None
        return list(found.values())
    except ValueError:
        raise DiscoveryFailed(f"{endpoint.name} answered with something that is not a list of models.") from None


def _with_details(endpoint: Endpoint, credential: str, dialect: Dialect, model: UpstreamModel) -> UpstreamModel:
    """A model whose details cannot be had stays as it was listed: what it can do is then unknown."""
    assert dialect.details
    body = orjson.dumps({"model": model.upstream_name})
    try:
        reply = _ask(endpoint, credential, "POST", f"{endpoint.base_url}{dialect.details.path}", body)
        return dialect.details.read(model, _checked(endpoint, credential, reply, "details"))
    except DiscoveryFailed:
        return model


def _say_hello(endpoint: Endpoint, credential: str, dialect: Dialect, model: str) -> None:
    path = dialect.hello_path.replace("{model}", model.removeprefix("models/"))
    reply = _ask(endpoint, credential, "POST", endpoint.base_url + path, orjson.dumps(dialect.hello(model)))
    if not dialect.is_answer(_checked(endpoint, credential, reply, "chat completions")):
        raise DiscoveryFailed(f"{endpoint.name} answered with something that is not a chat completion.")


def test_connection(
    endpoint: Endpoint,
    credential: str,
    *,
    default_model: str,
    models_url: str,
    adapter: str = "",  # noqa: PT028 - no test of pytest's
) -> Connection:
    """Lists models; a server without a list is asked for one token of `default_model`. Raises DiscoveryFailed."""
    dialect = dialect_of(adapter)
    begun = time.monotonic()
    try:
        count = len(listed(endpoint, credential, dialect, models_url))
        return Connection(_since(begun), models=count)
    except DiscoveryFailed as failure:
        if not failure.no_list:
            raise
        if dialect.needs_model and not default_model:
            raise DiscoveryFailed(f"{failure.message} Set a default model to test with.") from None
    begun = time.monotonic()
    _say_hello(endpoint, credential, dialect, default_model)
    return Connection(_since(begun), answered=default_model)


def first_answer(endpoint: Endpoint, credential: str, model: str, adapter: str = "") -> Connection:
    """A real chat of one token with the upstream's `model`. Raises DiscoveryFailed."""
    begun = time.monotonic()
    _say_hello(endpoint, credential, dialect_of(adapter), model)
    return Connection(_since(begun), answered=model)


def _since(begun: float) -> int:
    return round((time.monotonic() - begun) * 1000)


def _look(client: httpx.Client, preset: Preset, base_url: str) -> LocalServer | None:
    """The server at `base_url` if it lists models as the preset's protocol has it."""
    dialect = dialect_of(preset.adapter)
    request = client.build_request("GET", f"{base_url}{dialect.list_path}", headers={"Accept-Encoding": "identity"})
    try:
        reply = _exchange(client, request, LOCAL_SECONDS)
        decoded = orjson.loads(reply.body)
        if reply.status != 200 or not dialect.is_list(decoded):
            return None
        return LocalServer(preset.key, preset.title, base_url, len(dialect.read(decoded)))
    except (httpx.HTTPError, DiscoveryFailed, OSError, ValueError):
        return None


def find_local_servers(candidates: Iterable[tuple[str, str]] | None = None) -> list[LocalServer]:
    """Servers of the local presets at their usual ports; nothing is added, the caller only tells the operator.

    `candidates` are pairs of preset key and base URL. All are asked at once: at most about 0.3 s in all.
    """
    if candidates is None:
        candidates = [(preset.key, preset.base_url) for preset in presets().values() if preset.local]
    pairs = list(candidates)
    if not pairs:
        return []
    with (
        httpx.Client(trust_env=False, follow_redirects=False, timeout=LOCAL_SECONDS) as client,
        ThreadPoolExecutor(len(pairs)) as pool,
    ):
        found = list(pool.map(lambda pair: _look(client, presets()[pair[0]], pair[1]), pairs))
    return [server for server in found if server]


def host_is_private(url: str) -> bool:
    """Whether the operator's base URL names this machine or network; asks the resolver for plain names."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    if not host:
        return False
    if "." not in host.strip("[]") and ":" not in host:
        return True
    if host.endswith((".localhost", ".local", ".lan", ".internal", ".home.arpa")):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return not all(is_public(str(info[4][0])) for info in found)
