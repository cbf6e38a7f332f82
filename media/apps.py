"""The media app: a folder for what arrives, and the signals that delete bytes with their files."""

from __future__ import annotations

from contextlib import suppress

from django.apps import AppConfig
from django.conf import settings


class MediaConfig(AppConfig):
    name = "media"
    verbose_name = "Files"

    def ready(self) -> None:
        from media import store  # noqa: F401 - importing registers its signals

        # Commands that store nothing also run where nothing can be written.
        with suppress(OSError):
            settings.FILE_UPLOAD_TEMP_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
