"""`/backend-api/v2/prompts`: one's own prompts, to list, add, change and delete."""

from __future__ import annotations

import re
import unicodedata
import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from conversations.files import UUID
from conversations.models import Prompt
from conversations.models.prompts import NAME_CHARS, TEXT_CHARS, TITLE_CHARS
from conversations.prompts import store
from conversations.surface.base import ConversationView
from conversations.surface.fields import Read, a_text, body_of, query_of
from conversations.surface.schemas import Deleted
from gateway.errors import BadRequest

TAGS = ["prompts"]
NAME = re.compile(rf"\w[\w-]{{0,{NAME_CHARS - 1}}}\Z")


class PromptBody(serializers.Serializer):  # type: ignore[type-arg]
    id = serializers.UUIDField()
    object = serializers.ChoiceField(["prompt"])
    name = serializers.CharField(help_text="The word that calls it, without its slash; one's own are all different.")
    title = serializers.CharField()
    text = serializers.CharField(help_text="`{{name}}` stands for what is asked for when it is used.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class PromptList(serializers.Serializer):  # type: ignore[type-arg]
    object = serializers.ChoiceField(["list"])
    data = PromptBody(many=True)  # type: ignore[assignment]
    limit = serializers.IntegerField(help_text="How many there may be.")


class PromptChanges(serializers.Serializer):  # type: ignore[type-arg]
    name = serializers.CharField(required=False, max_length=NAME_CHARS)
    title = serializers.CharField(required=False, max_length=TITLE_CHARS)
    text = serializers.CharField(required=False, max_length=TEXT_CHARS)


class PromptFields(PromptChanges):
    name = serializers.CharField(max_length=NAME_CHARS)
    text = serializers.CharField(max_length=TEXT_CHARS)


def a_name(param: str, value: Any) -> str:
    """Without the slash, in small letters: nobody types capitals to call it. Raises BadRequest."""
    given: str = a_text(1000, strip=True)(param, value)
    name = unicodedata.normalize("NFC", given.removeprefix("/").lower())
    if not NAME.match(name):
        raise BadRequest(
            f"'{param}' must be one word of at most {NAME_CHARS} letters, digits, hyphens and underscores.", param=param
        )
    return name


def some_text(param: str, value: Any) -> str:
    text: str = a_text(TEXT_CHARS)(param, value)
    if not text.strip():
        raise BadRequest(f"'{param}' is empty.", param=param)
    return text


FIELDS: dict[str, Read] = {"name": a_name, "title": a_text(TITLE_CHARS, strip=True), "text": some_text}


def described(row: Prompt) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "object": "prompt",
        "name": row.name,
        "title": row.title,
        "text": row.text,
        "created_at": row.created_at.isoformat(),
        "updated_at": row.updated_at.isoformat(),
    }


class Prompts(ConversationView):
    """All of one's own."""

    @extend_schema(operation_id="list_prompts", tags=TAGS, responses={200: PromptList})
    def get(self, request: Request) -> Response:
        """All of them, by name."""
        query_of(request, {})
        rows = store.prompts_of(self.owner_id(request))
        return Response({"object": "list", "data": [described(row) for row in rows], "limit": store.MOST})

    @extend_schema(operation_id="create_prompt", tags=TAGS, request=PromptFields, responses={201: PromptBody})
    def post(self, request: Request) -> Response:
        """A new one."""
        owner_id = self.owner_id(request)
        return Response(described(store.create(owner_id, body_of(request, FIELDS, ("name", "text")))), status=201)


class OnePrompt(ConversationView):
    """One. Another user's is as one that does not exist."""

    def prompt(self, request: Request, prompt_id: str) -> Prompt:
        """Raises BadRequest 404."""
        owner_id = self.owner_id(request)
        if UUID.match(prompt_id):
            found = store.prompts_of(owner_id).filter(pk=uuid.UUID(prompt_id)).first()
            if found is not None:
                return found
        raise store.not_found()

    @extend_schema(operation_id="read_prompt", tags=TAGS, responses={200: PromptBody})
    def get(self, request: Request, prompt_id: str) -> Response:
        """One of them."""
        return Response(described(self.prompt(request, prompt_id)))

    @extend_schema(operation_id="change_prompt", tags=TAGS, request=PromptChanges, responses={200: PromptBody})
    def patch(self, request: Request, prompt_id: str) -> Response:
        """Sets what is sent."""
        row = self.prompt(request, prompt_id)
        return Response(described(store.change(row, body_of(request, FIELDS))))

    @extend_schema(operation_id="delete_prompt", tags=TAGS, responses={200: Deleted})
    def delete(self, request: Request, prompt_id: str) -> Response:
        """For good."""
        row = self.prompt(request, prompt_id)
        row.delete()
        return Response({"id": prompt_id, "object": "prompt", "deleted": True})
