"""A title and what one might ask next, by a small model that the operator names (SMALL_MODEL)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace

import orjson
from django.conf import settings

from gateway import relay
from gateway.authentication import Principal
from gateway.errors import GatewayError, ServerStopping
from gateway.events import Failed, TextDelta, Usage
from gateway.live import ends_with_right
from gateway.routing import targets_of
from gateway.snapshot import store
from gateway.surfaces.openai.encoder import estimated
from gateway.surfaces.openai.parser import parse_chat
from gateway.upstream import upstream
from gateway.usage import Tally

log = logging.getLogger(__name__)

SURFACE = "backend.suggestions"
SECONDS = 15.0
MAX_CHARACTERS = 4000
MAX_TITLE = 80
MAX_SUGGESTIONS = 4
MAX_SUGGESTION = 200
QUOTES = " \"'`*"
PROMPT = """Below are a question and its answer. Reply with exactly four lines and nothing else.
Line 1: a title for the conversation, at most six words, in the language of the question, without quotation marks.
Lines 2 to 4: three short questions that the person might ask next, one on each line, in the same language.

Question:
{question}

Answer:
{answer}"""


@dataclass(frozen=True, slots=True)
class Extras:
    title: str
    suggestions: list[str]


async def extras(principal: Principal, request_id: str, question: str, answer: str) -> Extras | None:
    """None where the model could not be had: nobody waits longer, or hears of it. Booked as a request of its own."""
    text = PROMPT.format(question=question[:MAX_CHARACTERS], answer=answer[:MAX_CHARACTERS])
    body = {"model": settings.SMALL_MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 300}
    chat = parse_chat(orjson.dumps(body))
    chat.raw = False
    try:
        # The operator chose it for everybody, whatever the caller's key may use.
        targets = targets_of(store.current, chat, replace(principal, key=None))
    except GatewayError as error:
        log.warning("SMALL_MODEL cannot be asked: %s", error.message)
        return None
    tally = Tally(f"{request_id}-s", principal, chat, SURFACE)
    tally.begin(targets[0])
    said: list[str] = []
    try:
        with ends_with_right(principal):
            async with asyncio.timeout(SECONDS):
                events = await relay.complete(upstream, chat, targets, tally)
        for event in events:
            if isinstance(event, TextDelta):
                said.append(event.text)
            elif isinstance(event, Usage):
                tally.usage = event
            elif isinstance(event, Failed):
                raise event.error
    except GatewayError as error:
        tally.end("error", error.status, error)
        return None
    except TimeoutError:
        tally.end("cancelled", 499)
        return None
    except asyncio.CancelledError:
        tally.end("interrupted", ServerStopping.status)
        raise
    except BaseException:
        tally.end("error", 500)
        raise
    tally.usage = tally.usage or estimated(chat, len(said))
    tally.end("ok", 200)
    return read("".join(said))


def read(text: str) -> Extras | None:
    """Whatever the model made of what it was told."""
    lines = [line.strip().lstrip("-*•#0123456789.) ").strip(QUOTES) for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return None
    title = lines[0].removeprefix("Title:").strip(QUOTES)[:MAX_TITLE]
    return Extras(title, [line[:MAX_SUGGESTION] for line in lines[1 : MAX_SUGGESTIONS + 1]])
