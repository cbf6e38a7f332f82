"""Gemini's generationConfig: sampling, limits, the form of the answer, and how much the model thinks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.adapters.gemini.schema import cleaned
from gateway.adapters.gemini.signatures import generation
from gateway.chat import ChatRequest
from gateway.errors import UnsupportedParameter, UpstreamRejected
from gateway.targets import Target

# Same meaning, same range; OpenAI's name and Gemini's.
SAME = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "n": "candidateCount",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
MAX_STOPS = 5
LARGEST = 2**31 - 1
MODALITIES = {"text": "TEXT", "image": "IMAGE", "audio": "AUDIO"}
# How many tokens an effort is worth to models that count them (gemini-2.5).
BUDGETS = {"none": 0, "minimal": 512, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 32768}
LEVELS = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "HIGH"}


def generation_config(target: Target, chat: ChatRequest) -> dict[str, Any]:
    """Raises UnsupportedParameter and UpstreamRejected."""
    _refuse(target, chat)
    found: dict[str, Any] = {
        theirs: _number(ours, chat.body[ours]) for ours, theirs in SAME.items() if chat.body.get(ours) is not None
    }
    if (limit := chat.max_tokens()) is not None:
        found["maxOutputTokens"] = min(limit, LARGEST)
    if stops := [stop for stop in chat.stops() if stop]:
        found["stopSequences"] = stops
    if chat.body.get("seed") is not None:
        # Gemini takes 31 bits: the same seed stays the same.
        found["seed"] = int(_number("seed", chat.body["seed"])) & LARGEST
    return {**found, **_form(chat), **_modalities(target, chat), **_picture(chat), **_thinking(target, chat)}


def _refuse(target: Target, chat: ChatRequest) -> None:
    if chat.body.get("logprobs") or chat.body.get("top_logprobs"):
        raise UnsupportedParameter(target.provider, "logprobs")
    if chat.body.get("logit_bias"):
        raise UnsupportedParameter(target.provider, "logit_bias")
    if len(chat.stops()) > MAX_STOPS:
        raise UnsupportedParameter(target.provider, "stop", f"at most {MAX_STOPS} are possible.")


def _invalid(param: str, wanted: str) -> UpstreamRejected:
    return UpstreamRejected(f"Invalid value for '{param}': expected {wanted}.", code="invalid_value", param=param)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _invalid(name, "a number")
    return min(int(value), LARGEST) if name == "top_k" else value


def _form(chat: ChatRequest) -> dict[str, Any]:
    asked = chat.answer_format()
    if asked.kind == "json_schema":
        schema = {"responseJsonSchema": cleaned(asked.schema)} if asked.schema else {}
        return {"responseMimeType": "application/json", **schema}
    return {"responseMimeType": "application/json"} if asked.kind == "json_object" else {}


def _modalities(target: Target, chat: ChatRequest) -> dict[str, Any]:
    asked = [str(item) for item in chat.body.get("modalities") or ()]
    unknown = [item for item in asked if item not in MODALITIES]
    if unknown:
        raise UnsupportedParameter(target.provider, "modalities", f"'{unknown[0][:40]}' is none of its own.")
    if not set(asked) - {"text"}:
        return {}
    found: dict[str, Any] = {"responseModalities": [MODALITIES[item] for item in asked]}
    if "audio" in asked:
        # Its voices answer with sound alone.
        found["responseModalities"] = ["AUDIO"]
        voice = (chat.body.get("audio") or {}).get("voice")
        voice = voice.get("id") if isinstance(voice, dict) else voice
        if isinstance(voice, str) and voice:
            found["speechConfig"] = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}}
    return found


def _picture(chat: ChatRequest) -> dict[str, Any]:
    """How a picture is to be, in OpenRouter's form."""
    asked = chat.body.get("image_config")
    if not isinstance(asked, dict):
        return {}
    said = {"aspectRatio": asked.get("aspect_ratio"), "imageSize": asked.get("image_size")}
    found = {name: value for name, value in said.items() if isinstance(value, str) and value}
    return {"imageConfig": found} if found else {}


def _thinking(target: Target, chat: ChatRequest) -> dict[str, Any]:
    """Nothing unless it was asked for: models that do not think refuse the field."""
    own = chat.body.get("google")
    own = own.get("thinking_config") if isinstance(own, dict) else None
    if isinstance(own, dict):
        return {"thinkingConfig": own}
    said = chat.body.get("reasoning")
    asked: Mapping[str, Any] = said if isinstance(said, dict) else {}
    effort = _effort(chat, asked)
    budget = asked.get("max_tokens")
    if effort is None and budget is None and not asked.get("enabled"):
        return {}
    found: dict[str, Any] = {"includeThoughts": effort != "none" and not asked.get("exclude")}
    model = target.upstream_model
    if budget is not None:
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 0:
            raise _invalid("reasoning.max_tokens", "a whole number")
        found["thinkingBudget"] = _bounded(model, budget)
    elif effort and generation(model) >= 3:
        found["thinkingLevel"] = _level(model, effort)
    elif effort:
        found["thinkingBudget"] = _bounded(model, BUDGETS[effort])
    return {"thinkingConfig": found}


def _effort(chat: ChatRequest, asked: Mapping[str, Any]) -> str | None:
    """Raises UpstreamRejected for an unknown word."""
    param = "reasoning.effort" if asked.get("effort") is not None else "reasoning_effort"
    effort = asked["effort"] if asked.get("effort") is not None else chat.body.get("reasoning_effort")
    if effort is None and asked.get("enabled") is False:
        return "none"
    if effort is not None and (not isinstance(effort, str) or effort not in BUDGETS):
        raise _invalid(param, f"one of {', '.join(BUDGETS)}")
    return effort


def _level(model: str, effort: str) -> str:
    """The large models have neither the lowest level nor, in the first version, the middle one."""
    level = LEVELS[effort]
    if "pro" not in model:
        return level
    if level == "MEDIUM" and "gemini-3-pro" in model:
        return "HIGH"
    return "LOW" if level == "MINIMAL" else level


def _bounded(model: str, budget: int) -> int:
    """What the documentation gives as the range of each model; pro cannot be kept from thinking."""
    if "pro" in model:
        return min(max(budget, 128), 32768)
    low = 512 if "lite" in model else 1
    return 0 if budget == 0 else min(max(budget, low), 24576)
