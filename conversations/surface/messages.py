"""Messages of a conversation: added, never changed; read as they came, or as a map of the tree."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models.functions import Left
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from conversations import tree
from conversations.files import UUID, is_own
from conversations.models import Conversation, Message
from conversations.surface import schemas
from conversations.surface.base import ConversationView, named_version
from conversations.surface.bodies import conversation_body, messages_body
from conversations.surface.fields import APPENDED, MAX_LIMIT, a_query_number, body_of, query_of
from conversations.surface.views import TAGGED, tagged
from gateway.errors import BadRequest

PREVIEW_CHARS = 80
HIGHEST_SEQ = 2**31 - 1


class Messages(ConversationView):
    @extend_schema(
        operation_id="list_messages",
        tags=TAGGED,
        parameters=[
            OpenApiParameter("after", int, description="A `seq`: those that came later."),
            OpenApiParameter("limit", int, description=f"1 to {MAX_LIMIT}; {MAX_LIMIT} by default."),
        ],
        responses={200: schemas.MessageList},
    )
    def get(self, request: Request, conversation_id: str) -> Response:
        """All branches' messages in the order in which they came: what a client that missed some asks for."""
        row = self.row(request, conversation_id)
        readers = {"after": a_query_number(0, HIGHEST_SEQ), "limit": a_query_number(1, MAX_LIMIT)}
        asked = query_of(request, readers)
        limit = asked.get("limit", MAX_LIMIT)
        rows = list(row.messages.filter(seq__gt=asked.get("after", 0)).order_by("seq")[: limit + 1])
        data = messages_body(row, rows[:limit])
        return Response({"object": "list", "data": data, "has_more": len(rows) > limit}, headers=tagged(row.version))

    @extend_schema(
        operation_id="append_message",
        tags=TAGGED,
        request=schemas.MessageFields,
        responses={201: schemas.MessageBody, 200: schemas.MessageBody, 409: schemas.StaleError},
    )
    def post(self, request: Request, conversation_id: str) -> Response:
        """Adds a message. The same `client_id` again gives the one that is there, with 200."""
        row = self.row(request, conversation_id)
        fields = body_of(request, APPENDED, ("content",))
        version = named_version(request, fields)
        check_files(self.owner_id(request), fields)
        message, is_new = add(row, fields, version)
        body = {**messages_body(row, [message])[0], "version": row.version}
        return Response(body, status=201 if is_new else 200, headers=tagged(row.version))


def add(row: Conversation, fields: dict[str, Any], version: int | None) -> tuple[Message, bool]:
    """A client that names a parent says where the tree ended for it; one that names none goes on where it ends now."""
    branch = fields.pop("branch", False)
    role, content = fields.pop("role", Message.Role.USER), fields.pop("content")
    if "parent" not in fields:
        if branch:
            raise BadRequest("'branch' needs a parent.", code="missing_required_parameter", param="parent")
        return tree.add(row, tree.SHOWN, role, content, version=version, **fields)
    parent = fields.pop("parent")
    return tree.add(row, parent, role, content, version=version, at_tail=not branch, **fields)


def check_files(owner_id: int, fields: dict[str, Any]) -> None:
    """Raises BadRequest 404 for files and buckets that are not the owner's."""
    content = fields["content"] if isinstance(fields["content"], list) else []
    for name, parts in (("attachments", fields.get("attachments", [])), ("content", content)):
        for number, part in enumerate(parts):
            if not is_own(owner_id, part):
                raise BadRequest("No such file.", status=404, code="file_not_found", param=f"{name}[{number}]")


class One(ConversationView):
    def message(self, row: Conversation, message_id: str) -> Message:
        """Raises BadRequest 404."""
        found = row.messages.filter(pk=uuid.UUID(message_id)).first() if UUID.match(message_id) else None
        if found is None:
            raise tree.missing_message()
        return found

    @extend_schema(operation_id="read_message", tags=TAGGED, responses={200: schemas.MessageBody})
    def get(self, request: Request, conversation_id: str, message_id: str) -> Response:
        row = self.row(request, conversation_id)
        return Response(messages_body(row, [self.message(row, message_id)])[0])

    @extend_schema(
        operation_id="delete_message",
        tags=TAGGED,
        parameters=[OpenApiParameter("version", int, description="As in a PATCH of the conversation.")],
        responses={200: schemas.Count, 409: schemas.StaleError},
    )
    def delete(self, request: Request, conversation_id: str, message_id: str) -> Response:
        """Takes it away with all that follows from it, for good. The answer says how many went, and what is shown."""
        row = self.row(request, conversation_id)
        asked = query_of(request, {"version": a_query_number(0, 2**31)})
        gone = tree.delete_branch(row, self.message(row, message_id).pk, named_version(request, asked))
        return Response({**conversation_body(row), "count": gone}, headers=tagged(row.version))


class Tree(ConversationView):
    @extend_schema(operation_id="read_tree", tags=TAGGED, responses={200: schemas.Tree})
    def get(self, request: Request, conversation_id: str) -> Response:
        """The map of all branches: each message's place, and how it begins."""
        row = self.row(request, conversation_id)
        query_of(request, {})
        names = ("id", "parent_id", "seq", "role", "state", "model", "created_at")
        found = row.messages.order_by("seq").annotate(preview=Left("text", PREVIEW_CHARS)).values(*names, "preview")
        nodes = [{("parent" if name == "parent_id" else name): value for name, value in node.items()} for node in found]
        body = {"object": "tree", "active_leaf": row.active_leaf, "version": row.version, "nodes": nodes}
        return Response(body, headers=tagged(row.version))
