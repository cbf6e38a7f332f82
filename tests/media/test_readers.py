"""The end of a server whose files are still being read, slowly."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

KEEP = """
from django.contrib.auth.models import User
from media.links import signed_url
from media.store import keep
stored = keep(User.objects.get().pk, b"0123456789abcdef" * (1500 * 1024), label="a.txt", source="upload")
print("URL", signed_url(stored, ""))
"""


def test_readers_that_do_not_read_hold_no_stop_up(gateway_process: Any) -> None:
    gateway = gateway_process(STOP_GRACE_SECONDS="1")
    url = gateway.manage("shell", "-v", "0", "-c", KEEP).stdout.strip().rpartition("URL ")[2]
    parts = urlsplit(gateway.url)
    readers = [socket.create_connection((parts.hostname or "", parts.port or 0)) for _ in range(5)]
    for reader in readers:
        reader.sendall(f"GET {url} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert reader.recv(12) == b"HTTP/1.1 200"
    assert gateway.stop(timeout=25) == 0
    for reader in readers:
        reader.close()
