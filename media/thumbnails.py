"""Small pictures of large ones, made when first asked for and kept beside them."""

from __future__ import annotations

from django.db import transaction

from media import pictures
from media.kinds import IMAGES
from media.models import Blob, StoredFile
from media.store import announced, erase, measured, opened, temporary, write


def thumbnail_of(stored: StoredFile) -> Blob:
    """At most 400 pixels a side; the file's own bytes where it is that small, or no picture.

    Raises BrokenPicture, StorageFull, StorageAway. Blocks, as `media.store` does.
    """
    if stored.content_type not in IMAGES or max(stored.width or 0, stored.height or 0) <= max(pictures.THUMBNAIL):
        return stored.blob
    return stored.blob.thumbnail or _made(stored)


def _made(stored: StoredFile) -> Blob:
    with opened(stored) as source, temporary() as target:
        picture = pictures.thumbnail(source, target)
        size, sha256 = measured(target)
        made = announced(stored.owner_id, picture.content_type, size, sha256, is_thumbnail=True)
        try:
            write(made, target)
            kept = _attached(stored, made)
        except BaseException:
            erase([made.pk])
            raise
    if kept.pk != made.pk:
        erase([made.pk])
    return kept


def _attached(stored: StoredFile, made: Blob) -> Blob:
    """The thumbnail from now on: of several made at once the first."""
    with transaction.atomic():
        blob = Blob.objects.select_for_update().get(pk=stored.blob_id)
        if blob.thumbnail is not None:
            return blob.thumbnail
        made.state = Blob.State.KEPT
        made.save(update_fields=("state", "changed_at"))
        blob.thumbnail = made
        blob.save(update_fields=("thumbnail",))
    return made
