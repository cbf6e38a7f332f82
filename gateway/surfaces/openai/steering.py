"""Checks what callers say about who should answer: `provider`, as a name or as OpenRouter's object, and `models`
(OpenRouter's documentation, "Provider Routing" and "Model Fallbacks")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.chat import KEEPING, READING, Preferences, has_too_many_values
from gateway.errors import BadRequest
from gateway.nested import is_writable

MAX_NAME = 200
MAX_NAMES = 100
MAX_MODELS = 32
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
OBJECTS = ("extra_body", "usage")
HEARD = ("order", "only", "ignore", "allow_fallbacks")
CACHING = {"no-cache": READING, "no-store": KEEPING}
# Documented, and without an effect here: which providers do what with data, and for which price, the operator chose.
UNHEARD = (
    "require_parameters",
    "data_collection",
    "zdr",
    "enforce_distillable_text",
    "quantizations",
    "sort",
    "preferred_min_throughput",
    "preferred_max_latency",
    "max_price",
)


def of_form(name: str, text: str) -> Any:
    """The text of a form's field, or the object that it is in JSON. Raises BadRequest."""
    if name in OBJECTS or (name == "provider" and text.startswith("{")):
        raw = text.encode("utf-8", "replace")
        if has_too_many_values(raw):
            raise BadRequest(f"'{name}' holds too many values.", param=name)
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise _ill_typed(name, "an object") from None
        if not is_writable(found):
            raise BadRequest(f"'{name}' is nested too deep.", param=name)
        return found
    return text


def _ill_typed(param: str, wanted: str) -> BadRequest:
    return BadRequest(f"Invalid type for '{param}': expected {wanted}.", code="invalid_type", param=param)


def named(value: Any, param: str) -> str:
    """A name of a model or a provider. Raises BadRequest."""
    if not isinstance(value, str):
        raise _ill_typed(param, "a string")
    if len(value) > MAX_NAME or CONTROL.search(value):
        raise BadRequest(f"'{param}' must have at most {MAX_NAME} characters and no control characters.", param=param)
    return value.strip()


def provider(value: Any) -> str | None:
    """A plain name, None for nobody. Raises BadRequest."""
    return None if value is None else named(value, "provider") or None


def fallbacks(body: Mapping[str, Any]) -> tuple[str, ...]:
    """`models`: who may answer when `model` does not, in this order. Raises BadRequest."""
    return _names(body.get("models"), "models", MAX_MODELS)


def preferences(value: Mapping[str, Any]) -> tuple[Preferences | None, tuple[str, ...]]:
    """What OpenRouter's `provider` object asks, None for nothing, and what of it has no effect. Raises BadRequest."""
    order, only, ignore = (
        tuple(name.lower() for name in _names(value.get(key), f"provider.{key}", MAX_NAMES)) for key in HEARD[:3]
    )
    allowed = value.get("allow_fallbacks")
    if not isinstance(allowed, bool | None):
        raise _ill_typed("provider.allow_fallbacks", "a boolean")
    found = Preferences(order, frozenset(only) if only else None, frozenset(ignore), allowed is not False)
    return (found if found != Preferences() else None), _without_effect(value)


def caching(value: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is not wanted of kept answers, and the field's name where it is not understood.

    True or false, or LiteLLM's object of `no-cache` and `no-store`. Nobody is refused for what older clients send.
    """
    if isinstance(value, dict):
        said = {name: value.get(name) for name in CACHING}
        known = value.keys() <= said.keys() and all(isinstance(item, bool | None) for item in said.values())
        return tuple(CACHING[name] for name, wanted in said.items() if wanted), () if known else ("cache",)
    return (READING, KEEPING) if value is False else (), ("cache",) if value and value is not True else ()


def _without_effect(value: Mapping[str, Any]) -> tuple[str, ...]:
    said = tuple(f"provider.{key}" for key in UNHEARD if value.get(key) is not None)
    # Names that nobody documents are the caller's own text, which does not belong in a header.
    return said if value.keys() <= {*HEARD, *UNHEARD} else (*said, "provider")


def _names(value: Any, param: str, most: int) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _ill_typed(param, "an array of strings")
    if len(value) > most:
        raise BadRequest(f"'{param}' has more than {most} items.", code="array_above_max_length", param=param)
    names = (named(item, f"{param}[{index}]") for index, item in enumerate(value))
    return tuple(name for name in names if name)
