"""The routes for pictures: their names, whom they ask, and what each kind of bad request or provider is answered."""

from __future__ import annotations

import base64
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from gateway.models import Price, ProviderModel, UsageEvent
from gateway.usage import writer
from media.models import Quota, StoredFile
from tests.people import person
from tests.support import answers
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_error
from tests.support.pictures import GPT_USAGE, b64, images, opened, picture
from tests.support.provider import ScriptedProvider

RED = picture("red")
ASK = {"model": "m", "prompt": "x"}


def post(gateway: LiveGateway, path: str = "/v1/images/generations", **options: Any) -> httpx.Response:
    return gateway.http.post(path, headers=gateway.auth(), **{"json": ASK, **options})


def edit(gateway: LiveGateway, files: Any = None, **data: Any) -> httpx.Response:
    files = {"image": ("a.png", RED)} if files is None else files
    return gateway.http.post("/v1/images/edits", headers=gateway.auth(), data={**ASK, **data}, files=files)


def rows() -> list[UsageEvent]:
    writer.flush()
    return list(UsageEvent.objects.order_by("id"))


def test_every_name_of_the_route_draws(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "m")
    for path in (
        "/v1/images/generations", "/v1/images/generate", "/v1/media/generate", "/v1/images/generations/",
        "/api/scripted/images/generations", "/api/Scripted/images/generate",
    ):  # fmt: skip
        provider.enqueue(images(RED))
        answer = post(gateway, path)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["created", "data", "output_format", "model", "provider"]
        assert answer.headers["cache-control"] == "no-store"
    assert [(row.surface, row.images) for row in rows()] == [("v1.images", 1)] * 4 + [("api.images", 1)] * 2


@pytest.mark.parametrize("where", ["body", "path", "model"])
def test_a_provider_may_be_named(gateway: LiveGateway, provider: ScriptedProvider, where: str) -> None:
    provider.enqueue(images(RED))
    gateway.add_provider("http://127.0.0.1:9/v1", "m", name="Other", priority=1)
    gateway.add_provider(provider, "m", name="Mine", priority=2)
    path = "/api/Mine/images/generations" if where == "path" else "/v1/images/generations"
    more = {"body": {"provider": "mine"}, "path": {}, "model": {"model": "Mine/m"}}[where]
    answer = post(gateway, path, json={**ASK, **more})
    assert answer.json()["provider"] == "Mine"


def test_a_model_that_draws_is_found_when_none_is_named(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(images(RED), images(RED), images(RED))
    gateway.add_demo()
    gateway.add_provider(provider, "talks", {"public_id": "draws", "image": True})
    provider.enqueue(images(RED))
    for body in (
        {"prompt": "x"}, {"prompt": "x", "model": None}, {"prompt": "x", "provider": "Scripted"},
        {"prompt": "x", "model": "Scripted"},
    ):  # fmt: skip
        assert post(gateway, json=body).json()["model"] == "draws"


BAD = {
    "no JSON": (b"{", 400, "invalid_json", None),
    "no prompt": ({"model": "m"}, 400, "missing_required_parameter", "prompt"),
    "null prompt": ({"model": "m", "prompt": None}, 400, "missing_required_parameter", "prompt"),
    "empty prompt": ({"model": "m", "prompt": " "}, 400, "invalid_value", "prompt"),
    "prompt a list": ({"model": "m", "prompt": ["x"]}, 400, "invalid_type", "prompt"),
    "n 0": ({**ASK, "n": 0}, 422, "decimal_below_min_value", "n"),
    "n 11": ({**ASK, "n": 11}, 422, "decimal_above_max_value", "n"),
    "n a text": ({**ASK, "n": "2"}, 400, "invalid_type", "n"),
    "n true": ({**ASK, "n": True}, 400, "invalid_type", "n"),
    "width -1": ({**ASK, "width": -1}, 422, "decimal_below_min_value", "width"),
    "seed a text": ({**ASK, "seed": "x"}, 400, "invalid_type", "seed"),
    "scale a text": ({**ASK, "guidance_scale": "x"}, 400, "invalid_type", "guidance_scale"),
    "scale out of range": ({**ASK, "guidance_scale": -1}, 422, "decimal_below_min_value", "guidance_scale"),
    "size a number": ({**ASK, "size": 512}, 400, "invalid_type", "size"),
    "unknown form": ({**ASK, "response_format": "png"}, 400, "invalid_value", "response_format"),
    "form a list": ({**ASK, "response_format": ["url"]}, 400, "invalid_value", "response_format"),
    "stream a text": ({**ASK, "stream": "yes"}, 400, "invalid_type", "stream"),
    "partial images": ({**ASK, "partial_images": 4}, 422, "decimal_above_max_value", "partial_images"),
    "model a number": ({"model": 5, "prompt": "x"}, 400, "invalid_type", "model"),
    "unknown model": ({"model": "other", "prompt": "x"}, 404, "model_not_found", "model"),
    "unknown provider": ({**ASK, "provider": "other"}, 404, "provider_not_found", "provider"),
    "does not draw": ({"model": "talks", "prompt": "x"}, 400, "unsupported_operation", "model"),
    "knows no pictures": ({"model": "llama", "prompt": "x"}, 400, "unsupported_operation", "model"),
    "none draws": ({"model": "", "prompt": "x", "provider": "Ollama"}, 400, "unsupported_operation", "model"),
}


def test_bad_requests_name_what_is_wrong(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "m", {"public_id": "talks", "image": False})
    gateway.add_provider(provider, "llama", name="Ollama", adapter="ollama")
    found = {}
    for case, (body, *_) in BAD.items():
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = gateway.http.post(
            "/v1/images/generations", content=data, headers={**gateway.auth(), "content-type": "application/json"}
        )
        error = check_error(answer.json())
        found[case] = (answer.status_code, error["code"], error["param"])
    assert found == {case: tuple(expected) for case, (_, *expected) in BAD.items()}
    assert provider.requests == []


def test_strangers_and_wrong_methods_are_refused(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "m")
    assert gateway.key
    for path in ("/v1/images/generations", "/v1/images/edits"):
        assert gateway.http.post(path, json=ASK).status_code == 401
        assert gateway.http.get(path, headers=gateway.auth()).status_code == 405


EDITS = {
    "no image": ({}, {}, 400, "missing_required_parameter", "image"),
    "image a text": ({}, {"image": "x"}, 400, "invalid_type", "image"),
    "no picture": ({"image": ("a.png", b"no picture at all")}, {}, 415, "unsupported_file_type", "image"),
    "a document": ({"image": ("a.png", b"%PDF-1.7")}, {}, 415, "unsupported_file_type", "image"),
    "an empty file": ({"image": ("a.png", b"")}, {}, 415, "unsupported_file_type", "image"),
    "mask no picture": ({"image": ("a.png", RED), "mask": ("b", b"x")}, {}, 415, "unsupported_file_type", "mask"),
    "another file": ({"image": ("a.png", RED), "other": ("b", RED)}, {}, 400, "invalid_value", "other"),
    "17 pictures": ([("image[]", ("a.png", RED))] * 17, {}, 400, "array_above_max_length", "image"),
    "n 0": (None, {"n": "0"}, 422, "decimal_below_min_value", "n"),
    "n no number": (None, {"n": "two"}, 400, "invalid_type", "n"),
    "stream no truth": (None, {"stream": "perhaps"}, 400, "invalid_type", "stream"),
    "too deep": (None, {"extra_body": '{"a": ' + "[" * 300 + "]" * 300 + "}"}, 400, "invalid_value", "extra_body"),
    "empty prompt": (None, {"prompt": ""}, 400, "invalid_value", "prompt"),
    "unknown model": (None, {"model": "other"}, 404, "model_not_found", "model"),
    "too large": ({"image": ("a.png", RED + bytes(3_000_000))}, {}, 413, "file_too_large", "image"),
}


def test_bad_forms_name_what_is_wrong(gateway: LiveGateway, provider: ScriptedProvider, settings: Any) -> None:
    settings.MAX_FILE_BYTES = 3_000_000
    gateway.add_provider(provider, "m")
    found = {}
    for case, (files, data, *_) in EDITS.items():
        if files == {}:
            # httpx writes a form only where there is a file; browsers always do.
            parts = {name: (None, value) for name, value in {**ASK, **data}.items()}
            answer = gateway.http.post("/v1/images/edits", headers=gateway.auth(), files=parts)
        else:
            answer = edit(gateway, files, **data)
        error = check_error(answer.json())
        found[case] = (answer.status_code, error["code"], error["param"])
    assert found == {case: tuple(expected) for case, (_, _, *expected) in EDITS.items()}
    assert provider.requests == []
    assert rows() == []


def test_what_is_no_form_is_refused(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "m")
    for kind, status, code in (
        ("multipart/form-data", 400, "invalid_multipart"),
        ("multipart/form-data; boundary=abc", 400, "invalid_multipart"),
        ("text/plain", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("application/json", 400, "invalid_json"),
    ):
        headers = {**gateway.auth(), "content-type": kind}
        answer = gateway.http.post("/v1/images/edits", headers=headers, content=b"--xyz\r\nwhatever")
        assert (answer.status_code, check_error(answer.json())["code"]) == (status, code), kind


def test_a_body_beyond_the_limit_is_413_and_an_upload_that_is_cut_leaves_nothing(
    gateway: LiveGateway, provider: ScriptedProvider, settings: Any, tmp_path: Path
) -> None:
    gateway.add_provider(provider, "m")
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path
    place = urlsplit(gateway.url)
    head = (
        f"POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gateway.key}\r\n"
        "Content-Type: multipart/form-data; boundary=abc\r\nContent-Length: 20000000\r\n\r\n"
        '--abc\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    ).encode()
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        connection.sendall(head + RED + bytes(4_000_000))
    settings.MAX_BODY_BYTES = 1_000_000
    answer = edit(gateway, {"image": ("a.png", RED + bytes(1_000_000))})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert list(tmp_path.iterdir()) == []
    assert StoredFile.objects.count() == 0
    assert provider.requests == []


def test_pictures_to_edit_may_be_addresses(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    """The JSON form: a data: URL, and the signed address of a picture that was made before."""
    provider.enqueue(images(RED), images(RED), images(RED))
    gateway.add_provider(provider, "m")
    own = post(gateway).json()["data"][0]["url"]
    inline = f"data:image/png;base64,{b64(RED)}"
    body = {**ASK, "images": [{"image_url": inline}, {"image_url": own}], "mask": {"image_url": inline}, "n": 1}
    answer = post(gateway, "/v1/images/edits", json=body)
    assert answer.status_code == 200, answer.text
    sent = provider.requests[1].body
    assert sent.count(b'name="image[]"; filename=') == 2
    assert sent.count(b'name="mask"; filename=') == 1
    assert sent.count(RED) >= 2
    # One that was changed, or is somebody's guess, is read by nobody.
    for url in (own[:-1] + ("0" if own[-1] != "0" else "1"), own.replace("/media/", "/media/x")):
        answer = post(gateway, "/v1/images/edits", json={**ASK, "images": [{"image_url": url}]})
        error = check_error(answer.json())
        assert (answer.status_code, error["code"]) == (400, "invalid_image_url")
        assert error["param"] == "images[0].image_url"


REFERENCES = {
    "none": (None, "missing_required_parameter", "images"),
    "no list": ("x", "invalid_type", "images"),
    "empty": ([], "empty_array", "images"),
    "17": ([{"image_url": "x"}] * 17, "array_above_max_length", "images"),
    "a file": ([{"file_id": "file-1"}], "unsupported_parameter", "images[0].file_id"),
    "no url": ([{}], "missing_required_parameter", "images[0].image_url"),
    "a number": ([{"image_url": 5}], "invalid_type", "images[0].image_url"),
    "no base64": ([{"image_url": "data:image/png;base64,!!"}], "invalid_image_url", "images[0].image_url"),
    "no picture": ([{"image_url": "data:image/png;base64,aGVsbG8="}], "invalid_image_url", "images[0].image_url"),
    "a private address": ([{"image_url": "http://127.0.0.1/a.png"}], "invalid_image_url", "images[0].image_url"),
    "metadata": ([{"image_url": "http://169.254.169.254/latest"}], "invalid_image_url", "images[0].image_url"),
    "a file of ours": ([{"image_url": "file:///etc/passwd"}], "invalid_image_url", "images[0].image_url"),
}


def test_bad_references_name_what_is_wrong(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "m")
    for case, (references, code, param) in REFERENCES.items():
        body = {**ASK, "images": references} if references is not None else ASK
        answer = post(gateway, "/v1/images/edits", json=body)
        error = check_error(answer.json())
        assert (answer.status_code, error["code"], error["param"]) == (400, code, param), case
    assert provider.requests == []


BROKEN = {
    "500": answers.error(500),
    "no JSON": answers.raw(b"<html>"),
    "no data": answers.raw(b'{"created": 1}'),
    "no pictures": answers.raw(b'{"data": []}'),
    "odd items": answers.raw(b'{"data": [1]}'),
    "neither form": answers.raw(b'{"data": [{"revised_prompt": "x"}]}'),
    "no base64": answers.raw(b'{"data": [{"b64_json": "!!!!"}]}'),
    "no picture": answers.raw(b'{"data": [{"b64_json": "aGVsbG8="}]}'),
    "a private address": answers.raw(b'{"data": [{"url": "http://169.254.169.254/a.png"}]}'),
    "another port": answers.raw(b'{"data": [{"url": "http://127.0.0.1:1/a.png"}]}'),
    "no address": answers.raw(b'{"data": [{"url": "ftp://x"}]}'),
    "cut": answers.cut_short(b'{"data": [', 1000),
}


def test_a_broken_provider_is_502_and_booked_once(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    gateway.add_provider(provider, "m")
    for case, programme in BROKEN.items():
        provider.enqueue(programme)
        answer = post(gateway)
        error = check_error(answer.json())
        assert (answer.status_code, error["type"]) == (502, "provider_error"), case
    booked = rows()
    assert len(booked) == len(BROKEN)
    assert {(row.status, row.http_status, row.images) for row in booked} == {("error", 502, None)}


def test_what_was_paid_for_pictures_that_cannot_be_had_is_booked(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    gateway.add_provider(provider, "m")
    Price.objects.create(
        model=ProviderModel.objects.get(), input=0, output=40 * 10**9, valid_from="2020-01-01T00:00:00Z"
    )
    gateway.reload()
    items: list[Any] = [{"b64_json": "aGVsbG8="}, {"url": "http://169.254.169.254/a.png"}, {"revised_prompt": "x"}]
    for item in items:
        provider.enqueue(images(item, usage=GPT_USAGE))
        assert post(gateway).status_code == 502
    provider.enqueue(images(usage=GPT_USAGE))
    assert post(gateway).status_code == 502
    assert [(row.prompt_tokens, row.completion_tokens, row.cost) for row in rows()] == [(24, 1056, 42_240_000)] * 4


def test_a_refusal_comes_with_the_providers_words(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    refusal = answers.error(400, "Your request was rejected by our safety system.", code="moderation_blocked")
    provider.enqueue(refusal, answers.error(429, "slow", headers={"retry-after": "7"}))
    gateway.add_provider(provider, "m")
    answer = post(gateway)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "moderation_blocked")
    answer = post(gateway)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


def test_an_address_on_the_providers_own_server_is_read_and_kept(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    host = provider.base_url.removesuffix("/v1")
    provider.enqueue(images({"url": f"{host}/made/1.png"}), answers.raw(RED, content_type="text/plain"))
    gateway.add_provider(provider, "m")
    item = post(gateway, json={**ASK, "response_format": "b64_json"}).json()["data"][0]
    assert base64.b64decode(item["b64_json"]) == RED
    assert provider.requests[1].path == "/made/1.png"


def test_a_server_that_refuses_response_format_is_asked_without_it_from_then_on(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    provider.enqueue(
        answers.error(400, "Unknown parameter: 'response_format'.", param="response_format"), images(RED), images(RED)
    )
    gateway.add_provider(provider, "m")
    assert [post(gateway).status_code, post(gateway).status_code] == [200, 200]
    assert ["response_format" in request.json for request in provider.requests] == [True, False, False]


def test_a_server_without_the_route_is_asked_in_a_chat(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    url = f"data:image/png;base64,{b64(RED)}"
    message = {"role": "assistant", "content": "Here.", "images": [{"type": "image_url", "image_url": {"url": url}}]}
    chat = {
        "id": "1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1290, "total_tokens": 1295},
    }  # fmt: skip
    provider.enqueue(answers.error(404, "Not Found"), answers.reply_json(chat), answers.reply_json(chat))
    gateway.add_provider(provider, "m")
    answer = post(gateway, json={**ASK, "n": 2, "aspect_ratio": "16:9", "seed": 3, "response_format": "b64_json"})
    assert answer.status_code == 200, answer.text
    assert [item["b64_json"] for item in answer.json()["data"]] == [b64(RED)] * 2
    asked = provider.requests[1].json
    assert asked["modalities"] == ["text", "image"]
    assert (asked["image_config"], asked["seed"]) == ({"aspect_ratio": "16:9"}, 3)
    [row] = rows()
    assert (row.prompt_tokens, row.completion_tokens, row.images) == (10, 2580, 2)


def streamed(gateway: LiveGateway, **more: Any) -> list[dict[str, Any]]:
    answer = post(gateway, json={**ASK, "stream": True, **more})
    assert answer.status_code == 200, answer.text
    return [json.loads(event.partition("data: ")[2]) for event in answer.text.strip().split("\n\n")]


def test_a_stream_of_a_server_that_answers_with_addresses(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    host = provider.base_url.removesuffix("/v1")
    provider.enqueue(images({"url": f"{host}/made/1.png"}, usage=GPT_USAGE), answers.raw(RED, content_type="image/png"))
    gateway.add_provider(provider, "m")
    (event,) = streamed(gateway)
    assert (event["type"], event["b64_json"], event["usage"]) == ("image_generation.completed", b64(RED), GPT_USAGE)
    (booked,) = rows()
    assert (booked.status, booked.stream, booked.images, booked.completion_tokens) == ("ok", True, 1, 1056)


def test_a_stream_of_a_server_without_the_route_is_drawn_in_a_chat(
    gateway: LiveGateway, provider: ScriptedProvider
) -> None:
    url = f"data:image/png;base64,{b64(RED)}"
    message = {"role": "assistant", "content": "Here.", "images": [{"type": "image_url", "image_url": {"url": url}}]}
    chat = {"id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 1290, "total_tokens": 1295}}  # fmt: skip
    missing = answers.error(404, "Not Found")
    provider.enqueue(missing, missing, answers.reply_json(chat))
    gateway.add_provider(provider, "m")
    (event,) = streamed(gateway)
    assert (event["type"], event["b64_json"]) == ("image_generation.completed", b64(RED))
    assert provider.requests[-1].path == "/v1/chat/completions"
    (booked,) = rows()
    assert (booked.status, booked.images, booked.completion_tokens) == ("ok", 1, 1290)


@pytest.mark.parametrize("said", ["Unknown parameter: 'stream'.", "This model does not support streaming."])
def test_a_server_that_refuses_streams_is_asked_without(
    gateway: LiveGateway, provider: ScriptedProvider, said: str
) -> None:
    provider.enqueue(answers.error(400, said), images(RED))
    gateway.add_provider(provider, "m")
    (event,) = streamed(gateway, partial_images=2)
    assert (event["type"], event["b64_json"]) == ("image_generation.completed", b64(RED))
    first, second = (request.json for request in provider.requests)
    assert (first["stream"], first["partial_images"]) == (True, 2)
    assert not {"stream", "partial_images"} & set(second)


def test_another_refusal_of_a_stream_is_told(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(answers.error(400, "Your prompt is bad."))
    gateway.add_provider(provider, "m")
    answer = post(gateway, json={**ASK, "stream": True})
    assert (answer.status_code, "Your prompt is bad." in answer.text) == (400, True)
    assert len(provider.requests) == 1


def test_a_model_that_only_talks_is_said_so(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(answers.error(404, "Not Found"))
    gateway.add_provider(provider, "m")
    error = check_error(post(gateway).json())
    assert (error["code"], error["param"]) == ("no_picture", "prompt")


@pytest.mark.parametrize("why", ["quota", "download_media"])
def test_what_cannot_be_kept_is_handed_over_all_the_same(
    gateway: LiveGateway, provider: ScriptedProvider, why: str
) -> None:
    provider.enqueue(images(RED))
    gateway.add_provider(provider, "m")
    owner = person("alice")
    if why == "quota":
        Quota.objects.create(user=owner, max_bytes=10)
    body = {**ASK, "download_media": False} if why == "download_media" else ASK
    headers = gateway.auth(gateway.make_key(owner))
    item = gateway.http.post("/v1/images/generations", headers=headers, json=body).json()["data"][0]
    assert item == {"url": f"data:image/png;base64,{b64(RED)}"}
    assert StoredFile.objects.count() == 0


def test_a_folder_that_is_gone_costs_no_picture(
    gateway: LiveGateway, provider: ScriptedProvider, settings: Any, tmp_path: Path
) -> None:
    provider.enqueue(images(RED))
    gateway.add_provider(provider, "m")
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "missing"
    answer = post(gateway)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"] == [{"url": f"data:image/png;base64,{b64(RED)}"}]


def test_addresses_begin_where_the_server_is_reached(
    gateway: LiveGateway, provider: ScriptedProvider, settings: Any
) -> None:
    provider.enqueue(images(RED), images(RED))
    gateway.add_provider(provider, "m")
    place = urlsplit(gateway.url)
    url = post(gateway).json()["data"][0]["url"]
    assert url.startswith(f"http://{place.netloc}/media/")
    settings.PUBLIC_URL = "https://ai.example.org"
    assert post(gateway).json()["data"][0]["url"].startswith("https://ai.example.org/media/")


def test_limits_and_scopes_hold(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(images(RED))
    gateway.add_provider(provider, "m")
    owner = person("alice")
    other = gateway.auth(gateway.make_key(owner, models=["other"]))
    answer = gateway.http.post("/v1/images/generations", headers=other, json=ASK)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "model_not_allowed")
    limited = gateway.auth(gateway.make_key(owner, requests_per_minute=1))
    assert gateway.http.post("/v1/images/generations", headers=limited, json=ASK).status_code == 200
    answer = gateway.http.post("/v1/images/generations", headers=limited, json=ASK)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert len(provider.requests) == 1


def test_unknown_fields_and_ignored_ones(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(images(RED))
    gateway.add_provider(provider, "m")
    body = {**ASK, "proxy": "http://x", "api_key": "sk-mine", "resolution": "2K", "audio": None, "loras": [{"a": 1}]}
    answer = post(gateway, json=body)
    assert answer.headers["warning"] == '299 g4fsite "ignored: proxy, api_key"'
    sent = provider.requests[0].json
    assert sent == {"model": "m", "prompt": "x", "resolution": "2K", "loras": [{"a": 1}], "response_format": "b64_json"}


def test_a_picture_kept_twice_is_one_content_and_two_files(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.enqueue(images(RED, RED))
    gateway.add_provider(provider, "m")
    urls = [item["url"] for item in post(gateway).json()["data"]]
    assert urls[0] != urls[1]
    first, second = StoredFile.objects.all()
    assert first.blob_id == second.blob_id
    assert opened(RED).size == (first.width, first.height)


def test_variations_are_no_route_and_the_clients_are_told(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    """OpenAI had them for dall-e-2 alone; docs/fields.md says what to do instead."""
    gateway.add_provider(provider, "m")
    with pytest.raises(openai.NotFoundError) as caught:
        gateway.client().images.create_variation(image=RED, model="m")
    assert caught.value.code == "unknown_url"
    assert "POST /v1/images/edits" in caught.value.message
    missing = gateway.http.post("/api/scripted/images/variations", headers=gateway.auth(), files={"image": RED})
    assert (missing.status_code, check_error(missing.json())["code"]) == (404, "unknown_url")
    assert provider.requests == []
