"""What can go wrong, and what the caller is told.

GatewayError
├── BadRequest            400, 404, 405, 408, 413, 415, 422: the request itself
│   ├── KeyReused         422: another request under the same Idempotency-Key
│   ├── StillRunning      409: the first request under that key is under way
│   ├── AnswerNotKept     409: it was answered, and nobody has the answer any more
│   ├── ModelNotFound     404
│   └── ProviderNotFound  404
├── NotAuthenticated      401
├── NotAllowed            403
├── RateLimited           429: a limit of ours
│   └── TooManyStreams    429: of streams that are open at once
├── Unavailable           503: no provider can be tried, or the server has too much to do
│   └── ServerStopping    503, or the last event of a stream
└── UpstreamError         a provider failed; another target may be tried
    ├── UpstreamRejected  its 400, 404, 413, 422: the caller's request, passed on
    │   ├── UnsupportedParameter  400: its protocol has no word for a field
    │   ├── ContextTooLong        400: more tokens than the model takes
    │   └── ContentRefused        400: its content policy
    ├── UpstreamLimited   429
    ├── UpstreamRefused   its 401, 402, 403: our credential, never the caller's
    ├── UpstreamTimeout   504
    ├── NotReady          503: a model on this server that is still being loaded
    └── UpstreamBroken    502: 5xx, connection, protocol
        └── AnswerUnfit   502: the model does not give the form that was asked for

`docs/errors.md` lists every code. The envelope of each surface is made in `surfaces/<surface>/errors.py`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.events import Usage
    from gateway.limits import Standing

RECONNECT_SECONDS = (1.0, 5.0)


class GatewayError(Exception):
    """An error that knows its own answer; `message` is written for the caller and holds no secret."""

    status = 500
    type = "server_error"
    code: str | None = "internal_error"
    # Of the request that it answers, once that is known.
    request_id = ""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.type = type or self.type
        self.code = code or self.code
        self.param = param
        self.retry_after = retry_after
        self.should_retry = should_retry

    def named(self, request_id: str) -> None:
        """A failure of the server's side tells the caller under which id the log has it."""
        if self.status >= 500 and request_id not in self.message:
            self.message = f"{self.message} ({request_id})"


class BadRequest(GatewayError):
    status, type, code = 400, "invalid_request_error", "invalid_value"


class ModelNotFound(BadRequest):
    status, type, code = 404, "model_not_found", "model_not_found"


class ProviderNotFound(BadRequest):
    status, type, code = 404, "provider_not_found", "provider_not_found"


class KeyReused(BadRequest):
    status, type, code = 422, "invalid_request_error", "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used for another request within the last 24 hours. Choose a new one.",
            param="Idempotency-Key",
        )


class StillRunning(BadRequest):
    status, type, code = 409, "invalid_request_error", "request_in_progress"

    def __init__(self, retry_after: float) -> None:
        super().__init__(
            "The first request with this Idempotency-Key is still running. Send it again a little later.",
            param="Idempotency-Key",
            retry_after=retry_after,
            should_retry=True,
        )


class AnswerNotKept(BadRequest):
    status, type, code = 409, "invalid_request_error", "answer_not_kept"

    def __init__(self) -> None:
        super().__init__(
            "The first request with this Idempotency-Key was answered, and its answer was too large to be kept.",
            param="Idempotency-Key",
            should_retry=False,
        )


class NotAuthenticated(GatewayError):
    status, type, code = 401, "authentication_error", "invalid_api_key"


class NotAllowed(GatewayError):
    status, type, code = 403, "permission_error", "model_not_allowed"


class RateLimited(GatewayError):
    """`standings` are the caller's with the limits that apply, for the headers."""

    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        standings: tuple[Standing, ...] = (),
    ) -> None:
        super().__init__(message, retry_after=retry_after, should_retry=should_retry)
        self.standings = standings


class TooManyStreams(RateLimited):
    code = "too_many_streams"


class Unavailable(GatewayError):
    status, type, code = 503, "service_unavailable_error", "service_unavailable"


class ServerStopping(Unavailable):
    """The time for answers under way is over. Callers come back at different moments, not all at once."""

    code = "server_stopping"

    def __init__(self) -> None:
        super().__init__(
            "The server is stopping and could not finish this answer. Send the request again.",
            retry_after=random.uniform(*RECONNECT_SECONDS),  # noqa: S311 # nosec B311 - spreads load, guards nothing
        )


class UpstreamError(GatewayError):
    """`fallback` says whether another target may be asked; `opens` whether the breaker hears of it; `unsure` whether
    the provider may have done, and be paid for, what was asked; `usage` is what was used before the failure."""

    status, type, code = 502, "provider_error", "provider_not_working"
    fallback = True
    opens = True
    unsure = False
    usage: Usage | None = None


class UpstreamRejected(UpstreamError):
    """The request is at fault as this provider sees it; another one may see it otherwise."""

    status, type, code = 400, "invalid_request_error", "provider_rejected_request"
    opens = False


class UnsupportedParameter(UpstreamRejected):
    """What was asked cannot be said in this provider's protocol; another target may know it."""

    code = "unsupported_parameter"

    def __init__(self, provider: str, param: str, why: str = "") -> None:
        super().__init__(f"{provider} does not support '{param}'{f': {why}' if why else '.'}", param=param)


class ContextTooLong(UpstreamRejected):
    """More than the model can hold; one that holds more may take it. Clients look for this code."""

    code = "context_length_exceeded"


class ContentRefused(UpstreamRejected):
    """The provider's content policy. Whether another provider is asked is the operator's choice."""

    code = "content_policy_violation"


class UpstreamLimited(UpstreamError):
    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class UpstreamRefused(UpstreamError):
    code = "provider_credential_refused"


class UpstreamTimeout(UpstreamError):
    status, code = 504, "provider_timeout"
    unsure = True


class UpstreamBroken(UpstreamError):
    unsure = True


class NotReady(UpstreamError):
    """A model that this server runs itself is being loaded, or could not be. Its keeper knows better than a breaker
    when it is back."""

    status, type, code = 503, "service_unavailable_error", "model_loading"
    opens = False


class AnswerUnfit(UpstreamBroken):
    """The model answered, and not in the form that was asked for. The request may ask for the impossible, so it says
    nothing about the provider."""

    opens = False
