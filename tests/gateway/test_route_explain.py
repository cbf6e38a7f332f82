"""Where a request would go, told without asking anyone: the command and the admin's page."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from gateway.authentication import ANONYMOUS, Principal
from gateway.breaker import breaker
from gateway.busy import busy
from gateway.errors import UpstreamRefused
from gateway.explain import Explanation, Question, dollars, explain, told_cost
from gateway.models import AliasTarget, ApiKey, Credential, ModelAlias, Price, Provider, ProviderModel
from gateway.routing import targets_for
from gateway.snapshot import load, store

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh_breaker() -> None:
    breaker.clear()


def make(name: str, *models: str, credentials: int = 1, **fields: Any) -> Provider:
    row = Provider.objects.create(name=name, adapter="openai_chat", base_url="https://a.test/v1", **fields)
    for number in range(credentials):
        credential = Credential(provider=row, label=f"team {number}")
        credential.set_secret(f"secret-of-{name}-{number}-0123")
        credential.save()
    for model in models:
        ProviderModel.objects.create(provider=row, public_id=model)
    return row


def told(model: str, **question: Any) -> Explanation:
    question = {"principal": ANONYMOUS, "live": True, **question}
    return explain(load(), Question(model, **question))


def order(found: Explanation) -> list[str]:
    return [f"{step.provider}/{step.model}" for step in found.steps]


def command(*arguments: str, capsys: pytest.CaptureFixture[str]) -> Any:
    with contextlib.suppress(SystemExit):
        call_command("route", "explain", *arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_it_gives_the_order_that_routing_gives() -> None:
    make("B", "m", "n", priority=20, credentials=2)
    make("A", "m", priority=10)
    found = told("m")
    assert order(found) == [f"{t.provider}/{t.public_id}" for t in targets_for(load(), "m", None, ANONYMOUS)]
    assert [step.number for step in found.steps] == [1, 2, 3]
    assert [step.why for step in found.steps] == [
        "priority 10",
        "priority 20",
        "priority 20; after this provider's other credential",
    ]
    assert (found.allowed, found.status) == (True, None)
    assert told("B/n").steps[0].why == "the only one that is meant"


def test_equals_have_shares_and_what_is_under_way() -> None:
    make("A", "m", priority=10, weight=3)
    b = make("B", "m", priority=10, weight=1)
    busy.enter(b.models.get().pk)
    first, second = told("m").steps
    busy.leave(b.models.get().pk)
    assert (first.provider, first.share, first.under_way) == ("A", 75, 0)
    assert (second.provider, second.share, second.under_way) == ("B", 25, 1)
    assert "25 % of requests" in second.why


def test_what_failed_lately_is_last_and_says_for_how_long() -> None:
    make("A", "m")
    make("B", "m")
    breaker.failed(targets_for(load(), "m", None, ANONYMOUS)[0], UpstreamRefused("x"))
    found = told("m")
    assert order(found) == ["B/m", "A/m"]
    assert found.steps[1].paused in (59, 60)
    assert "because it failed lately" in found.steps[1].why
    # Another process knows nothing of it and does not claim to.
    assert [step.paused for step in told("m", live=False).steps] == [None, None]


def test_what_a_thousand_tokens_each_way_cost() -> None:
    model = make("A", "m").models.get()
    assert dollars(told("m").steps[0].cost) == "no price"
    Price.objects.create(model=model, input=2_500_000_000, output=10_000_000_000, valid_from=timezone.now())
    assert dollars(told("m").steps[0].cost) == "$0.0125"
    assert (dollars(0), dollars(1_500_000_000), dollars(1)) == ("$0.00", "$1.50", "$0.000000001")


def test_what_pictures_and_sound_cost() -> None:
    model = make("A", "m").models.get()
    assert told_cost(told("m").steps[0]) == "no price"
    begin = timezone.now()
    units = {"image": 40_000 * 10**9, "character": 15 * 10**9, "audio_second": 100 * 10**9}
    Price.objects.create(model=model, input=0, output=0, valid_from=begin - timedelta(days=2), valid_to=begin, image=1)
    Price.objects.create(model=model, input=0, output=0, valid_from=begin, **units)
    (step,) = told("m").steps
    assert step.units == units
    assert told_cost(step) == "$0.00, $0.04 a picture, $0.000015 a character, $0.0001 a second of sound"


def test_what_is_left_out_says_why(settings: Settings) -> None:
    make("A", "m")
    make("Keyless", "m", credentials=0)
    make("Off", "m", enabled=False)
    make("Ignored", "m")
    make("Half", "m").models.update(enabled=False)
    settings.IGNORED_PROVIDERS = ["ignored"]
    assert {item.name: item.why for item in told("m").left_out} == {
        "Keyless/m": "the provider has no credential",
        "Off/m": "the provider is switched off",
        "Ignored/m": "the provider is in G4F_IGNORED_PROVIDERS",
        "Half/m": "the model is switched off",
    }
    found = told("m", provider="keyless")
    assert (found.allowed, found.status, found.code) == (True, 503, "no_credential")


def test_names_are_read_as_routing_reads_them(settings: Settings) -> None:
    settings.DEFAULT_MODEL = settings.DEFAULT_PROVIDER = ""
    a = make("Acme", "m")
    alias = ModelAlias.objects.create(name="fast")
    AliasTarget.objects.create(alias=alias, model=a.models.get())
    assert "alias fast" in told("fast").meaning
    assert "provider Acme" in told("Acme/m").meaning
    assert "every provider" in told("m").meaning
    assert "default model of each" in told("").meaning
    assert "alone" in told("m", provider="acme").meaning
    unknown = told("nope")
    assert (unknown.status, unknown.code, unknown.steps) == (404, "model_not_found", ())


def test_a_keys_rights_are_told(alice: User) -> None:
    make("A", "m", "n")
    key, _ = ApiKey.make(alice, "laptop", models=["n"], surfaces=["v1"])
    principal = Principal(alice.pk, "alice", False, load().keys_by_id[key.pk])
    refused = told("m", key=key, principal=principal)
    assert (refused.allowed, refused.status, refused.code) == (False, 403, "model_not_allowed")
    assert refused.right == "The key may use only n. It opens only these routes: v1."
    assert [item.why for item in refused.left_out] == ["not among the key's models"]
    assert told("n", key=key, principal=principal).allowed
    key.revoke()
    gone = told("n", key=key, principal=principal)
    assert (gone.allowed, gone.status, gone.steps) == (False, 401, ())
    assert "revoked" in gone.right


def test_the_command_says_it_as_text_and_as_json(capsys: pytest.CaptureFixture[str], alice: User) -> None:
    make("A", "m")
    key, plain = ApiKey.make(alice, "laptop", models=["other"])
    call_command("route", "explain", "m", "--stream")
    said = capsys.readouterr()
    assert "A/m" in said.out
    assert "team 0 ...0123" in said.out
    assert "secret-of" not in said.out
    assert command("m", "--stream", capsys=capsys)["steps"][0]["seconds"] == 300
    assert command("m", "--user", "alice", capsys=capsys)["allowed"] is True
    refused = command("m", "--key", str(key.pk), capsys=capsys)
    assert (refused["allowed"], refused["status"]) == (False, 403)
    assert command("m", "--provider", "nope", capsys=capsys)["code"] == "provider_not_found"
    with pytest.raises(CommandError, match="no user"):
        call_command("route", "explain", "m", "--user", "nobody")
    assert plain not in said.out + said.err


def test_the_page_is_for_those_who_may_see_providers(alice: User, charlie: User) -> None:
    make("A", "m")
    store.reload()
    client = Client()
    alice.is_staff = True
    alice.save()
    client.force_login(alice)
    assert client.get("/admin/route/").status_code == 403
    alice.user_permissions.add(Permission.objects.get(codename="view_provider"))
    page = client.get("/admin/route/?model=m").content.decode()
    assert "A/m" in page
    assert "id_key" not in page
    client.force_login(charlie)
    assert 'href="/admin/route/"' in client.get("/admin/").content.decode()
    assert "id_key" in client.get("/admin/route/").content.decode()


def test_the_page_survives_whatever_stands_in_its_query(charlie: User) -> None:
    make("A", "<b>m</b>")
    key, _ = ApiKey.make(charlie, "laptop")
    store.reload()
    client = Client()
    client.force_login(charlie)
    assert "&lt;b&gt;m&lt;/b&gt;" in client.get("/admin/route/", {"model": "<b>m</b>", "key": key.pk}).content.decode()
    for query in ({"model": "x" * 300}, {"model": "m", "key": "999999"}, {"model": "m", "key": "x"}, {"provider": "A"}):
        assert client.get("/admin/route/", query).status_code == 200
    assert client.get("/admin/route/", {"model": "a\x00b"}).status_code == 400
