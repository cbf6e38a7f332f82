"""OpenAI's chat request in the words of Anthropic's Messages API.

JSON schemas go into `output_config.format`. There is no word for `json_object`: the system prompt asks for it.
Temperatures above 1 are refused and not scaled, because nobody could tell what they were scaled to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.adapters.anthropic.content import Block, has_unsigned_calls, turns
from gateway.adapters.anthropic.schemas import closed
from gateway.chat import ChatRequest
from gateway.errors import UnsupportedParameter
from gateway.targets import Target

# The protocol wants a number where OpenAI's has none.
DEFAULT_MAX_TOKENS = 8192
MIN_BUDGET = 1024
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768}
# platform.claude.com/docs, "Adaptive thinking" and "Effort": from these versions on.
ADAPTIVE, XHIGH = (4, 6), (4, 7)
# `claude-opus-4-6`, `claude-sonnet-4.6`, `claude-3-7-sonnet-latest`; what has more digits is a date.
VERSION = re.compile(r"[-.](\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
WORDS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
# A budget of tokens as the effort that comes nearest.
EFFORTS = ((4096, "low"), (16384, "medium"))
# Names that are Anthropic's alone: callers who send them mean them.
OWN_FIELDS = ("thinking", "output_config", "container", "mcp_servers", "context_management", "cache_control",
              "inference_geo", "speed", "diagnostics")  # fmt: skip
# What is set to these says the same as nothing. Everything else cannot be said here.
MEANINGLESS: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "seed": (),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "audio": ({},),
    "web_search_options": (),
    "functions": ([],),
}
JSON_ONLY = "Answer with one JSON object and nothing else: no text around it, no code fence."
COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control",
           "mcp_servers", "context_management")  # fmt: skip


def message_body(target: Target, chat: ChatRequest) -> dict[str, Any]:
    """Raises UnsupportedParameter, or UpstreamRejected for parts that cannot be sent."""
    _refuse_unsupported(target, chat)
    system, messages = turns(target, chat)
    asked = chat.answer_format()
    if asked.kind == "json_object":
        system.append({"type": "text", "text": JSON_ONLY})
    body: dict[str, Any] = {
        **{name: chat.body[name] for name in OWN_FIELDS if chat.body.get(name) is not None},
        "model": target.upstream_model,
        "messages": messages,
        **({"system": system} if system else {}),
        **_tools(target, chat),
        **_sampling(target, chat),
        **_identity(chat),
    }
    if asked.kind == "json_schema":
        own = body.get("output_config")
        form = {"type": "json_schema", "schema": closed(asked.schema or {})}
        body["output_config"] = {**(own if isinstance(own, dict) else {}), "format": form}
    (_adapt if is_adaptive(target.upstream_model) else _think)(target, chat, body)
    if chat.stream:
        body["stream"] = True
    return body


def counted_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the route that counts takes of a request."""
    return {name: body[name] for name in COUNTED if name in body}


def _refuse_unsupported(target: Target, chat: ChatRequest) -> None:
    for name, meaningless in MEANINGLESS.items():
        value = chat.body.get(name)
        if value is not None and value not in meaningless:
            raise UnsupportedParameter(target.provider, name)
    modalities = chat.body.get("modalities")
    if isinstance(modalities, list) and any(kind != "text" for kind in modalities):
        raise UnsupportedParameter(target.provider, "modalities", "it answers with text alone.")


def _sampling(target: Target, chat: ChatRequest) -> dict[str, Any]:
    body: dict[str, Any] = {}
    temperature, top_p = chat.body.get("temperature"), chat.body.get("top_p")
    if temperature is not None and temperature > 1:
        raise UnsupportedParameter(target.provider, "temperature", "it takes numbers from 0 to 1.")
    # 1 is the default of both, and newer models refuse to be given both.
    if temperature is not None and temperature != 1:
        body["temperature"] = temperature
    if top_p is not None and top_p != 1:
        body["top_p"] = top_p
    if chat.body.get("top_k") is not None:
        body["top_k"] = chat.body["top_k"]
    stops = [stop for stop in chat.stops() if stop]
    if any(not stop.strip() for stop in stops):
        raise UnsupportedParameter(target.provider, "stop", "a stop text must hold more than blanks.")
    return {**body, "stop_sequences": stops} if stops else body


def _identity(chat: ChatRequest) -> dict[str, Any]:
    user = chat.body.get("user") or chat.body.get("safety_identifier")
    tier = chat.body.get("service_tier")
    return {
        **({"metadata": {"user_id": user}} if user else {}),
        **({"service_tier": tier} if tier in ("auto", "standard_only") else {}),
    }


def _tools(target: Target, chat: ChatRequest) -> dict[str, Any]:
    tools = [_tool(target, tool) for tool in chat.body.get("tools") or ()]
    if not tools:
        return {}
    choice = _choice(chat.tool_choice())
    if chat.body.get("parallel_tool_calls") is False and (choice or {}).get("type") != "none":
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return {"tools": tools, **({"tool_choice": choice} if choice else {})}


def _choice(choice: str | None) -> Block | None:
    if choice is None:
        return None
    if choice.startswith("="):
        return {"type": "tool", "name": choice[1:]}
    return {"type": {"required": "any", "none": "none"}.get(choice, "auto")}


def _tool(target: Target, tool: Mapping[str, Any]) -> Block:
    kind = tool.get("type", "function")
    if kind == "custom" and "input_schema" not in tool:
        raise UnsupportedParameter(target.provider, "tools", "it knows no tools of free text.")
    if kind != "function":
        # The provider's own tools, such as its search of the web, are named by their type.
        return {**tool}
    function = tool["function"]
    schema = function.get("parameters") or {}
    found: Block = {"name": function["name"], "input_schema": {"type": "object", **schema}}
    if function.get("description"):
        found["description"] = function["description"]
    if function.get("strict") is True:
        found["strict"], found["input_schema"] = True, closed(found["input_schema"])
    mark = tool.get("cache_control") or function.get("cache_control")
    return {**found, "cache_control": mark} if mark else found


def _think(target: Target, chat: ChatRequest, body: dict[str, Any]) -> None:
    """Sets `max_tokens`, and `thinking` from OpenAI's or OpenRouter's words for it.

    The budget must lie below `max_tokens`, at least 1024. A wish to think is dropped where it cannot be met: with
    a tool that must be called, with fewer tokens, and after calls whose thoughts the caller did not keep.
    """
    limit = chat.max_tokens()
    if "thinking" in body:
        body["max_tokens"] = limit or DEFAULT_MAX_TOKENS + _own_budget(body["thinking"])
        return
    budget = _budget(chat)
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    too_few = limit is not None and limit <= MIN_BUDGET
    if not budget or forced or too_few or has_unsigned_calls(body["messages"]):
        body["max_tokens"] = limit or DEFAULT_MAX_TOKENS
        return
    for name in ("temperature", "top_k"):
        if name in body:
            raise UnsupportedParameter(target.provider, name, "it cannot be set while the model thinks.")
    body["max_tokens"] = limit or DEFAULT_MAX_TOKENS + budget
    body["thinking"] = {"type": "enabled", "budget_tokens": min(budget, body["max_tokens"] - 1)}


def version(model: str) -> tuple[int, int]:
    """Of a Claude model, by its name; (0, 0) for models that are none, or say none."""
    found = VERSION.search(model.lower()) if "claude" in model.lower() else None
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def is_adaptive(model: str) -> bool:
    """Whether the model itself says how long it thinks: newer ones refuse a budget of tokens."""
    return version(model) >= ADAPTIVE


def _adapt(target: Target, chat: ChatRequest, body: dict[str, Any]) -> None:
    """As `_think`, for models that are told an effort. They think where they find it worth it, and say nothing of
    their thoughts unless they are asked to."""
    effort = _adaptive_effort(target, chat)
    limit = chat.max_tokens()
    if "thinking" in body:
        body["max_tokens"] = limit or DEFAULT_MAX_TOKENS + _own_budget(body["thinking"])
        return
    body["max_tokens"] = limit or DEFAULT_MAX_TOKENS + (BUDGETS[effort] if effort else 0)
    if not effort:
        return
    body["output_config"] = {"effort": effort, **body.get("output_config", {})}
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        return
    for name in ("temperature", "top_k"):
        if name in body:
            raise UnsupportedParameter(target.provider, name, "it cannot be set while the model thinks.")
    asked = chat.body.get("reasoning")
    hidden = isinstance(asked, dict) and asked.get("exclude") is True
    body["thinking"] = {"type": "adaptive", "display": "omitted" if hidden else "summarized"}


def _adaptive_effort(target: Target, chat: ChatRequest) -> str:
    """One of the protocol's own words; empty for none."""
    asked = chat.body.get("reasoning")
    asked = asked if isinstance(asked, dict) else {}
    effort = asked.get("effort") or chat.body.get("reasoning_effort")
    tokens = asked.get("max_tokens")
    if effort is None and type(tokens) is int and tokens > 0:
        effort = next((word for most, word in EFFORTS if tokens < most), "high")
    if effort is None and asked.get("enabled") is True:
        effort = "medium"
    if effort == "xhigh" and version(target.upstream_model) < XHIGH:
        return "high"
    return WORDS.get(effort, "") if isinstance(effort, str) else ""


def _own_budget(thinking: Any) -> int:
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return budget if isinstance(budget, int) else 0


def _budget(chat: ChatRequest) -> int:
    """Tokens for thinking; 0 for none."""
    asked = chat.body.get("reasoning")
    asked = asked if isinstance(asked, dict) else {}
    tokens = asked.get("max_tokens")
    if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0:
        return max(MIN_BUDGET, tokens)
    effort = asked.get("effort") or chat.body.get("reasoning_effort")
    if effort is None and asked.get("enabled") is True:
        effort = "medium"
    return BUDGETS.get(effort, 0) if isinstance(effort, str) else 0
