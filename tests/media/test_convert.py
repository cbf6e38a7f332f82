"""Files as Markdown: what is read, what is refused, and that the child that reads can do nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from media.convert import archive, confine, run, simple, texts
from media.convert import child as child_program
from media.convert.errors import Busy, ConversionError, Unreadable, Unsupported
from media.convert.markdown import framed, markdown_of
from media.convert.sorts import sort_of
from tests.media.conftest import picture
from tests.support import documents
from tests.support.converting import PYTHON, needs_documents
from tests.support.documents import WORD, zipped

CASES = int(os.environ.get("CONVERT_CASES", "60"))


@pytest.fixture
def with_documents(settings: Any) -> None:
    settings.DOCUMENTS_PYTHON = PYTHON


def refused(data: bytes, label: str) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        markdown_of(data, label)
    return caught.value


@pytest.mark.parametrize("label", list(documents.simple()))
def test_texts_tables_pages_and_archives_are_read_without_the_extra(label: str) -> None:
    text = markdown_of(documents.simple()[label], label)
    assert WORD in text
    assert "bad()" not in text


@needs_documents
@pytest.mark.parametrize("label", list(documents.heavy()))
@pytest.mark.usefixtures("with_documents")
def test_documents_are_read_with_it(label: str) -> None:
    assert WORD in markdown_of(documents.heavy()[label], label)


@pytest.mark.parametrize("label", list(documents.heavy()))
def test_without_the_extra_the_answer_says_what_is_missing(label: str) -> None:
    pytest.importorskip("media")
    if subprocess.run([sys.executable, "-c", "import markitdown"], capture_output=True, check=False).returncode == 0:
        pytest.skip("the extra is installed")
    error = refused(documents.heavy()[label], label)
    assert (error.status, "EXTRAS=documents" in error.message) == (415, True)


EBCDIC = '<?xml version="1.0" encoding="cp037"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode("cp037")
REPEATED = """<table:table><table:table-row table:number-rows-repeated="900000">
<table:table-cell table:number-columns-repeated="900"><text:p>a</text:p></table:table-cell></table:table-row>
</table:table>
"""
TEXT_BODY = """
<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>
<text:h text:outline-level="2">A <text:span>title</text:span></text:h>
<text:p>One<text:s text:c="3"/>two<text:line-break/>three
  <text:a xlink:href="https://e.com/">link</text:a><text:a xlink:href="javascript:x()">no link</text:a
><text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>a note</text:p></text:note-body
></text:note><office:annotation><d:creator
 xmlns:d="http://purl.org/dc/elements/1.1/">Ann</d:creator><d:date
 xmlns:d="http://purl.org/dc/elements/1.1/">2026-11-21</d:date><text:p>a comment</text:p></office:annotation></text:p>
<text:list><text:list-item><text:p>a</text:p><text:list><text:list-item><text:p>b</text:p></text:list-item></text:list>
</text:list-item><text:list-item><text:p>c</text:p></text:list-item></text:list>
<table:table><table:table-row><table:table-cell><text:p>x|y</text:p><text:p>z</text:p></table:table-cell></table:table-row>
</table:table>
"""
TEXT_SAID = (
    "## A title\n\nOne   two\nthree [link](https://e.com/)no link (a note) (a comment)\n\n"
    "- a\n  - b\n- c\n\n| x\\|y z |\n| --- |"
)
SHEET_BODY = """
<table:table table:name="Sums">
<table:table-row table:number-rows-repeated="2"><table:table-cell table:number-columns-repeated="2"><text:p>a</text:p>
</table:table-cell><table:table-cell table:number-columns-repeated="16000"/></table:table-row>
<table:table-row table:number-rows-repeated="900000"><table:table-cell/></table:table-row>
<table:table-row><table:table-cell/><table:table-cell office:value="5"/></table:table-row>
<table:table-row table:number-rows-repeated="1000000"><table:table-cell/></table:table-row>
</table:table>
"""
SHEET_SAID = "## Sums\n\n| a | a |\n| --- | --- |\n| a | a |\n|  |  |\n|  | 5 |"
SLIDES_BODY = """
<draw:page><text:p>one</text:p><text:list><text:list-item><text:p>two</text:p></text:list-item></text:list></draw:page>
<draw:page><text:p>three</text:p></draw:page>
"""


@pytest.mark.parametrize(
    ("label", "data", "said"),
    [
        ("a.html", b"<h2>A</h2><ul><li>x<li>y</ul><ol><li>z</ol>", "## A\n\n- x\n- y\n\n1. z"),
        (
            "a.html",
            b"<p>a <a href='https://e.com/'>l</a> <a href='javascript:x()'>m</a></p>",
            "a [l](https://e.com/) m",
        ),
        ("a.html", b"<pre>a\n  b</pre><img alt='c d' src=x>", "```\na\n  b\n```\n\n![c d]"),
        (
            "a.html",
            b"<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>",
            "| a | b |\n| 1 | 2 |",
        ),
        ("a.csv", b"a,b\n1,x|y\n", "| a | b |\n| --- | --- |\n| 1 | x\\|y |"),
        ("a.tsv", b"a\tb\n1\t2\n", "| a | b |\n| --- | --- |\n| 1 | 2 |"),
        ("a.ipynb", documents.notebook("cat"), "# The cat\n\n```python\nprint(1)\n```"),
        ("a.odt", documents.opendocument("text", TEXT_BODY), TEXT_SAID),
        ("a.ods", documents.opendocument("spreadsheet", SHEET_BODY), SHEET_SAID),
        (
            "a.odp",
            documents.opendocument("presentation", SLIDES_BODY),
            "## Slide 1\n\none\n\n- two\n\n## Slide 2\n\nthree",
        ),
        ("a.txt", "\ufeffÄ".encode("utf-32"), "\ufeffÄ"),
        ("BMI.txt", b"BMI is a number", "BMI is a number"),
    ],
)
def test_what_becomes_of_it(label: str, data: bytes, said: str) -> None:
    assert markdown_of(data, label).strip() == said


def test_a_table_that_is_too_large_for_one_stays_as_it_is() -> None:
    for data in (b'"' + b"x" * 1_100_000, b"a,b\n" * 100_002, b"," * 1001):
        assert markdown_of(data, "a.csv") == data.decode()


CHARSETS = ("cp874", "windows-1255", "iso-8859-16", "koi8-u", "shift_jis", "euc-kr", "gb2312", "GB18030", "big5")


def test_a_page_says_its_encoding() -> None:
    page = '<html><meta charset="windows-1251"><p>выдра</p>'.encode("cp1251")
    assert markdown_of(page, "a.html") == "выдра"
    for charset in CHARSETS:
        assert markdown_of(f"<meta charset={charset}><p>".encode() + b"caf\xe9\xff\x81", "a.html").startswith("caf")
    for charset in ("nonsense", "hex", "idna", "undefined", "windows-12512"):
        odd = f'<html><meta charset="{charset}"><p>caf'.encode() + b"\xe9</p>"
        assert markdown_of(odd, "a.html") == "café"


def test_a_path_an_open_file_and_bytes_are_the_same(tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.write_bytes(documents.notebook())
    with place.open("rb") as file:
        assert (
            markdown_of(place, "a.ipynb")
            == markdown_of(file, "a.ipynb")
            == markdown_of(documents.notebook(), "a.ipynb")
        )
        assert not file.closed


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("utf-32", "utf-32"), ("cp1252", "cp1252")],
)
def test_encodings_are_found_and_read_in_pieces_of_any_size(encoding: str, found: str) -> None:
    text = "für 5 € im Café — ja\n" * 50
    data = text.encode(encoding)
    assert texts.encoding_of(io.BytesIO(data)) == found
    for size in (1, 7, 4096):
        assert "".join(texts.decoded(io.BytesIO(data), found, size)).lstrip("\ufeff") == text


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x01", bytes(range(32)) * 9, os.urandom(500) + b"\x00", b"\xff\xfe\x00\xd8"]
)
def test_what_is_no_text(data: bytes) -> None:
    assert texts.encoding_of(io.BytesIO(data)) is None


@pytest.mark.parametrize(
    ("label", "data", "status"),
    [
        ("a.txt", b"", 422),
        ("a.pdf", b"no pdf", 415),
        ("a.docx", documents.pdf(), 415),
        ("a.txt", b"\x7fELF\x02\x01\x01\x00" + bytes(99), 415),
        ("a.exe", b"MZ\x90\x00\x03" + bytes(99), 415),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), 415),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), 415),
        ("a.zip", b"PK\x03\x04" + bytes(99), 422),
        ("a.zip", zipped({}), 422),
        ("a.zip", zipped({"a.txt": "x"})[:-30], 422),
        ("a.jar", zipped({"a.txt": "x"}), 415),
        ("a.ipynb", b"{}", 422),
        ("a.odt", documents.docx(), 422),
        ("a.odt", zipped({"content.xml": "<a/>"}), 422),
        ("a.odt", zipped({"content.xml": b"\x9f\x17\xd3 encrypted"}), 422),
        ("a.odt", documents.odt()[:300], 422),
        ("a.odt", documents.odt(before="<!DOCTYPE a [<!ENTITY b 'c'>]>"), 422),
        # A code page in which no search for markup finds any.
        ("a.odt", zipped({"content.xml": EBCDIC}), 422),
        ("a.odt", documents.opendocument("text", "<text:span>" * 5000 + "</text:span>" * 5000), 422),
        ("a.ods", documents.opendocument("spreadsheet", REPEATED), 422),
        ("a.docx", documents.odt(), 422),
        ("a.ipynb", b"[" * 100_000, 422),
        ("a.mp3", b"ID3\x03" + bytes(99), 415),
        ("a.gz", b"\x1f\x8b\x08" + bytes(50), 415),
    ],
)
def test_what_cannot_be_read_says_so(label: str, data: bytes, status: int) -> None:
    assert refused(data, label).status == status


@pytest.mark.parametrize("label", ["a.doc", "a.xls", "a.ppt"])
def test_old_office_files_say_what_to_do(label: str) -> None:
    error = refused(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), label)
    assert (error.status, "save it as docx, xlsx or pptx" in error.message) == (415, True)


@needs_documents
@pytest.mark.usefixtures("with_documents")
@pytest.mark.parametrize(
    ("label", "data"),
    [
        *((label, data[: len(data) // 2]) for label, data in documents.heavy().items()),
        ("a.docx", documents.xlsx()),
        ("a.docx", zipped({"word/document.xml": "<w:p>"})),
        ("a.docx", documents.docx(before='<!DOCTYPE a [<!ENTITY b "c">]>')),
        (
            "a.epub",
            zipped({"META-INF/container.xml": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'}),
        ),
        ("a.png", picture()[:40]),
    ],
)
def test_damaged_and_disguised_documents_are_refused(label: str, data: bytes) -> None:
    assert refused(data, label).status == 422


@needs_documents
@pytest.mark.usefixtures("with_documents")
def test_a_picture_says_its_size_and_not_where_it_was_taken() -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[271], exif[306] = "Otterflex", "2026:11:21 10:00:00"
    exif.get_ifd(34853)[2] = (47.0, 30.0, 12.5)
    text = markdown_of(picture("JPEG", (30, 20), exif=exif), "a.jpg")
    assert "Size: 30 x 20" in text
    assert "Make: Otterflex" in text
    assert "47" not in text


@pytest.mark.parametrize(
    ("sort", "label"), [("html", "g.html"), ("notebook", "h.ipynb"), ("table", "f.csv"), ("zip", "i.zip")]
)
def test_the_child_does_what_its_rooms_do(sort: str, label: str, tmp_path: Path) -> None:
    data = documents.simple()[label]
    said = child_program._text(sort, io.BytesIO(data), tmp_path)
    assert (
        markdown_of(data, label).startswith("<!-- File: x/y.txt") if sort == "zip" else said == markdown_of(data, label)
    )


def test_the_child_opens_pictures_and_documents_by_their_own_rules(tmp_path: Path) -> None:
    assert "Size: 64 x 48" in child_program._text("picture", io.BytesIO(picture()), tmp_path)
    for sort, data, error in (
        ("picture", picture()[:40], Unreadable),
        ("docx", documents.xlsx(), Unreadable),
        ("docx", documents.docx(before="<!DOCTYPE a [<!ENTITY b 'c'>]>"), Unreadable),
        (
            "docx",
            documents.docx(before="<!DOCTYPE a [<!ENTITY b 'c'>]>".encode("utf-16").decode("latin-1")),
            Unreadable,
        ),
    ):
        with pytest.raises(error):
            child_program._text(sort, io.BytesIO(data), tmp_path)


# Archives.


def opened(data: bytes, folder: Path) -> tuple[list[str], dict[str, str]]:
    names, skipped = archive.unpack(io.BytesIO(data), folder)
    return names, dict(skipped)


def test_links_devices_nested_archives_and_names_that_lead_out_are_left_out(tmp_path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as zipped_file:
        for name, mode in (("link", 0o120777), ("device", 0o020666), ("pipe", 0o010666), ("good.txt", 0o100644)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            zipped_file.writestr(entry, "/etc/passwd")
        for name in (
            "/etc/passwd",
            "../up.txt",
            "a/../../b.txt",
            "C:\\windows.txt",
            "..\\c.txt",
            "in.zip",
            "in.tar.gz",
        ):
            zipped_file.writestr(name, "x")
        zipped_file.writestr("folder/", "")
        zipped_file.writestr("a\n-->b.txt", "odd")
    names, skipped = opened(made.getvalue(), tmp_path)
    assert names == ["good.txt", "a\n-->b.txt"]
    assert len(skipped) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    text = markdown_of(made.getvalue(), "a.zip")
    assert text.count("<!-- File: ") == text.count(" -->\n") - 2 == 2


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({f"{at}.txt": "x" for at in range(1001)}, "entries"),
        ({"a.txt": bytes(11 * 1024 * 1024)}, "packed"),
        ({f"{at}.bin": os.urandom(1000) + bytes(90_000) for at in range(999)}, ""),
    ],
)
def test_bombs_are_given_up(tmp_path: Path, members: dict[str, Any], reason: str) -> None:
    data = zipped(members)
    if not reason:
        assert len(opened(data, tmp_path)[0]) == 999
        return
    started = time.monotonic()
    with pytest.raises(Unreadable, match=reason):
        opened(data, tmp_path)
    assert time.monotonic() - started < 5


def test_an_archive_of_more_than_a_hundred_megabytes_is_given_up(tmp_path: Path) -> None:
    block = os.urandom(1024 * 1024) + bytes(4 * 1024 * 1024)
    with pytest.raises(Unreadable, match="100 MB"):
        opened(zipped({str(at): block for at in range(21)}), tmp_path)


def test_a_lying_directory_is_not_believed(tmp_path: Path) -> None:
    data = bytearray(zipped({f"{at}.txt": "x" for at in range(1200)}))
    end = data.rindex(b"PK\x05\x06")
    data[end + 8 : end + 12] = b"\x05\x00\x05\x00"
    with pytest.raises(Unreadable, match=r"entries|damaged"):
        opened(bytes(data), tmp_path)


def test_an_encrypted_member_is_left_out(tmp_path: Path) -> None:
    data = bytearray(zipped({"a.txt": "secret", "b.txt": "plain"}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    names, skipped = opened(bytes(data), tmp_path)
    assert (names, skipped) == (["b.txt"], {"a.txt": "it is encrypted"})


def test_a_name_stays_within_its_frame() -> None:
    assert framed("a --> b\n<!-- x", "t") == "<!-- File: a -- > b <!-- x -->\nt\n<-- End -->\n\n"


# The child.


SIGNALS = {
    "x86_64": {"tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297},
    "aarch64": {"tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240},
}


def spoken(code: str, tmp_path: Path, memory: int = 256) -> Any:
    """What a program says that runs where files are read: confined, and then `code`."""
    program = (
        f"import sys; sys.path.insert(0, {str(run.ROOT)!r}); from media.convert import confine; import socket, ctypes, "
        f"os, json, subprocess; confine.limit({memory} << 20, 20, 1 << 20)\n"
        f"layers = confine.confine({str(tmp_path)!r})\n"
        "def tried(what):\n    try:\n        return what() or 'did'\n    except BaseException as e:\n"
        "        return type(e).__name__\n"
        # Signal 0 harms nobody. Calls that only begin with a process id: then signal 0, or the thread and signal 0.
        f"numbers = {SIGNALS.get(platform.machine(), {})!r}\n"
        "def sent(name):\n    ctypes.set_errno(0)\n    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    parent, info = os.getppid(), (ctypes.c_int * 32)(0, 0, -1)\n"
        "    given = {'tgkill': (parent, parent, 0), 'rt_sigqueueinfo': (parent, 0, info)}\n"
        "    libc.syscall(numbers[name], *given.get(name, (parent, parent, 0, info)))\n"
        "    return os.strerror(ctypes.get_errno())\n"
        f"print(json.dumps({code}, default=str))"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", program],
        env={},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_the_child_is_confined_here(tmp_path: Path) -> None:
    """Where the kernel has a layer it has to be there; what a container forbids is another matter."""
    layers = set(spoken("list(layers)", tmp_path))
    assert any(enough <= layers for enough in child_program.ENOUGH)
    if platform.machine() in confine.DENIED:
        assert "seccomp" in layers
    if confine._libc.syscall(confine.CREATE_RULESET, None, 0, 1) > 0:
        assert "landlock" in layers


def test_the_child_reaches_no_network_no_files_and_no_memory(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("mine", encoding="utf-8")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = spoken(
            f"{{'socket': tried(lambda: socket.create_connection(('127.0.0.1', {port}), 2)),"
            "'memory': tried(lambda: len(bytearray(300 << 20))), 'etc': tried(lambda: open('/etc/passwd').read()),"
            f"'data': tried(lambda: open({str(run.ROOT / 'manage.py')!r}).read()),"
            "'write': tried(lambda: open('/tmp/g4fsite-left', 'w')),"
            f"'own': tried(lambda: open({str(tmp_path / 'own')!r}).read()),"
            "'spawn': tried(lambda: subprocess.run(['/bin/true'])),"
            "'fork': tried(os.fork), 'kill': tried(lambda: os.kill(os.getppid(), 0)), 'env': sorted(os.environ),"
            "'queue': sent('rt_sigqueueinfo'), 'thread': sent('tgkill'), 'queue_thread': sent('rt_tgsigqueueinfo'),"
            "'parent': tried(lambda: open('/proc/%d/environ' % os.getppid(), 'rb').read())}",
            tmp_path,
        )
    assert found["socket"] in ("PermissionError", "OSError")
    assert (found["memory"], found["own"]) == ("MemoryError", "mine")
    assert set(found["env"]) <= {"LC_CTYPE"}
    layers = set(spoken("list(layers)", tmp_path))
    if "landlock" in layers:
        assert {found[name] for name in ("etc", "data", "write", "parent")} == {"PermissionError"}
    if "seccomp" in layers:
        assert {found[name] for name in ("spawn", "fork", "kill")} == {"PermissionError"}
        assert {found[name] for name in ("queue", "thread", "queue_thread")} == {"Operation not permitted"}
    assert spoken("tried(lambda: len(bytearray(300 << 20)))", tmp_path, 768) == 300 << 20


def test_the_child_gets_nothing_of_the_servers_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "planted")
    assert not {"SECRET_KEY", "DATABASE_URL"} & set(run._environment(tmp_path))


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets the child run other code than it should, as one that was taken over does."""

    def become(code: str) -> None:
        safe = code.replace("{", "{{").replace("}", "}}")
        monkeypatch.setattr(run, "BOOT", "import os, sys, json, time, signal; root = {root!r}; " + safe)

    return become


@pytest.mark.parametrize(
    ("layers", "status"),
    [
        ({"seccomp"}, 415), ({"namespace"}, 415), ({"seccomp", "namespace"}, 415), ({"landlock"}, 415), (set(), 415),
        ({"landlock", "seccomp"}, 0), ({"landlock", "namespace"}, 0),
    ],
)  # fmt: skip
def test_without_its_own_files_and_network_shut_off_nothing_is_read(
    child: Callable[[str], None], layers: set[str], status: int, settings: Any
) -> None:
    child(
        "sys.path.insert(0, root); from media.convert import child, confine; "
        f"confine.confine = lambda folder: set({sorted(layers)!r}); child.run(sys.argv[1:])"
    )
    for unconfined in (False, True):
        settings.DOCUMENTS_UNCONFINED = unconfined
        if status and not unconfined:
            assert "DOCUMENTS_UNCONFINED" in refused(b"<p>words</p>", "a.html").message
        else:
            assert "words" in markdown_of(b"<p>words</p>", "a.html")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.abort()", "damaged"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "damaged"),
        ("sys.exit(3)", "damaged"),
        ("print('not json')", "damaged"),
        ("print(json.dumps([1]))", "damaged"),
        ("bytearray(1 << 40)", "damaged"),
        ("time.sleep(60)", "longer than"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "longer than"),
    ],
)
def test_a_child_that_dies_or_hangs_costs_one_file(
    child: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    child(code)
    monkeypatch.setattr(run, "convert", _convert)
    error = refused(b"<p>x</p>", "a.html")
    assert (error.status, reason in error.message) == (422, True)
    assert run._places._value == run.AT_ONCE


_real = run.convert


def _convert(sort: Any, file: Any, folder: Path, seconds: float = 2) -> run.Answer:
    return _real(sort, file, folder, min(seconds, 2))


def test_a_child_that_was_taken_over_cannot_make_us_read_other_files(
    child: Callable[[str], None], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("planted", encoding="utf-8")
    answer = json.dumps({"names": ["a.txt", "b.txt", "c.txt"], "skipped": []})
    child(
        f"f = sys.argv[2]; os.symlink({str(secret)!r}, f + '/0'); os.mkfifo(f + '/1');"
        "open(f + '/2', 'w').write('own');"
        f"print(json.dumps(dict(error='', status=0, cut=False))); print({answer!r})"
    )
    text = markdown_of(zipped({"a.txt": "x"}), "a.zip")
    assert "planted" not in text
    assert "own" in text


def test_text_that_is_too_long_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MAX_TEXT_BYTES", 1000)
    text = markdown_of("<p>ü</p>".encode() * 5000, "a.html")
    assert "[Cut here" in text
    assert len(text) < 1100


def test_a_crowd_waits_and_then_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WAIT_SECONDS", 0.01)
    for _ in range(run.AT_ONCE):
        run._places.acquire()
    try:
        with pytest.raises(Busy):
            markdown_of(b"<p>x</p>", "a.html")
    finally:
        for _ in range(run.AT_ONCE):
            run._places.release()


def test_an_interpreter_that_is_not_there_is_said_so(settings: Any) -> None:
    settings.DOCUMENTS_PYTHON = "/nowhere/python"
    assert refused(documents.pdf(), "a.pdf").status == 415


def test_nothing_is_left_of_a_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path
    markdown_of(documents.simple()["i.zip"], "i.zip")
    refused(b"{}", "a.ipynb")
    assert list(tmp_path.iterdir()) == []


@needs_documents
@pytest.mark.usefixtures("with_documents")
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("sort", "make"),
    [("pdf", lambda: documents.pdf(pages=10_000)), ("xlsx", lambda: documents.xlsx(rows=400_000))],
)
def test_endless_documents_end_in_time(sort: Any, make: Callable[[], bytes], tmp_path: Path) -> None:
    """In 2 seconds here, in the 20 that all have when all cases are asked for."""
    seconds = run.SECONDS if CASES >= 500 else 2
    data = make()
    started = time.monotonic()
    # What is read in time is right as well.
    with contextlib.suppress(Unreadable):
        assert WORD in run.convert(sort, io.BytesIO(data), tmp_path, seconds).text
    assert time.monotonic() - started < seconds + 5


@needs_documents
@pytest.mark.usefixtures("with_documents")
def test_a_script_in_a_pdf_is_not_run() -> None:
    assert WORD in markdown_of(documents.pdf(script="app.alert(1)"), "a.pdf")


def mutated(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 20)):
        at = chance.randrange(len(changed))
        match chance.randrange(4):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                del changed[at : at + chance.randint(1, 50)]
            case 2:
                changed[at:at] = chance.randbytes(chance.randint(1, 50))
            case _:
                changed[at : at + 4] = b"\xff\xff\xff\x7f"
        if not changed:
            return b"\x00"
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_mutated_files_are_read_or_refused(settings: Any) -> None:
    """CONVERT_CASES says how many; 60 here, 500 are the full run. Without the extra only what needs none."""
    installed = os.access(PYTHON, os.X_OK)
    settings.DOCUMENTS_PYTHON = PYTHON if installed else ""
    corpus = {**documents.simple(), **(documents.heavy() if installed else {})}
    chance = random.Random(20261121)
    labels = sorted(corpus)
    for case in range(CASES):
        label = labels[case % len(labels)]
        try:
            assert isinstance(markdown_of(mutated(corpus[label], chance), label), str)
        except ConversionError as error:
            assert error.status in (415, 422), (case, label)  # noqa: PT017 - read or refused, both are right


def test_a_sort_leaves_its_file_at_the_beginning() -> None:
    file = io.BytesIO(documents.pdf())
    assert sort_of(file, "a.pdf") == ("pdf", "")
    assert file.tell() == 0
    with pytest.raises(Unsupported):
        sort_of(io.BytesIO(b"\x00\x00"), "a")


def test_tables_are_bounded() -> None:
    assert simple.from_table("") == ""
    assert simple.table([["a"], ["b", "c"]]) == "| a |  |\n| --- | --- |\n| b | c |"
