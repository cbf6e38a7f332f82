"""Imagen's models at Google's Gemini API (ai.google.dev/gemini-api/docs/imagen): POST models/{model}:predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.adapters.pictures import Drawing, nearest, picture_of, resolution
from gateway.errors import ContentRefused, UnsupportedParameter, UpstreamBroken
from gateway.events import Usage
from gateway.pictures import PictureRequest
from gateway.targets import Target
from gateway.tokens import carried

RATIOS = ("1:1", "3:4", "4:3", "9:16", "16:9")
MAX_COUNT = 4


def is_imagen(model: str) -> bool:
    return model.rpartition("/")[2].startswith("imagen")


def imagen_body(target: Target, request: PictureRequest) -> dict[str, Any]:
    """Raises UnsupportedParameter for what it has no word for; words that only tune the picture are left out."""
    if request.pictures:
        raise UnsupportedParameter(target.provider, "image", "Imagen draws from a text alone.")
    if request.count > MAX_COUNT:
        raise UnsupportedParameter(target.provider, "n", f"at most {MAX_COUNT} are possible.")
    ratio, size = nearest(request, RATIOS), resolution(request)
    parameters = {"sampleCount": request.count, "aspectRatio": ratio, "sampleImageSize": size}
    return {
        "instances": [{"prompt": request.prompt}],
        "parameters": {name: value for name, value in parameters.items() if value is not None},
    }


def imagen_answer(target: Target, request: PictureRequest, body: Mapping[str, Any]) -> Drawing:
    """Raises ContentRefused for an answer in which nothing was left, UpstreamBroken for one that cannot be read.

    Imagen is paid by the picture, also for those that cannot be read.
    """
    predictions = body.get("predictions") or []
    if not isinstance(predictions, list) or not all(isinstance(item, dict) for item in predictions):
        raise UpstreamBroken(f"{target.provider} sent an answer without pictures.")
    made = [item for item in predictions if isinstance(item.get("bytesBase64Encoded"), str)]
    if not made:
        said = next((str(item["raiFilteredReason"]) for item in predictions if item.get("raiFilteredReason")), "")
        raise ContentRefused(said[:1000] or f"{target.provider} refused to make this picture.")
    try:
        return Drawing([picture_of(target, item["bytesBase64Encoded"], _prompt(item)) for item in made])
    except UpstreamBroken as error:
        carried(error, [Usage(request.estimated_tokens(), 0, estimated=True, images=len(made))])
        raise


def _prompt(item: Mapping[str, Any]) -> str:
    prompt = item.get("prompt")
    return prompt if isinstance(prompt, str) else ""
