"""Three people of whom access tests tell: Alice owns things, Bob owns other things, Charlie runs the server."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.contrib.auth.models import User

PASSWORD = "three quiet otters swim"


@cache
def _hashed() -> str:
    # Argon2 is slow on purpose: once per run is enough.
    from django.contrib.auth.hashers import make_password

    return make_password(PASSWORD)


def person(name: str, **fields: object) -> User:
    """A user who can sign in with PASSWORD."""
    from django.contrib.auth.models import User

    return User.objects.create(username=name, email=f"{name}@example.com", password=_hashed(), **fields)


def alice() -> User:
    return person("alice")


def bob() -> User:
    return person("bob")


def charlie() -> User:
    return person("charlie", is_staff=True, is_superuser=True)
