"""Every official client over llama.cpp's server, in what that server and a model of random weights can do.

Left out: forms of answers, which this server refuses (shown below), and calls of tools that nobody forces, which the
model never makes. Calls that are streamed repeat the tool's name in each piece (test_engine.py).
"""

from __future__ import annotations

import anthropic
import openai
import pytest

from tests.clients import core
from tests.clients.langchain import test_langchain as langchain
from tests.clients.node import test_node as node
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check, check_events, check_response
from tests.support.tap import Tap, check_all

pytestmark = [pytest.mark.engine, pytest.mark.slow]
# Names of tests that want a tool called or a form kept.
BEYOND_IT = ("tool", "structured", "json", "agent", "runnables")
LANGCHAIN = 21


@pytest.fixture
def served(gateway: LiveGateway, engine_url: str) -> LiveGateway:
    gateway.add_provider(engine_url, "tiny", name="llama.cpp", credentials=(), auth_style="none", completions=True)
    return gateway


def test_responses(served: LiveGateway) -> None:
    client = served.client()
    answer = client.responses.create(model="tiny", input="hi", max_output_tokens=50)
    check_response(answer.model_dump(mode="json", exclude_unset=True))
    assert answer.output_text
    stream = client.responses.create(model="tiny", previous_response_id=answer.id, input="go on", stream=True)
    check_events([event.model_dump(mode="json", exclude_unset=True) for event in stream])
    tool = {"type": "function", "strict": False, **core.WEATHER["function"]}
    named = {"type": "function", "name": "get_weather"}
    fields = {"tools": [tool], "tool_choice": named}
    called = client.responses.create(model="tiny", input="hi", **fields)  # type: ignore[call-overload]
    assert called.output[0].name == "get_weather"


def test_completions(served: LiveGateway) -> None:
    client = served.client()
    answer = client.completions.create(model="tiny", prompt="one", max_tokens=20)
    check("CreateCompletionResponse", answer.model_dump(exclude_unset=True))
    assert answer.usage
    assert answer.usage.completion_tokens > 0
    chunks = list(client.completions.create(model="tiny", prompt="one", max_tokens=20, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)


def test_embeddings(served: LiveGateway) -> None:
    answer = served.client().embeddings.create(model="tiny", input=["one", "two", "one"])
    one, two, again = (item.embedding for item in answer.data)
    assert one == pytest.approx(again, rel=1e-5)
    assert one != pytest.approx(two, rel=1e-2)
    assert len(one) == 64
    assert answer.usage.total_tokens > 3


def test_messages(served: LiveGateway) -> None:
    messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "hi"}]
    with anthropic.Anthropic(api_key=served.key, base_url=served.url, max_retries=0, timeout=20) as client:
        message = client.messages.create(model="tiny", max_tokens=50, messages=messages)
        assert message.content[0].type == "text"
        assert message.usage.output_tokens > 0
        with client.messages.stream(model="tiny", max_tokens=50, messages=messages) as stream:
            text = "".join(stream.text_stream)
        assert text
        tool: anthropic.types.ToolParam = {"name": "f", "input_schema": core.WEATHER["function"]["parameters"]}
        call = client.messages.create(
            model="tiny", max_tokens=200, messages=messages, tools=[tool], tool_choice={"type": "tool", "name": "f"}
        )
        assert call.stop_reason == "tool_use"
        assert client.messages.count_tokens(model="tiny", messages=messages).input_tokens > 0


def test_what_the_server_refuses_is_the_providers_failure(served: LiveGateway) -> None:
    """It knows no `json_schema` and answers it with 500: nothing tells that the request was at fault."""
    with pytest.raises(openai.InternalServerError) as caught:
        core.parses(served.client(), "tiny")
    assert (caught.value.status_code, caught.value.code) == (502, "provider_not_working")


@pytest.mark.node
@pytest.mark.parametrize(("script", "count"), [(node.CLIENT, 10), (node.AI, 9)])
def test_clients_for_node(served: LiveGateway, script: str, count: int) -> None:
    surroundings = {"GATEWAY_SKIP": "tool|JSON|object", "GATEWAY_EMBEDDING": "tiny"}
    with Tap(served.url) as tap:
        assert node.run(served, ["tiny"], script, GATEWAY_URL=tap.url, **surroundings) == count
        assert check_all(tap)["chat chunks"] > 1


@pytest.mark.langchain
@pytest.mark.timeout(120)
def test_langchain(served: LiveGateway) -> None:
    passed = langchain.run(served, ["tiny"], keywords=" and ".join(f"not {word}" for word in BEYOND_IT))
    assert passed == {"tiny": LANGCHAIN}
