"""Whether what an embedded engine needs is installed, as a sentence for the operator."""

from __future__ import annotations

import subprocess  # nosec B404 - asks the operator's own interpreter
import sys
from importlib.util import find_spec
from pathlib import Path

from django.conf import settings

HOW = "Start the server with `make run EXTRAS=local`"
NAMED = "LOCAL_ENGINE_PYTHON"
PROBE = "import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))"
SPEECH = {"espeakng_loader": "espeak-ng", "pocketsphinx": "pocketsphinx", "soundfile": "soundfile", "soxr": "soxr"}


def _has(*names: str) -> bool:
    """Whether the Python that runs the engines has these modules."""
    python = settings.LOCAL_ENGINE_PYTHON
    if python == sys.executable:
        return all(map(find_spec, names))
    try:
        command = [python, "-c", PROBE, *names]
        return subprocess.run(command, timeout=20, check=False, capture_output=True).returncode == 0  # noqa: S603 # nosec B603
    except (OSError, subprocess.TimeoutExpired):
        return False


def missing_engine() -> str:
    """Empty when llama.cpp can be run."""
    if _has("llama_cpp"):
        return ""
    return f"llama.cpp is not installed. {HOW}, or name a Python that has llama-cpp-python[server] in {NAMED}."


def missing_speech() -> str:
    """Empty when speech and its recognition can be used."""
    return "" if _has(*SPEECH) else f"Speech is not installed ({', '.join(SPEECH.values())}). {HOW}."


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
