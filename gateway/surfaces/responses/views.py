"""Stored responses: to look at, to list what was said, to delete. Another user's do not exist."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, NoReturn

from django.conf import settings
from django.db import Error as DatabaseError
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.authentication import Principal
from gateway.errors import BadRequest, GatewayError, ServerStopping, TooManyStreams
from gateway.live import Live, answers
from gateway.models import StoredResponse
from gateway.surfaces.exchange import COMMENT, STREAM_HEADERS
from gateway.surfaces.openai.views import caller
from gateway.surfaces.responses import store
from gateway.surfaces.responses.encoder import error_fields, frame, shown, without_secret
from gateway.surfaces.responses.items import unsupported
from gateway.surfaces.responses.parser import ENCRYPTED
from gateway.surfaces.views import JsonView

MAX_PAGE = 100
PAGE = 20
POLL_SECONDS = 0.3


def not_found(response_id: str) -> BadRequest:
    return BadRequest(
        f"Response with id {response_id[:100]!r} not found.", status=404, code="response_not_found", param="response_id"
    )


def included(request: Request) -> bool:
    """Whether what only a provider can read is asked for."""
    names = [*request.query_params.getlist("include"), *request.query_params.getlist("include[]")]
    return ENCRYPTED in names


class StoredView(JsonView):
    """Base of these views: a database that is away is 503, not a bug.

    They are mounted at two doors, so the schema names their operations by the path.
    """

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        # The route of one provider is the same door: a response knows who answered.
        kwargs.pop("provider", None)
        return super().dispatch(request, *args, **kwargs)

    def handle_exception(self, error: Exception) -> Response:
        return super().handle_exception(store.away(error) if isinstance(error, DatabaseError) else error)

    def row(self, request: Request, response_id: str) -> StoredResponse:
        """Raises BadRequest 404."""
        user_id = caller(request).user_id
        if user_id is not None and store.RESPONSE_ID.match(response_id):
            found = StoredResponse.objects.filter(pk=response_id, user_id=user_id).first()
            if found is not None:
                return found
        raise not_found(response_id)


class Stored(StoredView):
    """One stored response."""

    @extend_schema(tags=["responses"], responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request, response_id: str) -> Response | StreamingHttpResponse:
        row = self.row(request, response_id)
        if request.query_params.get("stream", "").lower() not in ("1", "true"):
            return Response(shown(store.looked_at(row), included(request)))
        if not row.streamed:
            raise unsupported("stream", "only what was made in the background as a stream is told again; leave it out.")
        events = told_again(caller(request), row.pk, _starting_after(request))
        return StreamingHttpResponse(events, headers={name.decode(): value.decode() for name, value in STREAM_HEADERS})

    @extend_schema(tags=["responses"], responses={200: OpenApiTypes.OBJECT})
    def delete(self, request: Request, response_id: str) -> Response:
        self.row(request, response_id).delete()
        return Response({"id": response_id, "object": "response", "deleted": True})


class Cancel(StoredView):
    """Ends a response in the background; of others whoever leaves ends the answer. Again changes nothing."""

    @extend_schema(tags=["responses"], request=None, responses={200: OpenApiTypes.OBJECT})
    def post(self, request: Request, response_id: str) -> Response:
        row = self.row(request, response_id)
        body = store.looked_at(row)
        if not body.get("background"):
            raise BadRequest("Cannot cancel a synchronous response.", code="response_not_cancellable")
        if body["status"] == store.RUNNING:
            body = store.cancel(row)
        return Response(shown(body, included(request)))


class InputItems(StoredView):
    """What was said up to a response, page by page; the newest first unless `order=asc`."""

    @extend_schema(tags=["responses"], responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request, response_id: str) -> Response:
        limit, newest_first = _limit(request), _newest_first(request)
        turns = store.turns_to(response_id, caller(request).user_id)
        if not turns:
            raise not_found(response_id)
        page, more = page_of(turns, limit, newest_first=newest_first, after=request.query_params.get("after"))
        data = page if included(request) else [without_secret(item) for item in page]
        first, last = (data[0]["id"], data[-1]["id"]) if data else ("", "")
        return Response({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more})


async def told_again(principal: Principal, response_id: str, after: int) -> AsyncGenerator[bytes, None]:
    """The events of a response after this number, until it is over. It is a stream of the key's like others."""
    over = asyncio.Event()

    def stop(reason: GatewayError) -> None:
        # A server that stops ends the response itself, which is told.
        if not isinstance(reason, ServerStopping):
            over.set()

    live = Live(principal, asyncio.get_running_loop(), stop, stream=True)
    try:
        answers.enter(live)
    except TooManyStreams as error:
        yield frame("error", 0, error_fields(error))
        return
    try:
        async for data in _events_after(response_id, after, over):
            yield data
    finally:
        answers.leave(live)


async def _events_after(response_id: str, after: int, over: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """Ends early where `over` is set."""
    silent = 0.0
    while not over.is_set():
        frames, running = await store.off_the_loop(partial(store.events_after, response_id, after))
        if frames:
            after, silent = after + len(frames), 0.0
            yield "".join(frames).encode()
        elif not running:
            return
        elif silent >= settings.HEARTBEAT_SECONDS:
            silent = 0.0
            yield COMMENT
        await asyncio.sleep(POLL_SECONDS if running else 0)
        silent += POLL_SECONDS


def page_of(
    turns: Sequence[str], limit: int, *, newest_first: bool, after: str | None = None
) -> tuple[list[store.Item], bool]:
    """What the model of the first turn was given, and whether there is more. `turns`: the newest first.

    Reads turn by turn and no more of them than the page needs; large ones make it shorter. Raises BadRequest.
    """
    last, ordered = turns[0], list(turns if newest_first else reversed(turns))
    if after:
        ordered = _from_holder(ordered, after)
    found: list[store.Item] = []
    read = 0
    for number, turn in enumerate(ordered, 1):
        items, size = store.items_of(turn, answered=turn != last)
        if newest_first:
            items.reverse()
        found += _after(items, after) if after and number == 1 else items
        read += size
        if len(found) > limit or (found and read > store.most_read()):
            return found[:limit], len(found) > limit or number < len(ordered)
    return found, False


def _from_holder(turns: list[str], after: str) -> list[str]:
    holder = store.holder_of(after)
    return turns[turns.index(holder) :] if holder in turns else _unknown(after)


def _unknown(after: str) -> NoReturn:
    raise BadRequest(f"No item has the id {after[:100]!r}.", param="after")


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(PAGE))
    if not text.isdecimal() or len(text) > 6 or not 1 <= int(text) <= MAX_PAGE:
        raise BadRequest(f"'limit' must be a number from 1 to {MAX_PAGE}.", param="limit")
    return int(text)


def _starting_after(request: Request) -> int:
    """The number of the last event that the caller has; -1: none."""
    text = request.query_params.get("starting_after", "")
    if text and (not text.isascii() or not text.isdigit() or len(text) > 9):
        raise BadRequest("'starting_after' must be the number of an event.", param="starting_after")
    return int(text) if text else -1


def _newest_first(request: Request) -> bool:
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise BadRequest("'order' must be asc or desc.", param="order")
    return order == "desc"


def _after(items: list[store.Item], after: str) -> list[store.Item]:
    for index, item in enumerate(items):
        if item["id"] == after:
            return items[index + 1 :]
    _unknown(after)
