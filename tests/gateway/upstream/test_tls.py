"""Certificates of providers: one that is trusted and fits the name is spoken to, every other hears nothing of us."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from pathlib import Path

import pytest

from tests.support.calls import BODY, whole
from tests.support.certificates import Authority
from tests.support.peer import peer
from tests.support.services import ROOT


async def asked(tls: ssl.SSLContext, trusted: Path) -> tuple[str, list[bytes]]:
    """What one call came to, and the bodies that the server was sent."""
    async with peer(whole(b"over tls"), tls=tls) as found:
        environment = {**os.environ, "SSL_CERT_FILE": str(trusted), "PYTHONPATH": str(ROOT)}
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.ask_once", found.base_url,
            env=environment, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await program.communicate()
        return out.decode().strip(), [body for connection in found.connections for body in connection.bodies]


def test_a_trusted_certificate_is_spoken_to(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    assert asyncio.run(asked(authority.server(), authority.path)) == ("200 over tls", [BODY])


@pytest.mark.parametrize("wrong", ["authority", "name", "date"])
def test_no_other_certificate_is(tmp_path: Path, wrong: str) -> None:
    authority = Authority(tmp_path)
    trusted = authority.path
    if wrong == "authority":
        (tmp_path / "other").mkdir()
        trusted = Authority(tmp_path / "other").path
    server = authority.server("127.0.0.2" if wrong == "name" else "127.0.0.1", -1 if wrong == "date" else 9)
    said, bodies = asyncio.run(asked(server, trusted))
    assert said.startswith("502 ")
    assert bodies == []
