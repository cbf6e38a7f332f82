"""The start page: what this is to a visitor, and how to connect to it for who is signed in."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from gateway.presets import symbol_of
from gateway.snapshot import ModelPolicy, Snapshot, store

SHOWN = 60
# Controls, and characters that reverse or hide text: a name with them would pass for another.
HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


@dataclass(frozen=True, slots=True)
class Row:
    """A model as the list shows it."""

    id: str
    providers: str
    symbol: str
    can: str
    demo: bool


def base_url(request: HttpRequest) -> str:
    """What clients set as their base URL."""
    return (settings.PUBLIC_URL or f"{request.scheme}://{request.get_host()}") + "/v1"


def _snapshot() -> Snapshot:
    return store.current if store.loaded_at else store.reload()


def visible(text: str) -> str:
    return HIDDEN.sub("\ufffd", text)


def _row(name: str, models: tuple[ModelPolicy, ...]) -> Row:
    first = models[0]
    known = [flag for flag, value in first.flags.items() if value]
    names = list(dict.fromkeys(model.provider.label for model in models))
    return Row(
        id=visible(name),
        providers=visible(", ".join(names)),
        symbol=symbol_of(first.provider.preset, first.provider.name),
        can=", ".join(known),
        demo=all(model.provider.is_demo for model in models),
    )


def models_of(snapshot: Snapshot) -> list[Row]:
    """Aliases first, then models; those of the demo last."""
    aliases = [_row(name, tuple(entry.model for entry in entries)) for name, entries in snapshot.aliases.items()]
    plain = [_row(name, found) for name, found in snapshot.by_model.items() if name not in snapshot.aliases]
    return sorted(aliases, key=_order) + sorted(plain, key=_order)


def _order(row: Row) -> tuple[bool, str]:
    return row.demo, row.id


@never_cache
@require_safe
def start(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return render(request, "conversations/welcome.html")
    rows = models_of(_snapshot())
    context = {
        "base_url": base_url(request),
        "rows": rows[:SHOWN],
        "more": max(len(rows) - SHOWN, 0),
        "example": rows[0].id if rows else "",
        "only_demo": bool(rows) and all(row.demo for row in rows),
    }
    return render(request, "conversations/start.html", context)
