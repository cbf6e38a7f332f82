"""JSON answers that were asked for in words: the instruction, the check, and what is said of a fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry

from gateway.chat import AnswerFormat
from gateway.errors import UpstreamRejected
from gateway.prompted_tools import unfenced
from gateway.schema_bounds import MAX_MESSAGE, Timed, TooCostly, bounded, limit, measure

MAX_FAULTS = 5
MAX_SCHEMA = 100_000
MAX_ANSWER = 1_000_000
CHECK_SECONDS = 5


class Check:
    """What an answer must be. Raises UpstreamRejected for a schema that is none, or costs too much.

    To be made and used beside the loop: both may take seconds, which are bounded.
    """

    def __init__(self, wanted: AnswerFormat) -> None:
        self._schema: Mapping[str, Any] = wanted.schema or {"type": "object"}
        self._described = wanted.schema is not None
        if self._described and len(orjson.dumps(self._schema)) > MAX_SCHEMA:
            raise _refused(f"The schema is larger than {MAX_SCHEMA} bytes.")
        if orjson.dumps(self._schema).count(b'"$schema"') > ("$schema" in self._schema):
            # Where a reference leads to it another draft would check, expressions and all.
            raise _refused("Only the schema itself may name its '$schema'.")
        schema = bounded(self._schema)
        try:
            measure(schema)
            Draft202012Validator.check_schema(schema)
        except TooCostly as error:
            raise _refused(str(error)) from None
        except SchemaError as error:
            raise _refused(f"This is not a JSON Schema: {error.message[:MAX_MESSAGE]}") from None
        # An empty registry: nothing is fetched for a `$ref`.
        self._validator = Timed(schema, registry=Registry())

    def instruction(self) -> str:
        if not self._described:
            return "Answer with one JSON object and nothing else: no words around it, no code fence."
        schema = orjson.dumps(self._schema).decode()
        return (
            "Answer with one JSON value and nothing else: no words around it, no code fence. It must be valid by this "
            f"JSON Schema:\n\n{schema}"
        )

    def correction(self, fault: str) -> str:
        return f"That is not what was asked for: {fault} Write the corrected JSON and nothing else."

    def read(self, text: str) -> tuple[str, str]:
        """The JSON in the text, and what is wrong with it, empty when nothing is."""
        if len(text) > MAX_ANSWER:
            return "", f"it is longer than {MAX_ANSWER} characters."
        found = unfenced(text)
        try:
            value = orjson.loads(found)
        except orjson.JSONDecodeError as error:
            return "", f"it is not valid JSON ({error.msg} at {error.pos})."
        limit(CHECK_SECONDS)
        try:
            faults = [error for _, error in zip(range(MAX_FAULTS), self._validator.iter_errors(value), strict=False)]
        except RecursionError:
            return "", "it is nested too deep."
        except TooCostly as error:
            raise _refused(str(error), fallback=False) from None
        except Exception as error:  # noqa: BLE001 - a caller's schema may hold what nobody has thought of
            raise _refused(f"The schema cannot be used: {type(error).__name__}.", fallback=False) from None
        return found, " ".join(f"{fault.json_path}: {fault.message}." for fault in faults)


def _refused(why: str, *, fallback: bool = True) -> UpstreamRejected:
    """Without `fallback` once an answer was paid for: the next one would be checked in vain as well."""
    error = UpstreamRejected(why, code="invalid_value", param="response_format.json_schema.schema")
    error.fallback = fallback
    return error
