"""A value that fits a JSON schema (2020-12), the same each time, with words of the question where they fit.

Schemas come from callers and this runs on the event loop: whatever the schema, the work and the result are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

import orjson

MAX_DEPTH = 12
# Options and arrays that refer to themselves add depth without an object between them.
MAX_NESTING = 24
# A schema that refers to itself many times would grow without end.
MAX_VALUES = 2000
# Of one choice; a request has eight at most, which makes 256 KiB.
MAX_BYTES = 32 * 1024
# Schemas joined by $ref and allOf: for one value, and (with their properties) for all values.
MAX_PARTS = 50
MAX_JOINED = 20_000
MAX_REFERENCE = 200
MAX_STEPS = 20
QUESTION_READ = 2048
MAX_WORD = 60
MAX_NUMBERS = 4
# The largest whole number that every JSON reader takes exactly.
MAX_NUMBER = 2.0**53
MIN_STEP = 1e-9
NAME = re.compile(r"\b[A-Z][\w-]+")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
KEYWORDS = (
    "const enum default anyOf oneOf type properties required items prefixItems minItems maxItems uniqueItems format "
    "minLength maxLength minimum maximum exclusiveMinimum exclusiveMaximum multipleOf"
).split()
JOINED = ("properties", "required")
TEXT = {"type": "string"}
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
    return orjson.loads(Sampler(question).json(schema))


class Sampler:
    """Patterns are not solved; recursive schemas end at their optional parts. All samples share one budget."""

    def __init__(self, question: str = "") -> None:
        question = question[:QUESTION_READ]
        names = NAME.findall(question)
        words = [word for word in names if not question.startswith(word)]
        self._word = (words[0] if words else (names or ["demo"])[-1])[:MAX_WORD]
        numbers = (float(number) for number in NUMBER.findall(question))
        self._numbers = list(islice((number for number in numbers if abs(number) <= MAX_NUMBER), MAX_NUMBERS))
        self._values, self._bytes, self._joins = MAX_VALUES, MAX_BYTES, MAX_JOINED
        self._characters = 0
        self._root: Mapping[str, Any] = {}
        self._followed: dict[str, Mapping[str, Any]] = {}
        # Keyed by identity; the object is kept beside its size so that no other can take its place.
        self._sizes: dict[int, tuple[Any, int | None]] = {}

    @property
    def spent(self) -> bool:
        return self._values <= 0 or self._bytes <= 0

    def json(self, schema: Mapping[str, Any]) -> str:
        self._root, self._followed, self._characters = schema, {}, self._bytes
        try:
            made = orjson.dumps(self._value(schema, 0))
        except (ArithmeticError, RecursionError, orjson.JSONEncodeError):
            made = b"{}"
        if len(made) > self._bytes:
            made = b"{}"
        self._bytes -= len(made)
        return made.decode()

    def _value(self, schema: Any, depth: int) -> Any:
        self._values -= 1
        if not isinstance(schema, Mapping) or self._full() or depth > MAX_NESTING:
            return {}
        self._characters -= 4
        schema = self._resolved(schema)
        if "const" in schema:
            return self._copied(schema["const"])
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self._copied(schema["enum"][0])
        if "default" in schema:
            return self._copied(schema["default"])
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                return self._value(_simplest(schema[key][:MAX_PARTS], depth), depth + 1)
        return self._typed(schema, depth)

    def _full(self) -> bool:
        return self._values < 0 or self._characters <= 0

    def _copied(self, value: Any) -> Any:
        """The schema's own value, if there is room for it."""
        size = self._size(value)
        if size is None or size > self._characters:
            return {}
        self._characters -= size
        return value

    def _size(self, value: Any) -> int | None:
        if id(value) not in self._sizes:
            try:
                size = len(orjson.dumps(value))
            except orjson.JSONEncodeError:
                size = None
            self._sizes[id(value)] = (value, size)
        return self._sizes[id(value)][1]

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((name for name in kind[:MAX_PARTS] if name != "null"), "null")
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
        """The schema with what it refers to and what it is made of; nearer parts win."""
        parts = [schema, *islice(self._parts(schema), max(0, min(MAX_PARTS, self._joins)))]
        self._joins -= len(parts) - 1
        merged: dict[str, Any] = {}
        for part in parts:
            for key in KEYWORDS:
                if key in part and key not in merged:
                    merged[key] = part[key]
        if len(parts) > 1:
            merged.update(self._joined(parts))
        return merged

    def _parts(self, schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        found, seen = [schema], {id(schema)}
        for holder in found:
            inner = holder.get("allOf")
            reference = holder.get("$ref")
            named = [self._follow(reference)] if isinstance(reference, str) else []
            for part in (*(inner[:MAX_PARTS] if isinstance(inner, list) else ()), *named):
                if isinstance(part, Mapping) and id(part) not in seen:
                    seen.add(id(part))
                    found.append(part)
                    yield part

    def _joined(self, parts: list[Mapping[str, Any]]) -> dict[str, Any]:
        properties = [part["properties"] for part in parts if isinstance(part.get("properties"), Mapping)]
        required = [part["required"] for part in parts if isinstance(part.get("required"), list)]
        joined: dict[str, Any] = {}
        if len(properties) > 1:
            joined["properties"] = {}
            for name, wanted in self._some(chain.from_iterable(each.items() for each in properties)):
                joined["properties"].setdefault(name, wanted)
        if len(required) > 1:
            joined["required"] = list(self._some(chain.from_iterable(required)))
        return joined

    def _some(self, items: Iterator[Any]) -> list[Any]:
        taken = list(islice(items, max(0, min(MAX_VALUES, self._joins))))
        self._joins -= len(taken)
        return taken

    def _follow(self, reference: str) -> Mapping[str, Any]:
        if len(reference) > MAX_REFERENCE:
            return {}
        if reference not in self._followed:
            self._followed[reference] = self._found(reference)
        return self._followed[reference]

    def _found(self, reference: str) -> Mapping[str, Any]:
        steps = reference.removeprefix("#").strip("/").split("/") if reference != "#" else []
        if len(steps) > MAX_STEPS:
            return {}
        found: Any = self._root
        for step in steps:
            name = step.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def _object(self, schema: Mapping[str, Any], depth: int) -> Any:
        if depth > MAX_DEPTH:
            return {}
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        names = required if isinstance(required, list) else []
        made: dict[str, Any] = {}
        for name in chain(properties, names) if depth < MAX_DEPTH // 3 else names:
            if self._full():
                break
            if not isinstance(name, str) or name in made:
                self._values -= 1
            else:
                self._characters -= len(name)
                made[name] = self._value(properties.get(name, TEXT), depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> Any:
        low = schema.get("minItems")
        high = schema.get("maxItems")
        count = low if isinstance(low, int) else (1 if depth < MAX_DEPTH // 3 else 0)
        count = min(count, high if isinstance(high, int) else 100, 100)
        fixed = schema.get("prefixItems")
        heads = self._items(iter(fixed), depth) if isinstance(fixed, list) else []
        item = schema.get("items", {})
        rest = self._items((item for _ in range(count - len(heads))), depth)
        if schema.get("uniqueItems") and all(isinstance(item, str) for item in rest):
            rest = [item if at == 0 else f"{item} {at + 1}" for at, item in enumerate(rest)]
        return heads + rest

    def _items(self, schemas: Iterator[Any], depth: int) -> list[Any]:
        made: list[Any] = []
        for schema in schemas:
            if self._full():
                break
            made.append(self._value(schema, depth + 1))
        return made

    def _string(self, schema: Mapping[str, Any], depth: int) -> Any:
        low, high, form = schema.get("minLength"), schema.get("maxLength"), schema.get("format")
        text = FORMATS.get(form, self._word) if isinstance(form, str) else self._word
        if isinstance(low, int):
            text = text.ljust(min(low, 10_000, max(0, self._characters)), ".")
        text = text[:high] if isinstance(high, int) and high >= 0 else text
        self._characters -= len(text)
        return text

    def _number(self, schema: Mapping[str, Any], depth: int) -> Any:
        whole = schema.get("type") == "integer" or "integer" in _listed(schema.get("type"))
        limits = _Limits(schema, whole)
        candidates = (number for number in self._numbers if not whole or number.is_integer())
        value = next((number for number in candidates if limits.hold(number)), None)
        value = limits.nearest() if value is None else value
        return int(value) if whole or value.is_integer() else value


class _Limits:
    def __init__(self, schema: Mapping[str, Any], whole: bool) -> None:
        self._low, self._high = _real(schema.get("minimum")), _real(schema.get("maximum"))
        self._above, self._below = _real(schema.get("exclusiveMinimum")), _real(schema.get("exclusiveMaximum"))
        step = _real(schema.get("multipleOf"))
        self._step = step if step and step >= MIN_STEP else 1.0 if whole else None

    def hold(self, value: float) -> bool:
        return value == self._clamped(value) and not (self._step and value % self._step)

    def nearest(self) -> float:
        value = self._clamped(1.0)
        if self._step:
            value = -(-value // self._step) * self._step
        return max(-MAX_NUMBER, min(MAX_NUMBER, value))

    def _clamped(self, value: float) -> float:
        above, below = self._above, self._below
        if above is not None and value <= above:
            value = above + (1 if below is None or above + 1 < below else (below - above) / 2)
        if below is not None and value >= below:
            value = below - (1 if above is None or below - 1 > above else (below - above) / 2)
        value = value if self._low is None else max(value, self._low)
        return value if self._high is None else min(value, self._high)


def _simplest(options: list[Any], depth: int) -> Any:
    # Deep inside a recursive schema `null` is the way out; elsewhere a real value says more.
    nulls = [option for option in options if isinstance(option, Mapping) and option.get("type") == "null"]
    others = [option for option in options if not isinstance(option, Mapping) or option.get("type") != "null"]
    return nulls[0] if nulls and (depth > 3 or not others) else others[0]


def _listed(kind: Any) -> list[Any]:
    return kind[:MAX_PARTS] if isinstance(kind, list) and "number" not in kind[:MAX_PARTS] else []


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(max(-MAX_NUMBER, min(MAX_NUMBER, value)))
