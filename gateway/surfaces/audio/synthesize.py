"""GET /backend-api/v2/synthesize/{provider}?text=...: what a page plays. The same as POST /v1/audio/speech."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from gateway.audio import SpeechRequest
from gateway.authentication import KEY_HEADERS, Principal, authenticate_scope, credential_in
from gateway.errors import BadRequest, NotAllowed
from gateway.routing import targets_of
from gateway.snapshot import store
from gateway.surfaces.audio.parser import speech_of
from gateway.surfaces.audio.speech import Speech
from gateway.surfaces.exchange import Exchange, Scope
from gateway.surfaces.openai.parser import missing
from gateway.usage import Tally

WEEK = 604_800
VARY = (b"vary", b", ".join((b"cookie", b"authorization", *sorted(KEY_HEADERS))))
# What may stand in the query beside the text, by our name for it.
TAKEN = {
    "text": "input",
    "model": "model",
    "voice": "voice",
    "language": "language",
    "instructions": "instructions",
    "response_format": "response_format",
    "format": "response_format",
    "speed": "speed",
}
MAX_FIELDS = 50


class Synthesize(Speech):
    name = "synthesize"
    method = "GET"

    def sound_headers(self) -> list[tuple[bytes, bytes]]:
        # The same text sounds the same: a page that reads aloud again need not ask again, but for another user it must.
        return [(b"cache-control", b"private, max-age=%d" % WEEK), VARY, (b"x-accel-buffering", b"no")]

    async def _ask(self, exchange: Exchange) -> None:
        scope = exchange.scope
        principal = await caller_of(scope)
        await exchange.body()
        request = parse_query(scope["query_string"], scope["url_route"]["kwargs"]["provider"])
        targets = targets_of(store.current, request, principal, self.operation)
        tally = Tally(scope["g4f.request_id"], principal, request, f"backend.{self.name}")
        await self._serve(exchange, principal, request, targets, tally)


async def caller_of(scope: Scope) -> Principal:
    """Raises NotAllowed for a browser that another site has sent: it would spend what is its user's."""
    names = {name for name, _ in scope["headers"]}
    if b"cookie" in names and credential_in(scope["headers"]) is None:
        check_site(dict(scope["headers"]))
    return await authenticate_scope(scope)


def check_site(headers: dict[bytes, bytes]) -> None:
    """By Sec-Fetch-Site; browsers send it to https and to this machine alone, and then the page's address counts."""
    site = headers.get(b"sec-fetch-site")
    if site is None:
        page = headers.get(b"origin") or headers.get(b"referer") or b""
        own = urlsplit(page.decode("latin-1")).netloc.lower() == headers.get(b"host", b"?").decode("latin-1").lower()
    else:
        own = site in (b"same-origin", b"none")
    if not own:
        raise NotAllowed("Another site may not ask for this in your name.", code="csrf_failed")


def parse_query(query: bytes, provider: str) -> SpeechRequest:
    """Raises BadRequest."""
    try:
        given = dict(parse_qsl(query.decode("ascii"), errors="strict", max_num_fields=MAX_FIELDS))
    except ValueError:
        raise BadRequest("The query cannot be read.") from None
    if "text" not in given:
        raise missing("text")
    body: dict[str, Any] = {TAKEN[name]: value for name, value in given.items() if name in TAKEN}
    if "speed" in body:
        try:
            body["speed"] = float(body["speed"])
        except ValueError:
            raise BadRequest("'speed' is not a number.", code="invalid_type", param="speed") from None
    try:
        return speech_of(body, provider)
    except BadRequest as error:
        error.param = "text" if error.param == "input" else error.param
        raise


synthesize = Synthesize()
