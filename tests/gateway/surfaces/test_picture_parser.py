"""Whatever a caller sends for pictures: a request that every adapter can read, or a refusal that names the field."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.gemini.pictures import imagen_body
from gateway.adapters.openai_pictures import _sent as sent
from gateway.adapters.pictures import RATIOS, image_config, nearest, picture_of
from gateway.adapters.pollinations import _image_path as image_path
from gateway.errors import BadRequest, UnsupportedParameter, UpstreamBroken
from gateway.limiter import estimate
from gateway.pictures import Picture, PictureRequest
from gateway.surfaces.multipart import Bounds, FormReader
from gateway.surfaces.openai.picture_parser import parse_edit, parse_edit_form, parse_generation
from gateway.targets import Endpoint, Target
from tests.support.pictures import b64, picture

RED = picture("red")
TARGET = Target("openai_chat", 1, "Acme", 1, "m", "m", Endpoint("Acme", "https://x.test/v1"))
LEAVES = (
    st.none() | st.booleans() | st.integers(-5, 2**63) | st.floats(allow_nan=False) | st.text(max_size=5)
    | st.sampled_from(["1024x768", "0x0", "16:9", "1:0", "auto", "2K", "1x99999", "url", "b64_json", "true", "NaN"])
)  # fmt: skip
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
FIELDS = (
    "model", "prompt", "n", "size", "width", "height", "aspect_ratio", "resolution", "quality", "seed", "stream",
    "response_format", "download_media", "partial_images", "guidance_scale", "provider", "models", "extra_body",
    "usage", "max_tokens", "tools", "images", "mask", "image_config", "output_format", "private", "enhance",
)  # fmt: skip
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4).map(lambda some: {"prompt": "x"} | some)


def is_refusal(error: BadRequest) -> bool:
    return error.status in (400, 404, 413, 415, 422) and bool(error.param)


def read_by_every_adapter(request: PictureRequest) -> None:
    assert estimate(request) >= 1
    assert request.estimated_tokens() >= 1
    assert nearest(request, RATIOS) in (None, *RATIOS)
    assert image_path(TARGET, request).startswith("/image/")
    assert isinstance(image_config(request), dict)
    with suppress(UnsupportedParameter):
        imagen_body(TARGET, request)
    for given_pictures in ((), (Picture(RED, "image/png"),)):
        request.pictures = given_pictures
        path, data, _ = sent(TARGET, request, "", base64=True)
        assert (path, bool(data)) == ("/images/edits" if given_pictures else "/images/generations", True)


@given(BODIES)
def test_any_body_is_read_or_refused(body: Any) -> None:
    try:
        request = parse_generation(orjson.dumps(body))
    except BadRequest as error:
        assert is_refusal(error)  # noqa: PT017 - what is read is right as well
        return
    read_by_every_adapter(request)


REFERENCES = st.lists(st.fixed_dictionaries({}, optional={"image_url": VALUES, "file_id": VALUES}) | VALUES, max_size=3)


@given(BODIES, REFERENCES | VALUES)
def test_any_references_are_read_or_refused(body: Any, images: Any) -> None:
    try:
        request = parse_edit(orjson.dumps({**body, "images": images}))
    except BadRequest as error:
        assert is_refusal(error)  # noqa: PT017 - what is read is right as well
        return
    assert len(request.sources) - request.masked == len(images)


TEXTS = st.dictionaries(st.sampled_from((*FIELDS, "tag[]", 'odd"\r\nname')), st.text(max_size=8) | LEAVES.map(str))


@given(TEXTS, st.sampled_from([RED, b"", b"no picture"]))
def test_any_form_is_read_or_refused(fields: dict[str, str], data: bytes) -> None:
    parts = [(name, "", value.encode("utf-8", "replace")) for name, value in ({"prompt": "x"} | fields).items()]
    body = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
        % (name.replace("\r\n", "%0D%0A").replace('"', "%22").encode(), extra.encode(), value)
        for name, extra, value in [*parts, ("image", '; filename="a"', data)]
    )
    reader = FormReader(b"multipart/form-data; boundary=b", Bounds())
    reader.feed(body + b"--b--\r\n")
    with reader.finish() as form:
        try:
            request = parse_edit_form(form)
        except BadRequest as error:
            assert is_refusal(error)  # noqa: PT017 - what is read is right as well
            return
        assert request.pictures == (Picture(RED, "image/png"),)
        read_by_every_adapter(request)


def test_a_field_cannot_break_out_of_its_part() -> None:
    """A provider must read the fields that were given, whatever their names and values."""
    evil = 'x"\r\nContent-Type: text/html\r\n\r\n--'
    request = parse_generation(
        orjson.dumps({"prompt": "a\r\n--b\r\n", evil: evil, "list": ["a", {"b": 1}], "flag": True})
    )
    request.pictures, request.mask = (Picture(RED, "image/png"), Picture(RED, "image/png")), Picture(RED, "image/png")
    _, data, kind = sent(TARGET, request, "", base64=False)
    reader = FormReader(kind.encode(), Bounds())
    reader.feed(data)
    with reader.finish() as form:
        assert form.fields == {
            "prompt": ["a\r\n--b\r\n"], "x%22%0D%0AContent-Type: text/html%0D%0A%0D%0A--": [evil],
            "list[]": ["a", '{"b":1}'], "flag": ["true"], "model": ["m"],
        }  # fmt: skip
        assert [(file.name, file.read()) for file in form.files] == [("image[]", RED), ("image[]", RED), ("mask", RED)]


@pytest.mark.parametrize(
    "data",
    [
        b64(RED),
        f"data:image/png;base64,{b64(RED)}",
        b64(RED).rstrip("="),
        b64(RED).replace("+", "-").replace("/", "_"),
        "\n".join(b64(RED)[at : at + 76] for at in range(0, len(b64(RED)), 76)),
    ],
)
def test_base64_of_any_writing_becomes_plain(data: str) -> None:
    found = picture_of(TARGET, data, "more words")
    assert (found.data, found.mime_type, found.revised_prompt) == (b64(RED), "image/png", "more words")


@given(st.text(max_size=120))
def test_what_is_no_picture_is_the_providers_fault(data: str) -> None:
    with pytest.raises(UpstreamBroken):
        picture_of(TARGET, data)
