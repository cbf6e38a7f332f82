"""`apikey`: made and shown once, listed without, revoked, rotated."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from gateway.models import ApiKey, ConfigVersion, Provider, ProviderModel
from gateway.models.keys import digest_of
from tests.support.commands import run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def people(alice, bob):
    return alice, bob


def create(*arguments):
    return run("apikey", "create", "--user", "alice", "--name", "laptop", *arguments)


def test_the_key_stands_alone_on_standard_output(alice):
    ran = create()
    key = ran.out.strip()
    assert ran.out == f"{key}\n"
    row = ApiKey.objects.get()
    assert row.digest == digest_of(key.encode()).hex()
    assert (row.user, row.name, key.startswith(row.prefix)) == (alice, "laptop", True)
    assert "shown only now" in ran.err
    assert key not in ran.err


def test_as_json():
    data = create("--json").json
    assert data["key"].startswith(data["prefix"])
    assert data["state"] == "active"


def test_its_limits_are_kept():
    ran = create(
        "--model", "gpt-x", "--model", "A/m", "--surface", "v1", "--network", "10.0.0.0/8", "--expires", "2999-12-31"
    )  # fmt: skip
    assert ran.code == 0
    row = ApiKey.objects.get()
    assert (row.models, row.surfaces, row.networks) == (["gpt-x", "A/m"], ["v1"], ["10.0.0.0/8"])
    assert row.expires_at == datetime(2999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert "'gpt-x'" in ran.err


def test_answers_are_kept_where_it_is_said():
    assert create().code == 0
    assert ApiKey.objects.get().cache_answers is False
    assert create("--cache").code == 0
    row = ApiKey.objects.get(cache_answers=True)
    before = ConfigVersion.current()
    ran = run("apikey", "cache", row.prefix, "off", "--json")
    assert ran.json["cache_answers"] is False
    assert ConfigVersion.current() > before
    assert "are kept and given again" in run("apikey", "cache", str(row.pk), "on").out
    run("apikey", "rotate", row.prefix)
    assert ApiKey.objects.get(replaces=row).cache_answers is True
    assert run("apikey", "cache", row.prefix, "maybe").code != 0


def test_numbers_a_minute_are_kept_changed_and_inherited():
    assert create("--requests-per-minute", "60", "--tokens-per-minute", "1000", "--streams", "0").code == 0
    row = ApiKey.objects.get()
    assert (row.requests_per_minute, row.tokens_per_minute, row.max_streams) == (60, 1000, 0)
    before = ConfigVersion.current()
    ran = run("apikey", "limit", row.prefix, "--requests-per-minute", "none", "--streams", "3", "--json")
    assert (ran.json["requests_per_minute"], ran.json["tokens_per_minute"], ran.json["streams"]) == (None, 1000, 3)
    assert ConfigVersion.current() > before
    assert "tokens per minute:   1000" in run("apikey", "limit", row.prefix, "--streams", "none").out
    run("apikey", "rotate", row.prefix)
    successor = ApiKey.objects.get(replaces=row)
    assert (successor.requests_per_minute, successor.tokens_per_minute, successor.max_streams) == (None, 1000, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Name a limit to change"),
        (("--requests-per-minute", "0"), "greater than or equal to 1"),
        (("--tokens-per-minute", "2000000001"), "less than or equal to"),
        (("--streams", "-1"), "greater than or equal to 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(arguments, said):
    create("--requests-per-minute", "60")
    row = ApiKey.objects.get()
    ran = run("apikey", "limit", str(row.pk), *arguments)
    assert ran.code == 1
    assert said in ran.err
    row.refresh_from_db()
    assert row.requests_per_minute == 60


def test_known_models_are_not_remarked_on():
    row = Provider.objects.create(name="A", adapter="demo")
    ProviderModel.objects.create(provider=row, public_id="m")
    run("alias", "set", "quick", "m")
    assert "No provider has" not in create("--model", "m", "--model", "A/m", "--model", "quick").err


@pytest.mark.parametrize(
    ("text", "span"), [("30d", timedelta(days=30)), ("12h", timedelta(hours=12)), ("2w", timedelta(weeks=2))]
)
def test_spans_count_from_now(text, span):
    create("--expires", text)
    assert abs(ApiKey.objects.get().expires_at - timezone.now() - span) < timedelta(minutes=1)


def test_times_without_a_zone_are_utc():
    create("--expires", "2999-01-02T03:04")
    assert ApiKey.objects.get().expires_at == datetime(2999, 1, 2, 3, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--expires", "2001-01-01"], "has passed"),
        (["--expires", "soon"], "invalid 30d, 12h or 2026-12-31 value"),
        (["--network", "everywhere"], "not an address"),
        (["--surface", "v9"], "invalid choice"),
    ],
)
def test_what_cannot_be_makes_no_key(arguments, text):
    ran = create(*arguments)
    assert ran.code != 0
    assert text in ran.err
    assert not ApiKey.objects.exists()


def test_an_unknown_user_is_refused():
    ran = run("apikey", "create", "--user", "mallory", "--name", "x")
    assert (ran.code, "no user 'mallory'" in ran.err) == (1, True)


def test_a_user_who_is_off_is_remarked_on(alice):
    alice.is_active = False
    alice.save()
    assert "not active" in create().err


def test_the_list_never_holds_a_key():
    key = create("--expires", "30d").out.strip()
    run("apikey", "create", "--user", "bob", "--name", "phone")
    assert "No keys" not in run("apikey", "list").out
    ran = run("apikey", "list", "--json")
    assert {item["user"] for item in ran.json} == {"alice", "bob"}
    assert key not in ran.out + run("apikey", "list").out
    assert [item["name"] for item in run("apikey", "list", "--user", "bob", "--json").json] == ["phone"]
    assert "No keys yet" in run("apikey", "list", "--user", "nobody").out


def test_revoke_by_number_prefix_or_the_whole_key():
    keys = [create("--json").json for _ in range(3)]
    for data, name in zip(keys, (str(keys[0]["id"]), keys[1]["prefix"], keys[2]["key"]), strict=True):
        before = ConfigVersion.current()
        ran = run("apikey", "revoke", name, "--json")
        assert (ran.json["id"], ran.json["state"]) == (data["id"], "revoked")
        assert ConfigVersion.current() > before
        assert data["key"] not in ran.out


def test_a_key_that_is_not_there_or_not_only_one():
    create()
    create()
    assert "no such key" in run("apikey", "revoke", "999").err
    assert "no such key" in run("apikey", "revoke", "nope").err
    assert "Several" in run("apikey", "revoke", "sk-gw-").err
    assert "no such key" in run("apikey", "revoke", "9" * 30).err


def test_rotate_makes_a_successor_and_a_grace_period():
    create("--model", "m")
    old = ApiKey.objects.get()
    ran = run("apikey", "rotate", str(old.pk), "--grace", "2h")
    new = ApiKey.objects.get(replaces=old)
    old.refresh_from_db()
    assert new.digest == digest_of(ran.out.strip().encode()).hex()
    assert new.models == ["m"]
    assert abs(old.expires_at - timezone.now() - timedelta(hours=2)) < timedelta(minutes=1)


def test_only_an_active_key_can_be_rotated():
    create()
    row = ApiKey.objects.get()
    run("apikey", "revoke", row.prefix)
    assert "is revoked" in run("apikey", "rotate", str(row.pk)).err
    assert ApiKey.objects.count() == 1
