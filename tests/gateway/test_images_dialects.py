"""Pictures from providers of other protocols than OpenAI's, asked by the official client."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import openai
import pytest

from gateway.models import Price, ProviderModel, UsageEvent
from gateway.usage import writer
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check
from tests.support.pictures import GPT_USAGE, b64, images, picture
from tests.support.protocols import PathProvider
from tests.support.provider import Recorded

RED = picture("red")
B64: dict[str, Any] = {"response_format": "b64_json"}


@pytest.fixture
def google() -> Iterator[PathProvider]:
    with PathProvider(lambda path: path.endswith((":generateContent", ":predict"))) as running:
        yield running


@pytest.fixture
def pollinations() -> Iterator[PathProvider]:
    with PathProvider(lambda path: path.startswith(("/v1/images/", "/image/"))) as running:
        yield running


def row() -> UsageEvent:
    writer.flush()
    return UsageEvent.objects.get()


def gemini_answer(*parts: dict[str, Any], reason: str = "STOP") -> answers.Answer:
    return answers.reply_json(
        {
            "candidates": [{"content": {"role": "model", "parts": list(parts)}, "finishReason": reason, "index": 0}],
            "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 1290, "totalTokenCount": 1297},
        }
    )


DRAWN = {"inlineData": {"mimeType": "image/png", "data": b64(RED)}}


def pictures(found: openai.types.ImagesResponse) -> list[bytes]:
    return [base64.b64decode(item.b64_json or "") for item in found.data or ()]


def test_a_gemini_model_draws_and_edits_in_a_chat(gateway: LiveGateway, google: PathProvider) -> None:
    model = {"public_id": "m", "upstream_name": "gemini-2.5-flash-image", "image": True}
    gateway.add_provider(google.base_url, model, name="Gemini", adapter="gemini")
    google.enqueue(gemini_answer({"text": "Here it is."}, DRAWN), gemini_answer(DRAWN), gemini_answer(DRAWN))
    client = gateway.client()
    found = client.images.generate(model="m", prompt="A fox", size="1792x1024", extra_body={"resolution": "2k"}, **B64)
    check("ImagesResponse", found.model_dump(exclude_unset=True, exclude={"model", "provider"}))
    assert pictures(found) == [RED]
    assert found.usage
    assert (found.usage.input_tokens, found.usage.output_tokens) == (7, 1290)
    asked = google.chats[0]
    assert asked.path == "/models/gemini-2.5-flash-image:generateContent"
    assert asked.json["contents"] == [{"role": "user", "parts": [{"text": "A fox"}]}]
    assert asked.json["generationConfig"] == {
        "responseModalities": ["TEXT", "IMAGE"], "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
    }  # fmt: skip
    edited = client.images.edit(model="m", image=RED, mask=picture("#0000", mode="RGBA"), prompt="Blue", n=2, **B64)
    assert pictures(edited) == [RED, RED]
    parts = google.chats[1].json["contents"][0]["parts"]
    assert parts[0] == {"text": "Blue"}
    assert parts[1]["inlineData"]["data"] == b64(RED)
    assert "mask" in parts[3]["text"]
    writer.flush()
    last = UsageEvent.objects.latest("id")
    assert (last.prompt_tokens, last.completion_tokens, last.images) == (14, 2580, 2)


def test_a_gemini_model_that_refuses_or_only_talks(gateway: LiveGateway, google: PathProvider) -> None:
    gateway.add_provider(google.base_url, "m", name="Gemini", adapter="gemini")
    google.enqueue(gemini_answer(reason="IMAGE_SAFETY"), gemini_answer({"text": "I would rather not."}))
    client = gateway.client()
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(model="m", prompt="x")
    assert refused.value.code == "content_policy_violation"
    with pytest.raises(openai.BadRequestError) as talked:
        client.images.generate(model="m", prompt="x")
    assert talked.value.code == "no_picture"
    assert "I would rather not." in talked.value.message
    writer.flush()
    # The answer was paid for, with or without a picture.
    assert [(row.status, row.completion_tokens) for row in UsageEvent.objects.all()] == [("error", 1290)] * 2


def test_one_of_several_pictures_that_fails_is_an_error_with_what_the_others_used(
    gateway: LiveGateway, google: PathProvider
) -> None:
    gateway.add_provider(google.base_url, "m", name="Gemini", adapter="gemini")
    google.enqueue(gemini_answer(DRAWN), answers.error(500))
    with pytest.raises(openai.InternalServerError):
        gateway.client().images.generate(model="m", prompt="x", n=2)
    booked = row()
    assert booked.status == "error"
    assert booked.completion_tokens in (1290, None), "whether the first was over when the second failed is chance"


def test_what_was_paid_for_pictures_that_cannot_be_read_is_booked(gateway: LiveGateway, google: PathProvider) -> None:
    models: list[Any] = ["m", {"public_id": "i", "upstream_name": "imagen-4.0-generate-001"}]
    gateway.add_provider(google.base_url, *models, name="Gemini", adapter="gemini")
    Price.objects.create(
        model=ProviderModel.objects.get(public_id="i"),
        input=0,
        output=0,
        image=40_000 * 10**9,
        valid_from="2020-01-01T00:00Z",
    )
    gateway.reload()
    odd = {"bytesBase64Encoded": b64(b"no picture at all")}
    google.enqueue(
        gemini_answer({"inlineData": {"mimeType": "image/png", "data": b64(b"no picture at all")}}),
        answers.reply_json({"predictions": [odd, odd]}),
    )
    for model in ("m", "i"):
        with pytest.raises(openai.InternalServerError):
            gateway.client().images.generate(model=model, prompt="x", n=1)
    writer.flush()
    chat, imagen = UsageEvent.objects.order_by("id")
    assert (chat.status, chat.prompt_tokens, chat.completion_tokens) == ("error", 7, 1290)
    assert (imagen.status, imagen.images, imagen.cost) == ("error", 2, 80_000_000)


def test_imagen_has_a_route_of_its_own(gateway: LiveGateway, google: PathProvider) -> None:
    model = {"public_id": "m", "upstream_name": "imagen-4.0-generate-001"}
    gateway.add_provider(google.base_url, model, name="Gemini", adapter="gemini")
    made = {"bytesBase64Encoded": b64(RED), "mimeType": "image/png", "prompt": "A very red fox"}
    google.enqueue(
        answers.reply_json({"predictions": [made, made]}),
        answers.reply_json({"predictions": [{"raiFilteredReason": "Not this."}]}),
        answers.reply_json({}),
    )
    client = gateway.client()
    found = client.images.generate(model="m", prompt="A fox", n=2, size="768x1024", **B64)
    assert pictures(found) == [RED, RED]
    assert (found.data or [])[0].revised_prompt == "A very red fox"
    asked = google.chats[0]
    assert asked.path == "/models/imagen-4.0-generate-001:predict"
    assert asked.json == {
        "instances": [{"prompt": "A fox"}], "parameters": {"sampleCount": 2, "aspectRatio": "3:4"},
    }  # fmt: skip
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(model="m", prompt="x")
    assert (refused.value.code, "Not this." in refused.value.message) == ("content_policy_violation", True)
    with pytest.raises(openai.BadRequestError) as empty:
        client.images.generate(model="m", prompt="x")
    assert empty.value.code == "content_policy_violation"
    for ask, param in ((lambda: client.images.edit(model="m", image=RED, prompt="x"), "image"),
                       (lambda: client.images.generate(model="m", prompt="x", n=5), "n")):  # fmt: skip
        with pytest.raises(openai.BadRequestError) as unsupported:
            ask()
        assert (unsupported.value.code, unsupported.value.param) == ("unsupported_parameter", param)


def add_pollinations(gateway: LiveGateway, at: PathProvider) -> None:
    model = {"public_id": "m", "upstream_name": "flux", "image": True}
    gateway.add_provider(at.base_url, model, name="PollinationsAI", adapter="pollinations")


def test_several_pictures_say_what_all_of_them_used(gateway: LiveGateway, pollinations: PathProvider) -> None:
    add_pollinations(gateway, pollinations)
    pollinations.enqueue(images(RED, usage=GPT_USAGE), images(RED, usage=GPT_USAGE))
    found = gateway.client().images.generate(model="m", prompt="x", n=2, **B64)
    assert found.usage
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens) == (48, 2112, 2160)
    assert (row().prompt_tokens, row().completion_tokens, row().images) == (48, 2112, 2)


def test_pollinations_draws_one_picture_a_request(gateway: LiveGateway, pollinations: PathProvider) -> None:
    add_pollinations(gateway, pollinations)
    pollinations.enqueue(images(RED), images(RED), images(RED))
    found = gateway.client().images.generate(
        model="m", prompt="A fox", n=2, size="640x480", extra_body={"seed": 5, "negative_prompt": "dogs"}, **B64
    )
    assert pictures(found) == [RED, RED]
    sent = sorted((request.json for request in pollinations.requests), key=lambda body: body["seed"])
    assert [request.path for request in pollinations.requests] == ["/v1/images/generations"] * 2
    common = {
        "model": "flux", "prompt": "A fox", "size": "640x480", "negative_prompt": "dogs", "private": True,
        "response_format": "b64_json",
    }  # fmt: skip
    assert sent == [{**common, "seed": 5}, {**common, "seed": 6}]
    gateway.client().images.edit(model="m", image=RED, prompt="Blue", **B64)
    assert pollinations.requests[2].path == "/v1/images/edits"


def test_pollinations_older_way_is_an_address(gateway: LiveGateway, pollinations: PathProvider) -> None:
    def programme(request: Recorded) -> answers.Answer:
        if request.path.startswith("/image/"):
            return answers.raw(RED, content_type="image/png")
        return answers.error(404)

    add_pollinations(gateway, pollinations)
    pollinations.enqueue(programme, programme)
    prompt = "Füchse & Hasen? 100 % / nah"
    found = gateway.client().images.generate(model="m", prompt=prompt, extra_body={"width": 320, "height": 200}, **B64)
    assert pictures(found) == [RED]
    asked = pollinations.requests[1]
    place = urlsplit(asked.path)
    assert asked.method == "GET"
    assert unquote(place.path) == f"/image/{prompt}"
    assert place.path.count("/") == 2
    assert parse_qs(place.query) == {"model": ["flux"], "width": ["320"], "height": ["200"], "private": ["true"]}
    assert asked.header("authorization") == "Bearer sk-upstream-credential-1"


@pytest.mark.parametrize("adapter", ["ollama", "anthropic", "openai_responses", "copilot"])
def test_protocols_without_pictures_say_so(gateway: LiveGateway, google: PathProvider, adapter: str) -> None:
    gateway.add_provider(google.base_url, "m", name="Acme", adapter=adapter)
    with pytest.raises(openai.BadRequestError) as refused:
        gateway.client().images.generate(model="m", prompt="x")
    assert (refused.value.code, refused.value.param) == ("unsupported_operation", "model")
    with pytest.raises(openai.BadRequestError):
        list(gateway.client().images.generate(model="m", prompt="x", stream=True))
    assert google.requests == []
