"""Small pictures of large ones, made when first asked for and kept beside them."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from media import pictures
from media.errors import FileMissing, StorageAway
from media.kinds import IMAGES
from media.models import Blob, StoredFile
from media.store import announced, discard, measured, opened, temporary, write


def thumbnail_of(stored: StoredFile) -> Blob:
    """At most 400 pixels a side; the file's own bytes where it is that small, or no picture.

    Raises FileMissing, BrokenPicture, StorageFull, StorageAway. Blocks, as `media.store` does.
    """
    if stored.content_type not in IMAGES or max(stored.width or 0, stored.height or 0) <= max(pictures.THUMBNAIL):
        return stored.blob
    try:
        return stored.blob.thumbnail or _made(stored)
    except Blob.DoesNotExist:
        # Deleted meanwhile.
        raise FileMissing from None


def _made(stored: StoredFile) -> Blob:
    with opened(stored) as source, temporary() as target:
        picture = pictures.thumbnail(source, target)
        size, sha256 = measured(target)
        made = announced(stored.owner_id, picture.content_type, size, sha256, is_thumbnail=True)
        try:
            write(made, target)
            kept = _attached(stored, made)
        except BaseException:
            discard(made.pk)
            raise
    if kept.pk != made.pk:
        discard(made.pk)
    return kept


def _attached(stored: StoredFile, made: Blob) -> Blob:
    """The thumbnail from now on: of several made at once the first."""
    with transaction.atomic():
        # Locked: whoever deletes the picture sees its thumbnail, or we see that it is gone.
        blob = Blob.objects.select_for_update().get(pk=stored.blob_id, state=Blob.State.KEPT)
        if blob.thumbnail is not None:
            return blob.thumbnail
        written = Blob.objects.filter(pk=made.pk, state=Blob.State.WRITTEN)
        if not written.update(state=Blob.State.KEPT, changed_at=timezone.now()):
            raise StorageAway("The picture could not be stored in time. Try again later.")
        made.state = Blob.State.KEPT
        blob.thumbnail = made
        blob.save(update_fields=("thumbnail",))
    return made
