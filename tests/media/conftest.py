"""Files of every kind, made here, and the state of the storage."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support import services
from tests.support.s3 import S3Server


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


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    services.require("s3")
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.s3)])
def stored_paths(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> Callable[[], list[str]]:
    """Lists what is in the storage, which is this test's own: a folder, and once more a place on an S3 server."""
    from django.core.files.storage import default_storage

    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"
    settings.FILE_UPLOAD_TEMP_DIR.mkdir()
    settings.MEDIA_STORAGE = request.param
    settings.MEDIA_ROOT = tmp_path / "media"
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        settings.STORAGES = {**settings.STORAGES, "default": server.storage(uuid.uuid4().hex)}

    def listed(folder: str = "") -> list[str]:
        try:
            folders, files = default_storage.listdir(folder)
        except FileNotFoundError:
            return []
        prefix = f"{folder}/" if folder else ""
        return [f"{prefix}{name}" for name in files] + [path for name in folders for path in listed(f"{prefix}{name}")]

    return listed
