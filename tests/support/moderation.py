"""A moderation as OpenAI documents it."""

from __future__ import annotations

from typing import Any

NAMES = (
    "hate", "hate/threatening", "harassment", "harassment/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/intent", "self-harm/instructions", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def result(*hit: str) -> dict[str, Any]:
    return {
        "flagged": bool(hit),
        "categories": {name: name in hit for name in NAMES},
        "category_scores": {name: 0.9 if name in hit else 0.01 for name in NAMES},
        "category_applied_input_types": {name: ["text"] for name in NAMES},
    }


BODY = {"id": "modr-1", "model": "omni-moderation-latest", "results": [result("violence"), result()]}
