"""A picture that a model made, from the request to its end: on the file system and on an S3 server."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from media.models import StoredFile
from media.sweep import sweep
from tests.media.conftest import picture
from tests.people import person
from tests.support.gateway import GatewayProcess, LiveGateway
from tests.support.pictures import images
from tests.support.provider import ScriptedProvider
from tests.support.s3 import S3Server

ASK = {"model": "m", "prompt": "A red fox", "n": 2}
LARGE = (900, 600)


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code in (200, 206), answer.text
    return Image.open(BytesIO(answer.content))


def check_pictures(gateway: LiveGateway | GatewayProcess, urls: list[str], size: tuple[int, int]) -> None:
    """What the addresses of an answer open: for whoever has them, and for the owner."""
    for url in urls:
        whole = gateway.http.get(url)
        assert opened(whole).size == size
        assert whole.headers["content-type"] == "image/png"
        assert whole.headers["cache-control"] == "private, max-age=31536000, immutable"
        part = gateway.http.get(url, headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole.content[10:20])
        assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
        tail = gateway.http.get(url, headers={"range": "bytes=-7"})
        assert tail.content == whole.content[-7:]
        assert gateway.http.get(url, headers={"range": f"bytes={len(whole.content)}-"}).status_code == 416
        assert gateway.http.get(url, headers={"if-none-match": whole.headers["etag"]}).status_code == 304
        assert gateway.http.head(url).headers["content-length"] == str(len(whole.content))
        plain = url.partition("?")[0]
        assert gateway.http.get(plain).status_code == 401
        for route in ("media", "images"):
            assert gateway.http.get(plain.replace("media", route), headers=gateway.auth()).content == whole.content
        for _ in range(2):
            small = gateway.http.get(plain.replace("media", "thumbnail"), headers=gateway.auth())
            assert max(opened(small).size) == min(400, max(size))


def test_it_is_made_read_and_deleted(
    gateway: LiveGateway, provider: ScriptedProvider, stored_paths: Callable[[], list[str]]
) -> None:
    provider.enqueue(images(picture("PNG", LARGE), picture("PNG", LARGE, mark=(9, 9, 9))))
    gateway.add_provider(provider, "m")
    answer = gateway.http.post("/v1/images/generations", headers=gateway.auth(), json=ASK)
    urls = [item["url"] for item in answer.json()["data"]]
    assert len(stored_paths()) == 2
    check_pictures(gateway, urls, LARGE)
    # Each with its thumbnail, made once.
    assert len(stored_paths()) == 4
    others = gateway.auth(gateway.make_key(person("other")))
    for url in urls:
        plain = url.partition("?")[0]
        for route in ("media", "images", "thumbnail"):
            assert gateway.http.get(plain.replace("media", route), headers=others).status_code == 404
    first, second = (StoredFile.objects.get(name=urlsplit(url).path.rpartition("/")[2]) for url in urls)
    first.delete()
    assert [gateway.http.get(url).status_code for url in urls] == [404, 200]
    thumbnail = f"/thumbnail/{first.name}"
    assert gateway.http.get(thumbnail, headers=gateway.auth()).status_code == 404
    second.owner.delete()
    gateway.reload()
    assert gateway.http.get(urls[1]).status_code == 404
    deadline = time.monotonic() + 20
    while stored_paths() and time.monotonic() < deadline:
        sweep()
        time.sleep(0.1)
    assert stored_paths() == []


def test_an_edit_reads_what_was_made(
    gateway: LiveGateway, provider: ScriptedProvider, stored_paths: Callable[[], list[str]]
) -> None:
    provider.enqueue(images(picture()), images(picture(mark=(7, 7, 7))))
    gateway.add_provider(provider, "m")
    made = gateway.http.post("/v1/images/generations", headers=gateway.auth(), json=ASK).json()["data"][0]["url"]
    body = {"model": "m", "prompt": "bluer", "images": [{"image_url": made}]}
    answer = gateway.http.post("/v1/images/edits", headers=gateway.auth(), json=body)
    check_pictures(gateway, [answer.json()["data"][0]["url"]], (64, 48))
    assert gateway.http.get(made).content in provider.requests[1].body
    found = gateway.http.get("/search/image", headers={**gateway.auth(), "accept": "application/json"})
    assert len(found.json()["data"]) == 2, found.json()
    assert len(stored_paths()) >= 2


DEMO = """
from gateway.models import Provider, ProviderModel
row = Provider.objects.create(name="Demo", adapter="demo", auth_style="none")
ProviderModel.objects.create(provider=row, public_id="m")
"""
DELETE = """
from media.models import StoredFile
from media.sweep import sweep
for stored in StoredFile.objects.all(): stored.delete()
sweep()
"""


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.timeout(120)
def test_a_gateway_that_is_set_up_for_s3_keeps_what_it_makes_there(gateway_process: Any, s3_server: S3Server) -> None:
    gateway: GatewayProcess = gateway_process(**s3_server.environment("made"))
    gateway.manage("shell", "-v", "0", "-c", DEMO)

    def listed() -> int:
        return httpx.get(f"{s3_server.url}/files?prefix=made/").text.count("<Key>")

    deadline = time.monotonic() + 20
    ask = {"json": {**ASK, "size": "512x512"}, "headers": gateway.auth()}
    while (answer := gateway.http.post("/v1/images/generations", **ask)).status_code == 404:  # type: ignore[arg-type]
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)
    urls = [item["url"] for item in answer.json()["data"]]
    assert listed() == len(urls) == 2
    check_pictures(gateway, urls, (512, 512))
    assert listed() == 4
    assert not [path for path in (gateway.folder / "media").rglob("*") if path.is_file()]
    gateway.manage("shell", "-v", "0", "-c", DELETE)
    assert [gateway.http.get(url).status_code for url in urls] == [404, 404]
    assert listed() == 0
