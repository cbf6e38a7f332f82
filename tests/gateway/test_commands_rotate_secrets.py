"""`rotate_secrets`: everything under the first key, however often it is run."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet

from gateway.management.commands import rotate_secrets
from gateway.models import ConfigVersion, Credential, Provider
from gateway.secrets import SecretUnreadable
from tests.support.commands import run

pytestmark = pytest.mark.django_db
OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def credentials(settings):
    settings.ENCRYPTION_KEYS = [OLD]
    provider = Provider.objects.create(name="A", adapter="openai_chat", base_url="https://8.8.8.8/v1")
    for number in range(5):
        row = Credential(provider=provider)
        row.set_secret(f"secret-number-{number:04}")
        row.save()
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    return provider


def test_it_works(credentials, settings, monkeypatch):
    monkeypatch.setattr(rotate_secrets, "BATCH", 2)
    before = ConfigVersion.current()
    assert run("rotate_secrets", "--json").json == {"rotated": 5, "current": 0, "unreadable": []}
    assert ConfigVersion.current() > before
    settings.ENCRYPTION_KEYS = [NEW]
    assert [row.secret.reveal() for row in Credential.objects.all()] == [f"secret-number-{n:04}" for n in range(5)]


def test_again_does_nothing(credentials):
    run("rotate_secrets")
    tokens = [row.secret.token for row in Credential.objects.all()]
    ran = run("rotate_secrets")
    assert "0 rotated, 5 were under the first key already" in ran.out
    assert [row.secret.token for row in Credential.objects.all()] == tokens


def test_after_an_interruption_it_goes_on(credentials, settings, monkeypatch):
    real, calls = rotate_secrets.rotate, []

    def stops(token):
        calls.append(token)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(token)

    monkeypatch.setattr(rotate_secrets, "rotate", stops)
    with pytest.raises(KeyboardInterrupt):
        run("rotate_secrets")
    monkeypatch.setattr(rotate_secrets, "rotate", real)
    assert run("rotate_secrets", "--json").json == {"rotated": 3, "current": 2, "unreadable": []}


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(credentials):
    lost = Provider.objects.create(name="Lost", adapter="openai_chat", base_url="https://8.8.8.8/v1")
    token = Fernet(Fernet.generate_key()).encrypt(b"x").decode()
    row = Credential(provider=lost)
    row.set_secret("to-be-replaced")
    row.secret.token = token
    row.save()
    ran = run("rotate_secrets")
    assert ran.code == 1
    assert "Lost" in ran.err
    assert "5 rotated" in ran.out
    with pytest.raises(SecretUnreadable):
        Credential.objects.get(provider=lost).secret.reveal()


def test_an_empty_database_is_fine():
    assert run("rotate_secrets").code == 0
