"""The chat page: one document for all chats, whose scripts talk to the API.

Modules import each other by plain names and relative paths; the import map leads both to the hashed files. That way
nothing has to rewrite scripts, and a module that changed is never met by an old copy of another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from csp.constants import SELF
from csp.decorators import csp_update
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from conversations import listing
from conversations.languages import script_words
from gateway.routing import has_credential
from gateway.snapshot import store

HERE = Path(__file__).parent / "static"
MODULES = "conversations/chat"
VENDOR = "conversations/vendor"
LIBRARIES = {
    "preact": f"{VENDOR}/preact-11.2.0/preact.js",
    "preact/hooks": f"{VENDOR}/preact-11.2.0/hooks.js",
    "htm": f"{VENDOR}/htm-3.1.1/htm.js",
    "@preact/signals": f"{VENDOR}/preact-signals-2.11.4/signals.js",
    "@preact/signals-core": f"{VENDOR}/preact-signals-core-1.14.5/signals-core.js",
    "marked": f"{VENDOR}/marked-18.2.1/marked.js",
    "dompurify": f"{VENDOR}/dompurify-3.4.18/purify.js",
    "katex": f"{VENDOR}/katex-0.19.1/katex.js",
}
HIGHLIGHT = f"{VENDOR}/highlightjs-cdn-assets-11.12.0"
# What the first paint needs; the rest is fetched when it is used.
FIRST = ("preact", "preact/hooks", "htm", "@preact/signals", "@preact/signals-core")
TALK = ("turns", "windows")
LATER = (
    *(*TALK, "dialogs", "find", "markdown", "mathrules", "blocks", "highlight", "math", "shown", "csv", "notify"),
    *("live", "prompts", "slash"),
    *("cites", "sources", "speech", "spoken", "sse", "upload", "viewer", "voice"),
    *(
        "models",
        "settings",
        "sharing",
        "transfer",
        "memory",
        "prompts",
        "slash",
        "organise",
        "printing",
        "compare",
        "branches",
    ),
)


@cache
def modules() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (HERE / MODULES).glob("*.js")))


@cache
def languages() -> tuple[str, ...]:
    """Those that code can be coloured in."""
    return tuple(sorted(path.stem for path in (HERE / HIGHLIGHT).glob("*.js") if path.stem != "core"))


@cache
def import_map() -> dict[str, dict[str, str]]:
    """Plain names, and the addresses that relative imports resolve to, to where the files are."""
    named = {name: static(path) for name, path in LIBRARIES.items()}
    coloured = {f"highlight/{name}": static(f"{HIGHLIGHT}/{name}.js") for name in ("core", *languages())}
    relative = {f"{settings.STATIC_URL}{MODULES}/{name}.js": static(f"{MODULES}/{name}.js") for name in modules()}
    return {"imports": {**named, **coloured, **relative}}


def import_map_element(request: HttpRequest) -> SafeString:
    """A thing that stands in the page and is a script to the policy: it has the request's nonce."""
    written = json.dumps(import_map()).replace("<", "\\u003c")
    nonce = request.csp_nonce  # type: ignore[attr-defined]
    return format_html('<script type="importmap" nonce="{}">{}</script>', nonce, mark_safe(written))  # noqa: S308 # nosec B308 B703


@cache
def preloaded(talk: bool = False) -> tuple[str, ...]:
    """With what shows a conversation where one is opened."""
    later = set(LATER) - set(TALK) if talk else set(LATER)
    own = (static(f"{MODULES}/{name}.js") for name in modules() if name not in later and name != "app")
    return (*(static(LIBRARIES[name]) for name in FIRST), *own)


def abilities() -> dict[str, Any]:
    """What the page offers beside words, as far as the operator and the providers have it."""
    return {
        "fileBytes": settings.MAX_FILE_BYTES,
        "search": bool(settings.WEB_SEARCH),
        "draw": any(_models_with("image")),
        "hear": next(_models_with("transcription"), None),
        "speak": next(_models_with("speech"), None),
    }


def _models_with(flag: str) -> Iterator[dict[str, str]]:
    """Models that are known for it, at providers that can be asked."""
    for provider in store.current.providers:
        if has_credential(provider):
            for model in provider.models.values():
                if model.flags.get(flag):
                    yield {"provider": provider.name, "model": model.public_id}


def boot(request: HttpRequest) -> dict[str, Any]:
    """What the scripts have to know before they ask the API."""
    user = request.user
    staff = user.is_authenticated and user.is_staff
    return {
        "user": {"id": user.pk, "name": user.get_short_name() or user.get_username()},  # type: ignore[union-attr]
        "csrfCookie": settings.CSRF_COOKIE_NAME,
        "languages": languages(),
        "can": abilities(),
        "spoken": [{"code": code, "name": name} for code, name in settings.LANGUAGES],
        # Here, because each request more is a wait more.
        "names": {"folders": listing.folders(user.pk), "tags": listing.tags(user.pk)},  # type: ignore[arg-type]
        "urls": {
            "chat": reverse("chat"),
            "preview": reverse("chat_preview"),
            "diagram": reverse("chat_diagram"),
            "worker": reverse("chat_worker"),
            "icons": static(f"{MODULES}/icons.svg"),
            "rare": static(f"{MODULES}/rare.css"),
            "login": reverse(settings.LOGIN_URL),
            "password": reverse("account_change_password"),
            "admin": reverse("admin:index") if staff else "",
            "provider": reverse("admin:gateway_provider_add") if staff else "",
        },
    }


@never_cache
@require_safe
@login_required
@csp_update({"frame-src": [SELF]})
def chat(request: HttpRequest, conversation: UUID | None = None) -> HttpResponse:
    """The same for every chat: which one is meant, and whether it is the user's, is for the API to say."""
    get_token(request)
    context = {
        "boot": boot(request),
        "words": script_words(get_language() or settings.LANGUAGE_CODE),
        "import_map": import_map_element(request),
        "preloaded": preloaded(talk=conversation is not None),
    }
    return render(request, "conversations/chat.html", context)
