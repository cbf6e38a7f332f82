"""What a chat is given of its user's memory: for whoever builds the request of a conversation."""

from __future__ import annotations

import logging
from functools import partial

from django.db import Error as DatabaseError

from conversations.memory import store
from conversations.memory.vectors import packed_of
from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.surfaces.kept import off_the_loop

log = logging.getLogger(__name__)

INSTRUCTIONS = ("system", "developer")


async def remembered(principal: Principal, question: str) -> str:
    """A text for the system's side of a chat; empty where the user did not switch it on, or nothing fits.

    On the loop: the database is asked in a thread, and the question is embedded where a model is named for that.
    A chat goes without while the database is away.
    """
    owner_id = principal.user_id
    try:
        if owner_id is None or not await off_the_loop(partial(store.is_used, owner_id)):
            return ""
        vectors = await packed_of(principal, [question]) if question.strip() else None
        return await off_the_loop(partial(store.told, owner_id, question, vectors[0] if vectors else None))
    except (DatabaseError, TimeoutError) as error:
        log.warning("a chat goes without what is remembered: %s", type(error).__name__)
        return ""


async def remember(chat: ChatRequest, principal: Principal) -> None:
    """Puts what is remembered of the user before the chat's messages, behind the instructions that are there."""
    messages = chat.body["messages"]
    asked = next((message.text for message in reversed(chat.messages()) if message.role == "user"), "")
    told = await remembered(principal, asked)
    if told:
        place = next((at for at, message in enumerate(messages) if message["role"] not in INSTRUCTIONS), len(messages))
        messages.insert(place, {"role": "system", "content": told})
