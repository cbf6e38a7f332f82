"""Pictures of the demo provider: really drawn, of nothing but the words that were said. No model, no network."""

from __future__ import annotations

import base64
import colorsys
import textwrap
import warnings
from hashlib import blake2b
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from gateway.adapters.pictures import Drawing, Drawn
from gateway.errors import UpstreamRejected
from gateway.events import Usage
from gateway.pictures import Picture, PictureRequest
from gateway.targets import Target

SIZE = (512, 512)
MAX_SIDE = 1792
# Of all pictures of a request: it is drawn on the processor that serves everybody.
MAX_DRAWN = 8_000_000
MIN_SIDE = 16
MAX_PIXELS = 50_000_000
WORDS_READ = 240
FORMATS = {"png": "PNG", "jpeg": "JPEG", "jpg": "JPEG", "webp": "WEBP"}
MIMES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
FORMAT_READ = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/gif": "GIF"}


def draw(target: Target, request: PictureRequest) -> Drawing:
    """The same pictures for the same words. Blocks. Raises UpstreamRejected."""
    kind = FORMATS.get(str(request.body.get("output_format") or "png").lower())
    if kind is None:
        raise rejected("output_format", "The demo provider writes png, jpeg and webp.")
    size = _size(request)
    if not request.pictures and size[0] * size[1] * request.count > MAX_DRAWN:
        raise rejected("n", f"The demo provider draws {MAX_DRAWN} pixels at once.")
    made = []
    for number in range(request.count):
        image = _edited(request, number) if request.pictures else _landscape(request, size, number)
        data = BytesIO()
        image.convert("RGB").save(data, kind)
        made.append(Drawn(base64.b64encode(data.getvalue()).decode(), MIMES[kind]))
    return Drawing(made, Usage(max(1, len(request.prompt.split())), 0), {"size": f"{image.width}x{image.height}"})


def _size(request: PictureRequest) -> tuple[int, int]:
    asked = request.size()
    if asked is None:
        ratio = request.ratio()
        if ratio is None:
            return SIZE
        scale = max(SIZE) / max(ratio)
        asked = (max(MIN_SIDE, round(ratio[0] * scale)), max(MIN_SIDE, round(ratio[1] * scale)))
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in asked):
        raise rejected("size", f"The demo provider draws {MIN_SIDE} to {MAX_SIDE} pixels a side.")
    return asked


def _landscape(request: PictureRequest, size: tuple[int, int], number: int) -> Image.Image:
    """A sky, a sun and hills whose colours and places follow from the words, and the words themselves."""
    seed = request.body.get("seed") or 0
    dice = blake2b(f"{seed}/{number}/{request.prompt}".encode("utf-8", "replace"), digest_size=16).digest()
    width, height = size
    image = Image.new("RGB", size)
    paint = ImageDraw.Draw(image)
    hue = dice[0] / 255
    for y in range(height):
        paint.line([(0, y), (width, y)], fill=_colour(hue, 0.45, 0.95 - 0.35 * y / height))
    radius = max(2, min(size) * (10 + dice[1] % 12) // 100)
    x, y = width * (20 + dice[2] % 60) // 100, height * (15 + dice[3] % 25) // 100
    paint.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_colour(hue + 0.5, 0.35, 1.0))
    for layer in range(3):
        tops = [height * (55 + 12 * layer - dice[4 + layer * 4 + at] % 18) // 100 for at in range(4)]
        points = [(width * at // 3, top) for at, top in enumerate(tops)]
        paint.polygon([(0, height), *points, (width, height)], fill=_colour(hue + 0.3, 0.5, 0.6 - 0.15 * layer))
    _caption(image, request.prompt)
    return image


def _edited(request: PictureRequest, number: int) -> Image.Image:
    """The first picture with the words on it; where a mask is transparent it is tinted."""
    image = _opened(request.pictures[0], "image").convert("RGB")
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    hue = blake2b(f"{number}/{request.prompt}".encode("utf-8", "replace"), digest_size=1).digest()[0] / 255
    tint = Image.blend(image, Image.new("RGB", image.size, _colour(hue, 0.6, 0.9)), 0.55)
    if request.mask is not None:
        mask = _opened(request.mask, "mask").convert("RGBA").getchannel("A").resize(image.size)
        image = Image.composite(image, tint, mask)
    else:
        image = Image.blend(image, tint, 0.4)
    _caption(image, request.prompt)
    return image


def _opened(picture: Picture, param: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(BytesIO(picture.data), formats=[FORMAT_READ[picture.mime_type]])
            if image.width * image.height > MAX_PIXELS:
                raise rejected(param, f"The picture has more than {MAX_PIXELS} pixels.")
            image.load()
            return image
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError, EOFError):
        raise rejected(param, "The picture is damaged or cut off.") from None


def _caption(image: Image.Image, prompt: str) -> None:
    """The words, white on a dark band, as large as they fit."""
    paint = ImageDraw.Draw(image, "RGBA")
    words = " ".join(prompt.encode("utf-8", "replace").decode().split())[:WORDS_READ] or "?"
    size = max(8, image.width // 22)
    font = ImageFont.load_default(size)
    lines = textwrap.wrap(words, max(4, int(image.width / (size * 0.6))))[: max(1, image.height // (size * 3))]
    band = int(size * 1.4) * len(lines) + size
    paint.rectangle([0, image.height - band, image.width, image.height], fill=(0, 0, 0, 150))
    for at, line in enumerate(lines):
        paint.text((size // 2, image.height - band + size // 2 + at * int(size * 1.4)), line, (255, 255, 255), font)


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def rejected(param: str, why: str) -> UpstreamRejected:
    return UpstreamRejected(why, code="invalid_value", param=param)
