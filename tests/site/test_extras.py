"""What can be installed besides: `make run EXTRAS="..."` installs it with hashes and knows what there is."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.services import ROOT

EXTRAS = sorted(path.stem.removeprefix("requirements-") for path in ROOT.glob("requirements-*.in"))
EXTRAS.remove("dev")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_is_pinned_with_hashes(extra: str) -> None:
    named = re.findall(
        r"^([A-Za-z0-9_.-]+)[^#\n]*==(\S+)", (ROOT / f"requirements-{extra}.in").read_text(), re.MULTILINE
    )
    locked = (ROOT / f"requirements-{extra}.txt").read_text()
    assert named
    for name, version in named:
        assert f"{name}=={version} \\\n    --hash=sha256:" in locked, name


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_is_installed_when_it_is_asked_for(extra: str) -> None:
    asked = make("-W", "requirements.txt", "run", f"EXTRAS={extra}").stdout
    assert f"--require-hashes -r requirements-{extra}.txt" in asked
    assert f"requirements-{extra}.txt" not in make("-W", "requirements.txt", "run").stdout


def test_several_are_separated_by_spaces_or_commas() -> None:
    for spelling in (f"{EXTRAS[0]} {EXTRAS[-1]}", f"{EXTRAS[0]},{EXTRAS[-1]}"):
        asked = make("-W", "requirements.txt", "install", f"EXTRAS={spelling}").stdout
        assert all(f"requirements-{extra}.txt" in asked for extra in (EXTRAS[0], EXTRAS[-1]))


def test_an_unknown_one_is_refused_by_a_sentence() -> None:
    refused = make("run", "EXTRAS=everything")
    assert refused.returncode == 2
    assert "There is no extra named everything. There are: " in refused.stderr
