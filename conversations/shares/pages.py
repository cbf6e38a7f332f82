"""`/chat/share/{share_id}`: a shared chat for people. It knows nobody's session, runs no script, loads nothing from
elsewhere, and is in no search engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext
from django.views.decorators.http import require_safe

from conversations.shares import store
from conversations.shares.addresses import Signer
from conversations.shares.rendering import rendered
from conversations.tree import text_of
from gateway.errors import BadRequest
from gateway.presets import symbol_of

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Beyond this an answer is shown as it was written: reading a share must not cost this server much.
MAX_RENDERED = 400_000


@dataclass(frozen=True, slots=True)
class Turn:
    """A message as the page shows it. `html` is safe; `text` is what a person wrote."""

    role: str
    who: str
    symbol: str
    text: str
    html: SafeString
    pictures: tuple[str, ...]
    files: tuple[str, ...]
    reasoning: str
    ended: str


@require_safe
def shared(request: HttpRequest, share_id: str) -> HttpResponse:
    try:
        row = store.readable(share_id)
    except BadRequest:
        raise Http404 from None
    body = orjson.loads(row.body)
    context = {
        "share": row,
        "title": row.title or gettext("A shared chat"),
        "turns": turns_of(body, Signer(row.body, row.owner_id, "")),
        "system": body.get("system"),
    }
    # Without the request: the page is the same for everybody.
    page = HttpResponse(render_to_string("conversations/shared.html", context))
    page.headers["Content-Security-Policy"] = POLICY
    page.headers["Cache-Control"] = "private, no-cache"
    page.headers["Referrer-Policy"] = "no-referrer"
    page.headers["X-Robots-Tag"] = "noindex, nofollow"
    return page


def turns_of(body: dict[str, Any], signer: Signer) -> list[Turn]:
    turns, left = [], MAX_RENDERED
    for item in body["items"]:
        turn = _turn(item, signer, left)
        # What became very much longer cost as much.
        left -= max(len(turn.text), len(turn.html) // 4)
        turns.append(turn)
    return turns


def _turn(item: dict[str, Any], signer: Signer, left: int) -> Turn:
    content = item["content"]
    text = text_of(content)
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    provider = item.get("provider") or {}
    named = provider if isinstance(provider, dict) else {"label": str(provider)}
    who = str(named.get("model") or named.get("label") or named.get("name") or gettext("Assistant"))
    reason = (item.get("finish") or {}).get("reason") if isinstance(item.get("finish"), dict) else None
    is_answer = item["role"] == "assistant"
    return Turn(
        role=item["role"],
        who=who if is_answer else {"user": "Question"}.get(item["role"], item["role"].capitalize()),
        symbol=symbol_of("", str(named.get("label") or who)) or "AI",
        text=text,
        html=_html(text, signer) if is_answer and len(text) <= left else SafeString(""),
        pictures=tuple(url for part in parts if (url := _picture(part, signer))),
        files=tuple(str(part["name"]) for part in parts if part.get("name")),
        reasoning=_reasoning(item.get("reasoning")),
        ended="" if reason in (None, "stop", "") else str(reason),
    )


def _html(text: str, signer: Signer) -> SafeString:
    # Rendered without signatures, so that it can be remembered; they are put in afterwards.
    return mark_safe(signer.html(rendered(text)))  # noqa: S308 # nosec B308 B703 - nothing but what nh3 let through


def _picture(part: dict[str, Any], signer: Signer) -> str:
    """The owner's own alone: everything else would ask another server."""
    image = part.get("image_url")
    return signer.url(str(image.get("url") or "")) if isinstance(image, dict) else ""


def _reasoning(value: Any) -> str:
    return value if isinstance(value, str) else str(value.get("text") or "") if isinstance(value, dict) else ""
