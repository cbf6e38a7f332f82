"""System checks: each mistake by its id, and never a trace on a database without tables."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from django.core import checks as django_checks
from django.db import connection

from gateway import checks
from gateway.models import ApiKey, Credential, ModelAlias, Provider, ProviderModel, UserLimits

pytestmark = pytest.mark.django_db


def provider(name="A", **fields):
    values = {"adapter": "openai_chat", "base_url": "https://8.8.8.8/v1", "auth_style": "none", **fields}
    return Provider.objects.create(name=name, **values)


def credential(row, secret="sk-0123456789abcdef"):
    found = Credential(provider=row)
    found.set_secret(secret)
    found.save()
    return found


def found(*, databases=("default",)):
    return {message.id: message for message in django_checks.run_checks(tags=["database"], databases=databases)}


def mine(messages):
    return {name: message for name, message in messages.items() if name.startswith("gateway.")}


def test_a_sound_configuration_is_silent():
    row = provider(auth_style="bearer", default_model="m")
    credential(row)
    model = ProviderModel.objects.create(provider=row, public_id="m")
    ModelAlias.objects.create(name="default").targets.create(model=model)
    assert mine(found()) == {}


def test_nothing_is_asked_of_other_databases():
    provider(adapter="telepathy")
    assert mine(found(databases=None)) == {}


def test_an_unknown_adapter():
    provider("Odd", adapter="telepathy")
    message = found()["gateway.E001"]
    assert "Odd" in message.msg
    assert "openai_chat" in message.hint
    assert message.is_serious()


def test_a_credential_that_no_key_decrypts(settings):
    row = provider("Locked")
    credential(row, "sk-first-0123456789")
    credential(row, "sk-other-0123456789")
    assert checks.readable_secrets() == []
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    message = found()["gateway.E002"]
    assert "Locked" in message.msg
    assert "sk-first" not in str(message)
    assert checks.readable_secrets() == ["Locked"]


def test_a_private_base_url_without_the_flag():
    provider("Near", base_url="http://127.0.0.1:11434/v1")
    assert "Near" in found()["gateway.E003"].msg
    Provider.objects.update(allow_private=True)
    assert "gateway.E003" not in found()


def test_a_provider_without_its_credential():
    row = provider("Poor", auth_style="bearer")
    assert found()["gateway.W002"].hint.startswith("provider credential add Poor")
    held = credential(row)
    assert "gateway.W002" not in found()
    held.enabled = False
    held.save()
    assert "gateway.W002" in found()
    Provider.objects.update(enabled=False)
    assert "gateway.W002" not in found()


def test_the_demo_needs_none():
    provider("Demo", adapter="demo", base_url="", auth_style="bearer")
    assert mine(found()) == {}


def test_an_alias_that_leads_nowhere():
    row = provider()
    model = ProviderModel.objects.create(provider=row, public_id="m")
    alias = ModelAlias.objects.create(name="fast")
    assert "fast" in found()["gateway.W003"].msg
    alias.targets.create(model=model)
    assert "gateway.W003" not in found()
    ProviderModel.objects.update(enabled=False)
    assert "gateway.W003" in found()


def test_a_default_model_that_is_not_there():
    provider(default_model="gone")
    assert "'gone'" in found()["gateway.W004"].msg


@pytest.mark.parametrize(("key", "warned"), [("", False), ("short", True), ("x" * 32, False)])
def test_a_short_key_of_the_environment(settings, key, warned):
    settings.G4F_API_KEY = key
    messages = [message for message in django_checks.run_checks() if message.id == "gateway.W001"]
    assert bool(messages) is warned
    assert "short" not in "".join(f"{message.hint}" for message in messages)


@pytest.mark.django_db(transaction=True)
def test_a_database_without_tables_or_columns_is_no_fault(monkeypatch):
    provider(adapter="telepathy")
    monkeypatch.setattr(checks, "_has_tables", lambda: False)
    assert mine(found()) == {}
    assert checks.readable_secrets() == []
    monkeypatch.undo()
    with connection.schema_editor() as editor:
        editor.execute("ALTER TABLE gateway_provider RENAME COLUMN adapter TO adapter_before")
    try:
        assert mine(found()) == {}
        assert checks.readable_secrets() == []
    finally:
        with connection.schema_editor() as editor:
            editor.execute("ALTER TABLE gateway_provider RENAME COLUMN adapter_before TO adapter")


@pytest.mark.parametrize("where", ["key", "user", "streams"])
def test_limits_that_several_workers_cannot_count_together(settings, alice, where):
    if where == "key":
        ApiKey.make(alice, "limited", tokens_per_minute=5)
    elif where == "streams":
        ApiKey.make(alice, "limited", max_streams=5)
    else:
        UserLimits.objects.create(user=alice, requests_per_minute=5)
    settings.WORKERS, settings.REDIS_URL = 2, ""
    assert "REDIS_URL" in found()["gateway.W005"].hint
    settings.REDIS_URL = "redis://127.0.0.1:6379/0"
    assert "gateway.W005" not in found()
    settings.WORKERS, settings.REDIS_URL = 1, ""
    assert "gateway.W005" not in found()


def test_several_workers_without_limits_are_fine(settings, alice):
    ApiKey.make(alice, "free", max_streams=0)
    UserLimits.objects.create(user=alice)
    settings.WORKERS, settings.REDIS_URL = 2, ""
    assert "gateway.W005" not in found()
