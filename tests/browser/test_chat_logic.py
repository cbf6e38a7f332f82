"""The chat page's logic that needs no browser, under node's own test runner."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.support.services import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="install node 20 or later")


def test_the_pages_logic() -> None:
    files = sorted(str(path) for path in (ROOT / "tests/node").glob("*.test.mjs"))
    command = ["node", "--test", "--test-reporter=tap", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert found
    assert int(found[1]) >= 25
