"""Embeddings of what is remembered: lists of numbers of length 1, so that their product says how alike two are."""

from __future__ import annotations

import logging
import math
import operator
from array import array
from collections.abc import Sequence

from django.conf import settings

from gateway import asking
from gateway.authentication import Principal
from gateway.errors import GatewayError

log = logging.getLogger(__name__)

SURFACE = "backend.memory"


async def packed_of(principal: Principal, texts: Sequence[str]) -> list[bytes] | None:
    """The embedding of each text; None where no model is named for it, or it cannot be had now.

    What is to be remembered, or searched for, never waits for a provider that is away: words are searched anyway.
    """
    if not settings.MEMORY_EMBEDDING_MODEL or not texts:
        return None
    try:
        found = await asking.vectors(principal, settings.MEMORY_EMBEDDING_MODEL, texts, SURFACE)
    except GatewayError as error:
        log.warning("nothing was embedded: %s %s", error.code, error.message)
        return None
    return [packed(vector) for vector in found]


def packed(vector: Sequence[float]) -> bytes:
    """As a row keeps it. One of nothing but zeros, or with numbers that are none, is like nothing: empty."""
    length = math.sqrt(sum(number * number for number in vector))
    if not math.isfinite(length) or not length:
        return b""
    return array("f", [number / length for number in vector]).tobytes()


def likeness(one: bytes, other: bytes) -> float:
    """The cosine of two packed vectors, -1 to 1; 0 where they cannot be compared."""
    if not one or len(one) != len(other):
        return 0.0
    return math.fsum(map(operator.mul, array("f", one), array("f", other)))
