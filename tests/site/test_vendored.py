"""The browser's libraries are those that the manifest names, each with its licence, and the page asks for no others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from scripts import vendor

ROOT = Path(__file__).parents[2]
FOLDERS = (vendor.SERVED, vendor.FOR_TESTS)


@pytest.mark.parametrize("folder", FOLDERS, ids=["served", "for tests"])
def test_every_file_is_the_one_that_was_fetched(folder: Path) -> None:
    entries = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    told = {f"{entry['folder']}/{name}": digest for entry in entries for name, digest in entry["files"].items()}
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert found == told


def test_every_package_has_its_version_and_licence() -> None:
    entries = {
        entry["name"]: entry
        for folder in FOLDERS
        for entry in json.loads((folder / "manifest.json").read_text("utf-8"))
    }
    assert sorted(entries) == sorted(package.name for package in vendor.PACKAGES)
    for package in vendor.PACKAGES:
        entry = entries[package.name]
        assert (entry["version"], entry["licence"]) == (package.version, package.licence)
        assert set(entry["files"]) == {*package.files.values(), *(f"{name}.txt" for name in package.licences)}
        assert entry["integrity"].startswith("sha512-")
        for name in package.licences:
            words = (package.place / f"{name}.txt").read_text(encoding="utf-8")
            assert any(word in words for word in ("MIT", "Apache License", "Mozilla Public License", "BSD 3-Clause")), (
                name
            )


def test_nothing_points_to_a_file_that_is_not_there() -> None:
    """Django's hashed storage would refuse to collect it."""
    files = [path for folder in FOLDERS for path in folder.rglob("*.js")]
    assert len(files) > len(vendor.LANGUAGES)
    assert [path.name for path in files if b"sourceMappingURL" in path.read_bytes()] == []
