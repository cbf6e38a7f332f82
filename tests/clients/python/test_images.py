"""The official Python client makes and edits pictures, at scripted providers and at the demo."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from PIL.Image import Image

from gateway.models import Price, ProviderModel, UsageEvent
from gateway.surfaces.multipart import Bounds, Form, FormReader
from gateway.usage import writer
from media.models import StoredFile
from tests.people import person
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check
from tests.support.pictures import GPT_USAGE, b64, events, images, opened, picture
from tests.support.provider import Recorded, ScriptedProvider

RED, BLUE = picture("red"), picture("blue", kind="JPEG")


def row() -> UsageEvent:
    writer.flush()
    return UsageEvent.objects.latest("id")


@pytest.fixture
def form_of() -> Iterator[Callable[[Recorded], Form]]:
    """Reads the form that a provider got."""
    readers = []

    def read(request: Recorded) -> Form:
        readers.append(FormReader((request.header("content-type") or "").encode(), Bounds()))
        readers[-1].feed(request.body)
        return readers[-1].finish()

    yield read
    for reader in readers:
        reader.form.close()


def kept(url: str | None) -> StoredFile:
    return StoredFile.objects.get(name=urlsplit(url or "").path.removeprefix("/media/"))


def got(url: str | None) -> Image:
    """What anybody gets who holds the address."""
    answer = httpx.get(url or "")
    assert answer.status_code == 200, answer.text
    image = opened(answer.content)
    assert answer.headers["content-type"] == f"image/{str(image.format).lower()}"
    return image


def test_a_picture_is_kept_and_told_by_a_signed_address(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    made = {"b64_json": b64(RED), "revised_prompt": "A very red fox"}
    provider.enqueue(images(made, BLUE))
    gateway.add_provider(provider, {"public_id": "dall-e-3", "image": True})
    found = gateway.client().images.generate(
        model="dall-e-3", prompt="A red fox", n=2, size="1024x1024", quality="hd", style="vivid", user="u",
        extra_body={"seed": 7, "odd": {"kept": True}},
    )  # fmt: skip
    check("ImagesResponse", found.model_dump(exclude_unset=True, exclude={"model", "provider"}))
    assert found.model_extra == {"model": "dall-e-3", "provider": "Scripted"}
    assert found.created == 1_700_000_000
    assert found.data
    assert [item.b64_json for item in found.data] == [None, None]
    assert [item.revised_prompt for item in found.data] == ["A very red fox", None]
    assert all((item.url or "").startswith(f"{gateway.url}/media/") for item in found.data)
    first, second = (kept(item.url) for item in found.data)
    assert (first.source, first.prompt, first.provider, first.model) == (
        "generated",
        "A red fox",
        "Scripted",
        "dall-e-3",
    )
    assert [first.content_type, second.content_type] == ["image/png", "image/jpeg"]
    assert got(found.data[0].url).getpixel((0, 0)) == (255, 0, 0)
    assert "a-red-fox" in first.name
    (request,) = provider.requests
    assert request.path == "/v1/images/generations"
    assert request.json == {
        "model": "dall-e-3", "prompt": "A red fox", "n": 2, "size": "1024x1024", "quality": "hd", "style": "vivid",
        "user": "u", "seed": 7, "odd": {"kept": True}, "response_format": "b64_json",
    }  # fmt: skip


def test_base64_is_handed_over_and_nothing_is_kept(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(images(RED))
    gateway.add_provider(provider, "m")
    found = gateway.client().images.generate(model="m", prompt="x", response_format="b64_json")
    assert found.data
    assert base64.b64decode(found.data[0].b64_json or "") == RED
    assert found.data[0].url is None
    assert StoredFile.objects.count() == 0


def test_a_gpt_image_model_is_not_asked_for_base64_and_its_usage_is_booked(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    told = {"background": "opaque", "output_format": "png", "quality": "high", "size": "1024x1024"}
    provider.enqueue(images(RED, usage=GPT_USAGE, **told))
    gateway.add_provider(provider, {"public_id": "gpt-image-1", "image": True})
    price = Price.objects.create(
        model=ProviderModel.objects.get(), input=5_000_000_000, output=40_000_000_000, valid_from="2020-01-01T00:00Z"
    )
    gateway.reload()
    found = gateway.client().images.generate(
        model="gpt-image-1", prompt="x", background="opaque", output_format="png", moderation="low",
        extra_body={"usage": {"include": True}},
    )  # fmt: skip
    check("ImagesResponse", found.model_dump(exclude_unset=True, exclude={"model", "provider"}))
    assert (found.background, found.output_format, found.quality, found.size) == ("opaque", "png", "high", "1024x1024")
    assert found.usage
    assert found.usage.total_tokens == 1080
    cost = 24 * 5e-6 + 1056 * 40e-6
    assert found.usage.model_extra is not None
    assert found.usage.model_extra["cost"] == pytest.approx(cost)
    assert "response_format" not in provider.requests[0].json
    booked = row()
    assert (booked.surface, booked.status, booked.images, booked.price_id) == ("v1.images", "ok", 1, price.pk)
    assert (booked.prompt_tokens, booked.completion_tokens, booked.estimated) == (24, 1056, False)
    assert booked.cost == round(cost * 1e9)


@pytest.mark.parametrize("priced", [True, False])
def test_a_price_for_pictures_counts_pictures(gateway: LiveGateway, provider: ScriptedProvider, priced: bool) -> None:
    provider.enqueue(images(RED, RED, RED))
    gateway.add_provider(provider, "m")
    # 4 cents a picture: 40,000 dollars a million.
    image = 40_000 * 10**9 if priced else None
    Price.objects.create(
        model=ProviderModel.objects.get(), input=0, output=0, image=image, valid_from="2020-01-01T00:00Z"
    )
    gateway.reload()
    gateway.client().images.generate(model="m", prompt="x", n=3)
    booked = row()
    assert (booked.images, booked.estimated, booked.completion_tokens) == (3, True, 0)
    assert booked.cost == (120_000_000 if priced else None)


def test_pictures_are_edited(
    gateway: LiveGateway, provider: ScriptedProvider, form_of: Callable[[Recorded], Form]
) -> None:
    provider.enqueue(images(BLUE), images(BLUE), images(BLUE))
    gateway.add_provider(provider, {"public_id": "m", "upstream_name": "dall-e-2"})
    client = gateway.client()
    mask = picture("#00000000", mode="RGBA")
    found = client.images.edit(model="m", image=("my fox.png", RED), mask=("m.png", mask), prompt="Bluer", n=1)
    assert found.data
    assert got(found.data[0].url).format == "JPEG"
    client.images.edit(model="m", image=[RED, BytesIO(BLUE)], prompt="Both", size="512x512", input_fidelity="high")
    several, single = form_of(provider.requests[1]), form_of(provider.requests[0])
    assert [request.path for request in provider.requests] == ["/v1/images/edits"] * 2
    fields = {"model": ["dall-e-2"], "prompt": ["Bluer"], "n": ["1"], "response_format": ["b64_json"]}
    assert single.fields == fields
    assert [(file.name, file.filename, file.content_type) for file in single.files] == [
        ("image", "image-1.png", "image/png"), ("mask", "mask.png", "image/png"),
    ]  # fmt: skip
    assert [file.read() for file in single.files] == [RED, mask]
    assert [(file.name, file.filename) for file in several.files] == [
        ("image[]", "image-1.png"), ("image[]", "image-2.jpg"),
    ]  # fmt: skip
    assert several.text("input_fidelity") == "high"
    assert row().surface == "v1.images.edits"


def test_a_stream_shows_pictures_while_they_are_made(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    about = {"created_at": 1, "size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"}
    partial = {"type": "image_generation.partial_image", "b64_json": b64(BLUE), "partial_image_index": 0, **about}
    last = {"type": "image_generation.completed", "b64_json": b64(RED), "usage": GPT_USAGE, **about}
    provider.enqueue(events(partial, last))
    gateway.add_provider(provider, "gpt-image-1")
    stream = gateway.client().images.generate(model="gpt-image-1", prompt="x", stream=True, partial_images=1)
    found = list(stream)
    assert [event.type for event in found] == ["image_generation.partial_image", "image_generation.completed"]
    for event, kind in zip(found, ["ImageGenPartialImageEvent", "ImageGenCompletedEvent"], strict=True):
        check(kind, event.model_dump(exclude_unset=True))
    assert [base64.b64decode(event.b64_json) for event in found] == [BLUE, RED]
    assert provider.requests[0].json["partial_images"] == 1
    assert provider.requests[0].json["stream"] is True
    booked = row()
    assert (booked.stream, booked.images, booked.completion_tokens, booked.status) == (True, 1, 1056, "ok")


def test_the_last_event_of_a_stream_tells_the_cost(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    last = {"type": "image_generation.completed", "b64_json": b64(RED), "usage": GPT_USAGE}
    provider.enqueue(events(last, last))
    gateway.add_provider(provider, "gpt-image-1")
    Price.objects.create(
        model=ProviderModel.objects.get(), input=0, output=0, image=40_000 * 10**9, valid_from="2020-01-01T00:00:00Z"
    )
    gateway.reload()
    extra = {"usage": {"include": True}}
    found = list(gateway.client().images.generate(model="gpt-image-1", prompt="x", n=2, stream=True, extra_body=extra))
    told = [event.model_dump(exclude_unset=True)["usage"] for event in found]
    assert told == [GPT_USAGE, {**GPT_USAGE, "cost": 0.08}]


def test_a_server_that_streams_no_pictures_gives_its_last_event(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    provider.enqueue(images(RED, BLUE, usage=GPT_USAGE))
    gateway.add_provider(provider, "gpt-image-1")
    found = list(gateway.client().images.generate(model="gpt-image-1", prompt="x", n=2, stream=True))
    assert [event.type for event in found] == ["image_generation.completed"] * 2
    assert [base64.b64decode(event.b64_json) for event in found] == [RED, BLUE]
    check("ImageGenCompletedEvent", found[0].model_dump(exclude_unset=True))
    booked = row()
    assert (booked.images, booked.completion_tokens, booked.status) == (2, 1056, "ok")


def test_a_stream_that_breaks_off_is_an_error_and_no_picture(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    about = {"created_at": 1, "size": "auto", "quality": "low", "background": "opaque", "output_format": "png"}
    partial = {"type": "image_generation.partial_image", "b64_json": b64(BLUE), "partial_image_index": 0, **about}
    provider.enqueue(events(partial))
    gateway.add_provider(provider, "gpt-image-1")
    stream = gateway.client().images.generate(model="gpt-image-1", prompt="x", stream=True)
    assert next(iter(stream)).type == "image_generation.partial_image"
    with pytest.raises(openai.APIError):
        list(stream)
    assert (row().status, row().images, row().estimated) == ("error", 1, True)


@pytest.mark.parametrize(("price", "cost"), [(40_000 * 10**9, 80_000_000), (None, None)])
def test_pictures_of_a_stream_that_breaks_off_are_booked(
    gateway: LiveGateway, provider: ScriptedProvider, price: int | None, cost: int | None
) -> None:
    last = {"type": "image_generation.completed", "b64_json": b64(RED)}
    fault = {"type": "error", "error": {"message": "no more", "type": "server_error"}}
    provider.enqueue(events(last, last, fault))
    gateway.add_provider(provider, "gpt-image-1")
    Price.objects.create(
        model=ProviderModel.objects.get(), input=0, output=0, image=price, valid_from="2020-01-01T00:00:00Z"
    )
    gateway.reload()
    with pytest.raises(openai.APIError):
        list(gateway.client().images.generate(model="gpt-image-1", prompt="x", n=3, stream=True))
    assert (row().status, row().images, row().cost) == ("error", 2, cost)


def test_the_demo_really_draws(gateway: LiveGateway) -> None:
    gateway.add_demo()
    client = gateway.client()
    ask: dict[str, Any] = {"model": "demo", "prompt": "Ein Fuchs 🦊 im Wald", "response_format": "b64_json"}
    found = client.images.generate(**ask, n=2, size="640x480")
    check("ImagesResponse", found.model_dump(exclude_unset=True, exclude={"model", "provider", "size"}))
    assert found.data
    first, second = (opened(base64.b64decode(item.b64_json or "")) for item in found.data)
    assert first.size == second.size == (640, 480)
    assert first.tobytes() != second.tobytes()
    again = client.images.generate(**ask, size="640x480")
    assert again.data
    assert again.data[0].b64_json == found.data[0].b64_json
    other = client.images.generate(**{**ask, "prompt": "Something else"}, size="640x480")
    assert other.data
    assert other.data[0].b64_json != found.data[0].b64_json
    mask = picture("#000000ff", size=(32, 24), mode="RGBA")
    edited = client.images.edit(
        model="demo", image=picture("red", size=(300, 200)), mask=mask, prompt="x", response_format="b64_json"
    )
    assert edited.data
    kept_red = opened(base64.b64decode(edited.data[0].b64_json or ""))
    assert kept_red.size == (300, 200)
    assert kept_red.getpixel((5, 5)) == (255, 0, 0)
    whole = client.images.edit(model="demo", image=picture("red", size=(300, 200)), prompt="x", output_format="jpeg")
    assert whole.data
    changed = got(whole.data[0].url)
    assert changed.format == "JPEG"
    assert changed.getpixel((5, 5)) != (255, 0, 0)


def test_the_demo_streams_its_picture_at_the_end(gateway: LiveGateway) -> None:
    gateway.add_demo()
    stream = gateway.client().images.generate(model="demo", prompt="x", stream=True)
    (event,) = list(stream)
    assert event.type == "image_generation.completed"
    assert opened(base64.b64decode(event.b64_json)).size == (512, 512)


def test_files_belong_to_whoever_asked(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(images(RED), images(RED))
    gateway.add_provider(provider, "m")
    people = [person(name) for name in ("alice", "bob")]
    keys = [gateway.make_key(one) for one in people]
    urls = []
    for key in keys:
        found = gateway.client(key).images.generate(model="m", prompt="the same")
        urls.append((found.data or [])[0].url or "")
    assert [kept(url).owner for url in urls] == people
    plain = urls[0].partition("?")[0]
    assert [httpx.get(plain, headers=gateway.auth(key)).status_code for key in keys] == [200, 404]
    missing = httpx.get(plain.replace("/media/", "/media/x"), headers=gateway.auth(keys[1]))
    other = httpx.get(plain, headers=gateway.auth(keys[1]))
    assert (missing.status_code, missing.json()) == (404, other.json())
    # Without a key the signature is all there is, and it holds for its own address alone.
    assert httpx.get(plain).status_code == 401
    assert httpx.get(urls[1].partition("?")[0] + "?" + urls[0].partition("?")[2]).status_code == 403
    assert httpx.get(urls[0].replace("expires=1", "expires=2")).status_code == 403


def test_the_next_provider_draws_when_the_first_fails(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    with ScriptedProvider() as second:
        provider.enqueue(answers.error(500))
        second.enqueue(images(RED))
        gateway.add_provider(provider, "m", name="First", priority=1)
        gateway.add_provider(second, "m", name="Second", priority=2)
        found = gateway.client().images.with_raw_response.generate(model="m", prompt="x")
    assert found.parse().model_extra == {"model": "m", "provider": "Second"}
    assert found.headers["x-gateway-attempts"] == "First/m 502, Second/m 200"
    booked = row()
    assert [attempt["provider"] for attempt in booked.attempts] == ["First", "Second"]
    assert UsageEvent.objects.count() == 1
