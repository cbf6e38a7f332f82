"""llama.cpp's own OpenAI-compatible server with a tiny random model, started once for all tests here."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import services
from tests.support.gateway import free_port

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    services.require("engine")
    model = tmp_path_factory.mktemp("model") / "tiny.gguf"
    subprocess.run([str(services.ENGINE_PYTHON), str(HERE / "make_gguf.py"), str(model)], check=True, timeout=60)
    return model


@pytest.fixture(scope="session")
def engine_url(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    python, folder, port = str(services.ENGINE_PYTHON), tmp_path_factory.mktemp("engine"), free_port()
    model = tiny_gguf
    command = [python, "-m", "llama_cpp.server", "--model", str(model), "--model_alias", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "2048", "--n_threads", "1"]
    command += ["--embedding", "true"]
    log = folder / "engine.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/v1", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 45
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{url}/models", timeout=2).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"llama.cpp's server did not start:\n{log.read_text(errors='replace')[-2000:]}")
