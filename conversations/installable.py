"""What makes the chat page installable: its manifest, a service worker, and the page that it shows without a server.

All three are the same for everybody, strangers too: nothing that the worker keeps is anybody's. W3C: Web Application
Manifest, Service Workers.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.storage import ManifestFilesMixin, staticfiles_storage
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.urls import reverse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

WORKER = Path(__file__).parent / "static/conversations/offline/worker.js"
SHELL = "conversations/offline.html"
# What the shell is made of.
FILES = (
    "g4fsite/tokens.css",
    "conversations/chat/chat.css",
    "conversations/offline/shell.js",
    "g4fsite/icon.svg",
)
# --c-bg of tokens.css, in light: a manifest has one colour; the page itself tells browsers both.
GROUND = "#fcfcfb"


def icon(name: str, side: int, purpose: str) -> dict[str, str]:
    return {"src": static(f"g4fsite/{name}.png"), "sizes": f"{side}x{side}", "type": "image/png", "purpose": purpose}


@require_safe
@cache_control(no_cache=True)
def manifest(request: HttpRequest) -> HttpResponse:
    """Its scope is the site, so that signing in stays in the app's window."""
    described = {
        "id": reverse("chat"),
        "name": "g4fsite",
        "short_name": "g4fsite",
        "start_url": reverse("chat"),
        "scope": "/",
        "display": "standalone",
        "background_color": GROUND,
        "theme_color": GROUND,
        "icons": [
            icon("icon-192", 192, "any"),
            icon("icon-512", 512, "any"),
            icon("icon-maskable-512", 512, "maskable"),
        ],
    }
    return HttpResponse(json.dumps(described), content_type="application/manifest+json")


@require_safe
@cache_control(no_cache=True)
def shell(request: HttpRequest) -> HttpResponse:
    """Names nobody: it is kept in the browser, for whoever opens the page there next."""
    return render(request, SHELL)


def kept() -> dict[str, Any]:
    """What the worker knows. `version` differs when anything that it keeps does, the language included."""
    files = [static(path) for path in FILES]
    words = [settings.VERSION, WORKER.read_text(encoding="utf-8"), render_to_string(SHELL), *files]
    return {
        "version": hashlib.sha256("\0".join(words).encode()).hexdigest()[:16],
        "chat": reverse("chat"),
        "shell": reverse("chat_offline"),
        "static": settings.STATIC_URL,
        "files": files,
        # Only a name with a hash in it says what is in the file.
        "hashed": isinstance(staticfiles_storage, ManifestFilesMixin),
    }


@require_safe
@cache_control(no_cache=True)
def worker(request: HttpRequest) -> HttpResponse:
    """Its address gives it its scope: all below `/chat/`."""
    script = f"const KEPT = {json.dumps(kept())};\n{WORKER.read_text(encoding='utf-8')}"
    return HttpResponse(script, content_type="text/javascript")
