"""The base of these views: whose conversations they are, and how a stale write is answered."""

from __future__ import annotations

import re
import uuid
from typing import Any

from django.db import Error as DatabaseError
from rest_framework.request import Request
from rest_framework.response import Response

from conversations.files import UUID
from conversations.listing import own
from conversations.models import Conversation
from conversations.surface.bodies import whole_body
from conversations.surface.fields import JsonBody
from conversations.tree import Stale, missing_conversation
from gateway.errors import BadRequest, NotAuthenticated, Unavailable
from gateway.surfaces.openai.views import caller
from gateway.surfaces.views import JsonView

TAG = re.compile(r'(?:W/)?"?(\d{1,9})"?\Z')


class ConversationView(JsonView):
    """Of users alone: strangers have nothing here, also where the operator lets them chat."""

    parser_classes = [JsonBody]  # type: ignore[list-item]

    def owner_id(self, request: Request) -> int:
        """Raises NotAuthenticated."""
        user_id = caller(request).user_id
        if user_id is None:
            raise NotAuthenticated("Conversations are kept for users. Send an API key, or sign in.")
        return user_id

    def row(self, request: Request, conversation_id: str) -> Conversation:
        """Raises BadRequest 404, the same for none and for another's."""
        owner_id = self.owner_id(request)
        if UUID.match(conversation_id):
            found = own(owner_id).filter(pk=uuid.UUID(conversation_id)).first()
            if found is not None:
                return found
        raise missing_conversation()

    def handle_exception(self, error: Exception) -> Response:
        """A writer that had not seen the last changes gets them with the 409; a database that is away is no bug."""
        if isinstance(error, DatabaseError):
            error = Unavailable("The conversations cannot be reached now. Try again later.", code="storage_unavailable")
        response = super().handle_exception(error)
        if isinstance(error, Stale):
            response.data = {**response.data, "conversation": whole_body(error.conversation)}
        return response


def named_version(request: Request, fields: dict[str, Any]) -> int | None:
    """The version that the writer knows: `version` in the body, taken out of it, or `If-Match`. Raises BadRequest."""
    version: int | None = fields.pop("version", None)
    header = request.headers.get("If-Match", "").strip()
    if not header or header == "*":
        return version
    match = TAG.match(header)
    if match is None or version not in (None, int(match[1])):
        raise BadRequest("If-Match must be the conversation's version, and the body's the same.", code="invalid_header")
    return int(match[1])
