"""Fetches the browser's libraries from npm at exact versions: run it after a version was changed here.

What it writes is committed, with licences and a manifest of checksums, so that nobody else needs npm.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVED = ROOT / "conversations/static/conversations/vendor"
FOR_TESTS = ROOT / "tests/browser/vendor"
# Django's hashed storage looks for the file that such a comment names; none is served.
SOURCE_MAP = re.compile(rb"\n?//# sourceMappingURL=\S+\s*\Z")
# Those that people ask for most; a block in another language stays plain.
LANGUAGES = (
    "bash c cpp csharp css diff dockerfile go ini java javascript json kotlin lua makefile markdown perl php "
    "powershell python r ruby rust scala sql swift typescript xml yaml"
).split()


@dataclass(frozen=True, slots=True)
class Package:
    """`files` by their path in the package, as they are called here. The licence is beside them."""

    name: str
    version: str
    licence: str
    files: dict[str, str]
    folder: Path = SERVED
    licences: tuple[str, ...] = ("LICENSE",)

    @property
    def place(self) -> Path:
        return self.folder / f"{self.name.replace('@', '').replace('/', '-')}-{self.version}"


PACKAGES = (
    Package(
        "preact", "11.2.0", "MIT", {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "hooks.js"}
    ),
    Package("htm", "3.1.1", "Apache-2.0", {"dist/htm.mjs": "htm.js"}),
    Package("@preact/signals", "2.11.4", "MIT", {"dist/signals.mjs": "signals.js"}),
    Package("@preact/signals-core", "1.14.5", "MIT", {"dist/signals-core.mjs": "signals-core.js"}),
    Package("marked", "18.2.1", "MIT", {"lib/marked.esm.js": "marked.js"}),
    Package(
        "dompurify", "3.4.18", "MPL-2.0 OR Apache-2.0", {"dist/purify.min.js": "purify.js"},
        licences=("LICENSE", "LICENSE-MPL"),
    ),
    Package(
        "@highlightjs/cdn-assets", "11.12.0", "BSD-3-Clause",
        {"es/core.min.js": "core.js", **{f"es/languages/{name}.min.js": f"{name}.js" for name in LANGUAGES}},
    ),
    Package("katex", "0.19.1", "MIT", {"dist/katex.min.js": "katex.js"}),
    Package("mermaid", "12.3.0", "MIT", {"dist/mermaid.min.js": "mermaid.js"}),
    Package("axe-core", "4.14.1", "MPL-2.0", {"axe.min.js": "axe.min.js"}, FOR_TESTS, ("LICENSE",)),
)  # fmt: skip


def fetched(package: Package, folder: Path) -> tuple[Path, str]:
    """The package unpacked, and npm's own checksum of it, which npm has compared."""
    wanted = f"{package.name}@{package.version}"
    told = subprocess.run(
        ["npm", "pack", "--json", "--silent", wanted], cwd=folder, check=True, capture_output=True, text=True
    )
    [packed] = json.loads(told.stdout)
    with tarfile.open(folder / packed["filename"]) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    return folder / "unpacked" / "package", packed["integrity"]


def take(package: Package) -> dict[str, object]:
    """Puts a package's files in their place; its entry in the manifest."""
    with tempfile.TemporaryDirectory() as scratch:
        source, integrity = fetched(package, Path(scratch))
        shutil.rmtree(package.place, ignore_errors=True)
        package.place.mkdir(parents=True)
        for path, name in {**package.files, **{name: f"{name}.txt" for name in package.licences}}.items():
            data = SOURCE_MAP.sub(b"\n", (source / path).read_bytes())
            (package.place / name).write_bytes(data)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(package.place.iterdir())}
    return {
        "name": package.name, "version": package.version, "licence": package.licence, "integrity": integrity,
        "folder": package.place.name, "files": files,
    }  # fmt: skip


def main() -> None:
    for folder in (SERVED, FOR_TESTS):
        shutil.rmtree(folder, ignore_errors=True)
        entries = [take(package) for package in PACKAGES if package.folder == folder]
        (folder / "manifest.json").write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
        print(f"{folder.relative_to(ROOT)}: {sum(len(entry['files']) for entry in entries)} files")  # type: ignore[arg-type, misc]


if __name__ == "__main__":
    main()
