"""JSON schemas in the words that Gemini documents for `parametersJsonSchema` and `responseJsonSchema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEPT = frozenset(
    "$id $ref $anchor type format title description enum minItems maxItems minimum maximum required "
    "propertyOrdering".split()
)
ONE = ("items", "additionalProperties")
SEVERAL = ("anyOf", "oneOf", "prefixItems")


def cleaned(schema: Any) -> Any:
    """Without the words that Gemini does not know; some of them said in others. Not an object: as it is."""
    if not isinstance(schema, Mapping):
        return schema
    if isinstance(schema.get("$ref"), str):
        # Beside a reference only words that begin with $ may stand.
        return {**_definitions(schema), "$ref": schema["$ref"].replace("#/definitions/", "#/$defs/", 1)}
    found = {name: value for name, value in schema.items() if name in KEPT}
    if "const" in schema:
        found["enum"] = [schema["const"]]
    for name in ONE:
        if name in schema:
            found[name] = cleaned(schema[name])
    for name in SEVERAL:
        if isinstance(schema.get(name), list):
            found[name] = [cleaned(item) for item in schema[name]]
    if isinstance(schema.get("properties"), Mapping):
        found["properties"] = _named(schema["properties"])
    return _with_all_of({**found, **_definitions(schema)}, schema.get("allOf"))


def _definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    held = [schema[name] for name in ("definitions", "$defs") if isinstance(schema.get(name), Mapping)]
    merged = {name: value for item in held for name, value in item.items()}
    return {"$defs": _named(merged)} if merged else {}


def _named(schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {name: cleaned(value) for name, value in schemas.items()}


def _with_all_of(found: dict[str, Any], parts: Any) -> dict[str, Any]:
    """Gemini has no allOf: its parts are laid over one another, as far as that says the same."""
    for part in parts if isinstance(parts, list) else ():
        more = cleaned(part)
        if not isinstance(more, Mapping):
            continue
        properties = {**found.get("properties", {}), **more.get("properties", {})}
        required = [*found.get("required", ()), *more.get("required", ())] if _lists(found, more) else []
        found = {**more, **found}
        if properties:
            found["properties"] = properties
        if required:
            found["required"] = list(dict.fromkeys(map(str, required)))
    return found


def _lists(*schemas: Mapping[str, Any]) -> bool:
    return all(isinstance(schema.get("required", []), list) for schema in schemas)
