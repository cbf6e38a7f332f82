"""Input items of the Responses API: checked and given ids, and as messages of OpenAI's chat.

An assistant's reasoning, words and calls are items of their own here and one message there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.errors import BadRequest
from gateway.surfaces.openai.parser import MAX_PARTS, ill_typed, missing

Item = dict[str, Any]
ROLES = ("user", "assistant", "system", "developer")
MAX_ITEMS = 2000
PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def unsupported(param: str, why: str) -> BadRequest:
    return BadRequest(f"'{param}' is not supported here: {why}", code="unsupported_parameter", param=param)


def text_of(holder: Mapping[str, Any], name: str, at: str, default: str | None = None) -> str:
    """A field that must be a string; `default` makes it optional. Raises BadRequest."""
    value, at = holder.get(name), f"{at}.{name}" if at else name
    if value is None:
        if default is not None:
            return default
        raise missing(at)
    if not isinstance(value, str):
        raise ill_typed(at, "a string")
    return value


def read_items(given: Any) -> list[Item]:
    """`input` as items, still without ids. Raises BadRequest."""
    if given is None:
        raise missing("input")
    if isinstance(given, str):
        return [_message("user", [{"type": "input_text", "text": given}])]
    if not isinstance(given, list):
        raise ill_typed("input", "a string or an array of items")
    if len(given) > MAX_ITEMS:
        raise BadRequest(f"'input' has more than {MAX_ITEMS} items.", code="array_above_max_length", param="input")
    return [_read_item(item, f"input[{index}]") for index, item in enumerate(given)]


def with_ids(items: Iterable[Item], token: str) -> list[Item]:
    """The items under ids from which the response that they belong to can be told."""
    return [
        {"id": f"{PREFIXES.get(item['type'], 'item')}_{token}_i{index}", **item} for index, item in enumerate(items)
    ]


def _message(role: str, content: list[Item]) -> Item:
    return {"type": "message", "role": role, "status": "completed", "content": content}


def _read_item(item: Any, at: str) -> Item:
    if not isinstance(item, dict):
        raise ill_typed(at, "an object")
    kind = item.get("type")
    if kind is None:
        kind = "item_reference" if "role" not in item and "id" in item else "message"
    read = READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise unsupported(f"{at}.type", f"items can be {', '.join(READERS)}.")
    return read(item, at)


def _read_message(item: Item, at: str) -> Item:
    role = text_of(item, "role", at)
    if role not in ROLES:
        raise BadRequest(f"Invalid value for '{at}.role': expected one of {', '.join(ROLES)}.", param=f"{at}.role")
    return _message(role, _read_content(item.get("content"), f"{at}.content", role == "assistant"))


def _read_content(content: Any, at: str, answered: bool = False) -> list[Item]:
    if content is None:
        raise missing(at)
    if isinstance(content, str):
        return [_output_text(content) if answered else {"type": "input_text", "text": content}]
    if not isinstance(content, list):
        raise ill_typed(at, "a string or an array of parts")
    if len(content) > MAX_PARTS:
        raise BadRequest(f"'{at}' has more than {MAX_PARTS} parts.", code="array_above_max_length", param=at)
    return [_read_part(part, f"{at}[{index}]", answered) for index, part in enumerate(content)]


def _output_text(text: str) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _read_part(part: Any, at: str, answered: bool) -> Item:
    if not isinstance(part, dict):
        raise ill_typed(at, "an object")
    kind = text_of(part, "type", at)
    if kind in ("input_text", "output_text", "text"):
        text = text_of(part, "text", at)
        return _output_text(text) if answered else {"type": "input_text", "text": text}
    if kind == "refusal":
        return {"type": "refusal", "refusal": text_of(part, "refusal", at)}
    if kind == "input_image":
        return _read_image(part, at)
    if kind == "input_file":
        return _read_file(part, at)
    if kind == "input_audio":
        audio = part.get("input_audio")
        if not isinstance(audio, dict):
            raise missing(f"{at}.input_audio")
        sound = {name: text_of(audio, name, f"{at}.input_audio") for name in ("data", "format")}
        return {"type": "input_audio", "input_audio": sound}
    raise unsupported(f"{at}.type", "parts can be input_text, input_image, input_file, input_audio and output_text.")


def _read_image(part: Item, at: str) -> Item:
    if part.get("image_url") is None and part.get("file_id") is not None:
        raise unsupported(f"{at}.file_id", "send the picture as a URL or a data: URL in image_url.")
    detail = text_of(part, "detail", at, "auto")
    return {"type": "input_image", "image_url": text_of(part, "image_url", at), "detail": detail}


def _read_file(part: Item, at: str) -> Item:
    if part.get("file_url") is not None:
        raise unsupported(f"{at}.file_url", "send the file as a data: URL in file_data.")
    read = {name: text_of(part, name, at) for name in ("file_data", "filename", "file_id") if part.get(name)}
    if "file_data" not in read and "file_id" not in read:
        raise missing(f"{at}.file_data")
    return {"type": "input_file", **read}


def _read_call(item: Item, at: str) -> Item:
    read = {name: text_of(item, name, at) for name in ("call_id", "name", "arguments")}
    return {"type": "function_call", **read, "status": "completed"}


def _read_output(item: Item, at: str) -> Item:
    call_id, output = text_of(item, "call_id", at), item.get("output")
    if not isinstance(output, str):
        output = _read_content(output, f"{at}.output")
    return {"type": "function_call_output", "call_id": call_id, "output": output, "status": "completed"}


def _read_reasoning(item: Item, at: str) -> Item:
    read: Item = {"type": "reasoning", "summary": _thoughts(item, "summary", at)}
    if content := _thoughts(item, "content", at):
        read["content"] = content
    if encrypted := text_of(item, "encrypted_content", at, ""):
        read["encrypted_content"] = encrypted
    return read


def _thoughts(item: Item, name: str, at: str) -> list[Item]:
    parts = item.get(name)
    if parts is None:
        return []
    if not isinstance(parts, list):
        raise ill_typed(f"{at}.{name}", "an array")
    kind = "summary_text" if name == "summary" else "reasoning_text"
    read = []
    for index, part in enumerate(parts):
        if not isinstance(part, dict):
            raise ill_typed(f"{at}.{name}[{index}]", "an object")
        read.append({"type": kind, "text": text_of(part, "text", f"{at}.{name}[{index}]")})
    return read


def _read_picture(item: Item, at: str) -> Item:
    return {"type": "image_generation_call", "status": "completed", "result": text_of(item, "result", at, "")}


def _read_reference(item: Item, at: str) -> Item:
    return {"type": "item_reference", "reference": text_of(item, "id", at), "at": at}


READERS: dict[str, Callable[[Item, str], Item]] = {
    "message": _read_message,
    "function_call": _read_call,
    "function_call_output": _read_output,
    "reasoning": _read_reasoning,
    "image_generation_call": _read_picture,
    "item_reference": _read_reference,
}


def references(items: Iterable[Item]) -> list[str]:
    return [item["reference"] for item in items if item["type"] == "item_reference"]


def resolved(items: Iterable[Item], found: Mapping[str, Item]) -> list[Item]:
    """The items with what they refer to in place of references. Raises BadRequest."""
    whole = []
    for item in items:
        if item["type"] != "item_reference":
            whole.append(item)
            continue
        named = found.get(item["reference"])
        if named is None:
            shown = item["reference"][:100]
            raise BadRequest(
                f"Item with id {shown!r} not found. Items are kept with responses that are stored.",
                code="item_not_found",
                param=f"{item['at']}.id",
            )
        whole.append({key: value for key, value in named.items() if key != "id"})
    return whole


def messages_of(instructions: str | None, items: Iterable[Item]) -> list[Item]:
    """Chat messages in the order in which things were said."""
    messages: list[Item] = [{"role": "system", "content": instructions}] if instructions else []
    turn: Item | None = None
    for item in items:
        kind = item["type"]
        if kind == "function_call_output":
            turn = None
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": _chat_content(item["output"])})
        elif kind == "message" and item["role"] != "assistant":
            turn = None
            messages.append({"role": item["role"], "content": _chat_content(item["content"])})
        elif kind in ADDERS:
            # Calls and their results must not be parted, so what is said beside calls joins them.
            if turn is None or (turn["content"] is not None and "tool_calls" not in turn and kind != "function_call"):
                turn = {"role": "assistant", "content": None}
                messages.append(turn)
            ADDERS[kind](turn, item)
    return [_joined(message) for message in messages if not _says_nothing(message)]


def _says_nothing(message: Item) -> bool:
    """Reasoning that nobody can take back leaves an empty turn."""
    return message["role"] == "assistant" and message.keys() == {"role", "content"} and message["content"] is None


def _joined(message: Item) -> Item:
    """A turn's words are one text each of what is said and refused. Joined once: piece by piece is quadratic."""
    if message["role"] != "assistant":
        return message
    words = {name: "".join(message[name]) for name in ("content", "refusal") if message.get(name) is not None}
    return message | words


def _add_words(turn: Item, item: Item) -> None:
    for part in item["content"]:
        if part["type"] == "refusal":
            turn.setdefault("refusal", []).append(part["refusal"])
        elif part["type"] == "output_text":
            if turn["content"] is None:
                turn["content"] = []
            turn["content"].append(part["text"])


def _add_call(turn: Item, item: Item) -> None:
    function = {"name": item["name"], "arguments": item["arguments"]}
    turn.setdefault("tool_calls", []).append({"id": item["call_id"], "type": "function", "function": function})


def _add_reasoning(turn: Item, item: Item) -> None:
    """Only what its provider has signed can be given back to it; others are irritated by it."""
    signature = item.get("encrypted_content")
    if not signature:
        return
    text = "\n\n".join(part["text"] for part in (*item["summary"], *item.get("content", ())))
    signed = {"type": "reasoning.text", "text": text, "signature": signature}
    hidden = {"type": "reasoning.encrypted", "data": signature}
    turn.setdefault("reasoning_details", []).append(signed if text else hidden)


ADDERS: dict[str, Callable[[Item, Item], None]] = {
    "message": _add_words,
    "function_call": _add_call,
    "reasoning": _add_reasoning,
}


def _chat_content(content: str | list[Item]) -> Any:
    """One text is a string: not every provider takes parts."""
    if isinstance(content, str):
        return content
    if len(content) == 1 and content[0]["type"] == "input_text":
        return content[0]["text"]
    return [_chat_part(part) for part in content]


def _chat_part(part: Item) -> Item:
    kind = part["type"]
    if kind == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part["detail"]}}
    if kind == "input_file":
        return {"type": "file", "file": {key: value for key, value in part.items() if key != "type"}}
    if kind == "input_audio":
        return part
    return {"type": "text", "text": part.get("text") or part.get("refusal") or ""}
