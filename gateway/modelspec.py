"""Reads `ID[=UPSTREAM][:FLAGS]`, the way in which commands and presets name a model."""

from __future__ import annotations

from dataclasses import dataclass, field

# Spelled here too, so that reading presets needs no tables; a test compares it with the model's columns.
CAPABILITIES = (
    "chat", "vision", "image", "audio", "video", "tools", "json", "reasoning", "embeddings", "speech", "transcription",
)  # fmt: skip
EMULATIONS = ("emulate_tools", "emulate_json", "think_tags", "cache_answers")
FLAGS = (*CAPABILITIES, *EMULATIONS)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """`flags` holds what was said; what was not said is unknown."""

    public_id: str
    upstream_name: str
    flags: dict[str, bool] = field(default_factory=dict)


def _flags(text: str) -> dict[str, bool] | None:
    """None unless every item is a known flag: the colon then belongs to the id (`llama3.1:8b`)."""
    items = text.split(",")
    if not all(item.removeprefix("!") in FLAGS for item in items):
        return None
    return {item.removeprefix("!"): not item.startswith("!") for item in items}


def parse_model(text: str) -> ModelSpec:
    """Raises ValueError with a sentence when no id or no upstream name is left."""
    names, colon, tail = text.rpartition(":")
    flags = _flags(tail) if colon else None
    if flags is None:
        names, flags = text, {}
    public_id, equals, upstream = names.partition("=")
    if not public_id or public_id.endswith(":") or (equals and not upstream):
        raise ValueError(f"{text!r} is not ID[=UPSTREAM][:FLAGS].")
    return ModelSpec(public_id, upstream or public_id, flags)
