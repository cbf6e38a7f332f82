"""Whether what an embedded engine needs is installed, as a sentence for the operator."""

from __future__ import annotations

import subprocess  # nosec B404 - asks the operator's own interpreter
import sys
from importlib.util import find_spec
from pathlib import Path

from django.conf import settings

HOW = "Start the server with `make run EXTRAS=local`"
PROBE = "import importlib.util, sys; sys.exit(0 if importlib.util.find_spec('llama_cpp') else 1)"


def missing_engine() -> str:
    """Empty when llama.cpp can be run."""
    python = settings.LOCAL_ENGINE_PYTHON
    if python == sys.executable:
        found = find_spec("llama_cpp") is not None
    else:
        try:
            command = [python, "-c", PROBE]
            found = subprocess.run(command, timeout=20, check=False, capture_output=True).returncode == 0  # noqa: S603 # nosec B603
        except (OSError, subprocess.TimeoutExpired):
            found = False
    if found:
        return ""
    other = "or name a Python that has llama-cpp-python[server] in LOCAL_ENGINE_PYTHON"
    return f"llama.cpp is not installed. {HOW}, {other}."


def missing_speech() -> str:
    """Empty when speech and its recognition can be used."""
    wanted = {"espeakng_loader": "espeak-ng", "pocketsphinx": "pocketsphinx"}
    missing = [title for name, title in wanted.items() if find_spec(name) is None]
    return f"Not installed: {' and '.join(missing)}. {HOW}." if missing else ""


def problem_with(path: str) -> str:
    """Why a file cannot be used as a model; empty when it can."""
    found = Path(path)
    if not found.is_absolute():
        return "Name the GGUF file with its whole path."
    try:
        with found.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
    except (OSError, ValueError):
        is_gguf = False
    return missing_engine() if is_gguf else "There is no GGUF file that can be read at this path."
