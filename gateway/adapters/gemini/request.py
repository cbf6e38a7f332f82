"""A chat request in Gemini's words: contents, tools, and where settings go (`config.py`)."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gateway.adapters.gemini.config import generation_config
from gateway.adapters.gemini.schema import cleaned
from gateway.adapters.gemini.signatures import IMAGE, TEXT, THOUGHT, UNSIGNED, generation, signatures, signed
from gateway.adapters.inputs import embedded
from gateway.chat import (
    AudioPart,
    ChatRequest,
    FilePart,
    ImagePart,
    Message,
    OtherPart,
    Part,
    ReasoningPart,
    TextPart,
)
from gateway.errors import UnsupportedParameter, UpstreamRejected
from gateway.targets import Target
from media.kinds import AUDIO, IMAGES, PDF, TEXTS, VIDEOS

PICTURES = IMAGES | {"image/heic", "image/heif"}
ACCEPTED = {
    "image_url": PICTURES | {PDF},
    "video_url": VIDEOS,
    "input_audio": AUDIO,
    "file": PICTURES | AUDIO | VIDEOS | TEXTS | {PDF},
}
# What Google reads itself: its own files, and videos.
GOOGLES = (
    "https://generativelanguage.googleapis.com/",
    "https://www.youtube.com/watch?",
    "https://youtube.com/watch?",
    "https://youtu.be/",
)
BUILT_IN = {
    "google_search": "googleSearch",
    "web_search": "googleSearch",
    "web_search_preview": "googleSearch",
    "url_context": "urlContext",
    "code_execution": "codeExecution",
    "code_interpreter": "codeExecution",
}
MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}
# orjson writes 254 levels; what a request has around an object needs some of them.
MAX_DEPTH = 100
SYSTEM = ("system", "developer")


def is_googles(url: str) -> bool:
    return url.startswith(GOOGLES)


def wire_body(target: Target, chat: ChatRequest) -> dict[str, Any]:
    """Raises UnsupportedParameter and UpstreamRejected."""
    conversation = _Conversation(target, chat)
    tools = _tools(target, chat)
    google = chat.body.get("google")
    google = google if isinstance(google, dict) else {}
    body = {
        "contents": conversation.contents,
        "systemInstruction": {"parts": conversation.system} if conversation.system else None,
        "tools": tools,
        "toolConfig": _tool_config(chat) if any("functionDeclarations" in tool for tool in tools) else None,
        "generationConfig": generation_config(target, chat),
        "safetySettings": chat.body.get("safety_settings") or google.get("safety_settings"),
        "cachedContent": google.get("cached_content"),
    }
    return {name: value for name, value in body.items() if value}


class _Conversation:
    """The messages as turns of `user` and `model`; `system` holds the parts of the instruction."""

    def __init__(self, target: Target, chat: ChatRequest) -> None:
        self._target = target
        self._names: dict[str, str] = {}
        self.system: list[dict[str, Any]] = []
        self.contents: list[dict[str, Any]] = []
        before = ""
        for number, message in enumerate(chat.messages()):
            parts = list(self._parts(message, chat.body["messages"][number], f"messages[{number}]"))
            if message.role in SYSTEM:
                self.system.extend(parts)
                continue
            # The results of parallel calls have to stand in one turn; so may what one side says in a row.
            if parts and message.role == before:
                self.contents[-1]["parts"].extend(parts)
            elif parts:
                self.contents.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
                before = message.role
        if not self.contents:
            # An instruction alone is no conversation to Gemini.
            self.contents = [{"role": "user", "parts": self.system or [{"text": ""}]}]
            self.system = []

    def _parts(self, message: Message, item: Mapping[str, Any], at: str) -> Iterator[dict[str, Any]]:
        if message.role == "assistant":
            yield from self._answered(message, item, at)
        elif message.role in ("tool", "function"):
            yield from self._result(message, item, at)
        else:
            yield from self._said(message, at)

    def _said(self, message: Message, at: str) -> Iterator[dict[str, Any]]:
        held = [part for part in message.parts if not isinstance(part, ReasoningPart)]
        for number, part in enumerate(held):
            found = self._part(part, f"{at}.content[{number}]")
            if found:
                yield found

    def _part(self, part: Part, at: str) -> dict[str, Any] | None:
        match part:
            case TextPart(text):
                return {"text": text} if text else None
            case ImagePart(url):
                return self._file(url, f"{at}.image_url.url")
            case AudioPart(data, kind):
                return {"inlineData": {"mimeType": f"audio/{kind}".replace("m4a", "mp4"), "data": data}}
            case FilePart(data, name, id):
                return self._file(data, f"{at}.file.file_data") if data else self._stored(id, name, at)
            case OtherPart(type="refusal", body=body):
                return {"text": body["refusal"]} if isinstance(body.get("refusal"), str) else None
            case OtherPart(type="video_url", body=body):
                held = body.get("video_url")
                return self._file(str(held.get("url") if isinstance(held, dict) else ""), f"{at}.video_url.url")
            case OtherPart(type=kind):
                raise UnsupportedParameter(self._target.provider, f"{at}.type", f"'{kind[:40]}' is not a known part.")
        return None

    def _file(self, url: str, at: str) -> dict[str, Any]:
        if is_googles(url):
            kind = mimetypes.guess_type(url.partition("?")[0])[0]
            return {"fileData": {"fileUri": url, **({"mimeType": kind} if kind else {})}}
        found = embedded(url)
        if found is None:
            raise UpstreamRejected(f"Invalid '{at}': expected a data: URL.", code="invalid_value", param=at)
        # Gemini reads texts, and has no name for this kind of them.
        kind = "text/plain" if found.mime_type == "application/json" else found.mime_type
        return {"inlineData": {"mimeType": kind, "data": found.data}}

    def _stored(self, id: str, name: str, at: str) -> dict[str, Any]:
        """A file that was uploaded to Google: `files/abc` or its whole address."""
        url = id if is_googles(id) else f"{GOOGLES[0]}v1beta/{id}"
        if not is_googles(id) and not id.startswith("files/"):
            raise UnsupportedParameter(self._target.provider, f"{at}.file.file_id", "it names no file of Google's.")
        kind = mimetypes.guess_type(name)[0]
        return {"fileData": {"fileUri": url, **({"mimeType": kind} if kind else {})}}

    def _answered(self, message: Message, item: Mapping[str, Any], at: str) -> Iterator[dict[str, Any]]:
        known = signatures(message)
        if THOUGHT in known:
            yield {"text": "", "thought": True, "thoughtSignature": known[THOUGHT]}
        said = list(self._said(message, at))
        drawn = list(self._drawn(item, at))
        if TEXT in known and not said:
            said = [{"text": ""}]
        for parts, place in ((said, TEXT), (drawn, IMAGE)):
            if parts:
                parts[-1] = signed(parts[-1], known.get(place))
            yield from parts
        unsigned = generation(self._target.upstream_model) >= 3 and not any(
            call.id in known for call in message.tool_calls
        )
        for number, call in enumerate(message.tool_calls):
            self._names[call.id] = call.name
            made: dict[str, Any] = {"name": call.name, "args": _object(call.arguments, "arguments")}
            if call.id:
                made["id"] = call.id
            yield signed({"functionCall": made}, UNSIGNED if unsigned and number == 0 else known.get(call.id))

    def _drawn(self, item: Mapping[str, Any], at: str) -> Iterator[dict[str, Any]]:
        """Pictures of an earlier answer, in the form in which answers hold them."""
        images = item.get("images")
        for number, image in enumerate(images if isinstance(images, list) else ()):
            held = image.get("image_url") if isinstance(image, dict) else None
            if isinstance(held, dict):
                yield self._file(str(held.get("url")), f"{at}.images[{number}].image_url.url")

    def _result(self, message: Message, item: Mapping[str, Any], at: str) -> Iterator[dict[str, Any]]:
        answers = message.tool_call_id or ""
        name = self._names.get(answers) or item.get("name")
        if not isinstance(name, str) or not name:
            raise UpstreamRejected(
                f"Invalid '{at}.tool_call_id': no earlier message holds this call.",
                code="invalid_value",
                param=f"{at}.tool_call_id",
            )
        response = {"error": message.text} if message.is_error else _object(message.text, "result")
        said: dict[str, Any] = {"name": name, "response": response}
        if answers and answers in self._names:
            said["id"] = answers
        yield {"functionResponse": said}
        yield from (part for part in self._said(message, at) if "text" not in part)


def _object(text: str, name: str) -> dict[str, Any]:
    """The object that a text is; of any other text one that holds it under `name`."""
    try:
        found = orjson.loads(text) if text.strip() else {}
    except orjson.JSONDecodeError:
        return {name: text}
    return found if isinstance(found, dict) and _is_flat(found, MAX_DEPTH) else {name: text}


def _is_flat(value: Any, left: int) -> bool:
    if not isinstance(value, (dict, list)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return left > 0 and all(_is_flat(item, left - 1) for item in inner)


def _tools(target: Target, chat: ChatRequest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    declared = [_declared(tool.name, tool.description, tool.parameters) for tool in chat.tools()]
    if declared:
        found.append({"functionDeclarations": declared})
    for number, tool in enumerate(chat.body.get("tools") or ()):
        kind = tool.get("type", "function")
        if kind == "function":
            continue
        if not isinstance(kind, str) or kind not in BUILT_IN:
            raise UnsupportedParameter(target.provider, f"tools[{number}].type")
        found.append({BUILT_IN[kind]: {}})
    if chat.body.get("web_search_options") is not None and {"googleSearch": {}} not in found:
        found.append({"googleSearch": {}})
    return found


def _declared(name: str, description: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name}
    if description:
        made["description"] = description
    # A function without parameters is one without a schema.
    if parameters.get("properties") or set(parameters) - {"type", "properties", "required", "additionalProperties"}:
        made["parametersJsonSchema"] = cleaned(parameters)
    return made


def _tool_config(chat: ChatRequest) -> dict[str, Any] | None:
    choice = chat.tool_choice()
    if choice and choice.startswith("="):
        return {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [choice[1:]]}}
    if choice and choice not in MODES:
        raise UpstreamRejected(
            f"Invalid value for 'tool_choice': expected one of {', '.join(MODES)}.",
            code="invalid_value",
            param="tool_choice",
        )
    return {"functionCallingConfig": {"mode": MODES[choice]}} if choice else None
