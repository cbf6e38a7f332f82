"""What a picture says of itself: its format and size, and what cameras and programs wrote into it."""

from __future__ import annotations

from typing import Any

# Of the tags of TIFF and Exif those that hold words; the place where it was taken is nobody's business.
WORDS = {270: "Description", 271: "Make", 272: "Model", 305: "Software", 306: "Date", 315: "Artist", 33432: "Copyright"}
MAX_CHARACTERS = 500
# Of a field, which may be as large as its file.
MAX_READ = 8 * MAX_CHARACTERS


def described(picture: Any) -> dict[str, str]:
    """By name, of a picture that Pillow has opened. Raises whatever Pillow does."""
    exif = picture.getexif()
    found = {"Format": str(picture.format), "Size": f"{picture.width} x {picture.height}"}
    for tag, name in WORDS.items():
        if words := _words(exif.get(tag)):
            found[name] = words
    return found


def _words(value: Any) -> str:
    """On one line, without what no text holds: fields of files that were not made by cameras hold anything."""
    if isinstance(value, (str, bytes, tuple)):
        value = value[:MAX_READ]
    text = "".join(char if char.isprintable() else " " for char in str(value or "")[:MAX_READ])
    return " ".join(text.split())[:MAX_CHARACTERS]
