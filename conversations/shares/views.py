"""`/backend-api/v2/chat/{share_id}`: to share a conversation, read it, revoke it, and go on in a copy of one's own."""

from __future__ import annotations

import time
import uuid
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpResponse
from django.utils.http import http_date, parse_http_date_safe
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from conversations.models import Conversation, SharedChat
from conversations.shares import parser, snapshot, store
from conversations.shares.addresses import Signer
from conversations.tree import path_to
from gateway.authentication import Principal
from gateway.errors import BadRequest, NotAuthenticated
from gateway.surfaces.openai.parser import ill_typed, missing
from gateway.surfaces.views import JsonView
from media.links import base_of

ANY = OpenApiTypes.OBJECT
TAGS = ["sharing"]
TAG = OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER, description="An ETag, or `updated` alone.")


def owner_of(request: Request) -> int:
    """Raises NotAuthenticated."""
    principal = request.auth
    if not isinstance(principal, Principal) or principal.user_id is None:
        raise NotAuthenticated("Send an API key as `Authorization: Bearer KEY`.")
    return principal.user_id


def base(request: Any) -> str:
    return base_of(request.scope)


def described(row: SharedChat, request: Request) -> dict[str, Any]:
    return {
        "share_id": row.id,
        "url": f"{base(request)}/chat/share/{row.id}",
        "title": row.title,
        "updated": row.updated,
        "visibility": row.visibility,
        "expires_at": row.expires_at and row.expires_at.isoformat(),
        "created_at": row.created_at.isoformat(),
        "conversation_id": row.conversation_id and str(row.conversation_id),
    }


def etag(row: SharedChat, signed: bool) -> str:
    """Of a copy with signed addresses a new one comes in time before these are over."""
    period = f"-{int(time.time() / max(settings.MEDIA_URL_SECONDS / 2, 1)):x}" if signed else ""
    return f'"{row.updated}-{row.digest}{period}"'


def is_known(request: Request, row: SharedChat, tag: str, signed: bool) -> bool:
    """Whether the reader has this copy: by its ETag, by `updated` alone as g4f's pages send it, or by its date."""
    given = request.headers.get("If-None-Match")
    if given is None:
        if signed:
            return False
        since = parse_http_date_safe(request.headers.get("If-Modified-Since") or "")
        return since is not None and int(row.changed_at.timestamp()) <= since
    tags = {one.strip().removeprefix("W/") for one in given.split(",")}
    return not tags.isdisjoint({tag, str(row.updated), f'"{row.updated}"', "*"})


class Shares(JsonView):
    """What the caller has shared."""

    @extend_schema(operation_id="listShares", tags=TAGS, responses={200: ANY})
    def get(self, request: Request) -> Response:
        rows = SharedChat.objects.filter(owner_id=owner_of(request), revoked_at=None).defer("body")
        return Response({"items": [described(row, request) for row in rows]})

    @extend_schema(operation_id="createShare", tags=TAGS, request=ANY, responses={200: ANY})
    def post(self, request: Request) -> Response:
        return share(request, store.new_id())


class Share(JsonView):
    """One share. Reading it needs nothing but its address; everything else is its owner's."""

    # Whoever sends credentials all the same is asked for good ones.
    permission_classes = ()

    @extend_schema(operation_id="readShare", tags=TAGS, parameters=[TAG], responses={200: ANY, 304: OpenApiResponse()})
    def get(self, request: Request, share_id: str) -> HttpResponse:
        principal = request.auth if isinstance(request.auth, Principal) else None
        row = store.readable(share_id, principal.user_id if principal else None)
        signer = Signer(row.body, row.owner_id, base(request))
        tag = etag(row, signer.signs)
        headers = {
            "ETag": tag,
            "Last-Modified": http_date(row.changed_at.timestamp()),
            "X-Robots-Tag": "noindex, nofollow",
            "Referrer-Policy": "no-referrer",
            # It may be revoked at any moment.
            "Cache-Control": "no-store" if principal else "private, no-cache",
        }
        if is_known(request, row, tag, signer.signs):
            return HttpResponse(status=304, content_type="application/json", headers=headers)
        return HttpResponse(signer.text(row.body), content_type="application/json", headers=headers)

    @extend_schema(operation_id="saveShare", tags=TAGS, request=ANY, responses={200: ANY})
    def post(self, request: Request, share_id: str) -> Response:
        owner_of(request)
        return share(request, share_id)

    @extend_schema(operation_id="changeShare", tags=TAGS, request=ANY, responses={200: ANY})
    def patch(self, request: Request, share_id: str) -> Response:
        row = store.own(share_id, owner_of(request))
        store.change(row, **parser.options_of(_object(request)))
        return Response(described(row, request))

    @extend_schema(operation_id="revokeShare", tags=TAGS, responses={200: ANY})
    def delete(self, request: Request, share_id: str) -> Response:
        store.revoke(store.own(share_id, owner_of(request)))
        return Response({"share_id": share_id, "revoked": True})


class Continue(JsonView):
    """One's own copy of a shared chat, to go on in."""

    @extend_schema(operation_id="continueShare", tags=TAGS, request=None, responses={200: ANY})
    def post(self, request: Request, share_id: str) -> Response:
        owner_id = owner_of(request)
        row = store.readable(share_id, owner_id)
        made = store.copy(row, orjson.loads(row.body), owner_id)
        return Response({"conversation_id": str(made.pk), "title": made.title})


def share(request: Request, share_id: str) -> Response:
    """A page's own copy (`items`), or a branch of a conversation that the server keeps (`conversation_id`)."""
    owner_id, body = owner_of(request), _object(request)
    conversation = None
    if "items" in body:
        copy = snapshot.from_body(body)
    elif body.get("conversation_id") is not None:
        conversation, copy = _kept(owner_id, body)
    else:
        raise missing("items")
    options = parser.options_of(body)
    row = store.save(share_id, owner_id, copy, parser.updated_of(body), conversation=conversation, **options)
    return Response(described(row, request))


def _kept(owner_id: int, body: dict[str, Any]) -> tuple[Conversation, dict[str, Any]]:
    """Raises BadRequest 404 for what is not the owner's."""
    pk = _uuid(body, "conversation_id")
    conversation = Conversation.objects.filter(pk=pk, owner_id=owner_id, deleted_at=None).first()
    if conversation is None:
        raise BadRequest("No such conversation.", status=404, code="conversation_not_found", param="conversation_id")
    leaf = conversation.active_leaf
    if body.get("message_id") is not None:
        leaf = _uuid(body, "message_id")
        if not conversation.messages.filter(pk=leaf).exists():
            raise BadRequest("No such message.", status=404, code="message_not_found", param="message_id")
    return conversation, snapshot.from_conversation(conversation, path_to(leaf), body.get("share_system") is True)


def _uuid(body: dict[str, Any], name: str) -> uuid.UUID:
    try:
        return uuid.UUID(body[name])
    except (AttributeError, TypeError, ValueError):
        raise ill_typed(name, "an id") from None


def _object(request: Request) -> dict[str, Any]:
    if not isinstance(request.data, dict):
        raise ill_typed("body", "an object")
    return request.data
