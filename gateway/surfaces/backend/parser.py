"""Checks what stands in paths and queries of this surface. Every function raises BadRequest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings
from rest_framework.request import Request

from gateway.authentication import Principal
from gateway.chat import ChatRequest, Preferences
from gateway.errors import BadRequest
from gateway.pictures import PictureRequest
from gateway.surfaces.backend.encoder import AUTOMATIC
from gateway.surfaces.backend.errors import user_unknown
from gateway.surfaces.openai.parser import missing
from gateway.surfaces.openai.steering import named
from gateway.websearch.search import query_of

DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)
MAX_DAYS = 365
MAX_NUMBER = 2**62
EVERYBODY = "all"
MAX_FIELDS = 50
MAX_PROVIDERS = 20
ON = ("true", "1", "yes", "on")
OFF = ("", "false", "0", "no", "off")


def day_of(text: str) -> tuple[datetime, datetime]:
    """Beginning and end of a UTC day that is spelled YYYY-MM-DD."""
    try:
        day = date.fromisoformat(text) if DATE.match(text) else None
        begin = None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)
        if begin is not None:
            return begin, begin + timedelta(days=1)
    except (ValueError, OverflowError):
        pass
    raise BadRequest("Invalid date: write it as YYYY-MM-DD.", param="date")


def number_of(request: Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
        raise BadRequest(f"'{name}' must be a number from {low} to {high}.", param=name)
    return int(text)


def whose(request: Request, principal: Principal) -> str | None:
    """The user name whose usage is asked for; None: everybody's, for staff. One's own where nothing is said."""
    asked = request.query_params.get("user") or principal.username
    if asked in ("me", principal.username):
        return principal.username
    # What no name holds, PostgreSQL would not even look for.
    if not principal.is_staff or not asked.isprintable():
        raise user_unknown()
    return None if asked == EVERYBODY else asked


@dataclass(frozen=True, slots=True)
class Created:
    """What `create` was asked. `fence`: which block of code alone is wanted; `*` for the first that says what it is."""

    prompt: str
    model: str
    providers: tuple[str, ...]
    stream: bool
    fence: str
    cache: str
    web_search: str

    def request(self, picture: bool) -> ChatRequest:
        """For one that draws, or for one that writes. Raises BadRequest."""
        known: dict[str, Any] = {
            "model": self.model,
            "provider": self.providers[0] if len(self.providers) == 1 else None,
            "include_usage": False,
            "preferences": _in_order(self.providers) if len(self.providers) > 1 else None,
            "raw": False,
        }
        ignored = ("web_search",) if self.web_search else ()
        if picture:
            body = {"prompt": self.prompt}
            return PictureRequest(**known, stream=False, plain=False, body=body, warnings=ignored)
        messages: list[dict[str, Any]] = [{"role": "user", "content": self.prompt}]
        query = query_of(self.web_search, messages) if settings.WEB_SEARCH else ""
        known |= {"search": query, "attached": bool(query), "warnings": () if query else ignored}
        return ChatRequest(**known, stream=self.stream, body={"messages": messages})


def _in_order(names: tuple[str, ...]) -> Preferences:
    found = tuple(name.lower() for name in names)
    return Preferences(order=found, only=frozenset(found))


def parse_create(query: bytes) -> Created:
    """Raises BadRequest."""
    try:
        given = dict(parse_qsl(query.decode("ascii"), errors="strict", max_num_fields=MAX_FIELDS))
    except ValueError:
        raise BadRequest("The query cannot be read.") from None
    prompt = given.get("prompt", "")
    if not prompt.strip():
        raise missing("prompt")
    fence = given.get("filter_markdown", given.get("json", ""))
    fence = "*" if fence.lower() in ON else "" if fence.lower() in OFF else fence
    providers = tuple(name for name in given.get("provider", "").split() if name.lower() != AUTOMATIC.lower())
    return Created(
        prompt=prompt,
        model=named(given.get("model", ""), "model"),
        providers=providers[:MAX_PROVIDERS],
        # What is filtered is known only at its end.
        stream=given.get("stream", "").lower() in ON and not fence,
        fence=fence,
        cache=given.get("cache", ""),
        web_search="" if given.get("web_search", "").lower() in OFF else given["web_search"],
    )
