"""What checking by a caller's JSON schema may cost: how many parts it has, and how often one value is looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

MAX_PARTS = 2_000
MAX_LOOKS = 10_000
MAX_MESSAGE = 300
NAMES_INSIDE = ("properties", "$defs", "definitions", "dependentSchemas")
VALUES_INSIDE = ("const", "enum", "default", "examples")
# What looks at the same value again; everything else goes on into the value, whose size ends it.
SEVERAL = ("allOf", "anyOf", "oneOf")
SINGLE = ("not", "if", "then", "else")
REFERENCES = ("$ref", "$dynamicRef")

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class TooCostly(Exception):
    """The schema; its words are for the caller."""


def bounded(schema: Any, *, names: bool = False) -> Any:
    """The schema without expressions: a caller's could keep the process busy for hours. `names`: keys are names.

    Without `$schema` too: a part that names another draft would be checked without a deadline.
    """
    if isinstance(schema, list):
        return [bounded(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if names:
        return {key: bounded(value) for key, value in schema.items()}
    dropped = {"pattern", "patternProperties", "format", "$schema"}
    if "patternProperties" in schema:
        dropped |= {"additionalProperties", "unevaluatedProperties"}
    return {
        key: value if key in VALUES_INSIDE else bounded(value, names=key in NAMES_INSIDE)
        for key, value in schema.items()
        if key not in dropped
    }


def measure(schema: Any) -> None:
    """Raises TooCostly. Takes what `bounded` made."""
    parts, left = 0, [schema]
    while left:
        held = left.pop()
        inner = [value for key, value in held.items() if key not in VALUES_INSIDE] if type(held) is dict else held
        parts += 1 if type(held) is dict else len(held)
        left.extend(value for value in inner if type(value) in (dict, list))
        if parts > MAX_PARTS:
            raise TooCostly(f"The schema has more than {MAX_PARTS} parts.")
    _Looks(schema).count()


class _Looks:
    """How often a value is looked at, for each part of the schema: references make a small one large."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._known: dict[int, int] = {}
        self._open: set[int] = set()

    def count(self) -> None:
        root = DRAFT202012.create_resource(self._schema)
        left: list[tuple[Any, Any]] = [(self._schema, Registry().resolver_with_root(root))]
        try:
            while left:
                part, resolver = left.pop()
                if type(part) is dict:
                    resolver = self._inside(part, resolver)
                    self._of(part, resolver)
                    left.extend((value, resolver) for key, value in part.items() if key not in VALUES_INSIDE)
                elif type(part) is list:
                    left.extend((value, resolver) for value in part)
        except RecursionError:
            raise TooCostly("The schema's references lead too far.") from None

    def _inside(self, part: dict[str, Any], resolver: Any) -> Any:
        """A part with an `$id` has references of its own."""
        return resolver.in_subresource(DRAFT202012.create_resource(part)) if type(part.get("$id")) is str else resolver

    def _of(self, part: Any, resolver: Any) -> int:
        if type(part) is not dict:
            return 1
        if id(part) in self._open:
            raise TooCostly("A part of the schema refers to itself without going into the value.")
        if id(part) not in self._known:
            self._open.add(id(part))
            looks = 1
            for inner, at in self._again(part, resolver):
                looks += self._of(inner, self._inside(inner, at) if type(inner) is dict else at)
                if looks > MAX_LOOKS:
                    raise TooCostly(f"The schema looks at one value more than {MAX_LOOKS} times.")
            self._open.discard(id(part))
            self._known[id(part)] = looks
        return self._known[id(part)]

    def _again(self, part: dict[str, Any], resolver: Any) -> Iterator[tuple[Any, Any]]:
        for key, value in part.items():
            if key in SINGLE:
                yield value, resolver
            elif key in SEVERAL and type(value) is list:
                yield from ((item, resolver) for item in value)
            elif key == "dependentSchemas" and type(value) is dict:
                yield from ((item, resolver) for item in value.values())
            elif key in REFERENCES and type(value) is str:
                try:
                    found = resolver.lookup(value)
                except (Unresolvable, ValueError):
                    # Nothing is fetched.
                    raise TooCostly(f"The schema refers to what it does not hold: {value[:MAX_MESSAGE]}") from None
                yield found.contents, found.resolver


class _Clock(threading.local):
    ends = 0.0


_clock = _Clock()


def limit(seconds: float) -> None:
    """From here on checks by Timed in this thread raise TooCostly after so many seconds."""
    _clock.ends = time.monotonic() + seconds


def _timed(keyword: Keyword) -> Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if time.monotonic() > _clock.ends:
            raise TooCostly("The schema takes too long to check.")
        for error in keyword(validator, value, instance, schema) or ():
            # Each holds the text of all that it is about.
            error.message = error.message[:MAX_MESSAGE]
            yield error

    return check


def _unique(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """The library compares each with each where they cannot be sorted."""
    if wanted and type(instance) is list and len(set(map(_key, instance))) < len(instance):
        yield ValidationError("has items that are not unique")


def _key(value: Any) -> Any:
    """Equal for what JSON Schema takes for equal: 1 and 1.0, but not 1 and true."""
    if type(value) is dict:
        return dict, frozenset((name, _key(item)) for name, item in value.items())
    if type(value) is list:
        return list, tuple(map(_key, value))
    return (bool, value) if type(value) is bool else value


# Whatever a reference leads to: it may be what `bounded` took for a value or for names.
EXPRESSIONS = ("pattern", "patternProperties", "format")


def _nothing(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    return iter(())


Timed = extend(
    Draft202012Validator,
    {
        **{name: _timed(check) for name, check in {**Draft202012Validator.VALIDATORS, "uniqueItems": _unique}.items()},
        **dict.fromkeys(EXPRESSIONS, _nothing),
    },
)
