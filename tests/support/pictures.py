"""Pictures for tests: real ones, small, of any colour and format."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

from PIL import Image

from tests.support import answers
from tests.support.answers import Answer

GPT_USAGE = {
    "total_tokens": 1080,
    "input_tokens": 24,
    "output_tokens": 1056,
    "input_tokens_details": {"text_tokens": 24, "image_tokens": 0},
}


def picture(colour: str = "red", size: tuple[int, int] = (32, 24), kind: str = "PNG", mode: str = "RGB") -> bytes:
    data = BytesIO()
    Image.new(mode, size, colour).save(data, kind)
    return data.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.load()
    return image


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def images(*items: dict[str, Any] | bytes, **more: Any) -> Answer:
    """An answer of POST /images/generations; bytes become an item in base64."""
    data = [{"b64_json": b64(item)} if isinstance(item, bytes) else item for item in items]
    return answers.raw(json.dumps({"created": 1_700_000_000, "data": data, **more}).encode())


def events(*bodies: dict[str, Any]) -> Answer:
    """A stream of OpenAI's typed events of pictures."""
    return answers.sse([f"event: {body['type']}\ndata: {json.dumps(body)}\n\n".encode() for body in bodies])
