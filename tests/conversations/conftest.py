"""Two people with a key each, who ask a running server for their conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from tests.support.gateway import LiveGateway

HERE = "/backend-api/v2/conversations"


class Person:
    """Asks with a key of theirs."""

    def __init__(self, gateway: LiveGateway, user: User) -> None:
        self.gateway, self.user = gateway, user
        self.headers = {"x-api-key": gateway.make_key(user)}

    def ask(self, method: str, path: str = "", **options: Any) -> Any:
        headers = {**self.headers, **options.pop("headers", {})}
        url = path if path.startswith("/backend-api") else HERE + path
        return self.gateway.http.request(method, url, headers=headers, **options)

    def get(self, path: str = "", **options: Any) -> Any:
        return self.ask("GET", path, **options)

    def post(self, path: str = "", body: Any = None, **options: Any) -> Any:
        return self.ask("POST", path, json={} if body is None else body, **options)

    def patch(self, path: str, body: Any, **options: Any) -> Any:
        return self.ask("PATCH", path, json=body, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self.ask("DELETE", path, **options)

    def make(self, *said: str, **fields: Any) -> dict[str, Any]:
        """A conversation in which the user and the model take turns."""
        made = self.post("", fields)
        assert made.status_code == 201, made.text
        for number, text in enumerate(said):
            answer = self.say(made.json()["id"], text, role="assistant" if number % 2 else "user")
            assert answer.status_code == 201, answer.text
        return self.get(f"/{made.json()['id']}").json()

    def say(self, conversation: str, content: Any, **fields: Any) -> Any:
        return self.post(f"/{conversation}/messages", {"content": content, **fields})


@pytest.fixture
def ann(gateway: LiveGateway, alice: User) -> Person:
    return Person(gateway, alice)


@pytest.fixture
def ben(gateway: LiveGateway, bob: User) -> Person:
    return Person(gateway, bob)
