"""Keeps files: checked, counted, written once per owner, and deleted with their bytes.

Every function here waits for the disk and the database: call it from a thread. The order of steps is what makes it safe
to be killed at any moment: a row says that bytes are coming before they are written, and that they are going before
they are deleted, so that `media.sweep` can finish either.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import secrets
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import IO, Any, Self, cast

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Sum
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils import timezone

from media import kinds, pictures
from media.errors import FileMissing, FileTooLarge, QuotaExceeded, StorageAway, StorageFull, UnknownType
from media.models import Blob, Bucket, Quota, StoredFile

logger = logging.getLogger(__name__)

CHUNK = 256 * 1024
MAX_LABEL = 255
FREE_BYTES = 1024**3
FREE_SHARE = 0.05
EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "audio/mp3": "mp3",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/aac": "aac",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/aiff": "aiff",
    "audio/mp4": "m4a",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/mpeg": "mpg",
    "video/avi": "avi",
    "application/pdf": "pdf",
    "application/zip": "zip",
    "application/json": "json",
    "text/plain": "txt",
    "text/html": "html",
    "text/csv": "csv",
    "text/css": "css",
    "text/markdown": "md",
    "text/xml": "xml",
}
# For HEIC there is no reader; TIFF's has had more holes than anybody sends TIFF.
UNREADABLE = frozenset({"image/heic", "image/heif", "image/tiff"})
NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
# Controls, halves of characters, and what reverses or hides text: a name with them would pass for another.
HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class _Content:
    """What is to be stored: measured, and pictures already made anew."""

    file: IO[bytes]
    content_type: str
    size: int
    sha256: str
    width: int | None = None
    height: int | None = None


def temporary() -> IO[bytes]:
    """A file that has no name and so is gone when it is closed or its process dies."""
    return tempfile.TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)


def keep(
    owner_id: int,
    data: bytes | IO[bytes],
    *,
    label: str,
    source: str,
    bucket: Bucket | None = None,
    content_type: str | None = None,
    prompt: str = "",
    provider: str = "",
    model: str = "",
) -> StoredFile:
    """Stores `data` as a new file of the owner's; a file object is read from where it stands.

    `content_type` is what the sender says: it only tells apart texts, and streams whose bytes do not say what they
    are. Not inside a transaction: what that undoes would leave bytes that nobody knows of.
    Raises FileTooLarge, QuotaExceeded, UnknownType, BrokenPicture, PictureTooLarge, StorageFull, StorageAway.
    """
    _refuse_when_nearly_full()
    fields: dict[str, Any] = {
        "label": _label(label),
        "source": source,
        "bucket": bucket,
        "prompt": prompt,
        "provider": provider,
        "model": model,
    }
    with _no_space(), temporary() as received, temporary() as rewritten:
        content = _content(data, received, rewritten, content_type or "")
        row = partial(_row, owner_id, content, **fields)
        return _shared(owner_id, content, row) or _written(owner_id, content, row)


def opened(stored: StoredFile) -> IO[bytes]:
    """Its bytes from the first on; the caller closes it. It and its reads raise FileMissing and StorageAway."""
    return opened_blob(stored.blob)


def opened_blob(blob: Blob) -> IO[bytes]:
    with _readable():
        return cast("IO[bytes]", _Opened(default_storage.open(blob.path)))


class _Opened:
    """A file in the storage, which may go away while it is read: that is no fault of what is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        with _readable():
            return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        with _readable():
            self._file.seek(offset, whence)
            return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FileMissing from None
    except Exception as error:
        # Each storage fails in its own way.
        raise StorageAway("The file cannot be read now. Try again later.") from error


def remove(stored: StoredFile) -> None:
    """Deletes the file, and its bytes when no other file of the owner's has the same."""
    stored.delete()


@receiver(post_delete, sender=StoredFile)
def _let_go(sender: Any, instance: StoredFile, **more: Any) -> None:
    """Whoever deletes a file, or its bucket or owner: the last one takes the bytes along."""
    # Locked: of two deletions at once the second must see that the first is gone.
    blob = Blob.objects.select_for_update().filter(pk=instance.blob_id, state=Blob.State.KEPT).first()
    if blob is None or blob.files.exists():
        return
    condemned = [blob.pk] + ([blob.thumbnail_id] if blob.thumbnail_id else [])
    Blob.objects.filter(pk__in=condemned).update(state=Blob.State.DEAD)
    transaction.on_commit(partial(erase, condemned), robust=True)


def discard(blob: int) -> None:
    """Gives up bytes that were announced, unless files refer to them by now."""
    Blob.objects.filter(pk=blob, state=Blob.State.WRITTEN).update(state=Blob.State.DEAD, changed_at=timezone.now())
    erase([blob])


def erase(blobs: list[int]) -> int:
    """Deletes the bytes, then the rows, of blobs that are dead; how many. What fails stays for `media.sweep`."""
    gone = 0
    # What is dead stays dead; what is being written may be kept a moment later.
    for blob in Blob.objects.filter(pk__in=blobs, state=Blob.State.DEAD):
        try:
            default_storage.delete(blob.path)
            blob.delete()
        except Exception:  # noqa: BLE001 - any storage may fail in its own way, and the row remembers
            # To the end of the line, so that the others have their turn.
            Blob.objects.filter(pk=blob.pk).update(changed_at=timezone.now())
        else:
            gone += 1
    return gone


def usage_of(owner_id: int) -> tuple[int, int]:
    """Bytes and files of one user. Equal content counts once in bytes."""
    kept = Blob.objects.filter(owner_id=owner_id, is_thumbnail=False).exclude(state=Blob.State.DEAD)
    size = kept.aggregate(total=Sum("size"))["total"] or 0
    return size, StoredFile.objects.filter(owner_id=owner_id).count()


def check_quota(owner_id: int, size: int = 0, files: int = 1) -> None:
    """Raises QuotaExceeded when so much more is too much. Exact only inside `_locked`."""
    quota = Quota.objects.filter(user_id=owner_id).first()
    max_bytes, max_files = settings.MEDIA_QUOTA_BYTES, settings.MEDIA_QUOTA_FILES
    if quota is not None:
        max_bytes = max_bytes if quota.max_bytes is None else quota.max_bytes
        max_files = max_files if quota.max_files is None else quota.max_files
    used, count = usage_of(owner_id)
    if max_files and count + files > max_files:
        raise QuotaExceeded(f"You have {count} files and may have {max_files}. Delete some and send it again.")
    if max_bytes and used + size > max_bytes:
        raise QuotaExceeded(
            f"Your files have {used:,} bytes and may have {max_bytes:,}; this one has {size:,}. "
            "Delete some and send it again."
        )


# What is to be stored.


def _content(data: bytes | IO[bytes], received: IO[bytes], rewritten: IO[bytes], declared: str) -> _Content:
    size, sha256 = _received(BytesIO(data) if isinstance(data, bytes) else data, received)
    kind = kinds.settled_file(received, declared)
    if kind is None:
        raise UnknownType("This file is of a type that is not known here.")
    if kind not in kinds.IMAGES | kinds.MORE_IMAGES:
        return _Content(received, kind, size, sha256)
    if kind in UNREADABLE:
        raise UnknownType("Pictures of this type cannot be read here. Send JPEG, PNG, WebP or GIF.")
    picture = pictures.rewrite(received, rewritten)
    size, sha256 = measured(rewritten)
    return _Content(rewritten, picture.content_type, size, sha256, picture.width, picture.height)


def _received(source: IO[bytes], target: IO[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        size += len(chunk)
        if size > settings.MAX_FILE_BYTES:
            raise FileTooLarge(f"A file may have {settings.MAX_FILE_BYTES:,} bytes.")
        digest.update(chunk)
        target.write(chunk)
    target.flush()
    return size, digest.hexdigest()


def measured(file: IO[bytes]) -> tuple[int, str]:
    """Size and SHA-256 of a whole file."""
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        size += len(chunk)
        digest.update(chunk)
    return size, digest.hexdigest()


def _refuse_when_nearly_full() -> None:
    """The database on the same disk needs room as well: better to refuse a file than to fail everywhere."""
    disk = shutil.disk_usage(settings.FILE_UPLOAD_TEMP_DIR)
    if disk.free < min(FREE_BYTES, disk.total * FREE_SHARE):
        raise StorageFull("The server's disk is nearly full. Tell its operator.")


# Writing it.


def _shared(owner_id: int, content: _Content, row: Any) -> StoredFile | None:
    """A file on bytes that the owner has already; None when there are none such."""
    with transaction.atomic():
        _lock(owner_id)
        blob = _kept(owner_id, content.sha256)
        if blob is None:
            return None
        check_quota(owner_id)
        made: StoredFile = row(blob)
        return made


def _written(owner_id: int, content: _Content, row: Any) -> StoredFile:
    blob = announced(owner_id, content.content_type, content.size, content.sha256)
    try:
        write(blob, content.file)
        return _settled(owner_id, blob, row)
    except BaseException:
        # Whatever ended it, nothing may be left behind.
        discard(blob.pk)
        raise


def announced(owner_id: int, content_type: str, size: int, sha256: str, *, is_thumbnail: bool = False) -> Blob:
    """A place for bytes that are about to be written, counted from now on. Raises QuotaExceeded."""
    with transaction.atomic():
        if not is_thumbnail:
            _lock(owner_id)
            check_quota(owner_id, size)
        name = uuid.uuid4().hex
        return Blob.objects.create(
            owner_id=owner_id,
            path=f"{name[:2]}/{name}",
            content_type=content_type,
            size=size,
            sha256=sha256,
            is_thumbnail=is_thumbnail,
        )


def write(blob: Blob, file: IO[bytes]) -> None:
    """Raises StorageFull, StorageAway."""
    file.seek(0)
    try:
        default_storage.save(blob.path, File(file))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise StorageFull("There is no room left for files. Tell the server's operator.") from error
        logger.warning("a file could not be stored: %s", error)
        raise StorageAway("The file could not be stored now. Try again later.") from error


def _settled(owner_id: int, blob: Blob, row: Any) -> StoredFile:
    """The bytes are there: files may refer to them, unless the same were stored meanwhile."""
    with transaction.atomic():
        _lock(owner_id)
        check_quota(owner_id)
        own = Blob.objects.select_for_update().filter(pk=blob.pk, state=Blob.State.WRITTEN).first()
        if own is None:
            raise StorageAway("The file could not be stored in time. Try again later.")
        twin = _kept(owner_id, blob.sha256)
        own.state = Blob.State.DEAD if twin else Blob.State.KEPT
        own.save(update_fields=("state", "changed_at"))
        if twin:
            transaction.on_commit(partial(erase, [own.pk]), robust=True)
        made: StoredFile = row(twin or own)
        return made


def _kept(owner_id: int, sha256: str) -> Blob | None:
    blobs = Blob.objects.select_for_update()
    return blobs.filter(owner_id=owner_id, sha256=sha256, state=Blob.State.KEPT, is_thumbnail=False).first()


def _lock(owner_id: int) -> None:
    """Until the transaction ends nobody else stores anything for this owner."""
    Quota.objects.get_or_create(user_id=owner_id)
    Quota.objects.select_for_update().get(user_id=owner_id)


def _row(owner_id: int, content: _Content, blob: Blob, **fields: Any) -> StoredFile:
    return StoredFile.objects.create(
        owner_id=owner_id,
        blob=blob,
        name=_name(fields["prompt"] or fields["label"], content.content_type),
        content_type=content.content_type,
        size=content.size,
        sha256=content.sha256,
        width=content.width,
        height=content.height,
        **{name: value.replace("\x00", "") if isinstance(value, str) else value for name, value in fields.items()},
    )


def _name(text: str, content_type: str) -> str:
    """When, of what, and 80 bits that nobody guesses: `1763765000_a-red-fox_9f...c1.png`."""
    words = NOT_IN_NAMES.sub("-", text.rpartition("/")[2].partition(".")[0].lower()[:60]).strip("-")[:40].strip("-")
    extension = EXTENSIONS.get(content_type, "bin")
    return f"{int(time.time())}_{words or 'file'}_{secrets.token_hex(10)}.{extension}"


def _label(text: str) -> str:
    """The last part of a name, as long as a column may be, without what would end or hide it."""
    name = HIDDEN.sub("", text.replace("\\", "/").rpartition("/")[2]).strip() or "file"
    stem, dot, extension = name.rpartition(".")
    if len(name) <= MAX_LABEL or not stem or len(extension) > 20:
        return name[:MAX_LABEL]
    return stem[: MAX_LABEL - 1 - len(extension)] + dot + extension


@contextmanager
def _no_space() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull("There is no room left for files. Tell the server's operator.") from error
        raise
