"""Pictures, sounds and documents of a request become checked bytes, or a 400 that names the part."""

from __future__ import annotations

import asyncio
import base64
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from pytest_django import Settings

from gateway.adapters.inputs import Embedded, embedded, inlined, retyped
from gateway.chat import ChatRequest
from gateway.errors import UpstreamRejected
from gateway.surfaces.openai.parser import parse_chat
from media.kinds import AUDIO, IMAGES, PDF, TEXTS, VIDEOS
from tests.support.calls import whole
from tests.support.peer import Peer, peer

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt "
ACCEPTED = {"image_url": IMAGES, "video_url": VIDEOS, "input_audio": AUDIO, "file": TEXTS | {PDF}}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{b64(data)}"


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def asked(*parts: Any, **fields: Any) -> ChatRequest:
    first = {"role": "system", "content": "plain"}
    body = {"model": "m", "messages": [first, {"role": "user", "content": list(parts), **fields}]}
    return parse_chat(orjson.dumps(body))


def inline(chat: ChatRequest, **more: Any) -> Any:
    """The parts of the second message afterwards."""
    return asyncio.run(inlined(chat, ACCEPTED, **more)).body["messages"][1]["content"]


def refused(*parts: Any) -> UpstreamRejected:
    with pytest.raises(UpstreamRejected) as caught:
        inline(asked(*parts))
    assert caught.value.status == 400
    return caught.value


@pytest.fixture
def near(settings: Settings) -> Any:
    """Lets the fetcher reach a peer of the test's."""

    def allow(*servers: Peer) -> None:
        settings.FETCH_PORTS = frozenset(urlsplit(server.base_url).port or 0 for server in servers)
        settings.FETCH_PRIVATE_HOSTS = frozenset({"127.0.0.1"})

    return allow


def test_a_request_without_files_is_the_same_one() -> None:
    chat = asked({"type": "text", "text": "a"}, {"type": "image_url_of_ours"})
    assert asyncio.run(inlined(chat, ACCEPTED)) is chat


def test_the_type_is_that_of_the_bytes_and_the_rest_of_a_part_stays() -> None:
    part = {**image(data_url(PNG, "image/jpeg"), detail="low"), "cache_control": {"type": "ephemeral"}}
    assert inline(asked({"type": "text", "text": "a"}, part)) == [
        {"type": "text", "text": "a"},
        {**image(data_url(PNG), detail="low"), "cache_control": {"type": "ephemeral"}},
    ]


@pytest.mark.parametrize(
    "url",
    [
        f"data:;base64,{b64(PNG)}",
        f"DATA:image/png;charset=x;BASE64,{b64(PNG)}",
        f"data:image/png;base64,{b64(PNG).rstrip('=')}",
        f"data:image/png;base64,{base64.urlsafe_b64encode(PNG).decode()}",
        "data:image/png;base64," + "\r\n".join(b64(PNG)[at : at + 76] for at in range(0, 400, 76)),
        "data:image/png," + "".join(f"%{byte:02x}" for byte in PNG),
    ],
)
def test_data_urls_of_every_kind_are_read(url: str) -> None:
    assert inline(asked(image(url))) == [image(data_url(PNG))]


def test_sounds_and_documents_are_read_too() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": b64(WAV), "format": "mp3"}}
    page = {"type": "file", "file": {"filename": "a.pdf", "file_data": data_url(b"%PDF-1.7", "x/y")}}
    bare = {"type": "file", "file": {"file_data": b64(b"a,b")}}
    table = {"type": "file", "file": {"file_data": data_url(b"a,b", "text/csv")}}
    stored = {"type": "file", "file": {"file_id": "file-1"}}
    assert inline(asked(sound, page, bare, table, stored)) == [
        {"type": "input_audio", "input_audio": {"data": b64(WAV), "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": data_url(b"%PDF-1.7", "application/pdf")}},
        {"type": "file", "file": {"file_data": data_url(b"a,b", "text/plain")}},
        table,
        stored,
    ]


def test_pictures_that_a_model_drew_are_checked_as_well() -> None:
    chat = asked({"type": "text", "text": "a"}, images=[image(data_url(PNG, "image/webp"))])
    assert asyncio.run(inlined(chat, ACCEPTED)).body["messages"][1]["images"] == [image(data_url(PNG))]


@pytest.mark.parametrize(
    ("part", "path", "text"),
    [
        (image("data:image/png;base64,%%%"), "image_url.url", "base64"),
        (image("data:image/png;base64,AAAAA"), "image_url.url", "base64"),
        (image(data_url(b"<svg/>", "image/png")), "image_url.url", "text/plain"),
        (image(data_url(b"MZ\x00\x00")), "image_url.url", "not accepted"),
        (image("data:image/png;base64,"), "image_url.url", "not accepted"),
        (image("data:"), "image_url.url", "Expected"),
        (image("data:image/png," + "%41" * 500_000), "image_url.url", "must be base64"),
        (image("ftp://example.com/"), "image_url.url", "Expected"),
        (image("http://127.0.0.1/"), "image_url.url", "private"),
        (image("HTTP://127.0.0.1/"), "image_url.url", "private"),
        ({"type": "video_url", "video_url": {"url": 7}}, "video_url.url", "Expected"),
        ({"type": "input_audio", "input_audio": {"data": b64(PNG), "format": "wav"}}, "input_audio.data", "image/png"),
        ({"type": "input_audio", "input_audio": {"data": "?"}}, "input_audio.data", "base64"),
        ({"type": "file", "file": {"file_data": data_url(b"PK\x03\x04")}}, "file.file_data", "application/zip"),
    ],
)
def test_what_is_wrong_names_its_part(part: Any, path: str, text: str) -> None:
    error = refused({"type": "text", "text": "a"}, part)
    assert error.param == f"messages[1].content[1].{path}"
    assert error.code == ("invalid_image_url" if part["type"] == "image_url" else "invalid_value")
    assert text in error.message
    assert error.fallback


def sound(data: bytes, kind: str) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": b64(data), "format": kind}}


LONG = PNG + bytes(1_000_000)
MP3 = b"\xff\xfb\x90\x00" + bytes(200)


@pytest.mark.parametrize(
    ("part", "becomes"),
    [
        (image(data_url(PNG), detail="low"), None),
        (image(data_url(LONG)), None),
        (image("data:image/png;x=y;base64," + b64(PNG)), None),
        (image(data_url(LONG, "image/jpeg"), detail="low"), image(data_url(LONG), detail="low")),
        (image(data_url(b"\xff\xd8\xff", "image/jpg")), image(data_url(b"\xff\xd8\xff", "image/jpeg"))),
        (image("data:;base64," + b64(PNG)), image(data_url(PNG))),
        (image("data:image/png,%89PNG%0D%0A%1A%0A"), None),
        (image("https://images.example/a"), None),
        (image("file-1"), None),
        (sound(WAV, "wav"), None),
        (sound(WAV + bytes(500), "mp3"), sound(WAV + bytes(500), "wav")),
        (sound(MP3, "wav"), sound(MP3, "mp3")),
        (sound(MP3, "mpeg"), None),
        (sound(WAV, "a word of the provider's own"), None),
        (sound(b"\x1a\x45\xdf\xa3webm", "webm"), None),
        (sound(b"\x00\x01\x02\xf3" * 90, "pcm16"), None),
        ({"type": "input_audio", "input_audio": {"data": data_url(WAV, "audio/wav"), "format": "wav"}}, None),
        ({"type": "file", "file": {"file_data": data_url(b"PK\x03\x04")}}, None),
    ],
)
def test_a_look_at_the_beginning_sets_types_right(part: Any, becomes: Any) -> None:
    chat = asked({"type": "text", "text": "a"}, part)
    found = retyped(chat)
    assert (found is chat) is (becomes is None)
    assert found.body["messages"][1]["content"] == [{"type": "text", "text": "a"}, becomes or part]


@pytest.mark.parametrize(
    ("part", "path", "text"),
    [
        (image("data:image/png;base64,%%%"), "image_url.url", "base64"),
        (image("data:image/png;base64"), "image_url.url", "base64"),
        (image(f"data:image/png;{'x' * 2000};base64,{b64(PNG)}"), "image_url.url", "base64"),
        (image(data_url(b"<html>" * 90, "image/png")), "image_url.url", "text/plain"),
        (image(data_url(b"%PDF-1.7")), "image_url.url", "application/pdf"),
        (image(data_url(b"MZ\x00\x00" * 90)), "image_url.url", "not accepted"),
        (image("data:image/png,hello"), "image_url.url", "text/plain"),
        (sound(PNG, "wav"), "input_audio.data", "image/png"),
        (sound(b"\x00\x01\x02\xf3" * 90, "wav"), "input_audio.data", "not accepted"),
        (sound(b"words " * 90, "mp3"), "input_audio.data", "text/plain"),
        ({"type": "input_audio", "input_audio": {"data": "\u2603", "format": "mp3"}}, "input_audio.data", "base64"),
    ],
)
def test_a_look_at_the_beginning_finds_what_is_neither(part: Any, path: str, text: str) -> None:
    with pytest.raises(UpstreamRejected) as caught:
        retyped(asked({"type": "text", "text": "a"}, part))
    assert caught.value.param == f"messages[1].content[1].{path}"
    assert text in caught.value.message


def test_files_are_bounded_in_number_and_size(settings: Settings) -> None:
    assert "50 files" in refused(*[image(data_url(PNG))] * 51).message
    settings.FETCH_MAX_BYTES = len(PNG)
    assert len(inline(asked(*[image(data_url(PNG))] * 2))) == 2
    assert "together" in refused(*[image(data_url(PNG))] * 3).message
    assert "larger than" in refused(image(data_url(PNG + b"x"))).message


def test_web_addresses_are_fetched_once_and_some_are_kept(near: Any) -> None:
    async def scenario() -> None:
        async with peer(whole(PNG)) as server:
            near(server)
            url = f"{server.base_url}/a"
            chat = asked(image(url), image(url), image(data_url(PNG)), image("https://kept.example/"))
            found = await inlined(chat, ACCEPTED, keep=lambda url: url.startswith("https://kept."))
            assert found.body["messages"][1]["content"] == [image(data_url(PNG))] * 3 + [image("https://kept.example/")]
            assert server.requests == 1
            assert chat.body["messages"][1]["content"][0] == image(url)

    asyncio.run(scenario())


def test_a_file_that_cannot_be_fetched_names_its_part_and_stops_the_others(near: Any) -> None:
    async def scenario() -> None:
        async with peer(whole(b"", b"404 Not Found")) as bad, peer(whole(PNG)) as good:
            near(bad, good)
            with pytest.raises(UpstreamRejected) as caught:
                await inlined(asked(image(good.base_url), image(bad.base_url)), ACCEPTED)
            assert caught.value.param == "messages[1].content[1].image_url.url"
            assert "status 404" in caught.value.message

    asyncio.run(scenario())


def test_what_is_embedded_can_be_read_back() -> None:
    assert embedded("data:image/png;x=y;base64,AAAA") == Embedded("image/png", "AAAA")
    assert embedded("DATA:Image/PNG;Base64,AAAA") == Embedded("image/png", "AAAA")
    assert Embedded("image/png", "AAAA").url == "data:image/png;base64,AAAA"
    assert [embedded(url) for url in ("", "data:", "data:,x", "https://a.example/,x;base64")] == [None] * 4
