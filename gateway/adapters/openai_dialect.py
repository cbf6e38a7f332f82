"""What other surfaces ask, in OpenAI's own words alone: its servers refuse every field that they do not know."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

from gateway.chat import ChatRequest
from gateway.errors import UnsupportedParameter
from gateway.targets import Target

Body = dict[str, Any]

MAX_USER = 64
TOOL_TYPES = ("function", "custom")
# These want the newer name of the limit; most other servers know only the older one.
OPENAI_HOSTS = ("api.openai.com", ".openai.azure.com")
EFFORTS = ((4096, "low"), (16384, "medium"))


def plain_body(target: Target, chat: ChatRequest) -> Body:
    """The canonical body without what is our own in it. Raises UnsupportedParameter for another provider's tools."""
    body = {**chat.body, "messages": [_message(item) for item in chat.body["messages"]]}
    for tool in body.get("tools") or ():
        if tool.get("type", "function") not in TOOL_TYPES:
            raise UnsupportedParameter(target.provider, "tools", f"it has no tool {str(tool['type'])[:60]!r}.")
    asked = body.pop("reasoning", None)
    effort = _effort(asked) if isinstance(asked, dict) else None
    if effort:
        body.setdefault("reasoning_effort", effort)
    user = body.get("user")
    if isinstance(user, str) and len(user) > MAX_USER:
        # The same person stays the same, and nobody learns more of them.
        body["user"] = hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()
    host = urlsplit(target.endpoint.base_url).hostname or ""
    if host.endswith(OPENAI_HOSTS) and "max_tokens" in body:
        body.setdefault("max_completion_tokens", body.pop("max_tokens"))
    return body


def _message(item: Body) -> Body:
    found = {key: value for key, value in item.items() if key not in ("is_error", "reasoning_details", "cache_control")}
    if item.get("is_error") and isinstance(item.get("content"), str):
        found["content"] = f"Error: {item['content']}"
    if isinstance(found.get("content"), list):
        found["content"] = [_part(part) for part in found["content"]]
    return found


def _part(part: Body) -> Body:
    return {key: value for key, value in part.items() if key != "cache_control"}


def _effort(asked: Body) -> str | None:
    if isinstance(asked.get("effort"), str):
        return str(asked["effort"])
    tokens = asked.get("max_tokens")
    if isinstance(tokens, bool) or not isinstance(tokens, int):
        return None
    return next((effort for most, effort in EFFORTS if tokens < most), "high")
