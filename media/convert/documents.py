"""Markdown of office documents, PDF and books by MarkItDown, and what a picture says of itself. Runs in the child.

MarkItDown's converters are called directly: its own front door guesses types with a neural net and opens addresses.
"""

from __future__ import annotations

import contextlib
import importlib
import mimetypes
import warnings
from typing import IO, Any

from media.convert.archive import check
from media.convert.errors import Unreadable, Unsupported
from media.convert.exif import described

# By kind: the converter's class, and the part that such a file cannot be without.
CONVERTERS = {
    "pdf": ("PdfConverter", ""),
    "docx": ("DocxConverter", "word/document.xml"),
    "pptx": ("PptxConverter", "ppt/presentation.xml"),
    "xlsx": ("XlsxConverter", "xl/workbook.xml"),
    "epub": ("EpubConverter", "META-INF/container.xml"),
}
MISSING = "Reading {} files needs the extra `documents` (make run EXTRAS=documents)."
MAX_PIXELS = 50_000_000


def from_document(kind: str, file: IO[bytes]) -> str:
    """Raises Unreadable, Unsupported."""
    name, part = CONVERTERS[kind]
    if part:
        check(file, part)
    # It would look into /etc, which is closed.
    mimetypes.knownfiles = []
    try:
        with contextlib.suppress(ImportError):
            importlib.import_module("defusedxml").defuse_stdlib()
        made = getattr(importlib.import_module("markitdown.converters"), name)()
        info = importlib.import_module("markitdown").StreamInfo(extension=f".{kind}")
    except ImportError:
        raise Unsupported(MISSING.format(kind)) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return str(made.convert(file, info).markdown)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a library says of a file it cannot read
            if type(error).__name__ == "MissingDependencyException":
                raise Unsupported(MISSING.format(kind)) from None
            raise Unreadable("The file is damaged, encrypted, or of a form that is not read.") from None


def from_picture(file: IO[bytes]) -> str:
    """Format, size and what was written into it. Raises Unreadable, Unsupported."""
    try:
        images: Any = importlib.import_module("PIL.Image")
    except ImportError:
        raise Unsupported(MISSING.format("picture")) from None
    images.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = described(images.open(file))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever a library says of a file it cannot read
        raise Unreadable("The picture is damaged, or has too many pixels.") from None
    return "\n".join(f"{name}: {value}" for name, value in found.items())
