"""Checks requests for pictures (OpenAI API reference, "Create image", "Create image edit"), as JSON and as forms."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.errors import BadRequest
from gateway.pictures import EXTENSIONS, MAX_INPUTS, MAX_PICTURES, Picture, PictureRequest
from gateway.surfaces.multipart import Form, Upload
from gateway.surfaces.openai.calls import check_integer, check_kind
from gateway.surfaces.openai.parser import addressed, decode, ill_typed, merged, missing
from gateway.surfaces.openai.steering import of_form
from media.kinds import kind_of

FORMS = ("url", "b64_json")
STRINGS = (
    "size", "quality", "style", "background", "output_format", "moderation", "user", "aspect_ratio", "resolution",
    "negative_prompt", "input_fidelity",
)  # fmt: skip
INTEGERS: dict[str, tuple[int, int]] = {
    "n": (1, MAX_PICTURES),
    "width": (1, 16384),
    "height": (1, 16384),
    "output_compression": (0, 100),
    "partial_images": (0, 3),
    "num_inference_steps": (1, 1000),
    "seed": (-(2**63), 2**64),
}
NUMBERS: dict[str, tuple[float, float]] = {"guidance_scale": (0, 1000)}
BOOLEANS = ("stream", "download_media")
TRUTHS = {"true": True, "1": True, "false": False, "0": False, "": None}
# Of our own: what else steers is what steers every request.
STEERING = ("response_format", "stream")


def parse_generation(raw: bytes, path_provider: str | None = None) -> PictureRequest:
    """Raises BadRequest with the parameter's path."""
    return _request(merged(decode(raw)), path_provider)


def parse_edit(raw: bytes, path_provider: str | None = None) -> PictureRequest:
    """The JSON form: pictures are addresses, which are still to be read. Raises BadRequest."""
    body = dict(merged(decode(raw)))
    references, mask = body.pop("images", None), body.pop("mask", None)
    if references is None:
        raise missing("images")
    if not isinstance(references, list):
        raise ill_typed("images", "an array")
    _check_count(len(references), "images")
    sources = [_source(item, f"images[{at}]") for at, item in enumerate(references)]
    request = _request(body, path_provider)
    request.masked = mask is not None
    request.sources = (*sources, *([_source(mask, "mask")] if mask is not None else []))
    return request


def parse_edit_form(form: Form, path_provider: str | None = None) -> PictureRequest:
    """Reads the files, so it blocks. Raises BadRequest."""
    images, masks = form.uploads("image"), form.uploads("mask")
    for upload in form.files:
        if upload not in images and upload not in masks:
            raise BadRequest(f"Unknown file '{upload.name[:100]}'.", code="invalid_value", param=upload.name[:100])
    if not images:
        if "image" in form.fields or "image[]" in form.fields:
            raise ill_typed("image", "a file")
        raise missing("image")
    _check_count(len(images), "image")
    if len(masks) > 1:
        raise BadRequest("There may be one mask.", code="array_above_max_length", param="mask")
    request = _request(merged(_typed(form.fields)), path_provider)
    request.pictures = tuple(_read(upload, "image") for upload in images)
    request.mask = _read(masks[0], "mask") if masks else None
    return request


def _request(body: dict[str, Any], path_provider: str | None) -> PictureRequest:
    if body.get("model") is None and not body.get("models"):
        # Any model that draws.
        body = {**body, "model": ""}
    check_pictures(body)
    steering = addressed({name: value for name, value in body.items() if name not in STEERING}, path_provider)
    request = PictureRequest(
        **{**steering, "stream": body.get("stream") is True},
        plain=False,
        form=body.get("response_format") or "url",
    )
    request.body = {name: value for name, value in request.body.items() if value is not None}
    return request


def check_pictures(body: Mapping[str, Any]) -> None:
    """Raises BadRequest, 422 for what is out of range."""
    prompt = body.get("prompt")
    if prompt is None:
        raise missing("prompt")
    if not isinstance(prompt, str):
        raise ill_typed("prompt", "a string")
    if not prompt.strip():
        raise BadRequest("'prompt' must not be empty.", param="prompt")
    body = dict(body)
    for name in STRINGS:
        check_kind(body, name, str, "a string")
    for name in BOOLEANS:
        check_kind(body, name, bool, "a boolean")
    for name, (low, high) in INTEGERS.items():
        check_integer(body, name, low, high)
    for name, (least, most) in NUMBERS.items():
        _check_number(body, name, least, most)
    form = body.get("response_format")
    if form is not None and form not in FORMS:
        raise BadRequest(
            f"Invalid value for 'response_format': expected one of {', '.join(FORMS)}.", param="response_format"
        )


def _check_number(body: Mapping[str, Any], name: str, low: float, high: float) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ill_typed(name, "a number")
    if not low <= value <= high:
        code = "decimal_below_min_value" if value < low else "decimal_above_max_value"
        raise BadRequest(
            f"Invalid value for '{name}': expected {low:g} to {high:g}.", status=422, code=code, param=name
        )


def _check_count(count: int, name: str) -> None:
    if not count:
        raise BadRequest(f"'{name}' must not be empty.", code="empty_array", param=name)
    if count > MAX_INPUTS:
        raise BadRequest(f"'{name}' has more than {MAX_INPUTS} items.", code="array_above_max_length", param=name)


def _source(item: Any, at: str) -> str:
    """The address in OpenAI's reference to a picture; a bare one passes as well."""
    if isinstance(item, dict):
        if item.get("file_id") is not None:
            raise BadRequest(
                f"'{at}.file_id' is not supported: send 'image_url', or the file itself in a form.",
                code="unsupported_parameter",
                param=f"{at}.file_id",
            )
        item, at = item.get("image_url"), f"{at}.image_url"
    if item is None:
        raise missing(at)
    if not isinstance(item, str):
        raise ill_typed(at, "a string")
    return item


def _typed(fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The texts of a form as JSON would have them. Raises BadRequest for what is no number or truth value."""
    body: dict[str, Any] = {}
    for name, values in fields.items():
        plain = name.removesuffix("[]")
        body[plain] = _value(plain, values[-1]) if plain == name else list(values)
    return body


def _value(name: str, text: str) -> Any:
    if name in INTEGERS:
        return _number(name, text, int, "an integer")
    if name in NUMBERS:
        return _number(name, text, float, "a number")
    if name in BOOLEANS:
        if text.lower() not in TRUTHS:
            raise ill_typed(name, "a boolean")
        return TRUTHS[text.lower()]
    return of_form(name, text)


def _number(name: str, text: str, kind: Callable[[str], Any], wanted: str) -> Any:
    if not text:
        return None
    try:
        if len(text) > 40 or not text.isascii():
            raise ValueError
        return kind(text)
    except ValueError:
        raise ill_typed(name, wanted) from None


def _read(upload: Upload, param: str) -> Picture:
    return picture_of(upload.read(), param, status=415, code="unsupported_file_type")


def picture_of(data: bytes, param: str, status: int = 400, code: str = "invalid_image_url") -> Picture:
    """Raises BadRequest unless the bytes are a picture's."""
    kind = kind_of(data[:64]) if data else None
    if kind not in EXTENSIONS:
        message = f"'{param}' is no picture that is accepted here: send PNG, JPEG, WebP or GIF."
        raise BadRequest(message, status=status, code=code, param=param)
    return Picture(data, kind)


def inline_picture(url: str, param: str, most: int) -> Picture | None:
    """What a data: URL holds; None for other addresses. Raises BadRequest."""
    if url[:5].lower() != "data:":
        return None
    head, comma, data = url.partition(",")
    try:
        if not comma or not head.lower().endswith(";base64"):
            raise ValueError
        found = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"'{param}' is not valid base64.", code="invalid_image_url", param=param) from None
    if len(found) > most:
        raise BadRequest(f"'{param}' is larger than {most} bytes.", status=413, code="file_too_large", param=param)
    return picture_of(found, param)


async def read_form_off_the_loop(form: Form, path_provider: str | None) -> PictureRequest:
    return await asyncio.to_thread(parse_edit_form, form, path_provider)
