"""Conversations: lists, search, one, many at once, the bin, folders and tags; and who one is."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from conversations import editing, listing, tree, windows
from conversations.listing import Wanted
from conversations.quota import check_room
from conversations.surface import schemas
from conversations.surface.base import ConversationView, named_version
from conversations.surface.bodies import (
    TAIL,
    branch_body,
    conversation_body,
    hit_body,
    page_body,
    totals_body,
    whole_body,
    window_body,
)
from conversations.surface.fields import (
    BULK,
    CHANGED,
    CREATED,
    LISTED,
    MAX_LIMIT,
    a_folder,
    a_query_number,
    an_id,
    body_of,
    query_of,
)
from gateway.errors import BadRequest
from gateway.surfaces.openai.parser import missing
from gateway.surfaces.openai.views import caller

TAGGED = ["conversations"]
PARTS = {"around": windows.around, "after": windows.after}
FILTERS = [
    OpenApiParameter("q", str, description="Words, all of which a message or the title holds; the last may be begun."),
    OpenApiParameter("folder", str, description="The folder's name; empty: those in none."),
    OpenApiParameter("tag", str),
    OpenApiParameter("pinned", bool),
    OpenApiParameter("archived", str, description="`true`, `false` (default) or `any`."),
    OpenApiParameter("deleted", bool, description="What is in the bin."),
    OpenApiParameter("limit", int, description=f"1 to {MAX_LIMIT}, 50 by default."),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
]


class Me(ConversationView):
    @extend_schema(operation_id="me", tags=["account"], responses={200: schemas.Me})
    def get(self, request: Request) -> Response:
        """Who the caller is, and what a key may do."""
        self.owner_id(request)
        key = caller(request).key
        named = {"surfaces": sorted(key.surfaces), "models": sorted(key.models)} if key else None
        user = request.user
        return Response(
            {
                "object": "user",
                "id": user.pk,
                "username": user.get_username(),
                "email": getattr(user, "email", ""),
                "is_staff": caller(request).is_staff,
                "key": named,
            }
        )


class Conversations(ConversationView):
    @extend_schema(
        operation_id="list_conversations",
        tags=TAGGED,
        parameters=FILTERS,
        responses={200: schemas.ConversationList},
    )
    def get(self, request: Request) -> Response:
        """One's own, the last used first, page by page; with `q` those in which the words are, with snippets."""
        asked = query_of(request, LISTED)
        asked["words"] = asked.pop("q", "").lstrip()
        wanted = Wanted(**asked)
        return Response(page_body(listing.page(self.owner_id(request), wanted), bool(wanted.words)))

    @extend_schema(
        operation_id="create_conversation",
        tags=TAGGED,
        request=schemas.ConversationFields,
        responses={201: schemas.ConversationWhole},
    )
    def post(self, request: Request) -> Response:
        """A new, empty one."""
        owner_id, fields = self.owner_id(request), body_of(request, CREATED)
        with transaction.atomic():
            if not fields.get("temporary"):
                check_room(owner_id)
            row = tree.create_conversation(request.user, **fields)
        return Response(whole_body(row), status=201, headers=tagged(row.version))


class One(ConversationView):
    @extend_schema(
        operation_id="read_conversation",
        tags=TAGGED,
        parameters=[
            OpenApiParameter("limit", int, description=f"Messages, 1 to {MAX_LIMIT}; {TAIL} by default."),
            OpenApiParameter("before", str, description="A message's id: those above it."),
            OpenApiParameter("leaf", str, description="A message's id: the branch that ends with it."),
            OpenApiParameter("around", str, description="A message's id: it and its neighbours on the branch."),
            OpenApiParameter("after", str, description="A message's id: those below it on the branch."),
        ],
        responses={200: schemas.ConversationWhole},
    )
    def get(self, request: Request, conversation_id: str) -> Response:
        """The conversation and the last messages of the branch that is shown."""
        row = self.row(request, conversation_id)
        places = ("leaf", "before", "around", "after")
        asked = query_of(request, {"limit": a_query_number(1, MAX_LIMIT), **dict.fromkeys(places, an_id)})
        end, limit = row.active_leaf, asked.get("limit", TAIL)
        part: dict[str, Any] = {}
        for name in places:
            if name in asked:
                message = row.messages.filter(pk=asked[name]).first()
                if message is None:
                    raise tree.missing_message(name)
                if name in PARTS:
                    part = window_body(row, PARTS[name](row, message, limit))
                else:
                    end = message.pk if name == "leaf" else message.parent_id
        part = part or {**branch_body(row, end, limit), "has_newer": "before" in asked}
        return Response({**conversation_body(row), **part, "totals": totals_body(row)}, headers=tagged(row.version))

    @extend_schema(
        operation_id="change_conversation",
        tags=TAGGED,
        request=schemas.ConversationChanges,
        responses={200: schemas.ConversationWhole, 409: schemas.StaleError},
    )
    def patch(self, request: Request, conversation_id: str) -> Response:
        """Sets the fields that are sent. With `version` or `If-Match`: only if nothing has changed since."""
        row = self.row(request, conversation_id)
        fields = body_of(request, CHANGED)
        version = named_version(request, fields)
        changed = editing.change(row, fields, version)
        return Response(whole_body(changed), headers=tagged(changed.version))

    @extend_schema(operation_id="delete_conversation", tags=TAGGED, responses={200: schemas.Deleted})
    def delete(self, request: Request, conversation_id: str) -> Response:
        """To the bin, from where it goes for good after a while."""
        row = self.row(request, conversation_id)
        editing.bulk(self.owner_id(request), [row.pk], "delete", None, ())
        return Response({"id": row.pk, "object": "conversation", "deleted": True})


class Find(ConversationView):
    @extend_schema(
        operation_id="find_in_conversation",
        tags=TAGGED,
        parameters=[OpenApiParameter("q", str, required=True, description="What stands in a message as it is.")],
        responses={200: schemas.Found},
    )
    def get(self, request: Request, conversation_id: str) -> Response:
        """The messages of the branch that is shown in which the words are, the first first, with snippets."""
        row = self.row(request, conversation_id)
        words = query_of(request, {"q": LISTED["q"]}).get("q", "").strip()
        if not words:
            raise missing("q")
        found, complete = windows.find(row, words)
        return Response({"object": "list", "data": [hit_body(hit) for hit in found], "complete": complete})


class Restore(ConversationView):
    @extend_schema(
        operation_id="restore_conversation", tags=TAGGED, request=None, responses={200: schemas.ConversationWhole}
    )
    def post(self, request: Request, conversation_id: str) -> Response:
        """Out of the bin."""
        row = self.row(request, conversation_id)
        editing.bulk(self.owner_id(request), [row.pk], "restore", None, ())
        return Response(whole_body(self.row(request, conversation_id)))


class Purge(ConversationView):
    @extend_schema(operation_id="purge_conversation", tags=TAGGED, request=None, responses={200: schemas.Deleted})
    def post(self, request: Request, conversation_id: str) -> Response:
        """For good, from the bin or not."""
        row = self.row(request, conversation_id)
        editing.bulk(self.owner_id(request), [row.pk], "purge", None, ())
        return Response({"id": row.pk, "object": "conversation", "deleted": True})


class Bulk(ConversationView):
    @extend_schema(operation_id="change_conversations", tags=TAGGED, request=schemas.Bulk, responses=schemas.Count)
    def post(self, request: Request) -> Response:
        """The same for up to 100 conversations; if one of them is not one's own, 404 and nothing is changed."""
        fields: dict[str, Any] = body_of(request, BULK, ("ids", "action"))
        count = editing.bulk(
            self.owner_id(request), fields["ids"], fields["action"], fields.get("folder"), fields.get("tags", ())
        )
        return Response({"count": count})


class Bin(ConversationView):
    @extend_schema(operation_id="empty_bin", tags=TAGGED, responses=schemas.Count)
    def delete(self, request: Request) -> Response:
        """Deletes for good what is in one's bin."""
        return Response({"count": editing.empty_bin(self.owner_id(request))})


class Folders(ConversationView):
    @extend_schema(operation_id="list_folders", tags=TAGGED, responses={200: schemas.Names})
    def get(self, request: Request) -> Response:
        """The folders in use, with the number of conversations in each."""
        return Response({"object": "list", "data": listing.folders(self.owner_id(request))})

    @extend_schema(operation_id="rename_folder", tags=TAGGED, request=schemas.Rename, responses=schemas.Count)
    def patch(self, request: Request) -> Response:
        """Moves all conversations of a folder to another, or to none."""
        fields = body_of(request, {"name": a_folder, "to": a_folder}, ("name", "to"))
        if not fields["name"]:
            raise BadRequest("'name' is empty; what is in no folder is moved by its ids.", param="name")
        return Response({"count": editing.rename_folder(self.owner_id(request), fields["name"], fields["to"])})


class Tags(ConversationView):
    @extend_schema(operation_id="list_tags", tags=TAGGED, responses={200: schemas.Names})
    def get(self, request: Request) -> Response:
        """The tags in use, with the number of conversations that have each."""
        return Response({"object": "list", "data": listing.tags(self.owner_id(request))})


def tagged(version: int) -> dict[str, str]:
    return {"ETag": f'"{version}"'}
