"""Runs a script of tests with node over a gateway."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable

from tests.support.gateway import GatewayProcess, LiveGateway
from tests.support.services import ROOT


def run(gateway: GatewayProcess | LiveGateway, models: Iterable[str], script: str, **environment: str) -> int:
    """How many tests of a script in tests/clients/node passed; fails with its report when one did not."""
    surroundings = {
        "GATEWAY_URL": gateway.url,
        "GATEWAY_KEY": gateway.key,
        "GATEWAY_MODELS": ",".join(models),
        "PATH": os.environ["PATH"],
        **environment,
    }
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", script],
        cwd=ROOT / "tests/clients/node",
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert found
    return int(found[1])
