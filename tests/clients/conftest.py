"""The gateway over obliging providers of every protocol: a process of its own, started once for all tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.dialects import ObligingProvider
from tests.support.gateway import GatewayProcess
from tests.support.services import ROOT


@dataclass
class Obliged:
    """Its models are named as the protocols."""

    gateway: GatewayProcess
    provider: ObligingProvider


@pytest.fixture(scope="session")
def obliged(gateway_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Obliged]:
    with ObligingProvider() as provider:
        gateway = GatewayProcess(gateway_template, tmp_path_factory.mktemp("obliged") / "data")
        connect = [sys.executable, "-m", "tests.support.dialects", str(provider.port)]
        subprocess.run(connect, env=gateway.environment, cwd=ROOT, check=True, timeout=60)
        gateway.start()
        try:
            yield Obliged(gateway, provider)
            gateway.stop()
        finally:
            gateway.kill()
