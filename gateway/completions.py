"""Legacy completions: a text is continued. Sent to providers that know them, or asked as chats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.chat import ChatRequest
from gateway.events import Usage

# What a chat says otherwise, or not at all.
NO_CHAT_FIELDS = ("prompt", "suffix", "echo", "best_of", "logprobs")
MAX_PROMPTS = 20


@dataclass(slots=True)
class CompletionRequest(ChatRequest):
    """A checked request. `legacy` is OpenAI's body as it came; `body` is a chat of all its prompts, for estimates."""

    legacy: Mapping[str, Any] = field(default_factory=dict, repr=False)
    # What its prompts used that were answered, while the others still are.
    spent: list[Usage] = field(default_factory=list, repr=False)

    @property
    def prompts(self) -> list[Any]:
        """One text or list of tokens each."""
        prompt = self.legacy["prompt"]
        return prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]

    @property
    def choices(self) -> int:
        """Of each prompt."""
        return self.legacy.get("n") or 1

    def echoed(self, index: int) -> str:
        """What stands before the choice's own text."""
        prompts = self.prompts
        prompt = prompts[min(index // self.choices, len(prompts) - 1)]
        return prompt if self.legacy.get("echo") and isinstance(prompt, str) else ""

    def as_sent(self) -> ChatRequest:
        """For providers that have the route."""
        return ChatRequest(self.model, self.provider, self.stream, self.include_usage, self.legacy)

    def chat(self, prompt: str) -> ChatRequest:
        body = {**self.body, "messages": [_asked(prompt)]}
        return ChatRequest(self.model, self.provider, self.stream, self.include_usage, body, raw=False)


def _asked(prompt: Any) -> dict[str, Any]:
    # Of tokens only their number is known: about as long as four characters each.
    return {"role": "user", "content": prompt if isinstance(prompt, str) else "...." * len(prompt)}


def chat_body(legacy: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that mean the same in a chat, and all prompts as its messages."""
    kept = {name: value for name, value in legacy.items() if name not in NO_CHAT_FIELDS}
    prompt = legacy["prompt"]
    prompts = prompt if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]
    return {**kept, "messages": [_asked(item) for item in prompts]}
