"""Certificates of providers: one that is trusted and fits the name is spoken to, every other hears nothing of us."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import ssl
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.calls import BODY, whole
from tests.support.peer import peer
from tests.support.services import ROOT

NOW = dt.datetime.now(dt.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    made = x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(_name(issuer))
    made = made.public_key(key.public_key()).serial_number(x509.random_serial_number())
    return made.not_valid_before(NOW - dt.timedelta(days=9)).not_valid_after(NOW + dt.timedelta(days=days))


class Authority:
    """A certificate authority of the test's own; `path` is what a client trusts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        basic = x509.BasicConstraints(ca=True, path_length=0)
        made = _builder("authority", "authority", self._key, 9).add_extension(basic, critical=True)
        self.path = folder / "authority.pem"
        self.path.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def server(self, address: str = "127.0.0.1", days: int = 9) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        made = _builder("server", "authority", key, days).add_extension(names, critical=False)
        pair = self._folder / "server.pem"
        plain = serialization.NoEncryption()
        pair.write_bytes(
            made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        return context


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
