"""Google's generateContent, its stream, and its embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from tests.support.answers import Answer, reply_json, sse
from tests.support.dialects.heard import Wrong, called, new_id, one_of, only
from tests.support.dialects.openai import vector_of
from tests.support.obliging import ANSWER_TOKENS, PROMPT_TOKENS, Asked, Said, oblige
from tests.support.provider import Recorded

FIELDS = ("contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "safetySettings")
CONFIG = (
    "temperature", "topP", "topK", "candidateCount", "presencePenalty", "frequencyPenalty", "maxOutputTokens",
    "stopSequences", "seed", "responseMimeType", "responseJsonSchema", "responseModalities", "thinkingConfig",
)  # fmt: skip
PART = ("text", "thought", "thoughtSignature", "inlineData", "functionCall", "functionResponse")
MUST = {"AUTO": "auto", "NONE": "none", "ANY": "required"}
USAGE = {
    "promptTokenCount": PROMPT_TOKENS,
    "candidatesTokenCount": ANSWER_TOKENS,
    "totalTokenCount": PROMPT_TOKENS + ANSWER_TOKENS,
}


def answer(request: Recorded, path: str) -> Answer:
    place, _, action = unquote(path).partition(":")
    model, body = place.removeprefix("models/"), request.json
    if action == "batchEmbedContents":
        return _embedded(body, model)
    one_of(action, ("generateContent", "streamGenerateContent?alt=sse"), "the action")
    only(body, FIELDS)
    said = oblige(heard(body, model))
    parts = list(_parts(said))
    if action == "generateContent":
        return reply_json(_record(model, parts, over=True))
    *first, last = [_record(model, [part]) for part in _pieces(parts, said)]
    last["candidates"][0]["finishReason"] = "STOP"
    return sse([*first, last], newline=b"\r\n")


def heard(body: Mapping[str, Any], model: str) -> Asked:
    texts: list[str] = []
    calls: set[str] = set()
    pictures, answered = 0, False
    for turn in body["contents"]:
        only(turn, ("role", "parts"), "a turn")
        one_of(turn["role"], ("user", "model"), "role")
        answered = False
        if not turn["parts"]:
            raise Wrong("a turn without parts")
        for part in turn["parts"]:
            only(part, PART, "a part")
            if "functionCall" in part:
                only(part["functionCall"], ("id", "name", "args"), "a call")
                calls.add(part["functionCall"]["name"])
            if "functionResponse" in part:
                only(part["functionResponse"], ("id", "name", "response"), "a result")
                called(calls, part["functionResponse"]["name"])
                dict(part["functionResponse"]["response"])
                answered = True
            pictures += "inlineData" in part
        if turn["role"] == "user":
            texts.append(" ".join(part.get("text", "") for part in turn["parts"]))
    config = body.get("generationConfig") or {}
    only(config, CONFIG, "generationConfig")
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {"mode": "AUTO"}
    names = calling.get("allowedFunctionNames") or []
    system = (body.get("systemInstruction") or {}).get("parts") or ()
    schema = config.get("responseJsonSchema")
    if schema is not None and config.get("responseMimeType") != "application/json":
        raise Wrong("a schema without its type")
    return Asked(
        texts[-1] if texts else "",
        model=model,
        instructions=" ".join(part["text"] for part in system),
        tools=_tools(body),
        must=names[0] if names else MUST[calling["mode"]],
        answered=answered,
        schema=schema,
        as_json=schema is None and config.get("responseMimeType") == "application/json",
        stops=config.get("stopSequences") or (),
        pictures=pictures,
        thinks=bool(config.get("thinkingConfig")),
    )


def _tools(body: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tool in body.get("tools") or ():
        only(tool, ("functionDeclarations",), "a tool")
        for function in tool["functionDeclarations"]:
            only(function, ("name", "description", "parametersJsonSchema"), "a function")
            found[function["name"]] = function.get("parametersJsonSchema") or {}
    return found


def _parts(said: Said) -> Iterator[dict[str, Any]]:
    if said.thought:
        yield {"text": said.thought, "thought": True}
    if said.text:
        yield {"text": said.text}
    for name, given in said.calls:
        yield {"functionCall": {"name": name, "args": given}, "thoughtSignature": "c2lnbmVk"}


def _pieces(parts: list[dict[str, Any]], said: Said) -> Iterator[dict[str, Any]]:
    for part in parts:
        if "text" in part and "thought" not in part:
            yield from ({"text": word} for word in said.words)
        else:
            yield part
    if not parts:
        yield {"text": ""}


def _record(model: str, parts: list[dict[str, Any]], *, over: bool = False) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if over:
        candidate["finishReason"] = "STOP"
    known = {"modelVersion": model, "responseId": new_id("resp")}
    return {"candidates": [candidate], "usageMetadata": USAGE, **known}


def _embedded(body: Mapping[str, Any], model: str) -> Answer:
    only(body, ("requests",))
    found = []
    for item in body["requests"]:
        only(item, ("model", "content", "outputDimensionality", "taskType", "title"), "a request")
        one_of(item["model"], (f"models/{model}",), "model")
        text = "".join(part["text"] for part in item["content"]["parts"])
        found.append({"values": vector_of(text, item.get("outputDimensionality") or 4)})
    return reply_json({"embeddings": found})
