"""Buckets: folders of files whose text is read, each of one user and under the label that user gave it.

Every function here waits for the disk, the database or a conversion: call it from a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from media import downloads, pictures, store
from media.convert import texts
from media.convert.errors import Busy, ConversionError
from media.convert.markdown import Reading, markdown_of, reading
from media.convert.sorts import MEDIA
from media.errors import BrokenPicture, FileMissing, MediaError, PictureTooLarge, UnknownType
from media.models import Bucket, Document, StoredFile

MAX_LABEL = 255
# What is not read by then is read by whoever reads the bucket first.
READING_SECONDS = 40.0
DECLARED = {"html": "text/html", "table": "text/csv"}
MARKDOWN = "text/markdown"
RECORDED = ("sound", "film")
# Characters of a transcript in the answer to an upload: some twenty hours of speech.
MAX_TRANSCRIPT = 1_000_000
# These are about the one file: the others of the request are kept all the same.
SKIPPED = (ConversionError, UnknownType, BrokenPicture, PictureTooLarge)


class BucketMissing(MediaError):
    """There is none, or it is another's: nobody learns which."""

    status, code = 404, "bucket_not_found"

    def __init__(self, param: str | None = None) -> None:
        super().__init__("Bucket not found.", param=param)


class NothingKept(MediaError):
    """Of all the files that were sent none could be read; the first one's reason counts."""

    status, code = 415, "unsupported_file_type"

    def __init__(self, skipped: Sequence[Skipped], first: MediaError) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in skipped)[:2000], param="files")
        self.status, self.code = first.status, first.code


class Incoming(NamedTuple):
    label: str
    file: IO[bytes]


class Skipped(NamedTuple):
    name: str
    reason: str


@dataclass(slots=True)
class Added:
    """What came of an upload."""

    documents: list[Document] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(slots=True)
class _Kept:
    """One file on its way into a bucket."""

    label: str
    kind: str
    state: str
    original: StoredFile
    text: StoredFile | None = None
    note: str = ""
    language: str = ""


def find(owner_id: int, label: str) -> Bucket:
    """Raises BucketMissing."""
    # No database takes NUL, and no bucket's label holds one.
    found = None if "\x00" in label else Bucket.objects.filter(owner_id=owner_id, label=label).first()
    if found is None:
        raise BucketMissing
    return found


# What else g4f's pages delete by a bucket's address: given the owner and the name, whether there was one. Apps above
# this one add theirs when they are ready.
deleted_alike: list[Callable[[int, str], bool]] = []


def delete(owner_id: int, label: str) -> None:
    """With all its files, and with what else has this name. Raises BucketMissing where there is neither."""
    others = [delete_other(owner_id, label) for delete_other in deleted_alike]
    try:
        bucket = find(owner_id, label)
    except BucketMissing:
        if any(others):
            return
        raise
    with transaction.atomic():
        # As uploads do, so that neither waits for the other's files.
        Bucket.objects.select_for_update().filter(pk=bucket.pk).first()
        bucket.delete()


def media_file(owner_id: int, label: str, name: str) -> StoredFile:
    """A picture, sound or film in a bucket, by its name there. Raises FileMissing."""
    found = Document.objects.select_related("original__blob__thumbnail").filter(
        bucket__owner_id=owner_id, bucket__label=label, label=name, kind=Document.Kind.MEDIA, original__isnull=False
    )
    document = None if "\x00" in label + name else found.first()
    if document is None or document.original is None:
        raise FileMissing
    return document.original


def add(owner_id: int, label: str, files: Sequence[Incoming], spoken: str | None = None) -> Added:
    """Puts files into a bucket, which is made where there is none; one of the same name takes the other's place.

    `spoken`: sound and film wait for somebody to write down what is said, in this language ("": nobody knows which).
    Of several of one name the last counts. Raises NothingKept, and what `media.store.keep` does for all of them: then
    none is kept, and what was there before stays.
    """
    deadline = time.monotonic() + READING_SECONDS
    try:
        return _added(owner_id, label, files, spoken, deadline)
    except (IntegrityError, BucketMissing):
        # It was deleted meanwhile: by its owner, or by another upload that made it and could put nothing into it.
        with suppress(IntegrityError):
            return _added(owner_id, label, files, spoken, deadline)
        raise BucketMissing from None


def _added(owner_id: int, label: str, files: Sequence[Incoming], spoken: str | None, deadline: float) -> Added:
    """Raises IntegrityError or BucketMissing when the bucket goes meanwhile."""
    bucket, made = Bucket.objects.get_or_create(owner_id=owner_id, label=label)
    kept: list[_Kept] = []
    skipped: list[Skipped] = []
    failures: list[MediaError] = []
    try:
        for incoming in {file.label: file for file in files}.values():
            try:
                one, omitted = _kept(bucket, incoming, spoken, time.monotonic() > deadline)
            except SKIPPED as error:
                failures.append(error)
                skipped.append(Skipped(incoming.label, error.message))
                continue
            kept.append(one)
            skipped += [Skipped(incoming.label, reason) for reason in omitted]
        if not kept:
            raise NothingKept(skipped, failures[0])
        return Added(_entered(bucket, kept), skipped)
    except BaseException:
        _undo(bucket, made, kept)
        raise


def _undo(bucket: Bucket, made: bool, kept: Iterable[_Kept]) -> None:
    for one in kept:
        _remove(one.original, one.text)
    if not made:
        return
    with transaction.atomic():
        # Another request may have put something into it meanwhile.
        own = Bucket.objects.select_for_update().filter(pk=bucket.pk).first()
        if own is not None and not own.documents.exists() and not own.files.exists():
            own.delete()


def _kept(bucket: Bucket, incoming: Incoming, spoken: str | None, late: bool) -> tuple[_Kept, tuple[str, ...]]:
    label, file = incoming
    file.seek(0)
    if label == downloads.NAME and downloads.parsed(file.read(downloads.MAX_BYTES + 1)) is not None:
        stored = _store(bucket, file, label, "application/json")
        return _Kept(label, Document.Kind.DOWNLOADS, Document.State.WAITING, stored), ()
    try:
        found = reading(file, label, late=late)
    except Busy:
        found = reading(file, label, late=True)
    if found.sort in MEDIA:
        return _kept_media(bucket, file, label, spoken if found.sort in RECORDED else None), ()
    if found.encoding:
        stored = _store_text(bucket, file, label, found)
        return _Kept(label, Document.Kind.TEXT, Document.State.READ, stored, stored), ()
    stored = _store(bucket, file, label, DECLARED.get(found.sort, ""))
    if found.late:
        return _Kept(label, Document.Kind.TEXT, Document.State.WAITING, stored), ()
    try:
        text = _store_markdown(bucket, label, found.text)
    except BaseException:
        store.remove(stored)
        raise
    return _Kept(label, Document.Kind.TEXT, Document.State.READ, stored, text), found.skipped


def _kept_media(bucket: Bucket, file: IO[bytes], label: str, spoken: str | None) -> _Kept:
    note = pictures.note_of(file)
    stored = _store(bucket, file, label, "")
    if spoken is None:
        return _Kept(label, Document.Kind.MEDIA, Document.State.READ, stored, note=note)
    return _Kept(label, Document.Kind.MEDIA, Document.State.WAITING, stored, language=spoken)


def _store(bucket: Bucket, file: IO[bytes] | bytes, label: str, declared: str) -> StoredFile:
    if not isinstance(file, bytes):
        file.seek(0)
    return store.keep(
        bucket.owner_id, file, label=label, source=StoredFile.Source.UPLOAD, bucket=bucket, content_type=declared
    )


def _store_text(bucket: Bucket, file: IO[bytes], label: str, found: Reading) -> StoredFile:
    """Texts are kept in UTF-8, whatever they came in."""
    declared = DECLARED.get(found.sort, "text/plain")
    if found.encoding in ("utf-8", "utf-8-sig"):
        return _store(bucket, file, label, declared)
    file.seek(0)
    with store.temporary() as plain:
        for text in texts.decoded(file, found.encoding):
            plain.write(text.encode("utf-8", "replace"))
        return _store(bucket, plain, label, declared)


def _store_markdown(bucket: Bucket, label: str, text: str) -> StoredFile:
    # A document without a word is read as well: it has nothing to say.
    return _store(bucket, text.encode("utf-8", "replace") or b"\n", f"{label[:250]}.md", MARKDOWN)


def _entered(bucket: Bucket, kept: Sequence[_Kept]) -> list[Document]:
    """All of them or none, in the places of others of those names, whose files go."""
    with transaction.atomic():
        # Whoever else is adding to this bucket waits here. It may be deleted meanwhile.
        if not Bucket.objects.select_for_update().filter(pk=bucket.pk).exists():
            raise BucketMissing
        old: list[StoredFile] = []
        entered = [_place(bucket, one, old) for one in kept]
        # Their bytes go with the end of the transaction. In one order, as others lock the same bytes.
        _remove(*sorted(old, key=lambda file: file.blob_id))
    return entered


def _place(bucket: Bucket, one: _Kept, old: list[StoredFile]) -> Document:
    before = Document.objects.select_related("original", "text").filter(bucket=bucket, label=one.label).first()
    document = before or Document(label=one.label)
    # Whoever is given it need not ask for its bucket.
    document.bucket = bucket
    old += [file for file in (document.original, document.text) if file is not None]
    document.kind, document.state, document.error = one.kind, one.state, ""
    document.original, document.text = one.original, one.text
    document.note, document.language, document.claimed_until = one.note, one.language, None
    document.save()
    return document


def _remove(*files: StoredFile | None) -> None:
    for file in {file.pk: file for file in files if file is not None}.values():
        with suppress(StoredFile.DoesNotExist):
            store.remove(file)


# Reading.


def documents(bucket: Bucket) -> list[Document]:
    """In the order in which they came."""
    return list(bucket.documents.select_related("original__blob", "text__blob"))


def fresh(document: Document) -> Document | None:
    """The same as it is now; None when it is gone."""
    return Document.objects.select_related("original__blob", "text__blob").filter(pk=document.pk).first()


def read_waiting(bucket: Bucket, document: Document) -> None:
    """Reads what came too late for its upload; what fails says why. Raises Busy, StorageAway, StorageFull."""
    if document.original is None:
        return
    try:
        with closing(store.opened(document.original)) as file:
            settle(bucket, document, markdown_of(file, document.label))
    except Busy:
        raise
    except ConversionError as error:
        fail(document, error.message)


def settle(bucket: Bucket, document: Document, text: str) -> None:
    """Keeps what has been read of a document that waited, unless another file has taken its place."""
    stored = _store_markdown(bucket, document.label, text)
    if not waiting(document).update(text=stored, state=Document.State.READ):
        store.remove(stored)


def waiting(document: Document) -> QuerySet[Document, Document]:
    """Only if it is still the same file that waits."""
    return Document.objects.filter(pk=document.pk, original=document.original, state=Document.State.WAITING)


def settle_downloads(bucket: Bucket, document: Document, collected: downloads.Collected) -> None:
    """What came from the addresses of a `downloads.json` is kept, so that nothing is fetched twice."""
    if not (text := collected.text):
        fail(document, "; ".join(collected.failed) or "There are no addresses.")
        return
    settle(bucket, document, text)


def addresses(document: Document) -> downloads.Wanted:
    """What a `downloads.json` asks for."""
    if document.original is None:
        return downloads.Wanted()
    with closing(store.opened(document.original)) as file:
        return downloads.parsed(file.read(downloads.MAX_BYTES + 1)) or downloads.Wanted()


def fail(document: Document, reason: str) -> None:
    waiting(document).update(state=Document.State.FAILED, error=reason[:500])


def pieces(document: Document, size: int) -> Generator[str, None, None]:
    """The text of a document that is read, a piece at a time. Raises FileMissing, StorageAway."""
    if document.text is None:
        yield from filter(None, [document.note])
        return
    with closing(store.opened(document.text)) as file:
        yield from texts.decoded(file, "utf-8-sig", size)


def drop_originals(bucket: Bucket) -> int:
    """Deletes what is no longer needed for the text; media and plain texts stay. How many went."""
    done = [
        document
        for document in documents(bucket)
        if document.kind != Document.Kind.MEDIA and document.text_id and document.original_id != document.text_id
    ]
    for document in done:
        _remove(document.original)
    return len(done)


def listing(added: Added) -> dict[str, Any]:
    """The documents by name, media with their sizes, and what was left out."""
    media = [document for document in added.documents if document.kind == Document.Kind.MEDIA]
    return {
        "files": [document.shown for document in added.documents if document.kind != Document.Kind.MEDIA],
        "media": [_media_item(document) for document in media],
        "skipped": [skipped._asdict() for skipped in added.skipped],
    }


def _media_item(document: Document) -> dict[str, Any]:
    item: dict[str, Any] = {"name": document.label}
    original = document.original
    if original is not None and original.width is not None:
        item |= {"width": original.width, "height": original.height}
    if document.text is not None:
        item["text"] = "".join(pieces(document, MAX_TRANSCRIPT))[:MAX_TRANSCRIPT].strip()
    return item
