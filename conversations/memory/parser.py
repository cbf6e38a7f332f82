"""Checks what callers send about memory. Every function raises BadRequest."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from rest_framework.request import Request

from conversations.memory.store import New, Wanted
from conversations.models import MemoryItem
from conversations.models.memory import ID_CHARS, NAMESPACE_CHARS, TEXT_CHARS
from conversations.tree import storable, text_of
from gateway.authentication import Principal
from gateway.errors import BadRequest
from gateway.surfaces.openai.parser import ROLES, ill_typed, missing

MAX_NEW = 100
MAX_METADATA = 4096
MAX_FILTERS = 20
MAX_PAGE_SIZE = 100
PAGE_SIZE = 100
MAX_PAGE = 10_000
COMPARED = {
    "gte": lambda one, other: one >= other,
    "gt": lambda one, other: one > other,
    "lte": lambda one, other: one <= other,
    "lt": lambda one, other: one < other,
}


def not_found() -> BadRequest:
    return BadRequest("No such memory.", status=404, code="memory_not_found")


def namespace_of(user_id: str, principal: Principal) -> str:
    """Empty for one's own memory; for staff any other name is one of theirs. Raises BadRequest 404."""
    if user_id in ("me", str(principal.user_id), principal.username):
        return ""
    if not principal.is_staff or len(user_id) > NAMESPACE_CHARS or not user_id.isprintable():
        raise not_found()
    return user_id


def object_of(request: Request) -> dict[str, Any]:
    if not isinstance(request.data, dict):
        raise ill_typed("body", "an object")
    return request.data


def new_items(body: dict[str, Any]) -> list[New]:
    given = body.get("items")
    if given is None:
        raise missing("items")
    if not isinstance(given, list):
        raise ill_typed("items", "an array")
    if len(given) > MAX_NEW:
        raise BadRequest(f"'items' has more than {MAX_NEW} items.", code="array_above_max_length", param="items")
    conversation_id = body.get("id") or ""
    if not isinstance(conversation_id, str | int):
        raise ill_typed("id", "a string")
    origin, metadata = storable(str(conversation_id))[:ID_CHARS], metadata_of(body) or {}
    found = [_item(item, f"items[{at}]", origin, metadata) for at, item in enumerate(given)]
    return [item for item in found if item.text]


def _item(given: Any, at: str, conversation_id: str, metadata: dict[str, Any]) -> New:
    """`{"role", "content"}`, `{"memory"}` or a plain text."""
    if isinstance(given, str):
        return New(memory_text(given, at), "", conversation_id, metadata)
    if not isinstance(given, dict):
        raise ill_typed(at, "an object or a string")
    role = given.get("role") or ""
    if role not in ("", *ROLES):
        raise BadRequest(f"Invalid value for '{at}.role': expected one of {', '.join(ROLES)}.", param=f"{at}.role")
    name = "memory" if "memory" in given else "content"
    own = metadata_of(given, f"{at}.metadata")
    text = given.get(name)
    if isinstance(text, list):
        text = text_of(text)
    return New(memory_text(text, f"{at}.{name}"), role, conversation_id, {**metadata, **(own or {})})


def memory_text(value: Any, param: str) -> str:
    if value is None:
        raise missing(param)
    if not isinstance(value, str):
        raise ill_typed(param, "a string")
    text: str = storable(value).strip()
    if len(text) > TEXT_CHARS:
        raise BadRequest(
            f"'{param}' has more than {TEXT_CHARS} characters.",
            status=422,
            code="string_above_max_length",
            param=param,
        )
    return text


def metadata_of(body: dict[str, Any], param: str = "metadata") -> dict[str, Any] | None:
    given = body.get("metadata")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise ill_typed(param, "an object")
    if _size(given) > MAX_METADATA:
        raise BadRequest(
            f"'{param}' has more than {MAX_METADATA} bytes.", status=422, code="string_above_max_length", param=param
        )
    found: dict[str, Any] = storable(given)
    return found


def _size(value: Any) -> int:
    try:
        return len(orjson.dumps(value))
    except TypeError:
        # It lies deeper than can be written.
        return MAX_METADATA + 1


def wanted_of(request: Request, principal: Principal, user_id: str) -> Wanted:
    """What `filters` and `metadata` of the query let through, both JSON objects."""
    filters, metadata = _json_of(request, "filters"), _json_of(request, "metadata")
    conditions = _conditions(filters, {user_id, "me", principal.username, str(principal.user_id)})
    if metadata:
        conditions.append(_with_metadata(metadata))
    return lambda item: all(condition(item) for condition in conditions)


def _json_of(request: Request, name: str) -> dict[str, Any]:
    text = request.query_params.get(name)
    if not text:
        return {}
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise BadRequest(f"'{name}' is not valid JSON.", code="invalid_json", param=name) from None
    if not isinstance(found, dict):
        raise ill_typed(name, "a JSON object")
    return found


def _conditions(filters: dict[str, Any], own: set[str], depth: int = 0) -> list[Wanted]:
    if len(filters) > MAX_FILTERS or depth > 3:
        raise BadRequest("'filters' has too many conditions.", code="array_above_max_length", param="filters")
    found: list[Wanted] = []
    for name, value in filters.items():
        match name:
            case "AND" if isinstance(value, list) and len(value) <= MAX_FILTERS:
                for part in value:
                    if not isinstance(part, dict):
                        raise ill_typed("filters.AND", "an array of objects")
                    found += _conditions(part, own, depth + 1)
            case "user_id":
                found.append(lambda _, mine=str(value) in own: mine)  # type: ignore[misc]
            case "role":
                found.append(lambda item, value=value: item.role == value)  # type: ignore[misc]
            case "conversation_id" | "run_id":
                found.append(lambda item, value=value: item.conversation_id == value)  # type: ignore[misc]
            case "metadata" if isinstance(value, dict):
                found.append(_with_metadata(value))
            case "created_at" if isinstance(value, dict):
                found += [_at(word, moment) for word, moment in value.items()]
            case _:
                raise BadRequest(f"Unknown filter {name[:50]!r}.", param="filters")
    return found


def _with_metadata(wanted: dict[str, Any]) -> Wanted:
    return lambda item: all(item.metadata.get(name, _NOTHING) == value for name, value in wanted.items())


_NOTHING = object()


def _at(word: str, moment: Any) -> Wanted:
    compare = COMPARED.get(word)
    if compare is None:
        raise BadRequest("'filters.created_at' knows gte, gt, lte and lt.", param="filters")
    try:
        at = datetime.fromisoformat(moment)
    except (TypeError, ValueError):
        raise BadRequest("'filters.created_at' must be ISO 8601 times.", param="filters") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return lambda item: compare(item.created_at, at)


def described(item: MemoryItem, user_id: str, score: float | None = None) -> dict[str, Any]:
    """An item as callers see it."""
    return {
        "id": str(item.key),
        "memory": item.text,
        "user_id": user_id,
        "role": item.role,
        "conversation_id": item.conversation_id,
        "metadata": item.metadata,
        "created_at": item.created_at.isoformat(),
        "updated_at": item.updated_at.isoformat(),
        **({} if score is None else {"score": score}),
    }
