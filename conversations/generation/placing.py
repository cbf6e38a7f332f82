"""Where in a conversation's tree the messages of a request belong, and what a provider is sent. Under its lock."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from django.conf import settings
from django.db.models import Sum, TextField
from django.db.models.functions import Cast, Length

from conversations import tree
from conversations.generation.ask import Ask
from conversations.models import Conversation, Generation, Message
from conversations.models.conversations import State
from gateway.errors import BadRequest

Item = dict[str, Any]
# The message that what is new follows, what is new, and the messages for the provider.
Place = tuple[uuid.UUID | None, list[Item], list[Item]]
ROLES = {"developer": "system", "function": "tool"}
# Of a message's fields those that a provider wants back.
EXTRA = ("name", "tool_call_id", "is_error")
# What of messages can be large.
READ = ("content", "tool_calls", "extra", "attachments")
# An attachment that came beside the messages, not in them: the page does not send it again.
BESIDE = "beside"
BROKEN_OFF = (State.STOPPED, State.INTERRUPTED, State.ERROR)


def placed(
    conversation: Conversation, ask: Ask, attachments: Sequence[Item]
) -> tuple[uuid.UUID | None, list[Item], uuid.UUID | None]:
    """Puts what is new into the tree: the message that is to be answered, the messages for the provider, and the first
    that is new."""
    _check_size(conversation)
    leaf, new, sent = _found(conversation, ask, attachments)
    if sent and (parts := _beside(attachments)):
        sent[-1]["content"] = with_parts(sent[-1].get("content"), parts)
    if attachments and not new:
        raise BadRequest(
            "Files need a message that they belong to.", code="missing_required_parameter", param="messages"
        )
    said = [_values(message) for message in new]
    if attachments:
        said[-1]["attachments"] = list(attachments)
    ids = tree.append_all(conversation, leaf, said)
    return (ids[-1], sent, ids[0]) if ids else (leaf, sent, None)


def _check_size(conversation: Conversation) -> None:
    """Raises BadRequest 413 where reading what was said would take memory that others need."""
    limit = 2 * int(settings.MAX_BODY_BYTES)
    sizes = conversation.messages.aggregate(**{name: Sum(Length(Cast(name, TextField()))) for name in READ})
    if sum(size or 0 for size in sizes.values()) > limit:
        raise BadRequest(
            f"The conversation is larger than {limit} bytes. Begin another one.",
            status=413, code="request_too_large", param="conversation_id",
        )  # fmt: skip


def _found(conversation: Conversation, ask: Ask, attachments: Sequence[Item]) -> Place:
    if ask.goes_on:
        return _going_on(conversation, ask.messages)
    if ask.parent_id is not None:
        if not conversation.messages.filter(pk=ask.parent_id).exists():
            raise BadRequest("No such message to answer.", status=404, code="message_not_found", param="parent_id")
        prompt = [{"role": "system", "content": conversation.system_prompt}] if conversation.system_prompt else []
        path = tree.path_to(ask.parent_id)
        leaf: uuid.UUID | None = ask.parent_id
        new, before = ask.messages, [*prompt, *map(_as_sent, path)]
        if any(message.role == Message.Role.SYSTEM for message in path):
            before = before[len(prompt) :]
        sent = [*before, *(dict(message) for message in new)]
    else:
        end, count = tree.match_path(conversation, [_comparable(message) for message in ask.messages])
        path = tree.path_to(end)
        if attachments and count == len(ask.messages) and path and path[-1].role == Message.Role.USER:
            # The same words with other pictures are another message.
            count, path = count - 1, path[:-1]
        leaf, new = (path[-1].pk if path else None), ask.messages[count:]
        sent = [dict(message) for message in ask.messages]
        _attach_earlier(path, sent[:count])
    return leaf, new, sent


def _going_on(conversation: Conversation, messages: list[Item]) -> Place:
    """What was said before is put before what is new, unless the messages say it themselves.

    They do if they begin with all of it, or repeat an answer that was made here: such a caller keeps the whole
    conversation, and may go back in it. A question whose answer broke off is asked again, not twice.
    """
    lead = list(takewhile(lambda message: ROLES.get(message["role"], message["role"]) == "system", messages))
    said = messages[len(lead) :]
    end, count = tree.match_path(conversation, [_comparable(message) for message in messages])
    path = tree.path_to(end)
    if end is not None and (end.pk == conversation.active_leaf or _made_here(path)):
        sent = [dict(message) for message in messages]
        _attach_earlier(path, sent[:count])
        return end.pk, messages[count:], sent
    path = tree.path_to(conversation.active_leaf)
    if _is_retry(path, said):
        path, said = path[:-1], []
    prompt = [{"role": "system", "content": conversation.system_prompt}] if conversation.system_prompt else []
    if any(message.role == Message.Role.SYSTEM for message in path):
        prompt = []
    # One that failed may have said nothing, which no provider takes.
    before = [_as_sent(row) for row in path if row.content or row.tool_calls]
    return path[-1].pk if path else None, said, [*(lead or prompt), *before, *(dict(message) for message in said)]


def _made_here(path: Sequence[Message]) -> bool:
    return Generation.objects.filter(message__in=[row.pk for row in path]).exists()


def _is_retry(path: Sequence[Message], said: Sequence[Item]) -> bool:
    if not said or not path or path[-1].role != Message.Role.ASSISTANT or path[-1].state not in BROKEN_OFF:
        return False
    asked = [tree.said(row.role, row.content) for row in path[-1 - len(said) : -1]]
    again = [_comparable(message) for message in said]
    return asked == [tree.said(message["role"], tree.storable(message["content"])) for message in again]


def _beside(attachments: Sequence[Item]) -> list[Item]:
    """The parts of a message that came beside it."""
    return [item["part"] for item in attachments if item.get(BESIDE) and "part" in item]


def _comparable(message: Item) -> Item:
    role = message.get("role")
    return {"role": ROLES.get(str(role), role), "content": message.get("content")}


def _as_sent(message: Message) -> Item:
    """A message of the tree in OpenAI's form, with what was attached to it."""
    found: Item = {"role": message.role, "content": message.content, **message.extra}
    if message.role == Message.Role.TOOL and "tool_call_id" not in message.extra:
        # It came as the older form, which names no call.
        found["role"] = "function"
    if message.tool_calls:
        found["tool_calls"] = message.tool_calls
    if parts := _beside(message.attachments):
        found["content"] = with_parts(message.content, parts)
    return found


def with_parts(content: Any, parts: list[Item]) -> list[Any]:
    texts = [{"type": "text", "text": content}] if isinstance(content, str) and content else list(content or [])
    return [*texts, *parts]


def _attach_earlier(path: Sequence[Message], sent: list[Item]) -> None:
    """Pages send a picture once, beside the message; its model is to see it again with every later one."""
    said = iter(reversed(sent))
    for row in reversed(path):
        message = next(said, None)
        if message is None:
            return
        if parts := _beside(row.attachments):
            message["content"] = with_parts(message["content"], parts)


def _values(message: Item) -> Item:
    """A message of a request as a row's fields."""
    content = message.get("content")
    return {
        "role": ROLES.get(message["role"], message["role"]),
        "content": "" if content is None else content,
        "tool_calls": message.get("tool_calls") or [],
        "extra": {name: message[name] for name in EXTRA if message.get(name) is not None},
    }
