"""An S3 server of the tests' own, on a socket, and storages in it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support import services
from tests.support.gateway import free_port

ACCESS_KEY, SECRET_KEY = "tests-access-key", "tests-marked-secret-key"
BUCKET = "files"


class S3Server:
    """Started once; what tests put there is told apart by prefixes."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "s3.log"
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        command = [str(services.S3_PYTHON.with_name("moto_server")), "-H", "127.0.0.1", "-p", str(self._port)]
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                httpx.put(f"{self.url}/{BUCKET}", timeout=5).raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.1)
            else:
                return self
        raise AssertionError(f"the S3 server did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait(10)

    def environment(self, prefix: str = "") -> dict[str, str]:
        """The settings of a gateway that keeps its files here."""
        return {
            "MEDIA_STORAGE": "s3",
            "S3_BUCKET": BUCKET,
            "S3_ENDPOINT": self.url,
            "S3_PREFIX": prefix,
            "S3_ACCESS_KEY": ACCESS_KEY,
            "S3_SECRET_KEY": SECRET_KEY,
        }

    def storage(self, prefix: str) -> dict[str, Any]:
        """The same for this process: an entry of Django's STORAGES."""
        options = {
            "bucket_name": BUCKET,
            "location": prefix,
            "endpoint_url": self.url,
            "region_name": "us-east-1",
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
        }
        return {"BACKEND": "media.s3.ObjectStorage", "OPTIONS": options}
