"""What a failure says about the targets that are left: which of them are still worth asking."""

from __future__ import annotations

import re

from django.conf import settings

from gateway.errors import (
    AnswerUnfit,
    ContentRefused,
    ContextTooLong,
    UnsupportedParameter,
    UpstreamBroken,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
)
from gateway.targets import Target

Targets = tuple[Target, ...]
# A request that two providers take for malformed is the caller's to mend; asking all of them would only cost time.
OPINIONS = 2
# Statuses that tell of the request itself. A 404, 409 or 413 tells of what this one provider has or takes.
CALLERS_FAULT = {400, 415, 422}


class Failover:
    """Made at the first failure of a request; `error` is the one that the caller gets when nobody answers."""

    def __init__(self, error: UpstreamError) -> None:
        self.error = error
        self._opinions = 0
        self._longest: int | None = None

    def left(self, failed: Target, error: UpstreamError, targets: Targets) -> Targets:
        """Those of `targets` that may answer what `failed` did not, in the order to try them."""
        if not error.fallback or not targets:
            return ()
        match error:
            case ContextTooLong():
                return self._roomier(failed, targets)
            case ContentRefused():
                return _elsewhere(failed, targets) if settings.FAILOVER_CONTENT_POLICY else ()
            case UnsupportedParameter():
                return _elsewhere(failed, targets)
            case UpstreamRejected():
                return self._second_opinion(failed, error, targets)
            case AnswerUnfit():
                # Each model that is only told the form would be paid twice, and nobody may be able to give it; one
                # that knows it by itself may do what this one could not.
                return tuple(target for target in targets if "json" not in target.lacks)
            case UpstreamTimeout() | UpstreamBroken():
                # Its other credentials lead to the same server: they are tried when all others were.
                return tuple(sorted(targets, key=lambda target: target.provider_id == failed.provider_id))
        return targets

    def _roomier(self, failed: Target, targets: Targets) -> Targets:
        if failed.context_length is not None:
            self._longest = max(self._longest or 0, failed.context_length)
        longest = self._longest
        return tuple(
            target
            for target in _elsewhere(failed, targets)
            if target.context_length is None or longest is None or target.context_length > longest
        )

    def _second_opinion(self, failed: Target, error: UpstreamError, targets: Targets) -> Targets:
        if error.status in CALLERS_FAULT:
            self._opinions += 1
        # Another account may have what this one has not, but another model is the better guess.
        later = sorted(targets, key=lambda target: target.model_id == failed.model_id)
        return tuple(later) if self._opinions < OPINIONS else ()


def _elsewhere(failed: Target, targets: Targets) -> Targets:
    """Another credential changes nothing about what a model takes."""
    return tuple(target for target in targets if target.model_id != failed.model_id)


CONTEXT_CODES = {"context_length_exceeded", "exceed_context_size_error", "model_max_prompt_tokens_exceeded"}
POLICY_CODES = {"content_policy_violation", "content_filter", "moderation_blocked", "data_inspection_failed"}
# Providers that send no code say it in words; these are of OpenAI, Anthropic, Gemini, Mistral, vLLM, llama.cpp, Groq.
CONTEXT_WORDS = re.compile(
    r"maximum context length|context (length|window|size|limit)|prompt is too long"
    r"|input token count.{0,40}exceeds|too large for model|reduce the length of (the|your) (messages|prompt|input)",
    re.IGNORECASE,
)
POLICY_WORDS = re.compile(
    r"content (management )?policy|content filter|safety system|usage polic(y|ies)|flagged (by|as|for)", re.IGNORECASE
)


def classified(error: UpstreamError) -> UpstreamError:
    """A refusal of the request as what it is about, whatever words the provider has for that."""
    if type(error) is not UpstreamRejected:
        return error
    code = (error.code or "").lower()
    kind: type[UpstreamRejected] | None = None
    if code in CONTEXT_CODES or CONTEXT_WORDS.search(error.message):
        kind = ContextTooLong
    elif code in POLICY_CODES or POLICY_WORDS.search(error.message):
        kind = ContentRefused
    if kind is None:
        return error
    # A code that the provider gave stays, unless it is one that says less than ours.
    own = error.code if error.code not in (None, UpstreamRejected.code, "invalid_request_error", "400") else None
    found = kind(error.message, status=error.status, code=own, param=error.param)
    found.retry_after, found.should_retry = error.retry_after, error.should_retry
    found.fallback, found.usage = error.fallback, error.usage
    return found
