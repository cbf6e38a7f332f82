"""`/backend-api/v2/memory/{user_id}`: what is remembered of the caller, to read, add, change and delete."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connection
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from conversations.memory import parser, store
from conversations.memory.facts import facts_of
from conversations.memory.search import MAX_QUERY
from conversations.memory.vectors import packed_of
from conversations.models import MemoryItem
from gateway.authentication import Principal
from gateway.errors import NotAuthenticated
from gateway.surfaces.backend.parser import number_of
from gateway.surfaces.openai.parser import ill_typed, missing
from gateway.surfaces.openai.views import caller
from gateway.surfaces.views import JsonView

ANY = OpenApiTypes.OBJECT
TAGS = ["memory"]
QUERY = [
    OpenApiParameter("search", str, description="Words, or a question."),
    OpenApiParameter("filters", str, description="A JSON object: role, conversation_id, created_at, metadata, AND."),
    OpenApiParameter("metadata", str, description="A JSON object, of which each item has all."),
    OpenApiParameter("page", int),
    OpenApiParameter("page_size", int),
]


class MemoryView(JsonView):
    """Base: whose memory it is. Another user's is as one that does not exist."""

    def whose(self, request: Request, user_id: str) -> tuple[Principal, int, str]:
        """The caller, its id and the namespace. Raises BadRequest 404."""
        principal = caller(request)
        if principal.user_id is None:
            raise NotAuthenticated("Memory belongs to a user: send an API key as `Authorization: Bearer KEY`.")
        return principal, principal.user_id, parser.namespace_of(user_id, principal)


def embedded(principal: Principal, texts: Sequence[str]) -> list[bytes] | None:
    # A provider may take its time: others need the database meanwhile.
    connection.close()
    return async_to_sync(packed_of)(principal, texts)


class Items(MemoryView):
    """All that is remembered."""

    @extend_schema(operation_id="listMemory", tags=TAGS, parameters=QUERY, responses={200: ANY})
    def get(self, request: Request, user_id: str) -> Response:
        principal, owner_id, namespace = self.whose(request, user_id)
        wanted = parser.wanted_of(request, principal, user_id)
        page = number_of(request, "page", 1, 1, parser.MAX_PAGE)
        size = number_of(request, "page_size", parser.PAGE_SIZE, 1, parser.MAX_PAGE_SIZE)
        text = (request.query_params.get("search") or "")[:MAX_QUERY].strip()
        if text:
            vectors = embedded(principal, [text])
            found = store.searched(owner_id, namespace, text, vectors[0] if vectors else None, wanted)
        else:
            found = store.listed(owner_id, namespace, wanted)
        shown = found[(page - 1) * size : page * size]
        return Response(
            {
                "items": [parser.described(item, user_id, score) for item, score in shown],
                "count": len(found),
                "page": page,
                "page_size": size,
                "more": len(found) > page * size,
            }
        )

    @extend_schema(operation_id="addMemory", tags=TAGS, request=ANY, responses={200: ANY})
    def post(self, request: Request, user_id: str) -> Response:
        principal, owner_id, namespace = self.whose(request, user_id)
        items = _lasting(principal, parser.new_items(parser.object_of(request)))
        vectors = embedded(principal, [item.text for item in items])
        return Response({"count": store.add(owner_id, namespace, items, vectors)})

    @extend_schema(operation_id="deleteMemory", tags=TAGS, responses={200: ANY})
    def delete(self, request: Request, user_id: str) -> Response:
        _, owner_id, namespace = self.whose(request, user_id)
        count, _ = store.items_of(owner_id, namespace).delete()
        return Response({"count": count})


def _lasting(principal: Principal, items: list[store.New]) -> list[store.New]:
    """Of what was said only what lasts, where a model is named that knows; what is no speech stays as it is."""
    said = [item for item in items if item.role]
    if not said or not settings.MEMORY_MODEL:
        return items
    connection.close()
    facts = async_to_sync(facts_of)(principal, [(item.role, item.text) for item in said])
    if facts is None:
        return items
    first = said[0]
    kept = [store.New(fact, "", first.conversation_id, first.metadata) for fact in facts]
    return [*kept, *(item for item in items if not item.role)]


class Item(MemoryView):
    """One thing that is remembered."""

    def row(self, request: Request, user_id: str, item: str) -> tuple[Principal, MemoryItem]:
        principal, owner_id, namespace = self.whose(request, user_id)
        try:
            key = uuid.UUID(item)
        except ValueError:
            raise parser.not_found() from None
        found = store.items_of(owner_id, namespace).filter(key=key).first()
        if found is None:
            raise parser.not_found()
        return principal, found

    @extend_schema(operation_id="retrieveMemoryItem", tags=TAGS, responses={200: ANY})
    def get(self, request: Request, user_id: str, item: str) -> Response:
        return Response(parser.described(self.row(request, user_id, item)[1], user_id))

    @extend_schema(operation_id="changeMemoryItem", tags=TAGS, request=ANY, responses={200: ANY})
    def patch(self, request: Request, user_id: str, item: str) -> Response:
        principal, row = self.row(request, user_id, item)
        body = parser.object_of(request)
        text = parser.memory_text(body["memory"], "memory") if "memory" in body else None
        if text == "":
            raise missing("memory")
        vectors = embedded(principal, [text]) if text and text != row.text else None
        store.change(row, text, parser.metadata_of(body), vectors[0] if vectors else None)
        return Response(parser.described(row, user_id))

    @extend_schema(operation_id="deleteMemoryItem", tags=TAGS, responses={200: ANY})
    def delete(self, request: Request, user_id: str, item: str) -> Response:
        self.row(request, user_id, item)[1].delete()
        return Response({"count": 1})


class Settings(MemoryView):
    """Whether chats use what is remembered, and what the server can do with it."""

    def told(self, owner_id: int) -> Response:
        return Response(
            {
                "used_in_chats": store.is_used(owner_id),
                "count": MemoryItem.objects.filter(owner_id=owner_id).count(),
                "limit": settings.MEMORY_ITEMS,
                "by_likeness": bool(settings.MEMORY_EMBEDDING_MODEL),
                "takes_out_facts": bool(settings.MEMORY_MODEL),
            }
        )

    @extend_schema(operation_id="memorySettings", tags=TAGS, responses={200: ANY})
    def get(self, request: Request, user_id: str) -> Response:
        return self.told(self._own(request, user_id))

    @extend_schema(operation_id="changeMemorySettings", tags=TAGS, request=ANY, responses={200: ANY})
    def patch(self, request: Request, user_id: str) -> Response:
        owner_id = self._own(request, user_id)
        wanted: Any = parser.object_of(request).get("used_in_chats")
        if wanted is None:
            raise missing("used_in_chats")
        if not isinstance(wanted, bool):
            raise ill_typed("used_in_chats", "a boolean")
        store.use(owner_id, wanted)
        return self.told(owner_id)

    def _own(self, request: Request, user_id: str) -> int:
        _, owner_id, namespace = self.whose(request, user_id)
        if namespace:
            raise parser.not_found()
        return owner_id
