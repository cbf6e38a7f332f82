"""Requests for pictures: made from a text, or from pictures and a text. They take the way of a chat.

The canonical forms are OpenAI's (`POST /images/generations`, `/images/edits`), and so is that of the answer: a
`RawReply` whose body is OpenAI's ImagesResponse with `b64_json` in each item.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import gcd
from typing import Protocol

from gateway.chat import ChatRequest, Message, TextPart

IMAGES = "images"
MAX_PICTURES = 10
MAX_INPUTS = 16
SIZE = re.compile(r"([1-9]\d{0,4})\s*[x*×]\s*([1-9]\d{0,4})\Z")
RATIO = re.compile(r"([1-9]\d{0,2})\s*[:/]\s*([1-9]\d{0,2})\Z")
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}


@dataclass(frozen=True, slots=True)
class Picture:
    """`mime_type` is what the bytes are, one of EXTENSIONS."""

    data: bytes = field(repr=False)
    mime_type: str

    @property
    def extension(self) -> str:
        return EXTENSIONS[self.mime_type]


class Claim(Protocol):
    """The right to answer a request that may be sent again (`gateway.idempotency`)."""

    async def keep(self, status: int, kind: str, body: bytes) -> None:
        """For whoever sends it again."""


@dataclass(slots=True)
class PictureRequest(ChatRequest):
    """A checked request; `body` has OpenAI's fields beside the pictures. With `pictures` they are to be edited.

    `form` is url or b64_json. `sources` are addresses in the order of the
    pictures, the mask's last where `masked`; they become `pictures` and `mask` before anything is asked. `base` is
    where addresses of ours begin. With a `key` it is done once, however often it is sent; `digest` is of all it says.
    """

    pictures: tuple[Picture, ...] = ()
    mask: Picture | None = None
    form: str = "url"
    sources: tuple[str, ...] = ()
    masked: bool = False
    base: str = ""
    key: str = ""
    digest: str = ""
    claim: Claim | None = None

    @property
    def prompt(self) -> str:
        return self.body["prompt"]  # type: ignore[no-any-return]

    @property
    def count(self) -> int:
        """1 to MAX_PICTURES."""
        return self.body.get("n") or 1

    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels where the caller said both; from `size`, else from `width` and `height`."""
        found = SIZE.match(str(self.body.get("size") or "").strip().lower())
        if found:
            return int(found[1]), int(found[2])
        width, height = self.body.get("width"), self.body.get("height")
        return (width, height) if width and height else None

    def ratio(self) -> tuple[int, int] | None:
        """Width to height, reduced: what was said as `aspect_ratio`, else that of the size."""
        found = RATIO.match(str(self.body.get("aspect_ratio") or "").strip())
        pair = (int(found[1]), int(found[2])) if found else self.size()
        if pair is None:
            return None
        common = gcd(*pair)
        return pair[0] // common, pair[1] // common

    def messages(self) -> tuple[Message, ...]:
        """The text, for limits and estimates."""
        return (Message("user", (TextPart(self.prompt),)),)

    def max_tokens(self) -> int | None:
        return None

    def estimated_tokens(self) -> int:
        """Of the text, for providers that say nothing: four characters to a token."""
        return max(1, len(self.prompt) // 4)
