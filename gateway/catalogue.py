"""Reads the model lists of providers: each says what its models can do in words of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Entry = Mapping[str, Any]
Flags = dict[str, bool]

MAX_CONTEXT = 2**31 - 1
MISTRAL = {
    "completion_chat": "chat",
    "function_calling": "tools",
    "vision": "vision",
    "audio": "audio",
    "reasoning": "reasoning",
}
TOGETHER = {
    "chat": {"chat": True},
    "language": {"chat": False},
    "code": {"chat": False},
    "image": {"image": True, "chat": False},
    "embedding": {"embeddings": True, "chat": False},
    "audio": {"audio": True, "chat": False},
    "video": {"video": True, "chat": False},
    "rerank": {"chat": False},
    "moderation": {"chat": False},
}
FIREWORKS = {"supports_chat": "chat", "supports_image_input": "vision", "supports_tools": "tools"}
CONTEXT_FIELDS = ("context_length", "max_context_length", "context_window", "max_model_len")


@dataclass(frozen=True, slots=True)
class UpstreamModel:
    """`flags` holds only what the provider says."""

    upstream_name: str
    public_id: str
    flags: Flags = field(default_factory=dict)
    context_length: int | None = None


def public_id_of(upstream: str) -> str:
    """Without Google's `models/` in front and Ollama's `:latest` behind."""
    return upstream.removeprefix("models/").removesuffix(":latest") or upstream


def _strings(value: Any) -> list[str] | None:
    return [str(item).lower() for item in value] if isinstance(value, list) else None


def _dicts(value: Any) -> list[Entry]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _modalities(entry: Entry) -> Flags:
    """OpenRouter, Hugging Face, Pollinations and GitHub name what goes in and what comes out."""
    inner = entry.get("architecture")
    source = inner if isinstance(inner, dict) else entry
    taken = _strings(source.get("input_modalities", source.get("supported_input_modalities")))
    given = _strings(source.get("output_modalities", source.get("supported_output_modalities")))
    flags: Flags = {}
    if taken:
        flags["vision"] = "image" in taken
    if given:
        flags |= {"chat": "text" in given, "image": "image" in given, "video": "video" in given}
        if "embeddings" in given:
            flags["embeddings"] = True
    if taken and given:
        flags["audio"] = "audio" in taken or "audio" in given
    return flags


def _parameters(entry: Entry) -> Flags:
    """OpenRouter lists the request fields that a model takes."""
    names = _strings(entry.get("supported_parameters"))
    if not names:
        return {}
    return {
        "tools": "tools" in names,
        "json": "response_format" in names or "structured_outputs" in names,
        "reasoning": "reasoning" in names,
    }


def _capabilities(entry: Entry) -> Flags:
    """Mistral has a map of yes and no; GitHub a list that names only some."""
    said = entry.get("capabilities")
    if isinstance(said, dict):
        return {flag: said[name] for name, flag in MISTRAL.items() if isinstance(said.get(name), bool)}
    return {"tools": True} if "tool-calling" in (_strings(said) or ()) else {}


def _type(entry: Entry) -> Flags:
    """Together's `type`; LM Studio's own list calls chat models `llm` and `vlm`."""
    kind = str(entry.get("type") or "")
    return {"llm": {"chat": True}, "vlm": {"chat": True, "vision": True}}.get(kind) or TOGETHER.get(kind, {})


def _booleans(entry: Entry) -> Flags:
    """Fireworks' `supports_...`, Pollinations' plain `tools` and `reasoning`."""
    flags = {flag: entry[name] for name, flag in FIREWORKS.items() if isinstance(entry.get(name), bool)}
    return flags | {name: entry[name] for name in ("tools", "reasoning") if isinstance(entry.get(name), bool)}


def _hosts(entry: Entry) -> Flags:
    """Hugging Face lists the hosts of a model: it can what one of them can."""
    hosts = _dicts(entry.get("providers"))
    flags: Flags = {}
    for name, flag in (("supports_tools", "tools"), ("supports_structured_output", "json")):
        said = [host[name] for host in hosts if isinstance(host.get(name), bool)]
        if said:
            flags[flag] = any(said)
    return flags


READERS: tuple[Callable[[Entry], Flags], ...] = (_type, _modalities, _parameters, _capabilities, _booleans, _hosts)


def _length(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 < value <= MAX_CONTEXT else None


def _context(entry: Entry) -> int | None:
    places = [entry.get(name) for name in CONTEXT_FIELDS]
    for name, inner in (("limits", "max_input_tokens"), ("meta", "n_ctx")):
        nested = entry.get(name)
        places.append(nested.get(inner) if isinstance(nested, dict) else None)
    places.append(max((_length(host.get("context_length")) or 0 for host in _dicts(entry.get("providers"))), default=0))
    return next((length for place in places if (length := _length(place))), None)


def _model(entry: Entry) -> UpstreamModel | None:
    name = entry.get("id")
    if not isinstance(name, str) or not name:
        return None
    flags: Flags = {}
    for read in READERS:
        flags |= read(entry)
    return UpstreamModel(name, public_id_of(name), flags, _context(entry))


def read_models(decoded: Any) -> list[UpstreamModel]:
    """OpenAI's `{"data": [...]}` or a bare list; entries without an id are passed over.

    Raises ValueError for anything else. Where two names lead to one public id the exact one stands.
    """
    entries = decoded.get("data") if isinstance(decoded, dict) else decoded
    # Some servers send null for an empty list.
    if entries is None and isinstance(decoded, dict) and decoded.get("object") == "list":
        entries = []
    if not isinstance(entries, list):
        raise ValueError("not a list of models")  # noqa: TRY004 - the text of a peer is at fault, not a caller
    found: dict[str, UpstreamModel] = {}
    for entry in entries:
        model = _model(entry) if isinstance(entry, dict) else None
        if model and (model.public_id not in found or model.upstream_name == model.public_id):
            found[model.public_id] = model
    return list(found.values())


# Which of Google's methods a model answers to says what it is for.
GOOGLE = {
    "generateContent": {"chat": True},
    "embedContent": {"embeddings": True},
    "predict": {"image": True},
    "predictLongRunning": {"video": True},
}


def read_google_models(decoded: Any) -> tuple[list[UpstreamModel], str]:
    """One page of Gemini's list, and the token of the next one, empty at the end. Raises ValueError."""
    entries = decoded.get("models", []) if isinstance(decoded, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a list of models")  # noqa: TRY004 - the text of a peer is at fault, not a caller
    found = [model for entry in _dicts(entries) if (model := _google_model(entry))]
    token = decoded.get("nextPageToken")
    return found, token if isinstance(token, str) else ""


def _google_model(entry: Entry) -> UpstreamModel | None:
    name = entry.get("name")
    if not isinstance(name, str) or not name.removeprefix("models/"):
        return None
    methods = entry.get("supportedGenerationMethods")
    flags: Flags = {}
    if isinstance(methods, list):
        flags = {"chat": "generateContent" in methods}
        for method, said in GOOGLE.items():
            flags |= said if method in methods else {}
    if isinstance(entry.get("thinking"), bool):
        flags["reasoning"] = entry["thinking"]
    public = public_id_of(name)
    return UpstreamModel(public, public, flags, _length(entry.get("inputTokenLimit")))
