"""Estimates of tokens, for what no provider has counted."""

from __future__ import annotations

from gateway.chat import AudioPart, ChatRequest, FilePart, ImagePart, ReasoningPart, TextPart
from gateway.events import Usage

CHARACTERS_PER_TOKEN = 4
PER_MESSAGE = 4
# What Anthropic's documentation names as the most that a picture costs; a page of a PDF is about two.
PER_PICTURE = 1600
PER_FILE = 3200


def prompt_tokens(chat: ChatRequest) -> int:
    """Four characters of text, calls and tools to one; pictures and files by the piece."""
    characters = tokens = 0
    for message in chat.messages():
        tokens += PER_MESSAGE
        characters += sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
        for part in message.parts:
            match part:
                case TextPart(text) | ReasoningPart(text):
                    characters += len(text)
                case ImagePart():
                    tokens += PER_PICTURE
                case FilePart() | AudioPart():
                    tokens += PER_FILE
    characters += sum(len(str(tool)) for tool in chat.body.get("tools") or ())
    return tokens + characters // CHARACTERS_PER_TOKEN


def estimated(chat: ChatRequest, chunks: int) -> Usage:
    """For providers that say nothing: the prompt as above, chunks for what was answered."""
    return Usage(prompt_tokens(chat), chunks, estimated=True)
