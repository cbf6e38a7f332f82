"""LangChain's standard chat-model tests, really installed, through the gateway over providers of each protocol."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.clients.conftest import Obliged
from tests.support import services
from tests.support.dialects import PROTOCOLS
from tests.support.gateway import GatewayProcess, LiveGateway

pytestmark = [pytest.mark.slow, pytest.mark.langchain, pytest.mark.timeout(120)]
HERE = Path(__file__).parent
STANDARD = 43
# Their protocols have no word for it: 400, as tests/clients/python/test_protocols.py shows.
WITHOUT_STOP = ("openai_responses", "copilot")


def run(
    gateway: GatewayProcess | LiveGateway, models: Iterable[str], deselect: Iterable[str] = (), keywords: str = ""
) -> dict[str, int]:
    """How many of the standard tests passed for each model. Fails with the report when one of them did not."""
    services.require("langchain")
    options = ["-v", "-p", "no:cacheprovider", "-rf", "--tb=short", "-o", "asyncio_mode=auto", "--benchmark-disable"]
    places = ["-c", os.devnull, "--rootdir", HERE, "--confcutdir", HERE]
    left_out = [item for test in deselect for item in ("--deselect", f"standard_chat.py::{test}")]
    left_out += ["-k", keywords]
    done = subprocess.run(
        [services.LANGCHAIN_PYTHON, "-m", "pytest", *options, *places, *left_out, HERE / "standard_chat.py"],
        cwd=HERE,
        env={
            "PATH": os.environ["PATH"],
            "GATEWAY_URL": gateway.url,
            "GATEWAY_KEY": gateway.key,
            "GATEWAY_MODELS": ",".join(models),
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-16000:] + done.stderr[-2000:]
    passed = re.findall(r"::Test_(\S+)::\S+.* PASSED", done.stdout)
    return {name: passed.count(name) for name in set(passed)}


def test_the_standard_tests_pass_over_each_protocol(obliged: Obliged) -> None:
    passed = run(obliged.gateway, PROTOCOLS, [f"Test_{name}::test_stop_sequence" for name in WITHOUT_STOP])
    assert passed == {name: STANDARD - (name in WITHOUT_STOP) for name in PROTOCOLS}
    assert all(len(obliged.provider.asked(protocol)) >= STANDARD for protocol in PROTOCOLS)
