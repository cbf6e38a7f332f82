"""A value that fits a JSON schema (2020-12), the same each time, with words of the question where they fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 12
# A schema that refers to itself many times would grow without end.
MAX_VALUES = 2000
NAME = re.compile(r"\b[A-Z][\w-]+")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT1H",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def sample_of(schema: Mapping[str, Any], question: str = "") -> Any:
    """Patterns are not solved; recursive schemas end at their optional parts."""
    return _Sampler(schema, question).value(schema, 0)


class _Sampler:
    def __init__(self, root: Mapping[str, Any], question: str) -> None:
        self._root = root
        words = [word for word in NAME.findall(question) if not question.startswith(word)]
        self._word = words[0] if words else (NAME.findall(question) or ["demo"])[-1]
        self._left = MAX_VALUES
        self._numbers = [float(number) for number in NUMBER.findall(question)]

    def value(self, schema: Any, depth: int) -> Any:
        self._left -= 1
        if not isinstance(schema, Mapping) or self._left < 0:
            return {}
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        if "default" in schema:
            return schema["default"]
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                return self.value(self._simplest(schema[key], depth), depth + 1)
        return self._typed(schema, depth)

    def _simplest(self, options: list[Any], depth: int) -> Any:
        # Deep inside a recursive schema `null` is the way out; elsewhere a real value says more.
        nulls = [option for option in options if isinstance(option, Mapping) and option.get("type") == "null"]
        others = [option for option in options if option not in nulls]
        return nulls[0] if nulls and (depth > 3 or not others) else others[0]

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        if not isinstance(kind, str):
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        make = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._number,
            "number": self._number,
        }.get(kind)
        if make:
            return make(schema, depth)
        return None if kind == "null" else True

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        merged = dict(schema)
        for _ in range(MAX_DEPTH):
            reference = merged.pop("$ref", None)
            parts = merged.pop("allOf", None)
            if isinstance(parts, list):
                for part in parts:
                    merged = _merge(merged, part)
            if not isinstance(reference, str):
                if parts is None:
                    return merged
                continue
            merged = {**self._follow(reference), **merged}
        return {"type": "null"}

    def _follow(self, reference: str) -> Mapping[str, Any]:
        found: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else []:
            name = step.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def _object(self, schema: Mapping[str, Any], depth: int) -> Any:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        if depth < MAX_DEPTH // 3:
            names = [*properties, *(name for name in names if name not in properties)]
        if depth > MAX_DEPTH:
            return {}
        return {name: self.value(properties.get(name, {"type": "string"}), depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], depth: int) -> Any:
        low = schema.get("minItems")
        high = schema.get("maxItems")
        count = low if isinstance(low, int) else (1 if depth < MAX_DEPTH // 3 else 0)
        count = min(count, high if isinstance(high, int) else 100, 100)
        fixed = schema.get("prefixItems")
        heads = [self.value(item, depth + 1) for item in fixed] if isinstance(fixed, list) else []
        rest = [self.value(schema.get("items", {}), depth + 1) for _ in range(max(0, count - len(heads)))]
        if schema.get("uniqueItems") and all(isinstance(item, str) for item in rest):
            rest = [item if at == 0 else f"{item} {at + 1}" for at, item in enumerate(rest)]
        return heads + rest

    def _string(self, schema: Mapping[str, Any], depth: int) -> Any:
        text = FORMATS.get(str(schema.get("format")), self._word)
        low, high = schema.get("minLength"), schema.get("maxLength")
        if isinstance(low, int):
            text = text.ljust(min(low, 10_000), ".")
        return text[:high] if isinstance(high, int) and high >= 0 else text

    def _number(self, schema: Mapping[str, Any], depth: int) -> Any:
        whole = schema.get("type") == "integer"
        candidates = [number for number in self._numbers if not whole or number.is_integer()]
        value = next((number for number in candidates if self._within(schema, number)), None)
        if value is None:
            value = self._nearest(schema)
        return int(value) if whole or float(value).is_integer() else value

    def _within(self, schema: Mapping[str, Any], value: float) -> bool:
        step = _real(schema.get("multipleOf"))
        return value == self._clamped(schema, value) and not (step and value % step)

    def _nearest(self, schema: Mapping[str, Any]) -> float:
        value, step = self._clamped(schema, 1.0), _real(schema.get("multipleOf"))
        if step and step > 0:
            value = -(-value // step) * step
        return value

    def _clamped(self, schema: Mapping[str, Any], value: float) -> float:
        low, high = _real(schema.get("minimum")), _real(schema.get("maximum"))
        above, below = _real(schema.get("exclusiveMinimum")), _real(schema.get("exclusiveMaximum"))
        if above is not None and value <= above:
            value = above + (1 if below is None or above + 1 < below else (below - above) / 2)
        if below is not None and value >= below:
            value = below - (1 if above is None or below - 1 > above else (below - above) / 2)
        value = value if low is None else max(value, low)
        return value if high is None else min(value, high)


def _real(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _merge(first: Mapping[str, Any], second: Any) -> dict[str, Any]:
    if not isinstance(second, Mapping):
        return dict(first)
    merged = {**second, **first}
    for key, join in (("properties", dict), ("required", list)):
        if join is dict and isinstance(first.get(key), Mapping) and isinstance(second.get(key), Mapping):
            merged[key] = {**second[key], **first[key]}
        if join is list and isinstance(first.get(key), list) and isinstance(second.get(key), list):
            merged[key] = [*first[key], *second[key]]
    return merged
