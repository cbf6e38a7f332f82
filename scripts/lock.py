"""Pins and hashes: requirements.in → requirements.txt, and so for tools and for each extra (requirements-NAME.in).

Each direct dependency keeps its line of why above it. Run by `make lock`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ["--generate-hashes", "--allow-unsafe", "--strip-extras", "--quiet", "--no-header"]
OPTIONS += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.split("[", 1)[0]).lower()


def reasons(source: Path) -> dict[str, str]:
    found = {}
    for line in source.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9_.-]+(?:\[[^\]]*\])?)==\S+\s+# (.+)", line)
        if match:
            found[normal(match.group(1))] = match.group(2)
    return found


def lock(name: str) -> None:
    source, target = ROOT / f"{name}.in", ROOT / f"{name}.txt"
    command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, "-o", target.name, source.name]
    subprocess.run(command, cwd=ROOT, check=True)
    why, lines = reasons(source), [f"# Made by `make lock` from {source.name}; change that file."]
    for line in target.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9_.-]+)==", line)
        if match and normal(match.group(1)) in why:
            lines.append(f"# {normal(match.group(1))}: {why[normal(match.group(1))]}")
        lines.append(line)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


# The shortest name is first: the others are held to what it pins.
for name in sys.argv[1:] or sorted((path.stem for path in ROOT.glob("requirements*.in")), key=len):
    lock(name)
