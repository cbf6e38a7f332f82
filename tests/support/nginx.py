"""nginx with the configuration that this project ships, in front of gateways of a test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.support import services
from tests.support.gateway import free_port

HEADER_SECONDS = 1
FAILOVER = "max_fails=1 fail_timeout=2s"


def _replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Nginx:
    """deploy/nginx.conf as it is, but for addresses, its folder, and a shorter deadline for headers."""

    def __init__(self, *upstreams: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="g4fsite-nginx-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        first, *more = upstreams
        others = " ".join(f"server 127.0.0.1:{port} {FAILOVER};" for port in more)
        text = _replaced(
            (services.ROOT / "deploy/nginx.conf").read_text(),
            ("server gateway:1337 ", f"{others} server 127.0.0.1:{first} "),
            ("listen 8080;", f"listen 127.0.0.1:{self.port};"),
            ("client_header_timeout 20s;", f"client_header_timeout {HEADER_SECONDS}s;"),
            ("access_log /dev/stdout plain;", f"access_log {self.folder}/access.log plain;"),
        )
        self.config = self.folder / "nginx.conf"
        self.config.write_text(text.replace("/tmp/nginx", f"{self.folder}/nginx"))
        # As root it would give up its rights, and with them its folder.
        user = "user root;" if os.getuid() == 0 else ""
        with (self.folder / "error.log").open("w") as log:
            self.process = subprocess.Popen(
                [services.NGINX, "-c", str(self.config), "-p", str(self.folder), "-g", f"daemon off; {user}"],
                stderr=log,
            )

    @property
    def log(self) -> str:
        return (self.folder / "access.log").read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGQUIT)
        code = self.process.wait(20)
        shutil.rmtree(self.folder)
        return code
