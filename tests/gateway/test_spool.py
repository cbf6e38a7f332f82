"""The usage journal: nothing lost, nothing doubled, whoever dies when."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import spool as spool_module
from gateway.spool import Spool, orphans


def record(name: str) -> dict[str, str]:
    return {"request_id": name}


def ids(records: list[dict[str, str]]) -> list[str]:
    return [item["request_id"] for item in records]


def found(folder: Path) -> tuple[list[str], list[str]]:
    with orphans(folder) as groups:
        ended = [name for done, _ in groups for name in ids(done)]
        begun = [name for _, open_ones in groups for name in ids(open_ones)]
    return sorted(ended), sorted(begun)


def test_it_hands_over_what_is_finished_once(tmp_path: Path) -> None:
    journal = Spool(tmp_path)
    journal.begin(record("a"))
    journal.begin(record("b"))
    journal.end(record("a"))
    assert ids(journal.take()[0]) == ["a"]
    assert journal.take()[0] == []
    journal.end(record("b"))
    assert ids(journal.take()[0]) == ["b"]
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    journal = Spool(tmp_path)
    journal.begin(record("a"))
    assert found(tmp_path) == ([], [])
    assert len(list(tmp_path.iterdir())) == 1
    journal.end(record("a"))
    journal.take()
    journal.close()


def test_the_journal_of_a_dead_worker_is_settled_once(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from gateway.spool import Spool;"
        "s = Spool(Path(sys.argv[1])); [s.begin({'request_id': n}) for n in 'abc'];"
        "s.end({'request_id': 'a'}); s._segment.write(b'{\"end\": {\"request_id\"'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, cwd=Path(__file__).parents[2])
    assert found(tmp_path) == (["a"], ["b", "c"])
    assert found(tmp_path) == ([], [])


def test_what_cannot_be_settled_stays(tmp_path: Path) -> None:
    journal = Spool(tmp_path)
    journal.begin(record("a"))
    journal._segment.close()
    with pytest.raises(RuntimeError), orphans(tmp_path):
        raise RuntimeError("the database is away")
    assert found(tmp_path) == ([], ["a"])


def test_a_new_segment_takes_the_open_requests_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 10)
    journal = Spool(tmp_path)
    journal.begin(record("open"))
    journal.begin(record("done"))
    journal.end(record("done"))
    done, old = journal.take()
    assert ids(done) == ["done"]
    assert old is not None
    assert len(list(tmp_path.iterdir())) == 2
    # Until its rows are committed the old segment is there, and locked.
    assert found(tmp_path) == ([], [])
    old.remove()
    journal.end(record("open"))
    journal._segment.close()
    assert found(tmp_path) == (["open"], [])


def test_an_end_in_a_later_segment_settles_a_begin_in_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 10)
    journal = Spool(tmp_path)
    journal.begin(record("a"))
    _, old = journal.take()
    assert old is not None
    journal.end(record("a"))
    # Killed before the old segment was removed.
    old.close()
    journal._segment.close()
    assert found(tmp_path) == (["a"], [])


def test_rows_that_were_put_back_come_again(tmp_path: Path) -> None:
    journal = Spool(tmp_path)
    journal.begin(record("a"))
    journal.end(record("a"))
    done, _ = journal.take()
    journal.put_back(done)
    assert journal.waiting() == 1
    journal.close()
    # Closed with unsettled rows: the file stays for whoever comes next.
    assert found(tmp_path) == (["a"], [])


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 4 KB; the kernel refuses to reserve more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_the_row_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Spool(tmp_path)
    with full_disk():
        journal.begin(record("a"))
        journal.end(record("a"))
        assert "cannot be written" in caplog.text
    assert ids(journal.take()[0]) == ["a"]
    # There is room again.
    journal.begin(record("b"))
    journal._segment.close()
    assert found(tmp_path) == ([], ["b"])


def test_a_disk_that_fills_up_takes_what_was_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "WINDOW_BYTES", 4096)
    journal = Spool(tmp_path)
    with full_disk():
        for number in range(200):
            journal.begin(record(f"a{number:03}"))
    journal.begin(record("after"))
    journal._segment.close()
    _, begun = found(tmp_path)
    assert begun[-1] == "after"
    assert begun[:-1] == [f"a{number:03}" for number in range(len(begun) - 1)]
    assert 100 < len(begun) < 200


def test_records_of_all_sizes_fill_window_after_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "WINDOW_BYTES", 4096)
    journal = Spool(tmp_path)
    names = [f"{number:04}" + "x" * (number * 37 % 6000) for number in range(100)]
    for name in names:
        journal.begin(record(name))
    assert journal._segment.size > 40 * 4096
    journal._segment.close()
    assert found(tmp_path) == ([], names)


@pytest.mark.parametrize("mapped", [0, 3])
def test_records_are_appended_where_files_cannot_be_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: int
) -> None:
    monkeypatch.setattr(spool_module, "WINDOW_BYTES", 4096)
    windows: list[mmap.mmap] = []
    own = mmap.mmap

    def refused(*args: int, **options: int) -> mmap.mmap:
        if len(windows) == mapped:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        windows.append(own(*args, **options))
        return windows[-1]

    monkeypatch.setattr(spool_module.mmap, "mmap", refused)
    journal = Spool(tmp_path)
    names = [f"{number:04}" + "x" * (number * 37 % 1000) for number in range(50)]
    for name in names:
        journal.begin(record(name))
    journal.close()
    assert len(windows) == mapped
    assert found(tmp_path) == ([], names)


def test_what_is_left_for_replay_holds_no_reserved_room(tmp_path: Path) -> None:
    journal = Spool(tmp_path)
    journal.begin(record("a"))
    journal.close()
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b'{"begin":{"request_id":"a"}}\n'
