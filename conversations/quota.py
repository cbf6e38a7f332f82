"""How many conversations a user may keep: the operator's setting, or what the admin says of one user."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model

from conversations.models import Conversation, ConversationLimits
from gateway.errors import BadRequest


def lock_owner(owner_id: int) -> None:
    """Within a transaction: whoever counts what is a user's does so one after the other."""
    list(get_user_model().objects.select_for_update(no_key=True).filter(pk=owner_id).values_list("pk"))


def most_of(owner_id: int) -> int:
    """0: no limit."""
    own = ConversationLimits.objects.filter(user_id=owner_id).values_list("max_conversations", flat=True).first()
    return int(settings.CONVERSATIONS_PER_USER) if own is None else own


def kept_by(owner_id: int) -> int:
    """Those in the bin too; temporary ones go by themselves."""
    return Conversation.objects.filter(owner_id=owner_id, temporary=False).count()


def check_room(owner_id: int) -> None:
    """Within the transaction that makes one more. Raises BadRequest."""
    most = most_of(owner_id)
    if not most:
        return
    lock_owner(owner_id)
    if kept_by(owner_id) >= most:
        raise BadRequest(
            f"No more than {most} conversations can be kept. Delete some for good first.",
            code="too_many_conversations",
            should_retry=False,
        )
