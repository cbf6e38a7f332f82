"""What the dialects share: refusing what is not of a protocol, and names for calls."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

_numbers = itertools.count(1)


class Wrong(Exception):
    """The protocol's real server would refuse this; the message says why."""


def only(body: Mapping[str, Any], known: Iterable[str], at: str = "the body") -> None:
    """Raises Wrong for keys that the protocol does not have."""
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise Wrong(f"unknown in {at}: {', '.join(unknown)}")


def one_of(value: Any, allowed: Iterable[Any], at: str) -> None:
    if value not in allowed:
        raise Wrong(f"{at} cannot be {value!r}")


def called(known: Iterable[str], name: str) -> None:
    """Raises Wrong for the result of a call that nobody made."""
    if name not in known:
        raise Wrong(f"a result for the call {name!r}, which nobody made")


def new_id(prefix: str) -> str:
    return f"{prefix}{next(_numbers):08x}"


def is_data_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("data:image/", "https://"))
