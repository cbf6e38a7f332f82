"""Reads the model lists of providers: each says what its models can do in words of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
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
ANTHROPIC = {"image_input": "vision", "structured_outputs": "json", "thinking": "reasoning"}
FIREWORKS = {"supports_chat": "chat", "supports_image_input": "vision", "supports_tools": "tools"}
CONTEXT_FIELDS = ("context_length", "max_context_length", "context_window", "max_model_len", "max_input_tokens")


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
    """Mistral has a map of yes and no, Anthropic one of `supported`; GitHub a list that names only some."""
    said = entry.get("capabilities")
    if isinstance(said, dict):
        told = {flag: said[name] for name, flag in MISTRAL.items() if isinstance(said.get(name), bool)}
        held = {
            flag: said[name].get("supported") for name, flag in ANTHROPIC.items() if isinstance(said.get(name), dict)
        }
        return told | {flag: value for flag, value in held.items() if isinstance(value, bool)}
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
    return _unique(_model(entry) for entry in _dicts(entries))


def _unique(models: Iterable[UpstreamModel | None]) -> list[UpstreamModel]:
    found: dict[str, UpstreamModel] = {}
    for model in models:
        if model and (model.public_id not in found or model.upstream_name == model.public_id):
            found[model.public_id] = model
    return list(found.values())


OLLAMA = {
    "completion": "chat",
    "vision": "vision",
    "audio": "audio",
    "tools": "tools",
    "thinking": "reasoning",
    "embedding": "embeddings",
    "image": "image",
}


def read_ollama_tags(decoded: Any) -> list[UpstreamModel]:
    """Ollama's `/api/tags`: names alone. Raises ValueError unless it is such a list."""
    entries = decoded.get("models") or [] if isinstance(decoded, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a list of models")  # noqa: TRY004 - the text of a peer is at fault, not a caller
    names = (entry.get("model") or entry.get("name") for entry in _dicts(entries))
    return _unique(UpstreamModel(name, public_id_of(name)) for name in names if name and isinstance(name, str))


def with_ollama_details(model: UpstreamModel, decoded: Any) -> UpstreamModel:
    """What Ollama's `/api/show` says of a model. It names all that a model can do, so the rest is a no."""
    if not isinstance(decoded, dict):
        return model
    able = _strings(decoded.get("capabilities"))
    flags = {flag: name in able for name, flag in OLLAMA.items()} if able else {}
    return UpstreamModel(model.upstream_name, model.public_id, flags, _ollama_context(decoded.get("parameters")))


def _ollama_context(parameters: Any) -> int | None:
    """What the model file reserves. Not what the model could take at most: that much would be asked for with each
    request then, and few machines have the memory."""
    found = re.search(r"^num_ctx\s+(\d{1,10})\s*$", parameters, re.MULTILINE) if isinstance(parameters, str) else None
    return _length(int(found[1])) if found else None


def read_pollinations(decoded: Any) -> list[UpstreamModel]:
    """Pollinations' `/text/models`: entries have a `name` where others have an `id`."""
    entries = decoded.get("data") if isinstance(decoded, dict) else decoded
    if not isinstance(entries, list):
        raise ValueError("not a list of models")  # noqa: TRY004 - the text of a peer is at fault, not a caller
    return read_models([{**entry, "id": entry.get("name") or entry.get("id")} for entry in _dicts(entries)])


# Which of Google's methods a model answers to says what it is for.
GOOGLE = {
    "generateContent": {"chat": True},
    "embedContent": {"embeddings": True},
    "predict": {"image": True},
    "predictLongRunning": {"video": True},
}


def read_google_models(decoded: Any) -> list[UpstreamModel]:
    """One page of Gemini's list. Raises ValueError."""
    entries = decoded.get("models", []) if isinstance(decoded, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a list of models")  # noqa: TRY004 - the text of a peer is at fault, not a caller
    return [model for entry in _dicts(entries) if (model := _google_model(entry))]


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
