"""A gateway that keeps its files on an S3 server: by settings alone, and when that server is away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.commands import manage
from tests.support.s3 import SECRET_KEY, S3Server

pytestmark = pytest.mark.s3
KEEP = """
from django.contrib.auth.models import User
from media.links import signed_url
from media.store import keep
data = b"some words, " * 1000
stored = keep(User.objects.get().pk, data, label="a.txt", source="upload")
print("URL", signed_url(stored, ""))
"""


def test_files_are_on_the_server_and_nowhere_else(gateway_process: Any, s3_server: S3Server) -> None:
    gateway = gateway_process(**s3_server.environment("one/place"))
    said = gateway.manage("shell", "-v", "0", "-c", KEEP)
    url = said.stdout.strip().rpartition("URL ")[2]
    assert url.startswith("/media/"), said.stderr
    assert gateway.http.get(url).content == b"some words, " * 1000
    assert gateway.http.get(url.split("?")[0], headers={**gateway.auth(), "range": "bytes=12-15"}).content == b"some"
    assert not [path for path in (gateway.folder / "media").rglob("*") if path.is_file()]
    listing = httpx.get(f"{s3_server.url}/files?prefix=one/place/").text
    assert listing.count("<Key>") == 1
    assert SECRET_KEY not in gateway.output + said.stderr


def test_a_server_that_is_away_is_503_and_leaves_nothing(gateway_process: Any, tmp_path: Path) -> None:
    with S3Server(tmp_path) as server:
        gateway = gateway_process(**server.environment())
        url = gateway.manage("shell", "-v", "0", "-c", KEEP).stdout.strip().rpartition("URL ")[2]
        assert gateway.http.get(url).status_code == 200
    answer = gateway.http.get(url)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "storage_unavailable"
    refused = gateway.manage("shell", "-v", "0", "-c", KEEP.replace("some", "other"))
    assert "StorageAway" in refused.stderr
    assert SECRET_KEY not in gateway.output + refused.stderr
    assert gateway.http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"S3_BUCKET": ""}, "needs S3_BUCKET"),
        ({"S3_BUCKET": "a/b"}, "needs S3_BUCKET"),
        ({"S3_ENDPOINT": "s3.example.com"}, "S3_ENDPOINT must be scheme, host and port"),
        ({"S3_ENDPOINT": "https://user:hidden@s3.example.com"}, "S3_ENDPOINT must be scheme, host and port"),
        ({"S3_SECRET_KEY": ""}, "Set both S3_ACCESS_KEY and S3_SECRET_KEY"),
    ],
)
def test_bad_settings_end_the_start_with_a_sentence(gateway_template: Path, change: Any, said: str) -> None:
    good = {"MEDIA_STORAGE": "s3", "S3_BUCKET": "files", "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"}
    ran = manage(gateway_template, "api", **{**good, **change})
    assert (ran.code, ran.err.strip().count("\n")) == (1, 0)
    assert said in ran.err
    assert "hidden" not in ran.err
