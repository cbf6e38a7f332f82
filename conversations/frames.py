"""Two small documents for frames of the chat page, in which what a model wrote may run or be drawn.

Each is sandboxed by its own policy: an origin of its own that shares nothing with the site, and no way to any server.
The page tells them by messages what to show; nothing in them depends on who asks.
"""

from __future__ import annotations

from csp.constants import NONCE, NONE, SELF
from csp.decorators import csp
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

INLINE = "'unsafe-inline'"
SHUT = {
    "default-src": [NONE],
    "style-src": [INLINE],
    "img-src": ["data:", "blob:"],
    "frame-ancestors": [SELF],
    "base-uri": [NONE],
    "form-action": [NONE],
    "sandbox": ["allow-scripts"],
}


@never_cache
@require_safe
@login_required
@xframe_options_sameorigin
@csp({**SHUT, "script-src": [INLINE], "media-src": ["data:", "blob:"], "font-src": ["data:"]})
def preview(request: HttpRequest) -> HttpResponse:
    """Becomes the document that it is sent."""
    return render(request, "conversations/preview.html")


@never_cache
@require_safe
@login_required
@xframe_options_sameorigin
@csp({**SHUT, "script-src": [NONCE]})
def diagram(request: HttpRequest) -> HttpResponse:
    """Turns texts of Mermaid into pictures."""
    return render(request, "conversations/diagram.html")
