"""Files of every kind, made here, and the state of the storage."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from PIL import Image


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    """A picture in which no two are alike unless they are asked for alike."""
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    image.putpixel((0, 0), options.pop("mark", (1, 2, 3)))
    made = BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


@pytest.fixture(name="picture")
def picture_fixture() -> Callable[..., bytes]:
    return picture


@pytest.fixture
def stored_paths(settings: Any, tmp_path: Any) -> Callable[[], list[str]]:
    """What is in the storage, which is this test's own folder, or a prefix of its own where there is a server."""
    from django.core.files.storage import default_storage

    settings.MEDIA_ROOT = tmp_path / "media"
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"
    settings.FILE_UPLOAD_TEMP_DIR.mkdir()

    def listed(folder: str = "") -> list[str]:
        try:
            folders, files = default_storage.listdir(folder)
        except FileNotFoundError:
            return []
        prefix = f"{folder}/" if folder else ""
        return [f"{prefix}{name}" for name in files] + [path for name in folders for path in listed(f"{prefix}{name}")]

    return listed
