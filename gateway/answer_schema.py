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

MAX_FAULTS = 5
MAX_FAULT = 300
MAX_SCHEMA = 100_000
NAMES_INSIDE = ("properties", "$defs", "definitions", "dependentSchemas")


def bounded(schema: Any, *, names: bool = False) -> Any:
    """The schema without expressions: a caller's could keep the process busy for hours. `names`: keys are names."""
    if isinstance(schema, list):
        return [bounded(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if names:
        return {key: bounded(value) for key, value in schema.items()}
    dropped = {"pattern", "patternProperties", "format"}
    if "patternProperties" in schema:
        dropped |= {"additionalProperties", "unevaluatedProperties"}
    return {
        key: bounded(value, names=key in NAMES_INSIDE) if key not in ("const", "enum", "default", "examples") else value
        for key, value in schema.items()
        if key not in dropped
    }


class Check:
    """What an answer must be. Raises UpstreamRejected for a schema that is none."""

    def __init__(self, wanted: AnswerFormat) -> None:
        self._schema: Mapping[str, Any] = wanted.schema or {"type": "object"}
        self._described = wanted.schema is not None
        if self._described and len(orjson.dumps(self._schema)) > MAX_SCHEMA:
            raise _refused(f"The schema is larger than {MAX_SCHEMA} bytes.")
        schema = bounded(self._schema)
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise _refused(f"This is not a JSON Schema: {error.message[:MAX_FAULT]}") from None
        # An empty registry: nothing is fetched for a `$ref`.
        self._validator = Draft202012Validator(schema, registry=Registry())

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
        found = unfenced(text)
        try:
            value = orjson.loads(found)
        except orjson.JSONDecodeError as error:
            return "", f"it is not valid JSON ({error.msg} at {error.pos})."
        try:
            faults = [error for _, error in zip(range(MAX_FAULTS), self._validator.iter_errors(value), strict=False)]
        except Exception as error:  # noqa: BLE001 - a caller's schema may refer to what is not there, or to itself
            raise _refused(f"The schema cannot be used: {type(error).__name__}.") from None
        return found, " ".join(f"{fault.json_path}: {fault.message[:MAX_FAULT]}." for fault in faults)


def _refused(why: str) -> UpstreamRejected:
    return UpstreamRejected(why, code="invalid_value", param="response_format")
