"""The usage journal: nothing lost, nothing doubled, whoever dies when."""

from __future__ import annotations

import os
import subprocess
import sys
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
        "s.end({'request_id': 'a'}); os.write(s._segment.fd, b'{\"end\": {\"request_id\"'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, cwd=Path(__file__).parents[2])
    assert found(tmp_path) == (["a"], ["b", "c"])
    assert found(tmp_path) == ([], [])


def test_what_cannot_be_settled_stays(tmp_path: Path) -> None:
    journal = Spool(tmp_path)
    journal.begin(record("a"))
    os.close(journal._segment.fd)
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
    os.close(journal._segment.fd)
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
    os.close(old.fd)
    os.close(journal._segment.fd)
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


def test_a_full_disk_keeps_the_row_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Spool(tmp_path)
    os.close(journal._segment.fd)
    journal._segment.fd = os.open("/dev/full", os.O_WRONLY)
    journal.begin(record("a"))
    journal.end(record("a"))
    assert ids(journal.take()[0]) == ["a"]
    assert "cannot be written" in caplog.text
