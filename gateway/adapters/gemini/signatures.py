"""Gemini's thought signatures in the form in which they travel through callers.

A signature belongs to the part that it came with. Our events and OpenAI's messages keep signatures apart from calls
and texts, so each says itself where it belongs: `gemini:CALL-ID:SIGNATURE`, or TEXT, THOUGHT or IMAGE for the id.
"""

from __future__ import annotations

import re
from typing import Any

from gateway.chat import Message, ReasoningPart

TEXT, THOUGHT, IMAGE = "text", "thought", "image"
MARK = "gemini"
# What Google documents for calls in a history that no Gemini model made.
UNSIGNED = "skip_thought_signature_validator"
MAJOR = re.compile(r"gemini-(\d+)")


def marked(place: str, signature: str) -> str:
    return f"{MARK}:{place}:{signature}"


def signatures(message: Message) -> dict[str, str]:
    """By call id, TEXT, THOUGHT or IMAGE; what other providers signed is left out."""
    found: dict[str, str] = {}
    for part in message.parts:
        mark, _, rest = part.signature.partition(":") if isinstance(part, ReasoningPart) else ("", "", "")
        place, _, signature = rest.partition(":")
        if mark == MARK and place and signature:
            found[place] = signature
    return found


def generation(model: str) -> int:
    """3 for gemini-3-pro; 0 when the name does not say."""
    found = MAJOR.search(model)
    return int(found[1][:4]) if found else 0


def signed(part: dict[str, Any], signature: str | None) -> dict[str, Any]:
    return {**part, "thoughtSignature": signature} if signature else part
