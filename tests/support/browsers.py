"""A browser's session without a browser: signed in, with the token that pages send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from gateway.snapshot import store
from tests.people import PASSWORD


@contextmanager
def signed_in(url: str, name: str) -> Iterator[httpx.Client]:
    """As a page of ours asks: its cookies, its CSRF token and where it is. There is such a user already."""
    store.reload()
    with httpx.Client(base_url=url, timeout=20) as client:
        _sign_in(client, url, name)
        yield client


def _sign_in(client: httpx.Client, url: str, name: str) -> None:
    client.get("/accounts/login/")
    headers = {"x-csrftoken": client.cookies["csrftoken"], "referer": f"{url}/accounts/login/"}
    answer = client.post("/accounts/login/", data={"login": name, "password": PASSWORD}, headers=headers)
    assert answer.status_code == 302, answer.text
    client.headers.update({"x-csrftoken": client.cookies["csrftoken"], "referer": f"{url}/", "origin": url})
    client.headers["sec-fetch-site"] = "same-origin"
