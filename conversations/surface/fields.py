"""Reads what clients send about conversations: every field by name, type and size, and nothing that is unknown."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from rest_framework.request import Request

from conversations.files import UUID
from conversations.models.conversations import CLIENT_ID_CHARS, FOLDER_CHARS, NAME_CHARS, TITLE_CHARS, Message
from conversations.tree import UNSTORABLE, is_keepable
from gateway.errors import BadRequest
from gateway.surfaces.openai.parser import decode, ill_typed, missing

PROMPT_CHARS = 100_000
TAG_CHARS = 50
MAX_TAGS = 20
SETTINGS_BYTES = 16 * 1024
MESSAGE_BYTES = 8 * 1024 * 1024
MAX_PARTS = 500
MAX_ATTACHMENTS = 50
MAX_IDS = 100
MAX_LIMIT = 100
Read = Callable[[str, Any], Any]


class JsonBody:
    """DRF's parser for these routes: an object, not too deep, without what no database takes. Empty is `{}`."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> dict[str, Any]:
        raw = stream.read()
        return checked(decode(raw)) if raw.strip() else {}


def checked(body: dict[str, Any]) -> dict[str, Any]:
    """Raises BadRequest where a text holds a NUL, which PostgreSQL refuses, or a number has more than 64 bits."""
    for name, value in body.items():
        if not _is_clean(name):
            raise BadRequest("A field's name holds a NUL character.")
        if not _is_clean(value):
            raise BadRequest(f"'{name[:100]}' holds a NUL character or a number beyond 64 bits.", param=name[:100])
    return body


def _is_clean(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if UNSTORABLE.search(item):
                return False
        elif isinstance(item, (int, float)):
            if not is_keepable(item):
                return False
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item
    return True


def body_of(request: Request, readers: Mapping[str, Read], required: Iterable[str] = ()) -> dict[str, Any]:
    """The body's fields, each read by its reader. Raises BadRequest, also for a field that has none."""
    body = request.data
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.", code="invalid_type")
    for name in required:
        if name not in body:
            raise missing(name)
    return {name: _reader(readers, name)(name, value) for name, value in body.items()}


def _reader(readers: Mapping[str, Read], name: str) -> Read:
    if name not in readers:
        known = ", ".join(sorted(readers)) or "none"
        raise BadRequest(
            f"Unknown parameter: '{name[:100]}'. There are: {known}.", code="unsupported_parameter", param=name[:100]
        )
    return readers[name]


def query_of(request: Request, readers: Mapping[str, Read]) -> dict[str, Any]:
    """As `body_of`, of the query string; of several values the last counts. Empty is not there, but for a folder."""
    given = checked({name: request.query_params[name] for name in request.query_params})
    read = {name: _reader(readers, name) for name in given}
    return {name: read[name](name, value) for name, value in given.items() if value != "" or name == "folder"}


def a_text(longest: int, *, strip: bool = False) -> Read:
    def read(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise ill_typed(name, "a string")
        text = value.strip() if strip else value
        if len(text) > longest:
            raise BadRequest(f"'{name}' is longer than {longest} characters.", param=name)
        return text

    return read


def a_flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ill_typed(name, "a boolean")
    return value


def an_id(name: str, value: Any) -> uuid.UUID:
    if not isinstance(value, str):
        raise ill_typed(name, "an id")
    if not UUID.match(value):
        raise BadRequest(f"'{name}' is not an id.", param=name)
    return uuid.UUID(value)


def an_id_or_null(name: str, value: Any) -> uuid.UUID | None:
    return None if value is None else an_id(name, value)


def a_number(low: int, high: int) -> Read:
    def read(name: str, value: Any) -> int:
        if type(value) is not int:
            raise ill_typed(name, "an integer")
        if not low <= value <= high:
            raise BadRequest(f"'{name}' must be a number from {low} to {high}.", param=name)
        return value

    return read


a_version = a_number(0, 2**31)
a_folder = a_text(FOLDER_CHARS, strip=True)


def tags(name: str, value: Any) -> list[str]:
    """Without repetitions, in the order given."""
    if not isinstance(value, list):
        raise ill_typed(name, "an array of strings")
    read = a_text(TAG_CHARS, strip=True)
    found = [tag for tag in dict.fromkeys(read(f"{name}[{number}]", item) for number, item in enumerate(value)) if tag]
    if len(found) > MAX_TAGS:
        raise BadRequest(f"At most {MAX_TAGS} tags.", code="array_above_max_length", param=name)
    return found


def an_object(most_bytes: int) -> Read:
    def read(name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ill_typed(name, "an object")
        _check_size(name, value, most_bytes)
        return value

    return read


def a_list_of_objects(most: int) -> Read:
    def read(name: str, value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise ill_typed(name, "an array of objects")
        if len(value) > most:
            raise BadRequest(f"At most {most} items in '{name}'.", code="array_above_max_length", param=name)
        _check_size(name, value, MESSAGE_BYTES)
        return value

    return read


def content(name: str, value: Any) -> Any:
    """A text, or a list of parts that are objects with a `type` or the untyped ones of g4f's clients."""
    if isinstance(value, str):
        _check_size(name, value, MESSAGE_BYTES)
        return value
    return a_list_of_objects(MAX_PARTS)(name, value)


def _check_size(name: str, value: Any, most_bytes: int) -> None:
    if len(orjson.dumps(value)) > most_bytes:
        raise BadRequest(
            f"'{name}' is larger than {most_bytes} bytes.", status=413, code="request_too_large", param=name
        )


def one_of(*values: str) -> Read:
    def read(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise ill_typed(name, "a string")
        if value not in values:
            raise BadRequest(f"'{name}' must be one of: {', '.join(values)}.", param=name)
        return value

    return read


def ids(name: str, value: Any) -> list[uuid.UUID]:
    if not isinstance(value, list):
        raise ill_typed(name, "an array of ids")
    if not value:
        raise BadRequest(f"'{name}' is empty.", code="empty_array", param=name)
    if len(value) > MAX_IDS:
        raise BadRequest(f"At most {MAX_IDS} ids at once.", code="array_above_max_length", param=name)
    return list(dict.fromkeys(an_id(f"{name}[{number}]", item) for number, item in enumerate(value)))


FLAGS = {"true": True, "1": True, "false": False, "0": False}


def a_query_flag(name: str, value: str) -> bool:
    if value.lower() not in FLAGS:
        raise BadRequest(f"'{name}' must be true or false.", param=name)
    return FLAGS[value.lower()]


def a_query_flag_or_any(name: str, value: str) -> bool | None:
    return None if value == "any" else a_query_flag(name, value)


def a_query_number(low: int, high: int) -> Read:
    def read(name: str, value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) <= 10 and low <= int(value) <= high):
            raise BadRequest(f"'{name}' must be a number from {low} to {high}.", param=name)
        return int(value)

    return read


SAID_OF_A_CONVERSATION: dict[str, Read] = {
    "title": a_text(TITLE_CHARS, strip=True),
    "system_prompt": a_text(PROMPT_CHARS),
    "model": a_text(NAME_CHARS),
    "provider": a_text(NAME_CHARS),
    "settings": an_object(SETTINGS_BYTES),
    "folder": a_folder,
    "tags": tags,
    "pinned": a_flag,
    "archived": a_flag,
}
CREATED: dict[str, Read] = {**SAID_OF_A_CONVERSATION, "temporary": a_flag}
CHANGED: dict[str, Read] = {**SAID_OF_A_CONVERSATION, "active_leaf": an_id_or_null, "version": a_version}
APPENDED: dict[str, Read] = {
    "role": one_of(*Message.Role.values),
    "content": content,
    "parent": an_id_or_null,
    "branch": a_flag,
    "version": a_version,
    "client_id": a_text(CLIENT_ID_CHARS),
    "reasoning": a_text(MESSAGE_BYTES),
    "tool_calls": a_list_of_objects(MAX_PARTS),
    "attachments": a_list_of_objects(MAX_ATTACHMENTS),
    "extra": an_object(SETTINGS_BYTES),
    "model": a_text(NAME_CHARS),
    "provider": a_text(NAME_CHARS),
}
BULK: dict[str, Read] = {
    "ids": ids,
    "action": one_of("delete", "restore", "purge", "archive", "unarchive", "pin", "unpin", "move", "tag", "untag"),
    "folder": a_folder,
    "tags": tags,
}
LISTED: dict[str, Read] = {
    "cursor": a_text(200),
    "limit": a_query_number(1, MAX_LIMIT),
    "folder": a_text(FOLDER_CHARS),
    "tag": a_text(TAG_CHARS),
    "pinned": a_query_flag,
    "archived": a_query_flag_or_any,
    "deleted": a_query_flag,
    "q": a_text(200),
}
