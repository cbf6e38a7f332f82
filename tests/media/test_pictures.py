"""Pictures are stored upright, without what cameras write beside them, and only if they are whole."""

from __future__ import annotations

import random
import tracemalloc
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageChops

from media import pictures
from media.errors import BrokenPicture, PictureTooLarge


def rewritten(data: bytes) -> tuple[Image.Image, bytes, pictures.Picture]:
    target = BytesIO()
    made = pictures.rewrite(BytesIO(data), target)
    return Image.open(BytesIO(target.getvalue())), target.getvalue(), made


def secret_exif(turned: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = turned
    exif[0x010F] = "MARKED-CAMERA"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 29: "MARKED-PLACE"})
    return exif


@pytest.mark.parametrize(("kind", "mime_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")])
@pytest.mark.parametrize("turned", [1, 6])
def test_what_the_camera_said_is_gone_and_the_picture_upright(
    picture: Any, kind: str, mime_type: str, turned: int
) -> None:
    data = picture(kind, (80, 40), exif=secret_exif(turned))
    assert b"MARKED" in data
    image, written, made = rewritten(data)
    assert b"MARKED" not in written
    assert not image.getexif()
    assert image.size == (made.width, made.height) == ((40, 80) if turned == 6 else (80, 40))
    assert made.content_type == mime_type


def test_words_as_large_as_a_file_take_no_memory_of_their_own() -> None:
    exif, made = Image.Exif(), BytesIO()
    exif[270] = "a " * 1_000_000
    Image.new("RGB", (4, 4)).save(made, "PNG", exif=exif)
    tracemalloc.start()
    try:
        note = pictures.note_of(made)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert note == "Format: PNG\nSize: 4 x 4\nDescription: " + "a " * 250
    # Pillow itself holds the field a few times.
    assert most < 8 * len(made.getvalue()), most


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_the_picture_stays_what_it_was(picture: Any, kind: str) -> None:
    before = Image.open(BytesIO(picture(kind, (80, 40)))).convert("RGB")
    after = rewritten(picture(kind, (80, 40)))[0].convert("RGB")
    worst = max(high for _, high in ImageChops.difference(before, after).getextrema())
    assert worst <= (0 if kind in ("PNG", "GIF") else 6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_mode_of_png(mode: str) -> None:
    made = BytesIO()
    Image.new(mode, (5, 5)).save(made, "PNG")
    assert rewritten(made.getvalue())[2].content_type == "image/png"


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_go_on(kind: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    made = BytesIO()
    frames[0].save(made, kind, save_all=True, append_images=frames[1:], duration=[100, 200, 300], loop=0)
    image, _, _ = rewritten(made.getvalue())
    assert image.n_frames == 3  # type: ignore[attr-defined]
    colours, durations = [], []
    for index in range(3):
        image.seek(index)
        image.load()
        durations.append(image.info["duration"])
        colours.append(image.convert("RGB").getpixel((5, 5)))
    assert durations == [100, 200, 300]
    assert [max(range(3), key=colour.__getitem__) for colour in colours] == [0, 1, 2]


def test_a_comment_in_a_gif_is_gone(picture: Any) -> None:
    frames = [Image.new("P", (20, 20), index) for index in range(3)]
    made = BytesIO()
    frames[0].save(made, "GIF", save_all=True, append_images=frames[1:], comment=b"MARKED")
    assert b"MARKED" not in rewritten(made.getvalue())[1]
    assert b"MARKED" not in rewritten(picture("GIF", comment=b"MARKED"))[1]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "AVIF"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_cut_pictures_are_refused(picture: Any, kind: str, part: float) -> None:
    data = picture(kind, (300, 200))
    try:
        rewritten(data[: int(len(data) * part)])
    except BrokenPicture:
        return
    # The rest of some formats is only an ending.
    assert part == 0.9


def test_few_bytes_with_many_pixels_are_refused_unopened() -> None:
    made = BytesIO()
    Image.new("1", (10_000, 5_001)).save(made, "PNG")
    assert len(made.getvalue()) < 100_000
    with pytest.raises(PictureTooLarge):
        rewritten(made.getvalue())


def test_thumbnails_are_small_upright_and_tell_nothing(picture: Any) -> None:
    target = BytesIO()
    made = pictures.thumbnail(BytesIO(picture("JPEG", (1200, 600), exif=secret_exif(6))), target)
    assert (made.width, made.height) == (200, 400)
    assert b"MARKED" not in target.getvalue()
    assert len(target.getvalue()) < 20_000


def test_changed_bytes_are_a_picture_or_refused(picture: Any) -> None:
    """Any other error would be a 500."""
    chance = random.Random(7)
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green")]
    films = [BytesIO() for _ in range(3)]
    for kind, film in zip(("GIF", "WEBP", "PNG"), films, strict=True):
        frames[0].save(film, kind, save_all=True, append_images=frames[1:], duration=100)
    stills = [picture(kind, exif=secret_exif(6)) for kind in ("PNG", "JPEG", "WEBP", "AVIF")]
    corpus = [*stills, picture("GIF"), picture("BMP"), *(film.getvalue() for film in films)]
    refused = 0
    for _ in range(600):
        data = bytearray(chance.choice(corpus))
        for _ in range(chance.choice((1, 2, 20))):
            place = chance.randrange(len(data))
            data[place : place + chance.randrange(2)] = chance.randbytes(chance.randrange(3))
        for make in (pictures.rewrite, pictures.thumbnail):
            try:
                make(BytesIO(bytes(data)), BytesIO())
            except (BrokenPicture, PictureTooLarge):
                refused += 1
    assert 100 < refused < 1200


@pytest.mark.parametrize(("kind", "frames"), [("GIF", 41), ("PNG", 21)])
def test_films_have_a_bound_of_their_own(monkeypatch: pytest.MonkeyPatch, kind: str, frames: int) -> None:
    monkeypatch.setattr(pictures, "MAX_ANIMATION_PIXELS", 40 * 100)
    monkeypatch.setattr(pictures, "MAX_IMAGE_PIXELS", 20 * 100)
    for count in (frames - 1, frames):
        film = BytesIO()
        shades = [Image.new("L", (10, 10), index) for index in range(count)]
        shades[0].save(film, kind, save_all=True, append_images=shades[1:])
        if count < frames:
            assert rewritten(film.getvalue())[0].n_frames == count  # type: ignore[attr-defined]
        else:
            with pytest.raises(PictureTooLarge):
                rewritten(film.getvalue())
