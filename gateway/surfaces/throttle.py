"""The limits of a key and its user for what DRF serves: a view that says `counts_as_request` is one request of theirs.

As buckets, which are no views, count themselves. `settings.REST_FRAMEWORK` names this, so that apps that know nothing
of limits need not.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from gateway.authentication import Principal
from gateway.chat import ChatRequest
from gateway.limiter import limiter, limits_of
from gateway.surfaces.openai.errors import limit_headers

# No model reads anything here: of the limits only that of requests counts.
NO_TOKENS = ChatRequest("", None, False, False, {"messages": []})


class RequestLimits(BaseThrottle):
    """Raises RateLimited, whose answer is that of every surface, instead of saying no to DRF."""

    def allow_request(self, request: Request, view: Any) -> bool:
        principal = request.auth
        if not getattr(view, "counts_as_request", False) or not isinstance(principal, Principal):
            return True
        limits = limits_of(principal)
        if limits:
            # On the server's loop, to which a client of Redis belongs; this is a thread.
            admission = async_to_sync(limiter.admit)(limits, NO_TOKENS)
            admission.settle(None)
            view.headers |= {name.decode(): value.decode() for name, value in limit_headers(admission.standings)}
        return True
