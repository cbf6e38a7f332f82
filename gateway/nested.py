"""JSON of models and providers that is written again: orjson reads 1,024 levels and writes about 250."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.errors import UpstreamBroken


def object_of(text: str) -> dict[str, Any] | None:
    """The object that the arguments of a call are, `{}` for none; None where they are no object, or one nested too
    deep to be written inside of a body."""
    if not text.strip():
        return {}
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) and is_writable(found) else None


def is_writable(value: Any) -> bool:
    """With room for the levels around it."""
    try:
        orjson.dumps([[[[[[[[value]]]]]]]])
    except orjson.JSONEncodeError:
        return False
    return True


def rewritten(body: Any) -> bytes:
    """What a provider sent, changed by us. Raises UpstreamBroken."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise UpstreamBroken("The provider sent an answer that is nested too deep.") from None
