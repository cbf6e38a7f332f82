"""Every route of files, of cookies and of speech for pages, with every method, asked by the owner, by another user and
by nobody: the other two see nothing of the owner's, and change nothing."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from django.core import serializers
from django.urls import URLPattern

from gateway.models import Credential, IdempotentAnswer, UsageEvent
from gateway.surfaces.audio import urls as audio_urls
from gateway.surfaces.files import urls as files_urls
from gateway.surfaces.openai import urls as openai_urls
from gateway.usage import writer
from media import urls as media_urls
from media.links import signed_url
from media.models import Blob, Bucket, Document, Quota, StoredFile
from tests.media.conftest import picture
from tests.people import PASSWORD, alice, bob
from tests.support.gateway import LiveGateway
from tests.support.pictures import images
from tests.support.provider import ScriptedProvider
from tests.support.sounds import speaking

MARK = "quetzal"
WORDS = f"All about the {MARK}."
READING = ("GET", "HEAD", "OPTIONS")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "DELETE")
WHO = ("owner", "other", "nobody", "wrong key", "page of another site")
PATTERN_WORDS = ("media", "images", "thumbnail", "files", "search", "upload_cookies", "synthesize")
COOKIES = json.dumps([{"domain": "example.com", "name": "a", "value": MARK}]).encode()

# Reading what is somebody's own: the other is told what is told of nothing, and without credentials it is 401.
OWN = {"GET": (200, 404, 401), "HEAD": (200, 404, 401)}
# Neither of the two is staff, and only staff learn what there is.
STAFF = dict.fromkeys(METHODS, (403, 403, 401))
# Each user has a bucket of that name, or none.
BUCKET = {**OWN, "POST": (200, 200, 401), "DELETE": (200, 404, 401)}
STREAM = {**OWN}
TABLE: dict[str, dict[str, tuple[int, int, int]]] = {
    "/media/{picture}": OWN,
    "/images/{picture}": OWN,
    "/thumbnail/{picture}": OWN,
    "/media/{text}": OWN,
    "/images/{text}": OWN,
    "/thumbnail/{text}": OWN,
    "/files/{bucket}/media/{photo}": OWN,
    "/files/{bucket}/thumbnail/{photo}": OWN,
    "/files/{bucket}/other/{photo}": {"GET": (400, 400, 401), "HEAD": (400, 400, 401)},
    "/files/{bucket}": BUCKET,
    "/backend-api/v2/files/{bucket}": BUCKET,
    "/files/{bucket}/stream": STREAM,
    "/backend-api/v2/files/{bucket}/stream": STREAM,
    "/search/{mark}": {"GET": (302, 404, 401), "HEAD": (302, 404, 401)},
    "/v1/upload_cookies": STAFF,
    "/backend-api/v2/upload_cookies": STAFF,
    # What is spoken is nobody's: both may ask, and pay each for themselves.
    "/backend-api/v2/synthesize/Acme?text={mark}": {"GET": (200, 200, 401)},
}


@dataclass
class House:
    """Alice's things, and how to ask for them as somebody."""

    gateway: LiveGateway
    names: dict[str, str]
    keys: dict[str, str]
    cookie: str
    # Who asked what, and what was said to it: shown by `pytest -s`.
    transcript: list[str] = field(default_factory=list)

    def path(self, template: str) -> str:
        return template.format_map(self.names)

    def missing(self, template: str) -> str:
        """The same where nothing is."""
        nothing = {"mark": "nowhere", "bucket": "none"}
        return template.format_map({name: nothing.get(name, f"none-{name}.png") for name in self.names})

    def ask(self, who: str, method: str, path: str, **more: Any) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if who in self.keys:
            headers |= self.gateway.auth(self.keys[who])
        elif who == "page of another site":
            headers |= {"cookie": self.cookie, "sec-fetch-site": "cross-site", "origin": "http://evil.example"}
        answer = self.gateway.http.request(method, path, headers=headers, **more)
        self.transcript.append(f"{answer.status_code} {method:7} {path}  <- {who}")
        return answer

    def things(self) -> str:
        """All rows about the owner's things, as they are in the database."""
        writer.flush()
        rows = [
            *StoredFile.objects.filter(owner__username="alice").order_by("pk"),
            *Blob.objects.filter(owner__username="alice").order_by("pk"),
            *Bucket.objects.filter(owner__username="alice").order_by("pk"),
            *Document.objects.filter(bucket__owner__username="alice").order_by("pk"),
            *Quota.objects.filter(user__username="alice"),
            *IdempotentAnswer.objects.filter(owner__username="alice").order_by("pk"),
            *UsageEvent.objects.filter(user__username="alice").order_by("pk"),
            *Credential.objects.order_by("pk"),
        ]
        return serializers.serialize("json", rows)


def signed_in(gateway: LiveGateway) -> str:
    """The cookie of Alice's browser."""
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        client.get("/accounts/login/")
        headers = {"x-csrftoken": client.cookies["csrftoken"], "referer": f"{gateway.url}/accounts/login/"}
        answer = client.post("/accounts/login/", data={"login": "alice", "password": PASSWORD}, headers=headers)
        assert answer.status_code == 302, answer.text
        return f"sessionid={client.cookies['sessionid']}"


@pytest.fixture
def house(gateway: LiveGateway, provider: ScriptedProvider, stored_paths: Any) -> House:
    provider.on("draws", images(picture(size=(900, 600))))
    provider.on("tts", speaking())
    models = ({"public_id": "draws", "image": True}, {"public_id": "tts", "speech": True})
    gateway.add_provider(provider, *models, name="Acme")
    owner, other = alice(), bob()
    keys = {"owner": gateway.make_key(owner), "other": gateway.make_key(other), "wrong key": "sk-wrong"}
    built = House(gateway, {}, keys, signed_in(gateway))
    ask = {"model": "draws", "prompt": f"A {MARK}"}
    made = built.ask("owner", "POST", "/v1/images/generations", json=ask, headers={"idempotency-key": "k"})
    url = made.json()["data"][0]["url"]
    files = [("files", (f"{MARK}.txt", WORDS.encode())), ("files", ("photo.png", picture(mark=(8, 8, 8))))]
    assert built.ask("owner", "POST", "/files/mine", files=files).status_code == 200
    built.names |= {
        "picture": url.partition("?")[0].rpartition("/")[2],
        "text": StoredFile.objects.get(label=f"{MARK}.txt").name,
        "bucket": "mine",
        "photo": "photo.png",
        "mark": MARK,
    }
    while not UsageEvent.objects.exists():
        writer.flush()
        time.sleep(0.01)
    return built


def expected(allowed: dict[str, tuple[int, int, int]], method: str, who: str) -> set[int]:
    if method == "OPTIONS":
        return {204}
    if method in allowed:
        owner, other, nobody = allowed[method]
        if who in ("owner", "other"):
            return {owner if who == "owner" else other}
        return {nobody, 401} if who != "page of another site" else {nobody, owner, 401, 403}
    return {405} if who in ("owner", "other") else {401, 403, 405}


def body_of(template: str, method: str) -> dict[str, Any]:
    if "upload_cookies" in template and method == "POST":
        return {"files": {"file" if "backend" in template else "files": ("a.json", COOKIES)}}
    if method in ("POST", "PUT", "PATCH"):
        return {"files": {"files": ("b.txt", b"something else")}}
    return {}


def comparable(answer: httpx.Response) -> Any:
    """Without what differs for each request."""
    names = ("content-type", "cache-control", "allow", "content-disposition", "etag", "last-modified", "location")
    return answer.status_code, answer.content, {name: answer.headers.get(name) for name in names}


def check_stranger(house: House, template: str, who: str, method: str) -> None:
    path, allowed = house.path(template), TABLE[template]
    before, files = house.things(), StoredFile.objects.count()
    answer = house.ask(who, method, path, **body_of(template, method))
    case = (who, method, path, answer.status_code, answer.text[:300])
    assert answer.status_code in expected(allowed, method, who), case
    # A page of the owner's browser may ask in their name, but read only what every browser shows, and change nothing.
    if who != "page of another site":
        assert MARK not in answer.text + str({**answer.headers, "location": ""}), case
    elif method not in READING:
        assert answer.status_code in (401, 403, 405), case
    if answer.status_code >= 400 and method != "HEAD":
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, case
    if answer.status_code == 404:
        assert comparable(answer) == comparable(house.ask(who, method, house.missing(template))), case
    if who == "other" and method == "POST" and answer.status_code == 200:
        assert house.ask(who, "DELETE", path).status_code == 200
    assert StoredFile.objects.count() == files, case
    if who != "page of another site" or method not in READING:
        assert house.things() == before, case


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nobody_else_sees_or_changes_anything(house: House) -> None:
    for template in TABLE:
        for who in WHO[1:]:
            for method in METHODS:
                check_stranger(house, template, who, method)
    # All of it was there, for its owner; who deletes last of all.
    for method in METHODS:
        for template, allowed in TABLE.items():
            path = house.path(template)
            answer = house.ask("owner", method, path, **body_of(template, method))
            if method == "DELETE" and template == "/backend-api/v2/files/{bucket}":
                allowed = {"DELETE": (404, 404, 401)}  # noqa: PLW2901 - it went under its other address
            assert answer.status_code in expected(allowed, method, "owner"), (method, path, answer.status_code)
    print(*house.transcript, sep="\n")


def test_a_search_of_the_others_is_as_if_there_were_nothing(house: House) -> None:
    page = {"accept": "application/json"}
    for terms in (MARK, "image", "png", "text", "a"):
        found = house.ask("other", "GET", f"/search/{terms}", headers=page).json()
        assert (found["data"], found["has_more"]) == ([], False)
        assert house.ask("other", "GET", f"/search/{terms}?random=1").status_code == 404
    mine = house.ask("owner", "GET", "/search/image", headers=page).json()["data"]
    assert len(mine) == 2
    # An id of the owner's is no place to go on from.
    after = house.ask("other", "GET", f"/search/image?after={mine[0]['id']}", headers=page)
    unknown = house.ask("other", "GET", "/search/image?after=00000000-0000-4000-8000-000000000000", headers=page)
    assert comparable(after) == comparable(unknown)


def test_two_buckets_of_one_name_are_two(house: House) -> None:
    files = [("files", ("mine.txt", b"Bob's words")), ("files", ("photo.png", picture(size=(30, 20))))]
    assert house.ask("other", "POST", "/files/mine", files=files).status_code == 200
    for path in ("/files/mine", "/backend-api/v2/files/mine/stream"):
        assert MARK not in house.ask("other", "GET", path).text
    assert "Bob" not in house.ask("owner", "GET", "/files/mine").text
    pictures = [house.ask(who, "GET", "/files/mine/media/photo.png").content for who in ("owner", "other")]
    assert pictures[0] != pictures[1]
    before = house.things()
    assert house.ask("other", "GET", "/files/mine?delete_files=true").status_code == 200
    assert house.ask("other", "DELETE", "/files/mine").status_code == 200
    assert house.things() == before
    assert WORDS in house.ask("owner", "GET", "/files/mine").text


def test_a_signed_address_opens_its_file_and_nothing_else(house: House) -> None:
    stored = StoredFile.objects.get(name=house.names["picture"])
    query = signed_url(stored, "").partition("?")[2]
    for template in TABLE:
        path = house.path(template)
        for who in ("other", "nobody"):
            answer = house.ask(who, "GET", f"{path}{'&' if '?' in path else '?'}{query}")
            if template == "/media/{picture}":
                assert answer.status_code == 200
            else:
                assert answer.status_code in (400, 401, 403, 404, 405) or "synthesize" in path, (path, answer.text)
                assert MARK not in answer.text


def registered() -> list[URLPattern]:
    """What the URL confs have of these rooms."""
    streamed = [*files_urls.streamed_urlpatterns, *audio_urls.streamed_urlpatterns]
    found = [*media_urls.urlpatterns, *streamed, *openai_urls.urlpatterns]
    return [item for item in found if any(word in str(item.pattern).split("(?:v1|api")[0] for word in PATTERN_WORDS)]


def test_the_table_has_every_route() -> None:
    paths = [
        template.format_map(dict.fromkeys(("picture", "text", "bucket", "photo", "mark"), "x")) for template in TABLE
    ]
    patterns = registered()
    assert len(patterns) >= 12
    for item in patterns:
        hits = [path for path in paths if item.pattern.match(path.partition("?")[0].removeprefix("/"))]
        assert hits, f"{item.pattern} is in no row"
