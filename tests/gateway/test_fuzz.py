"""No input makes a 5xx: any JSON to every POST route, any bytes, and the schema's own cases.

`FUZZ_CASES` is how many cases all tests of this file try together, `--hypothesis-seed` repeats a run.
"""

from __future__ import annotations

import os
import time
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from django.contrib.auth.models import User
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.models import UsageEvent
from gateway.surfaces.openai.parser import CHECKS, CONSUMED
from gateway.surfaces.responses.parser import TAKEN as RESPONSES_FIELDS
from gateway.usage import writer
from tests.support.bodies import WHOLE, places, replaced
from tests.support.gateway import LiveGateway

CASES = int(os.environ.get("FUZZ_CASES", "3000" if os.environ.get("CI") else "1000"))
# Generous: a case takes some 10 ms, on a busy machine several times that.
pytestmark = pytest.mark.timeout(60 + CASES // 10)

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
ASK = {**WHOLE, "model": "demo"}
spoiled_places = st.lists(st.tuples(st.sampled_from(sorted(places(ASK), key=str)), json_values), min_size=1, max_size=3)


def tried(share: float, least: int = 20) -> settings:
    """So much of all cases. The server outlives the examples on purpose."""
    cases = max(least, int(CASES * share))
    return settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))


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


def test_a_good_request_with_a_few_places_spoiled(demo: LiveGateway, alice: User) -> None:
    """What is nearly right gets further than what is wholly wrong; and every answer has its one usage row."""
    # A limit of tokens has the messages read before a provider is asked.
    key = demo.make_key(alice, tokens_per_minute=2_000_000_000)
    answered: list[str] = []
    began = demo.http.post("/v1/chat/completions", json=ASK, headers=demo.auth(key))
    assert began.status_code == 200, began.text

    @tried(0.3)
    @given(changes=spoiled_places, stream=st.booleans())
    def check(changes: list[Any], stream: bool) -> None:
        body = {**ASK, "stream": stream}
        for place, value in changes:
            body = replaced(body, place, value)
        response = demo.http.post("/v1/chat/completions", json=body, headers=demo.auth(key))
        acceptable(response)
        if response.status_code == 200:
            assert '"error"' not in response.text or not response.text.startswith("data:")
            answered.append(response.headers["x-request-id"])

    check()
    answered.append(began.headers["x-request-id"])
    assert len(answered) > CASES * 0.02
    deadline = time.monotonic() + 10
    while UsageEvent.objects.filter(status="ok").count() < len(answered) and time.monotonic() < deadline:
        writer.flush()
        time.sleep(0.05)
    assert set(answered) == set(UsageEvent.objects.filter(status="ok").values_list("request_id", flat=True))


def test_any_json_to_the_chat_routes(demo: LiveGateway) -> None:
    @tried(0.2)
    @given(body=bodies | json_values)
    def check(body: Any) -> None:
        for path in ("/v1/chat/completions", "/api/demo/chat/completions"):
            acceptable(demo.http.post(path, json=body, headers=demo.auth()))

    check()


def test_any_json_to_the_responses_route(demo: LiveGateway) -> None:
    @tried(0.2)
    @given(body=responses_bodies)
    def check(body: Any) -> None:
        acceptable(demo.http.post("/v1/responses", json=body, headers=demo.auth()))

    check()


def test_any_bytes_and_paths(demo: LiveGateway) -> None:
    @tried(0.1)
    @given(data=st.binary(max_size=200), path=st.text(st.characters(codec="utf-8"), max_size=30))
    def check(data: bytes, path: str) -> None:
        headers = {**demo.auth(), "content-type": "application/json"}
        acceptable(demo.http.post("/v1/chat/completions", content=data, headers=headers))
        for prefix in ("/v1/", "/v1/models/", "/api/", "/v1/providers/", "/backend-api/v2/"):
            acceptable(demo.http.get(prefix + quote(path), headers=demo.auth()))

    check()


def test_the_schemas_own_cases(demo: LiveGateway) -> None:
    schema = schemathesis.openapi.from_dict(demo.http.get("/schema/", headers=demo.auth()).json())
    schema.config.update(base_url=demo.url)
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        # There are so many operations that twenty cases each were several times this share.
        @tried(0.2 / len(operations), least=8)
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            response = case.call(headers=demo.auth())
            assert response.status_code < 500, case.as_curl_command()

        check()
    seen = {operation.label for operation in operations}
    assert "POST /v1/chat/completions" in seen
    assert len(seen) >= 7
