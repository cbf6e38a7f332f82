"""The rows of prompts: written under their owner's lock, so that no name is there twice and none passes the limit."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from conversations.models import Prompt
from conversations.quota import lock_owner
from gateway.errors import BadRequest

# With 16,000 characters each what a user keeps still fits into one answer.
MOST = 200


def prompts_of(owner_id: int) -> QuerySet[Prompt]:
    return Prompt.objects.filter(owner_id=owner_id)


def not_found() -> BadRequest:
    return BadRequest("No such prompt.", status=404, code="prompt_not_found")


def create(owner_id: int, fields: dict[str, Any]) -> Prompt:
    """Raises BadRequest where the name is taken or no room is left."""
    with transaction.atomic():
        lock_owner(owner_id)
        _check_name(owner_id, fields["name"])
        if prompts_of(owner_id).count() >= MOST:
            raise BadRequest(f"No more than {MOST} prompts can be kept. Delete some first.", code="too_many_prompts")
        return Prompt.objects.create(owner_id=owner_id, **fields)


def change(row: Prompt, fields: dict[str, Any]) -> Prompt:
    """What is named. Raises BadRequest where the name is taken, or the prompt was deleted meanwhile."""
    with transaction.atomic():
        lock_owner(row.owner_id)
        now = prompts_of(row.owner_id).filter(pk=row.pk).first()
        if now is None:
            raise not_found()
        if fields.get("name", now.name) != now.name:
            _check_name(now.owner_id, fields["name"])
        for name, value in fields.items():
            setattr(now, name, value)
        now.save()
        return now


def _check_name(owner_id: int, name: str) -> None:
    if prompts_of(owner_id).filter(name=name).exists():
        raise BadRequest(f"There is a prompt '/{name}' already.", status=409, code="prompt_exists", param="name")
