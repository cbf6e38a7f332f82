"""Files that were changed at random, put into a bucket of a running server: each is read or refused, and it lives on.

CONVERT_CASES says how many there are of all converters together: 28 here, 7,000 are 500 of each (security.md, C38).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.media.conftest import picture
from tests.media.test_convert import mutated
from tests.support import documents
from tests.support.converting import PYTHON
from tests.support.gateway import GatewayProcess

CASES = int(os.environ.get("CONVERT_CASES", "28"))
# What needs no converter is in no danger of one.
PLAIN = {"a.txt", "b.md", "c.py", "d.log", "e.json", "j.svg"}


def corpus() -> dict[str, bytes]:
    found = {**documents.simple(), "s.png": picture(), "t.jpg": picture("JPEG")}
    if os.access(PYTHON, os.X_OK):
        found |= documents.heavy()
    return {label: data for label, data in found.items() if label not in PLAIN}


def spoilt(label: str, data: bytes, chance: random.Random) -> bytes:
    """Texts stay texts, or no converter would see them."""
    changed = mutated(data, chance)
    if not label.endswith((".csv", ".html", ".ipynb")):
        return changed
    return changed.decode("utf-8", "ignore").replace("\x00", "").encode() or b"x"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_server_outlives_mutated_files(gateway_process: Callable[..., GatewayProcess]) -> None:
    python = PYTHON if os.access(PYTHON, os.X_OK) else ""
    gateway = gateway_process(DOCUMENTS_PYTHON=python, MEDIA_QUOTA_FILES="0")
    assert gateway.process is not None
    pid = gateway.process.pid
    files, chance = corpus(), random.Random(20261122)
    labels = sorted(files)
    cases = [(at, labels[at % len(labels)]) for at in range(CASES)]
    changed = [(at, label, spoilt(label, files[label], chance)) for at, label in cases]

    def put(case: tuple[int, str, bytes]) -> tuple[str, int]:
        at, label, data = case
        url = f"{gateway.url}/files/b{at % 8}"
        answer = httpx.post(url, files={"files": (label, data)}, headers=gateway.auth(), timeout=120)
        return label.rpartition(".")[2], answer.status_code

    with ThreadPoolExecutor(3) as pool:
        told = Counter(pool.map(put, changed))
    print(f"{CASES} files: {sorted(told.items())}")
    assert {status for _, status in told} <= {200, 415, 422, 413}, told
    for at in range(8):
        assert gateway.http.get(f"/files/b{at}", headers=gateway.auth(), timeout=60).status_code in (200, 404)
    assert (gateway.process.pid, gateway.running) == (pid, None)
    for path in ("/health", "/readyz"):
        assert gateway.http.get(path).status_code == 200


def test_the_corpus_has_a_file_for_each_converter() -> None:
    kinds = {label.rpartition(".")[2] for label in corpus()}
    simple = {"csv", "html", "ipynb", "zip", "odt", "ods", "odp", "png", "jpg"}
    heavy = {"pdf", "docx", "xlsx", "pptx", "epub"}
    assert kinds == simple | (heavy if os.access(PYTHON, os.X_OK) else set())
