"""No input makes a 5xx: any JSON to every POST route, any bytes, and the schema's own cases."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.surfaces.openai.parser import CHECKS, CONSUMED
from gateway.surfaces.responses.parser import TAKEN as RESPONSES_FIELDS
from tests.support.gateway import LiveGateway

# CI takes 3,000 cases in all; `make soak` sets it to 100,000.
CASES = int(os.environ.get("FUZZ_CASES", "1500" if os.environ.get("CI") else "300"))
RELAXED = settings(
    max_examples=CASES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)  # the server outlives the examples on purpose

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(sorted({*CHECKS, *CONSUMED, "messages", "tools", "tool_choice"}))
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]) | json_values},
    optional={"content": json_values, "tool_calls": json_values, "tool_call_id": json_values, "name": json_values},
)
bodies = st.dictionaries(names, json_values, max_size=6).flatmap(
    lambda body: st.fixed_dictionaries(
        {"model": st.sampled_from(["demo", "default", "Demo", ""]) | json_values},
        optional={"messages": st.lists(message, max_size=3) | json_values},
    ).map(lambda known: {**body, **known})
)


items = st.dictionaries(
    st.sampled_from(["type", "role", "content", "id", "call_id", "name", "arguments", "output", "summary"]),
    st.sampled_from(["message", "user", "assistant", "function_call", "function_call_output", "reasoning", "x"])
    | st.lists(
        st.fixed_dictionaries({"type": st.sampled_from(["input_text", "output_text"])}, optional={"text": st.text()})
    )
    | json_values,
    max_size=6,
)
responses_bodies = st.dictionaries(st.sampled_from(sorted(RESPONSES_FIELDS)), json_values, max_size=5).flatmap(
    lambda body: st.fixed_dictionaries(
        {"model": st.just("demo"), "input": st.lists(items, max_size=3) | json_values},
        optional={"instructions": st.text(max_size=5), "stream": st.booleans()},
    ).map(lambda known: {**body, **known})
)


@pytest.fixture
def demo(gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> LiveGateway:
    monkeypatch.setattr("gateway.adapters.demo.PACE_SECONDS", 0)
    gateway.add_demo()
    assert gateway.key
    return gateway


def acceptable(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.timeout(1200)
def test_any_json_to_the_chat_routes(demo: LiveGateway) -> None:
    @RELAXED
    @given(body=bodies | json_values)
    def check(body: Any) -> None:
        for path in ("/v1/chat/completions", "/api/demo/chat/completions"):
            acceptable(demo.http.post(path, json=body, headers=demo.auth()))

    check()


@pytest.mark.timeout(1200)
def test_any_json_to_the_responses_route(demo: LiveGateway) -> None:
    @settings(RELAXED, max_examples=CASES // 2)
    @given(body=responses_bodies)
    def check(body: Any) -> None:
        acceptable(demo.http.post("/v1/responses", json=body, headers=demo.auth()))

    check()


@pytest.mark.timeout(600)
def test_any_bytes_and_paths(demo: LiveGateway) -> None:
    @settings(RELAXED, max_examples=CASES // 3)
    @given(data=st.binary(max_size=200), path=st.text(st.characters(codec="utf-8"), max_size=30))
    def check(data: bytes, path: str) -> None:
        headers = {**demo.auth(), "content-type": "application/json"}
        acceptable(demo.http.post("/v1/chat/completions", content=data, headers=headers))
        for prefix in ("/v1/", "/v1/models/", "/api/", "/v1/providers/", "/backend-api/v2/"):
            acceptable(demo.http.get(prefix + quote(path), headers=demo.auth()))

    check()


@pytest.mark.timeout(1200)
def test_the_schemas_own_cases(demo: LiveGateway) -> None:
    schema = schemathesis.openapi.from_dict(demo.http.get("/schema/", headers=demo.auth()).json())
    schema.config.update(base_url=demo.url)
    seen = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        seen.add(operation.label)

        @settings(RELAXED, max_examples=max(20, CASES // 12))
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            response = case.call(headers=demo.auth())
            assert response.status_code < 500, case.as_curl_command()

        check()
    assert "POST /v1/chat/completions" in seen
    assert len(seen) >= 7
