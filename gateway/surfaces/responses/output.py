"""The items of one response while they come to be: what opens, grows and closes, and what a stream tells of it."""

from __future__ import annotations

import os
from typing import Any

from gateway.events import Citation, MediaOutput, ReasoningSignature, ToolCallDelta

Item = dict[str, Any]
# A stream's event before it has its number.
Told = tuple[str, dict[str, Any]]


class Output:
    """`items` in the order in which they began. Each method gives the events that tell of the change.

    Of words and thoughts one item is open at a time; calls stay open to the end, because several may grow at once.
    """

    def __init__(self, token: str) -> None:
        self.items: list[Item] = []
        self._token = token
        # The item that words or thoughts go to, and its place.
        self._open: Item | None = None
        self._at = 0
        self._part: Item | None = None
        # Of the open part and of each call: joined once, because a text that grows in its place is copied each time.
        self._pieces: list[str] = []
        self._calls: dict[int, tuple[int, Item, list[str]]] = {}
        # Calls whose name has not come: their pieces so far.
        self._unnamed: dict[int, ToolCallDelta] = {}
        # Where words are, for the delta of each.
        self._place: dict[str, Any] = {}

    def text(self, text: str) -> list[Told]:
        part = self._part
        told: list[Told] = []
        if part is None or part["type"] != "output_text":
            told = self._begin_part({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        self._pieces.append(text)
        told.append(("response.output_text.delta", {**self._place, "delta": text, "logprobs": []}))
        return told

    def refusal(self, text: str) -> list[Told]:
        told: list[Told] = []
        if self._part is None or self._part["type"] != "refusal":
            told = self._begin_part({"type": "refusal", "refusal": ""})
        self._pieces.append(text)
        return [*told, ("response.refusal.delta", {**self._place, "delta": text})]

    def citation(self, event: Citation) -> list[Told]:
        """Belongs to the words before it, also when something else has begun since."""
        told: list[Told] = []
        if self._last_text() is None:
            told = self._begin_part({"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        found = self._last_text()
        assert found is not None
        at, index, part = found
        note = {
            "type": "url_citation",
            "url": event.url,
            "title": event.title,
            "start_index": event.start or 0,
            "end_index": event.end or 0,
        }
        part["annotations"].append(note)
        place = {"item_id": self.items[at]["id"], "output_index": at, "content_index": index}
        number = len(part["annotations"]) - 1
        added = {**place, "annotation_index": number, "annotation": note}
        return [*told, ("response.output_text.annotation.added", added)]

    def _last_text(self) -> tuple[int, int, Item] | None:
        for at in range(len(self.items) - 1, -1, -1):
            parts = self.items[at].get("content", ()) if self.items[at]["type"] == "message" else ()
            for index in range(len(parts) - 1, -1, -1):
                if parts[index]["type"] == "output_text":
                    return at, index, parts[index]
        return None

    def thought(self, text: str) -> list[Told]:
        told: list[Told] = []
        if self._open is None or self._open["type"] != "reasoning":
            told = self._begin({"type": "reasoning", "summary": []}, "rs")
        if self._part is None:
            told += self._begin_summary()
        self._pieces.append(text)
        return [*told, ("response.reasoning_summary_text.delta", {**self._place, "delta": text})]

    def signature(self, event: ReasoningSignature) -> list[Told]:
        """Ends a piece of reasoning; the next one is an item of its own."""
        told: list[Told] = []
        if self._open is None or self._open["type"] != "reasoning":
            told = self._begin({"type": "reasoning", "summary": []}, "rs")
        assert self._open is not None
        self._open["encrypted_content"] = event.data
        return told + self.close()

    def media(self, event: MediaOutput) -> list[Told]:
        if not event.mime_type.startswith("image/"):
            # The protocol has no word for a finished sound; this is the part that OpenAI's inputs know.
            told = self._begin_part({"type": "output_audio", "data": event.data, "transcript": ""})
            return told + self.close()
        kind = event.mime_type.removeprefix("image/")
        began = self._begin({"type": "image_generation_call", "status": "in_progress", "result": None}, "ig")
        item, place = self.items[-1], {"item_id": self.items[-1]["id"], "output_index": len(self.items) - 1}
        steps: list[Told] = [
            (f"response.image_generation_call.{step}", place) for step in ("in_progress", "generating", "completed")
        ]
        item.update(status="completed", result=event.data, output_format=kind)
        self._open = None
        return [*began, *steps, ("response.output_item.done", {"output_index": place["output_index"], "item": item})]

    def call(self, event: ToolCallDelta) -> list[Told]:
        known = self._calls.get(event.position)
        if known is not None:
            return self._call_piece(known, event.arguments)
        waiting = self._unnamed.pop(event.position, None)
        if waiting is not None:
            event = ToolCallDelta(
                event.position, event.id or waiting.id, event.name, waiting.arguments + event.arguments
            )
        if not event.name:
            self._unnamed[event.position] = event
            return []
        return self._begin_call(event)

    def _begin_call(self, event: ToolCallDelta) -> list[Told]:
        call_id = event.id or f"call_{os.urandom(12).hex()}"
        item = {"type": "function_call", "status": "in_progress", "call_id": call_id}
        told = self._begin({**item, "name": event.name or "", "arguments": ""}, "fc")
        self._open = None
        known = self._calls[event.position] = (len(self.items) - 1, self.items[-1], [])
        return told + self._call_piece(known, event.arguments)

    def _call_piece(self, known: tuple[int, Item, list[str]], arguments: str) -> list[Told]:
        at, item, pieces = known
        if not arguments:
            return []
        pieces.append(arguments)
        place = {"item_id": item["id"], "output_index": at}
        return [("response.function_call_arguments.delta", {**place, "delta": arguments})]

    def end(self, status: str) -> list[Told]:
        """Closes whatever is open; `status` is completed or incomplete."""
        told: list[Told] = []
        for event in list(self._unnamed.values()):
            told += self._begin_call(event)
        told += self.close(status)
        self.settle()
        for at, item, _ in self._calls.values():
            item["status"] = status
            place = {"item_id": item["id"], "output_index": at}
            done = {**place, "name": item["name"], "arguments": item["arguments"]}
            told.append(("response.function_call_arguments.done", done))
            told.append(("response.output_item.done", {"output_index": at, "item": item}))
        self._calls, self._unnamed = {}, {}
        return told

    def settle(self) -> None:
        """Makes `items` whole as far as they have grown."""
        if self._part is not None and self._pieces:
            name = "refusal" if self._part["type"] == "refusal" else "text"
            self._part[name] += "".join(self._pieces)
        self._pieces = []
        for _, item, pieces in self._calls.values():
            item["arguments"] += "".join(pieces)
            pieces.clear()

    def close(self, status: str = "completed") -> list[Told]:
        item = self._open
        if item is None:
            return []
        told = self._close_part()
        self._open = None
        if item["type"] == "message":
            item["status"] = status
        return [*told, ("response.output_item.done", {"output_index": self._at, "item": item})]

    def _begin(self, item: Item, prefix: str) -> list[Told]:
        told = self.close()
        at = len(self.items)
        item = {"id": f"{prefix}_{self._token}_{at}", **item}
        self.items.append(item)
        self._open, self._at, self._part = item, at, None
        # A copy: the item grows, and an event tells of a moment.
        told.append(("response.output_item.added", {"output_index": at, "item": {**item}}))
        if item["type"] in ("message", "reasoning"):
            for name in ("content", "summary"):
                if name in item:
                    told[-1][1]["item"][name] = []
        return told

    def _begin_part(self, part: Item) -> list[Told]:
        told = self._close_part()
        if self._open is None or self._open["type"] != "message":
            told += self._begin({"type": "message", "status": "in_progress", "role": "assistant", "content": []}, "msg")
        assert self._open is not None
        self._open["content"].append(part)
        self._part = part
        index = len(self._open["content"]) - 1
        self._place = {"item_id": self._open["id"], "output_index": self._at, "content_index": index}
        shown = {**part, "annotations": []} if "annotations" in part else {**part}
        return [*told, ("response.content_part.added", {**self._place, "part": shown})]

    def _begin_summary(self) -> list[Told]:
        assert self._open is not None
        self._part = {"type": "summary_text", "text": ""}
        self._open["summary"].append(self._part)
        self._place = {"item_id": self._open["id"], "output_index": self._at, "summary_index": 0}
        return [("response.reasoning_summary_part.added", {**self._place, "part": {**self._part}})]

    def _close_part(self) -> list[Told]:
        self.settle()
        part, self._part = self._part, None
        if part is None:
            return []
        place = self._place
        if part["type"] == "summary_text":
            return [
                ("response.reasoning_summary_text.done", {**place, "text": part["text"]}),
                ("response.reasoning_summary_part.done", {**place, "part": part}),
            ]
        done: list[Told] = [("response.content_part.done", {**place, "part": part})]
        if part["type"] == "refusal":
            return [("response.refusal.done", {**place, "refusal": part["refusal"]}), *done]
        if part["type"] == "output_text":
            return [("response.output_text.done", {**place, "text": part["text"], "logprobs": []}), *done]
        return done
