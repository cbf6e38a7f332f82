"""Pictures that a model draws in a chat: kept, and told in Markdown by a signed address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from media.models import StoredFile
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.pictures import b64, opened, picture
from tests.support.protocols import PathProvider

RED = picture("red")
PARTS = [{"text": "Here it is."}, {"inlineData": {"mimeType": "image/png", "data": b64(RED)}}, {"text": "Good?"}]
BODY = {
    "candidates": [{"content": {"role": "model", "parts": PARTS}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 1290, "totalTokenCount": 1297},
}
ASK: Any = [{"role": "user", "content": "Draw [a] *fox*](http://evil.test)!"}]
LINKED = re.compile(r"Here it is\.\n\[!\[(.*)\]\((\S+)\)\]\((\S+)\)\nGood\?\Z")


@pytest.fixture
def google(gateway: LiveGateway) -> Iterator[PathProvider]:
    with PathProvider(lambda path: "generateContent" in path or "GenerateContent" in path) as running:
        gateway.add_provider(running.base_url, "m", name="Gemini", adapter="gemini")
        running.enqueue(answers.reply_json(BODY))
        yield running


def check_linked(gateway: LiveGateway, text: str) -> None:
    found = LINKED.match(text)
    assert found, text
    alt, shown, linked = found.groups()
    assert alt == "Draw a fox http://evil.test"
    assert shown == linked
    assert shown.startswith(f"{gateway.url}/media/")
    kept = StoredFile.objects.get()
    assert (kept.prompt, kept.provider, kept.model) == (ASK[0]["content"], "Gemini", "m")
    assert opened(gateway.http.get(shown).content).getpixel((0, 0)) == (255, 0, 0)


def test_a_plain_answer_links_its_picture(gateway: LiveGateway, google: PathProvider) -> None:
    answer = gateway.client().chat.completions.create(model="m", messages=ASK)
    check_linked(gateway, answer.choices[0].message.content or "")
    assert not hasattr(answer.choices[0].message, "images")


def test_a_stream_links_its_picture(gateway: LiveGateway, google: PathProvider) -> None:
    google._queue.clear()
    google.enqueue(answers.sse([BODY]))
    chunks = gateway.client().chat.completions.create(model="m", messages=ASK, stream=True)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    check_linked(gateway, said)


def test_a_message_of_anthropics_links_its_picture(gateway: LiveGateway, google: PathProvider) -> None:
    body = {"model": "m", "max_tokens": 10, "messages": ASK}
    answer = gateway.http.post("/v1/messages", headers=gateway.auth(), json=body).json()
    check_linked(gateway, "".join(block["text"] for block in answer["content"]))


def test_who_wants_nothing_kept_gets_the_picture_whole(gateway: LiveGateway, google: PathProvider) -> None:
    more = {"download_media": False}
    answer = gateway.client().chat.completions.with_raw_response.create(model="m", messages=ASK, extra_body=more)
    message = answer.parse().choices[0].message
    assert message.content == "Here it is.Good?"
    assert message.model_extra
    assert message.model_extra["images"][0]["image_url"]["url"] == f"data:image/png;base64,{b64(RED)}"
    assert "warning" not in answer.headers
    assert StoredFile.objects.count() == 0
