"""Files are kept once per owner, within their quota, and go with their bytes."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from media.errors import FileMissing, FileTooLarge, QuotaExceeded, StorageAway, StorageFull, UnknownType
from media.models import Blob, Bucket, Quota, StoredFile
from media.store import keep, opened, remove, temporary, usage_of
from media.sweep import sweep

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _own_folder(stored_paths: Any) -> None:
    """Every test here looks at an empty storage."""


def text(owner: Any, words: str = "some words", **more: Any) -> StoredFile:
    return keep(owner.pk, words.encode(), label="a.txt", source="upload", **more)


def at_once(*calls: Any) -> list[Any]:
    """What each gave or raised."""
    results: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(index: int) -> None:
        gate.wait()
        try:
            results[index] = calls[index]()
        except Exception as error:  # noqa: BLE001 - told to the test
            results[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class TestKeeping:
    def test_a_file_is_read_back_as_it_was(self, alice: Any) -> None:
        stored = keep(
            alice.pk,
            BytesIO(b"line\n" * 100_000),
            label="C:\\notes\\a.md",
            source="upload",
            content_type="text/markdown",
        )
        with opened(stored) as file:
            assert file.read() == b"line\n" * 100_000
        assert (stored.label, stored.content_type, stored.size) == ("a.md", "text/markdown", 500_000)

    def test_names_cannot_be_guessed_and_disks_never_see_them(self, alice: Any, stored_paths: Any) -> None:
        first = keep(alice.pk, b"x", label="../../etc/passwd\x00", source="upload")
        second = keep(alice.pk, b"x", label="../../etc/passwd\x00", source="upload")
        assert first.label == "passwd"
        assert first.name != second.name
        assert all("passwd" not in path for path in stored_paths())

    def test_equal_content_is_stored_once_per_owner(self, alice: Any, bob: Any, stored_paths: Any) -> None:
        first, second, other = text(alice), text(alice), text(bob)
        assert first.blob_id == second.blob_id != other.blob_id
        assert len(stored_paths()) == 2
        assert usage_of(alice.pk) == (10, 2)
        remove(first)
        with opened(second) as file:
            assert file.read() == b"some words"
        remove(second)
        assert len(stored_paths()) == 1

    def test_equal_uploads_at_once_share_their_bytes(self, alice: Any, stored_paths: Any) -> None:
        results = at_once(*[lambda: text(alice)] * 6)
        assert [result for result in results if isinstance(result, Exception)] == []
        assert len(stored_paths()) == Blob.objects.count() == 1
        assert StoredFile.objects.count() == 6

    def test_one_goes_while_another_comes(self, alice: Any, stored_paths: Any) -> None:
        for _ in range(10):
            before = text(alice)
            _, after = at_once(lambda before=before: remove(before), lambda: text(alice))
            with opened(after) as file:
                assert file.read() == b"some words"
            remove(after)
        assert stored_paths() == []
        assert Blob.objects.count() == 0

    def test_two_deletions_at_once_leave_nothing(self, alice: Any, stored_paths: Any) -> None:
        for _ in range(10):
            first, second = text(alice), text(alice)
            at_once(lambda first=first: remove(first), lambda second=second: remove(second))
            assert stored_paths() == []

    @pytest.mark.parametrize("data", [b"", b"\x00\x01\x02\x03", bytes(range(256))])
    def test_what_is_nothing_known_is_refused(self, alice: Any, data: bytes, stored_paths: Any) -> None:
        with pytest.raises(UnknownType):
            keep(alice.pk, data, label="a.png", source="upload", content_type="image/png")
        assert stored_paths() == []

    @pytest.mark.parametrize("data", [b"II*\x00" + bytes(60), b"\x00\x00\x00\x18ftypheic" + bytes(60)])
    def test_pictures_without_a_reader_are_refused(self, alice: Any, data: bytes) -> None:
        with pytest.raises(UnknownType, match="Send JPEG"):
            keep(alice.pk, data, label="a.png", source="upload")


class TestLimits:
    def test_a_file_that_is_too_large_leaves_nothing(self, alice: Any, settings: Any, stored_paths: Any) -> None:
        settings.MAX_FILE_BYTES = 1000
        with pytest.raises(FileTooLarge):
            text(alice, "x" * 1001)
        assert stored_paths() == []
        assert usage_of(alice.pk) == (0, 0)
        assert text(alice, "x" * 1000).size == 1000

    def test_bytes(self, alice: Any, bob: Any, settings: Any, stored_paths: Any) -> None:
        settings.MEDIA_QUOTA_BYTES = 25
        kept = text(alice, "a" * 20)
        with pytest.raises(QuotaExceeded):
            text(alice, "b" * 6)
        text(alice, "a" * 20)
        text(bob, "b" * 6)
        assert len(stored_paths()) == 2
        Quota.objects.filter(user=alice).update(max_bytes=26)
        text(alice, "b" * 6)
        with pytest.raises(QuotaExceeded):
            text(alice, "c")
        Quota.objects.filter(user=alice).update(max_bytes=0)
        assert text(alice, "c").size == kept.size - 19

    def test_after_a_deletion_there_is_room_again(self, alice: Any, settings: Any) -> None:
        settings.MEDIA_QUOTA_FILES = 2
        first = text(alice)
        text(alice)
        with pytest.raises(QuotaExceeded):
            text(alice)
        remove(first)
        assert text(alice)

    @pytest.mark.parametrize("limit", [{"MEDIA_QUOTA_FILES": 3}, {"MEDIA_QUOTA_BYTES": 30}])
    def test_uploads_at_once_never_pass_it(self, alice: Any, settings: Any, limit: Any) -> None:
        for name, value in limit.items():
            setattr(settings, name, value)
        results = at_once(*[lambda index=index: text(alice, f"{index}" * 10) for index in range(8)])
        assert sum(isinstance(result, StoredFile) for result in results) <= 3
        assert all(isinstance(result, StoredFile | QuotaExceeded) for result in results)
        assert usage_of(alice.pk) in {(10 * count, count) for count in range(1, 4)}


class TestWhatIsLeftBehind:
    def test_a_user_takes_their_files_along(self, alice: Any, bob: Any, stored_paths: Any, picture: Any) -> None:
        from media.thumbnails import thumbnail_of

        bucket = Bucket.objects.create(owner=alice, label="b")
        text(alice, bucket=bucket)
        thumbnail_of(keep(alice.pk, picture(size=(800, 600)), label="p.png", source="generated", bucket=bucket))
        text(bob)
        assert len(stored_paths()) == 4
        alice.delete()
        assert len(stored_paths()) == 1
        assert Blob.objects.count() == StoredFile.objects.count() == 1

    def test_a_bucket_takes_its_files_along(self, alice: Any, stored_paths: Any) -> None:
        bucket = Bucket.objects.create(owner=alice, label="b")
        text(alice, bucket=bucket)
        bucket.delete()
        assert stored_paths() == []

    def test_what_a_process_left_half_written_is_swept(self, alice: Any, settings: Any, stored_paths: Any) -> None:
        from django.core.files.base import ContentFile
        from django.core.files.storage import default_storage

        from media.store import announced

        half = announced(alice.pk, "text/plain", 10, "0" * 64)
        default_storage.save(half.path, ContentFile(b"half"))
        sweep()
        assert len(stored_paths()) == 1
        Blob.objects.filter(pk=half.pk).update(changed_at=timezone.now() - timedelta(hours=1))
        sweep()
        assert stored_paths() == []
        assert usage_of(alice.pk) == (0, 0)

    def test_a_storage_that_fails_leaves_nothing_in_the_end(self, alice: Any, settings: Any, tmp_path: Any) -> None:
        if settings.MEDIA_STORAGE != "file":
            pytest.skip("a folder that is none")
        (tmp_path / "media").write_text("not a folder")
        with pytest.raises(StorageAway):
            text(alice)
        assert StoredFile.objects.count() == 0
        (tmp_path / "media").unlink()
        Blob.objects.update(changed_at=timezone.now() - timedelta(hours=1))
        sweep()
        assert Blob.objects.count() == 0
        assert usage_of(alice.pk) == (0, 0)

    def test_temporary_files_of_processes_that_died_go(self, settings: Any) -> None:
        old, fresh = (settings.FILE_UPLOAD_TEMP_DIR / name for name in ("old.upload", "fresh.upload"))
        for path in (old, fresh):
            path.write_bytes(b"half")
        os.utime(old, (time.time() - 60, time.time() - 60))
        assert sweep() == 1
        assert list(settings.FILE_UPLOAD_TEMP_DIR.iterdir()) == [fresh]

    def test_folders_of_conversions_that_died_go(self, settings: Any) -> None:
        from media.convert import run

        with run.workplace() as place:
            (place / "0").write_bytes(b"half")
            left = place.with_name(run.WORKPLACE + "left")
            left.mkdir()
            (left / "0").write_bytes(b"half")
            assert sweep() == 0
            os.utime(left, (time.time() - 3600, time.time() - 3600))
            assert sweep() == 1
            assert list(settings.FILE_UPLOAD_TEMP_DIR.iterdir()) == [place]

    def test_nobody_keeps_what_the_sweeper_is_deleting(self, alice: Any, monkeypatch: Any) -> None:
        """A slow upload comes to its end at that moment."""
        from django.core.files.storage import default_storage

        text(alice)
        StoredFile.objects.all()._raw_delete(connection.alias)
        Blob.objects.update(state="written", changed_at=timezone.now() - timedelta(hours=1))
        kept: list[int] = []

        def meanwhile(storage: Any, name: str) -> None:
            kept.append(Blob.objects.filter(path=name, state="written").update(state="kept"))

        monkeypatch.setattr(type(default_storage._wrapped), "delete", meanwhile)
        assert sweep() == 1
        assert kept == [0]

    def test_thumbnails_of_no_picture_go(self, alice: Any, picture: Any, stored_paths: Any) -> None:
        from media.sweep import sweep_thumbnails
        from media.thumbnails import thumbnail_of

        for size in ((800, 600), (800, 700)):
            thumbnail_of(keep(alice.pk, picture(size=size), label="p.png", source="generated"))
        Blob.objects.update(changed_at=timezone.now() - timedelta(hours=1))
        assert sweep_thumbnails() == 0
        Blob.objects.filter(size=StoredFile.objects.all()[0].size, is_thumbnail=False).update(thumbnail=None)
        assert (sweep_thumbnails(), sweep()) == (1, 1)
        assert len(stored_paths()) == 3

    def test_a_thumbnail_of_what_is_deleted_meanwhile_leaves_nothing(
        self, alice: Any, monkeypatch: Any, picture: Any, stored_paths: Any
    ) -> None:
        from media import thumbnails

        stored = keep(alice.pk, picture(size=(800, 600)), label="p.png", source="generated")
        real = thumbnails.write

        def meanwhile(made: Blob, file: Any) -> None:
            real(made, file)
            remove(StoredFile.objects.get(pk=stored.pk))

        monkeypatch.setattr(thumbnails, "write", meanwhile)
        with pytest.raises(FileMissing):
            thumbnails.thumbnail_of(stored)
        assert Blob.objects.count() == len(stored_paths()) == 0

    def test_a_thumbnail_that_took_too_long_is_not_taken_for_done(
        self, alice: Any, monkeypatch: Any, picture: Any, stored_paths: Any
    ) -> None:
        from media import thumbnails

        stored = keep(alice.pk, picture(size=(800, 600)), label="p.png", source="generated")

        def slowly(made: Blob, file: Any) -> None:
            Blob.objects.filter(pk=made.pk).update(changed_at=timezone.now() - timedelta(hours=1))
            sweep()

        monkeypatch.setattr(thumbnails, "write", slowly)
        with pytest.raises(StorageAway):
            thumbnails.thumbnail_of(stored)
        assert Blob.objects.count() == len(stored_paths()) == 1

    def test_a_storage_that_goes_away_while_it_is_read_is_said_to_be(
        self, alice: Any, monkeypatch: Any, picture: Any
    ) -> None:
        from django.core.files.storage import default_storage

        from media.thumbnails import thumbnail_of

        stored = keep(alice.pk, picture(size=(800, 600)), label="p.png", source="generated")

        class Broken:
            """Opened, and then the line is cut: no error of the system's, so without a number."""

            def read(self, size: int = -1) -> bytes:
                raise OSError("the connection was closed")

            def seek(self, offset: int, whence: int = 0) -> int:
                return 0

            def tell(self) -> int:
                return 0

            def close(self) -> None:
                """Nothing is open."""

        def broken(storage: Any, name: str) -> Broken:
            return Broken()

        monkeypatch.setattr(type(default_storage._wrapped), "open", broken)
        with pytest.raises(StorageAway), opened(stored) as file:
            file.read()
        with pytest.raises(StorageAway):
            thumbnail_of(stored)

    def test_what_cannot_be_deleted_does_not_hold_up_the_rest(
        self, alice: Any, monkeypatch: Any, stored_paths: Any
    ) -> None:
        from django.core.files.storage import default_storage

        from media import sweep as sweeping

        monkeypatch.setattr(sweeping, "BATCH", 1)
        first, second = text(alice, "one").blob, text(alice, "two").blob
        StoredFile.objects.all()._raw_delete(connection.alias)
        Blob.objects.update(state="dead", changed_at=timezone.now() - timedelta(hours=1))
        real = type(default_storage._wrapped).delete

        def stuck(storage: Any, name: str) -> None:
            if name == first.path:
                raise OSError("stuck")
            real(storage, name)

        monkeypatch.setattr(type(default_storage._wrapped), "delete", stuck)
        assert sweep() + sweep() == 1
        assert [blob.pk for blob in Blob.objects.all()] == [first.pk]
        assert second.path not in stored_paths()

    def test_files_on_their_way_have_no_name(self, settings: Any) -> None:
        with temporary() as file:
            file.write(b"half")
            assert list(settings.FILE_UPLOAD_TEMP_DIR.iterdir()) == []

    def test_the_server_sweeps_by_itself(self, alice: Any, monkeypatch: Any, stored_paths: Any) -> None:
        from media import sweep as sweeping

        monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.01)
        text(alice)
        Blob.objects.update(owner=None)
        StoredFile.objects.all()._raw_delete(connection.alias)
        sweeping.sweeper.start()
        try:
            deadline = time.monotonic() + 10
            while stored_paths() and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            sweeping.sweeper.stop()
        assert stored_paths() == []

    def test_a_write_that_took_too_long_is_not_taken_for_done(self, alice: Any, monkeypatch: Any) -> None:
        """The sweeper of another process was there in between."""
        from media import store

        def slowly(blob: Blob, file: Any) -> None:
            Blob.objects.filter(pk=blob.pk).update(changed_at=timezone.now() - timedelta(hours=1))
            sweep()

        monkeypatch.setattr(store, "write", slowly)
        with pytest.raises(StorageAway):
            text(alice)
        assert StoredFile.objects.count() == Blob.objects.count() == 0

    def test_a_disk_that_is_nearly_full_takes_nothing(self, alice: Any, monkeypatch: Any) -> None:
        from media import store

        monkeypatch.setattr(store, "FREE_BYTES", 2**70)
        monkeypatch.setattr(store, "FREE_SHARE", 1.1)
        with pytest.raises(StorageFull):
            text(alice)

    def test_a_disk_that_is_full_is_said_to_be(self, alice: Any, stored_paths: Any, settings: Any) -> None:
        if settings.MEDIA_STORAGE != "file":
            pytest.skip("the disk of this machine")
        import resource

        data = b"x" * 200_000
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(StorageFull):
                keep(alice.pk, data, label="a.txt", source="upload")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert stored_paths() == []
        assert usage_of(alice.pk) == (0, 0)
