"""JSON schemas as Anthropic's structured outputs take them (its documentation, "Structured outputs")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Bounds that it refuses; they move into the description, where the model at least reads them.
UNKNOWN = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems",
    "maxItems", "uniqueItems", "minProperties", "maxProperties",
)  # fmt: skip
ALTERNATIVES = ("anyOf", "allOf", "oneOf", "prefixItems")
NAMED = ("properties", "$defs", "definitions")


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with every object closed to further properties, and without bounds that are not known there."""
    found: dict[str, Any] = {}
    bounds = []
    for key, value in schema.items():
        if key in UNKNOWN and not (key == "minItems" and value in (0, 1)):
            bounds.append(f"{key}: {value}")
        elif key in NAMED and isinstance(value, dict):
            found[key] = {name: _inner(item) for name, item in value.items()}
        elif key in ALTERNATIVES and isinstance(value, list):
            found[key] = [_inner(item) for item in value]
        else:
            found[key] = _inner(value) if key == "items" else value
    if bounds:
        found["description"] = " ".join(filter(None, [str(found.get("description") or ""), f"({', '.join(bounds)})"]))
    if found.get("type") == "object" or "properties" in found:
        found["additionalProperties"] = False
    return found


def _inner(schema: Any) -> Any:
    return closed(schema) if isinstance(schema, dict) else schema
