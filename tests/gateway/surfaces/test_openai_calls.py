"""Whatever a caller or a provider sends beside chats: a refusal that names the field, or an answer, never a crash."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.calls import shaped, used
from gateway.adapters.over_chat import parts
from gateway.answer_schema import Check
from gateway.calls import EMBEDDINGS, MODERATIONS, RERANK, CallRequest
from gateway.chat import AnswerFormat
from gateway.errors import BadRequest, GatewayError, UnsupportedParameter, UpstreamBroken, UpstreamRejected
from gateway.limiter import estimate
from gateway.surfaces.openai.calls import parse_call
from gateway.surfaces.openai.completions import parse_completion
from gateway.targets import Endpoint, Target

TARGET = Target("openai_chat", 1, "Acme", 1, "m", "m", Endpoint("Acme", "https://x.test/v1"))
LEAVES = st.none() | st.booleans() | st.integers(-5, 2**33) | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
FIELDS = (
    "model", "input", "query", "documents", "prompt", "n", "echo", "suffix", "stop", "best_of", "logprobs", "stream",
    "stream_options", "encoding_format", "dimensions", "user", "top_n", "return_documents", "max_tokens", "usage",
    "provider", "extra_body", "temperature", "tools", "tool_choice", "response_format", "messages",
    "max_completion_tokens",
)  # fmt: skip
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4).map(
    lambda some: {"model": "m", "input": "x", "query": "x", "documents": ["x"], "prompt": "x"} | some
)


def is_refusal(error: GatewayError) -> bool:
    return error.status in (400, 422) and bool(error.param)


@given(BODIES, st.sampled_from([EMBEDDINGS, MODERATIONS, RERANK]))
def test_any_call_is_read_or_refused(body: Any, operation: str) -> None:
    try:
        request = parse_call(operation, orjson.dumps(body))
    except BadRequest as error:
        assert is_refusal(error)  # noqa: PT017 - what is read is right as well
        return
    assert estimate(request) >= 1
    assert request.estimated_tokens() >= 1


@given(BODIES)
def test_any_completion_is_read_or_refused(body: Any) -> None:
    try:
        request = parse_completion(orjson.dumps(body))
    except BadRequest as error:
        assert is_refusal(error)  # noqa: PT017 - what is read is right as well
        return
    assert estimate(request) >= 1
    try:
        found = parts(TARGET, request)
    except UnsupportedParameter as error:
        assert is_refusal(error)  # noqa: PT017 - what is read is right as well
        return
    assert [(len(chat.messages()), chat.tools(), chat.answer_format().kind) for _, chat in found] == [
        (1, (), "text")
    ] * len(request.prompts)


ITEMS = st.fixed_dictionaries(
    {}, optional={"index": st.integers(-1, 2) | LEAVES, "embedding": st.lists(st.floats(allow_nan=False)) | VALUES}
)


@given(
    st.fixed_dictionaries({}, optional={"data": st.lists(ITEMS | VALUES, max_size=3) | VALUES, "usage": VALUES}),
    st.sampled_from(["float", "base64", None]),
    st.integers(1, 3),
)
def test_any_answer_is_read_or_the_providers_fault(body: Any, form: str | None, count: int) -> None:
    asked = {"input": ["x"] * count, **({"encoding_format": form} if form else {})}
    request = CallRequest("m", None, False, False, asked, plain=False)
    assert used(request, body).prompt_tokens >= 0
    try:
        shaped(TARGET, request, body)
    except UpstreamBroken:
        return
    assert [item["index"] for item in body["data"]] == list(range(count))
    assert all(isinstance(item["embedding"], str if form == "base64" else list) for item in body["data"])


@given(VALUES, st.text(max_size=20) | VALUES.map(lambda value: orjson.dumps(value).decode()))
def test_any_schema_is_used_or_refused(schema: Any, text: str) -> None:
    schema = schema if isinstance(schema, dict) else {"items": schema}
    try:
        Check(AnswerFormat("json_schema", "x", schema)).read(text)
    except UpstreamRejected as error:
        assert is_refusal(error)  # noqa: PT017 - what is read is right as well


@pytest.mark.parametrize("depth", [50])
def test_a_schema_that_is_deep_or_turns_in_circles_is_no_crash(depth: int) -> None:
    schema: Any = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    with pytest.raises(UpstreamRejected):
        Check(AnswerFormat("json_schema", "x", schema))
    schema = {"type": "object"}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    assert Check(AnswerFormat("json_schema", "x", schema)).read("{}") == ("{}", "")
