"""`MarkItDown`: a document is sent as if it were a recording, and comes back as Markdown."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.models import ApiKey, UsageEvent
from gateway.usage import writer
from tests.people import alice
from tests.support.gateway import LiveGateway
from tests.support.openai_schema import check_error
from tests.support.provider import ScriptedProvider
from tests.support.sounds import wav

PAGE = b"<html><body><h1>Plans</h1><p>Buy <b>milk</b>.</p><script>alert(1)</script></body></html>"


def post(gateway: LiveGateway, path: str, file: Any, headers: Any = None, **data: str) -> Any:
    return gateway.http.post(path, data=data, files={"file": file}, headers=headers or gateway.auth(), timeout=60)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/v1/audio/transcriptions", {"provider": "MarkItDown", "model": "any"}),
        ("/v1/audio/transcriptions", {"provider": "markitdown"}),
        ("/api/MarkItDown/audio/transcriptions", {}),
        ("/api/markitdown", {}),
    ],
)
def test_a_page_becomes_markdown(gateway: LiveGateway, path: str, data: dict[str, str]) -> None:
    answer = post(gateway, path, ("plans.html", PAGE, "text/html"), **data)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert "# Plans" in body["text"]
    assert "alert" not in body["text"]
    assert (body["provider"], body["model"]) == ("MarkItDown", data.get("model"))


def test_plain_text_passes_and_the_answer_may_be_text(gateway: LiveGateway) -> None:
    answer = post(gateway, "/api/markitdown", ("a.txt", "Grüße".encode(), "text/plain"), response_format="text")
    assert (answer.text, answer.headers["content-type"]) == ("Grüße", "text/plain; charset=utf-8")
    client = gateway.client()
    found = client.audio.transcriptions.create(
        model="", file=("a.csv", b"a,b\n1,2\n", "text/csv"), extra_body={"provider": "MarkItDown"}
    )
    assert "1" in found.text
    writer.flush()
    assert not UsageEvent.objects.exists()


@pytest.mark.parametrize(
    ("file", "data", "status", "param"),
    [
        (("a.wav", wav(0.1), "audio/wav"), {}, 415, "file"),
        (("a.bin", bytes(100), "text/plain"), {}, 415, "file"),
        (("a.txt", b"", "text/plain"), {}, 400, "file"),
        (("a.txt", b"x", "text/plain"), {"response_format": "srt"}, 400, "response_format"),
        (("a.txt", b"x", "text/plain"), {"response_format": "xml"}, 400, "response_format"),
        (("a.txt", b"x", "text/plain"), {"stream": "true"}, 400, "stream"),
    ],
)
def test_faults_name_their_parameter(gateway: LiveGateway, file: Any, data: Any, status: int, param: str) -> None:
    answer = post(gateway, "/api/markitdown", file, **data)
    assert answer.status_code == status, answer.text
    assert check_error(answer.json())["param"] == param


def test_keys_limits_and_names_hold(gateway: LiveGateway, provider: ScriptedProvider) -> None:
    file = ("a.txt", b"x", "text/plain")
    narrow = gateway.make_key(alice(), models=["another"])
    assert gateway.http.post("/api/markitdown", files={"file": file}).status_code == 401
    assert post(gateway, "/api/markitdown", file, gateway.auth(narrow)).status_code == 403
    assert gateway.key
    ApiKey.objects.update(requests_per_minute=1)
    gateway.reload()
    assert post(gateway, "/api/markitdown", file).status_code == 200
    assert post(gateway, "/api/markitdown", file).status_code == 429
    # An operator's own provider of that name is meant.
    ApiKey.objects.update(requests_per_minute=None)
    gateway.add_provider(provider, "m", name="MarkItDown")
    assert check_error(post(gateway, "/api/markitdown", file).json())["code"] == "unsupported_file_type"
    # Others of our names lead nowhere.
    assert gateway.http.post("/api/other", files={"file": file}, headers=gateway.auth()).status_code == 404
