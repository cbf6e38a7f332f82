"""What few answers hold beside text, reasoning and calls, as fields of OpenAI's messages and deltas."""

from __future__ import annotations

import os
from typing import Any

from gateway.events import Citation, MediaOutput, ReasoningSignature, Refusal


def message_fields(event: ReasoningSignature | Citation | MediaOutput | Refusal) -> dict[str, Any]:
    """The fields that the event adds to. Signatures and pictures have OpenRouter's form, for OpenAI has none."""
    match event:
        case ReasoningSignature(data, redacted):
            detail = {"type": "reasoning.text", "text": "", "signature": data}
            return {"reasoning_details": [{"type": "reasoning.encrypted", "data": data} if redacted else detail]}
        case Citation(url, title, start, end):
            source = {"url": url, "title": title, "start_index": start or 0, "end_index": end or 0}
            return {"annotations": [{"type": "url_citation", "url_citation": source}]}
        case MediaOutput(mime_type, data) if mime_type.startswith("audio/"):
            return {"audio": {"id": f"audio_{os.urandom(12).hex()}", "data": data, "expires_at": 0, "transcript": ""}}
        case MediaOutput(mime_type, data):
            return {"images": [{"type": "image_url", "image_url": {"url": f"data:{mime_type};base64,{data}"}}]}
        case Refusal(text):
            return {"refusal": text}
