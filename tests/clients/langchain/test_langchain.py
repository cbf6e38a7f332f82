"""LangChain's standard chat-model tests, really installed, through the gateway."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support import obliging, services
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

pytestmark = [pytest.mark.slow, pytest.mark.langchain]
HERE = Path(__file__).parent


def run(gateway: LiveGateway, model: str, **environment: str) -> tuple[int, str]:
    """How many of the standard tests passed, and the report. Fails when one of them did not."""
    services.require("langchain")
    options = ["-q", "-p", "no:cacheprovider", "-rfs", "-o", "asyncio_mode=auto", "--benchmark-disable"]
    places = ["-c", os.devnull, "--rootdir", HERE, "--confcutdir", HERE]
    done = subprocess.run(
        [services.LANGCHAIN_PYTHON, "-m", "pytest", *options, *places, HERE / "standard_chat.py"],
        cwd=HERE,
        env={
            "PATH": os.environ["PATH"],
            "GATEWAY_URL": gateway.url,
            "GATEWAY_KEY": gateway.key,
            "GATEWAY_MODEL": model,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    found = re.search(r"(\d+) passed", done.stdout)
    return int(found[1]) if found else 0, done.stdout


def test_the_standard_tests_pass(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    provider.on("obliging", obliging.openai)
    gateway.add_provider(provider, "obliging")
    passed, report = run(gateway, "obliging")
    assert passed >= 43, report
