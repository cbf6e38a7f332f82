"""Whatever a caller or Gemini sends, nothing falls; and what a model said survives the way to a client and back."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import (
    GatewayError,
    UpstreamError,
)
from gateway.surfaces.openai.encoder import ChunkEncoder
from gateway.surfaces.openai.parser import parse_chat
from gateway.upstream import Reply
from tests.support.gemini import (
    ADAPTER,
    FIXTURES,
    PICTURE,
    TARGET,
    body,
    call,
    chat,
    frame,
    function,
    message,
    streamed,
)

PLAIN = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
SHORT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | SHORT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(PLAIN, JSON, max_size=3)
SIGNATURE = st.from_regex(r"[A-Za-z0-9+/]{4,20}={0,2}", fullmatch=True)
SIGNED = st.fixed_dictionaries({}, optional={"thoughtSignature": SIGNATURE})
CALLS = st.builds(
    lambda call, signed: {"functionCall": call, **signed},
    st.fixed_dictionaries({"name": st.from_regex(r"[a-z_]{1,10}", fullmatch=True), "args": ARGUMENTS}),
    SIGNED,
)
TEXTS = st.builds(lambda text, signed: {"text": text, **signed}, PLAIN, SIGNED)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


IMAGE = {"type": "image_url", "image_url": {"url": PICTURE}}
DETAILS = [{"type": "reasoning.encrypted", "data": "gemini:c:x"}]
SCHEMA = {"type": "object", "properties": {"a": {"$ref": "#/x"}}, "allOf": [{"required": ["a"]}]}
ASKED = {
    "model": "m",
    "messages": [
        {"role": "user", "content": [IMAGE, {"type": "file", "file": {"file_data": PICTURE}}]},
        {
            "role": "assistant",
            "content": "a",
            "tool_calls": [call("c", "f", "{}")],
            "reasoning_details": DETAILS,
            "images": [IMAGE],
        },
        {"role": "tool", "tool_call_id": "c", "content": "x", "is_error": False},
    ],
    "tools": [function("f", SCHEMA), {"type": "google_search"}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "reasoning": {"effort": "low", "max_tokens": 5, "enabled": True},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "google": {"thinking_config": {}},
    "modalities": ["text", "audio"],
    "audio": {"voice": "x"},
    "top_k": 5,
    "seed": 5,
    "stop": ["a"],
    "web_search_options": {},
    "safety_settings": [],
}


class TestProperties:
    @QUICK
    @given(st.lists(TEXTS, max_size=1), st.lists(CALLS, max_size=4))
    def test_an_answer_survives_the_way_to_a_client_and_back(self, texts: list[Any], calls: list[Any]) -> None:
        parts = [*texts, *calls]
        record = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
        for events in (ADAPTER.answer(TARGET, record), streamed(frame(record))):
            said = message(events)
            results = [
                {"role": "tool", "tool_call_id": made["id"], "content": orjson.dumps({"n": n}).decode()}
                for n, made in enumerate(said.get("tool_calls", ()))
            ]
            turns = body({"role": "user", "content": "hi"}, said, *results, {"role": "user", "content": "on"})[
                "contents"
            ]
            returned = [turn for turn in turns if turn["role"] == "model"]
            ids = [
                part["functionCall"].pop("id") for turn in returned for part in turn["parts"] if "functionCall" in part
            ]
            assert [part for turn in returned for part in turn["parts"]] == parts
            answered = [
                part["functionResponse"] for turn in turns for part in turn["parts"] if "functionResponse" in part
            ]
            assert [(item["id"], item["response"]) for item in answered] == [
                (made, {"n": n}) for n, made in enumerate(ids)
            ]
            assert [item["name"] for item in answered] == [part["functionCall"]["name"] for part in calls]

    @QUICK
    @given(st.sampled_from(sorted(FIXTURES.glob("*.json"))), st.data())
    def test_no_answer_makes_it_fall(self, path: Path, data: st.DataObject) -> None:
        record = json.loads(path.read_text())
        spoiled = spoil(record, data)
        if not isinstance(spoiled, dict):
            return
        with contextlib.suppress(UpstreamError):
            message(ADAPTER.answer(TARGET, spoiled))
        with contextlib.suppress(UpstreamError):
            encoder = ChunkEncoder(chat())
            for event in streamed(frame(spoiled)):
                encoder.encode(event)
        assert isinstance(ADAPTER.failure(TARGET, Reply(400, (), orjson.dumps(spoiled))), UpstreamError)

    @QUICK
    @given(st.data())
    def test_no_request_makes_it_fall(self, data: st.DataObject) -> None:
        status = 200
        try:
            orjson.dumps(ADAPTER.body(TARGET, parse_chat(orjson.dumps(spoil(ASKED, data)))))
        except GatewayError as error:
            status = error.status
        assert status in (200, 400, 422)


def spoil(value: Any, data: st.DataObject) -> Any:
    """The same with one to three places replaced by something else."""
    for _ in range(data.draw(st.integers(1, 3))):
        value = _spoiled(value, data)
    return value


def _spoiled(value: Any, data: st.DataObject) -> Any:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    if not keys or data.draw(st.integers(0, 5)) == 0:
        return data.draw(JSON)
    chosen = data.draw(st.sampled_from(list(keys)))
    made = dict(value) if isinstance(value, dict) else list(value)
    made[chosen] = _spoiled(value[chosen], data)
    return made
