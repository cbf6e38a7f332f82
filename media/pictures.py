"""Pictures made anew: without what cameras write beside them (place, time), upright, and of bounded size."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    ImageSequence,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from media.convert.exif import described
from media.errors import BrokenPicture, MediaError, PictureTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_IMAGE_PIXELS = 50_000_000
# Of all frames together: half a minute of a film on a page, and at most a few seconds of work.
MAX_ANIMATION_PIXELS = 100_000_000
MAX_FRAMES = 2000
THUMBNAIL = (400, 400)
MAX_PROFILE_BYTES = 512 * 1024
# What is stored of what came: browsers show these four; of the others they show some or none.
STORED_AS = {
    "PNG": ("PNG", "image/png"),
    "JPEG": ("JPEG", "image/jpeg"),
    "MPO": ("JPEG", "image/jpeg"),
    "GIF": ("GIF", "image/gif"),
    "WEBP": ("WEBP", "image/webp"),
    "BMP": ("PNG", "image/png"),
    "AVIF": ("WEBP", "image/webp"),
}
# Pillow loads those of a list that it knows: named here, none is missing when the first picture comes.
READERS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)
# A JPEG of several pictures is found to be one after it was opened as JPEG.
READ = [name for name in STORED_AS if name != "MPO"]
TURNED = 0x0112
# A large picture takes 200 MB while it is open, so few are at once in one process.
_places = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class Picture:
    """`content_type` is of what was written."""

    content_type: str
    width: int
    height: int


def rewrite(source: IO[bytes], target: IO[bytes]) -> Picture:
    """Writes the picture in `source` anew. Raises BrokenPicture and PictureTooLarge."""
    with _opened(source) as image:
        stored, content_type = STORED_AS[str(image.format)]
        frames = getattr(image, "n_frames", 1) if stored in ("GIF", "WEBP", "PNG") else 1
        _check_animation(image, frames, stored)
        if frames > 1:
            _write_frames(image, target, stored)
            return Picture(content_type, *image.size)
        options = _options(image, stored)
        upright = ImageOps.exif_transpose(image) if image.getexif().get(TURNED, 1) != 1 else image
        if upright is not image:
            options.pop("subsampling", None)
            if stored == "JPEG":
                options["quality"] = 92
        _fit(upright, stored).save(target, stored, **options)
        return Picture(content_type, *upright.size)


def thumbnail(source: IO[bytes], target: IO[bytes]) -> Picture:
    """A still picture of at most 400 pixels a side, WebP. Raises as `rewrite`."""
    with _opened(source) as image:
        image.draft("RGB", THUMBNAIL)
        upright = ImageOps.exif_transpose(image)
        if upright.mode not in ("RGB", "RGBA"):
            upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        upright.thumbnail(THUMBNAIL)
        upright.save(target, "WEBP", quality=82, method=4, exif=b"")
        return Picture("image/webp", *upright.size)


def note_of(source: IO[bytes]) -> str:
    """What a picture says of itself before it is made anew, a line each; never the place. Empty for what is none."""
    try:
        with _opened(source) as image:
            return "\n".join(f"{name}: {value}" for name, value in described(image).items())
    except (MediaError, OSError):
        return ""


@contextmanager
def _opened(source: IO[bytes]) -> Iterator[Image.Image]:
    source.seek(0)
    with _places, warnings.catch_warnings():
        # Pillow warns of metadata that it cannot read and of pictures that are large: neither is for the log.
        warnings.simplefilter("ignore")
        try:
            with Image.open(source, formats=READ) as image:
                _check_size(image)
                yield image
        except Image.DecompressionBombError:
            raise PictureTooLarge(f"The picture has more than {MAX_IMAGE_PIXELS:,} pixels.") from None
        except UnidentifiedImageError:
            raise BrokenPicture("The picture cannot be read.") from None
        except MediaError:
            raise
        except Exception as error:
            # Readers of bytes that were cut or changed fail in a dozen ways. A disk that fails is another matter.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BrokenPicture("The picture is damaged or cut off.") from error


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_IMAGE_PIXELS:
        raise PictureTooLarge(
            f"The picture has {image.width} x {image.height} pixels; {MAX_IMAGE_PIXELS:,} are allowed."
        )


def _check_animation(image: Image.Image, frames: int, stored: str) -> None:
    # Pillow holds all frames of a PNG at once, four bytes a pixel.
    most = MAX_IMAGE_PIXELS if stored == "PNG" else MAX_ANIMATION_PIXELS
    if frames > MAX_FRAMES or image.width * image.height * frames > most:
        raise PictureTooLarge(f"The animation has {frames} pictures of {image.width} x {image.height} pixels.")


def _options(image: Image.Image, stored: str) -> dict[str, Any]:
    """Colours stay as they are meant: the profile says nothing of who made the picture."""
    profile = image.info.get("icc_profile")
    options: dict[str, Any] = {"icc_profile": profile if profile and len(profile) <= MAX_PROFILE_BYTES else None}
    if stored == "JPEG":
        # As they were quantised: made anew this way a picture loses next to nothing.
        options |= {"quality": "keep", "subsampling": "keep"} if image.format == "JPEG" else {"quality": 92}
    if stored == "WEBP":
        options |= {"quality": 90, "exif": b"", "xmp": b""}
    if stored == "PNG":
        options |= {"exif": b"", "pnginfo": None}
    if stored == "GIF":
        options |= {"comment": b""}
    return options


def _fit(image: Image.Image, stored: str) -> Image.Image:
    """In a mode that the format can hold."""
    modes = {
        "JPEG": ("L", "RGB", "CMYK"),
        "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
        "WEBP": ("RGB", "RGBA"),
        "GIF": ("1", "L", "P", "RGB", "RGBA"),
    }[stored]
    if image.mode in modes:
        return image
    return image.convert("RGBA" if image.has_transparency_data and stored != "JPEG" else "RGB")


def _duration(frame: Image.Image) -> int:
    if frame.format == "WEBP":
        frame.load()  # before that its reader does not know
    return int(frame.info.get("duration", 0) or 0)


def _write_frames(image: Image.Image, target: IO[bytes], stored: str) -> None:
    """Frame by frame, so that a film of many is never open as a whole."""
    durations = [_duration(frame) for frame in ImageSequence.Iterator(image)]
    image.seek(0)
    options: dict[str, Any] = {"save_all": True, "duration": durations}
    if "loop" in image.info:
        options["loop"] = image.info["loop"]
    if stored == "GIF":
        options["comment"] = b""
    if stored == "WEBP":
        options |= {"quality": 85, "method": 2, "xmp": b"", "icc_profile": b""}
    if stored in ("PNG", "WEBP"):
        options["exif"] = b""
    image.save(target, stored, **options)
