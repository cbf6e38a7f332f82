"""From a name to targets: aliases, providers, priorities, scopes, defaults."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from pytest_django import Settings

from gateway import routing
from gateway.authentication import Principal
from gateway.busy import busy
from gateway.chat import ChatRequest, Preferences
from gateway.errors import BadRequest, ModelNotFound, NotAllowed, ProviderNotFound, Unavailable
from gateway.models import AliasTarget, Credential, ModelAlias, Provider, ProviderModel
from gateway.snapshot import KeyPolicy, load

pytestmark = pytest.mark.django_db

ANYONE = Principal(1, "alice", False)


def scoped(*models: str) -> Principal:
    policy = KeyPolicy(1, 1, "alice", False, frozenset(), frozenset(models), (), None, None, False)
    return Principal(1, "alice", False, policy)


def make(name: str, *models: str, credentials: int = 1, **fields: object) -> Provider:
    row = Provider.objects.create(name=name, adapter="openai_chat", base_url="https://a.test/v1", **fields)
    for number in range(credentials):
        credential = Credential(provider=row)
        credential.set_secret(f"secret-{name}-{number}")
        credential.save()
    for model in models:
        ProviderModel.objects.create(provider=row, public_id=model)
    return row


def targets(model: str, provider: str | None = None, principal: Principal = ANYONE) -> list[str]:
    found = routing.targets_for(load(), model, provider, principal)
    return [f"{target.provider}/{target.public_id}" for target in found]


def test_the_same_model_at_several_providers_goes_by_priority() -> None:
    make("B", "m", priority=20)
    make("A", "m", priority=10)
    assert targets("m") == ["A/m", "B/m"]


def test_new_providers_come_after_the_others() -> None:
    assert make("First").priority == 10
    assert make("Second").priority == 20


def test_weights_share_among_equal_priorities() -> None:
    make("A", "m", priority=10, weight=9)
    make("B", "m", priority=10, weight=1)
    snapshot = load()
    first = Counter(routing.targets_for(snapshot, "m", None, ANYONE)[0].provider for _ in range(500))
    assert 380 < first["A"] < 490


def test_every_credential_is_a_target() -> None:
    make("A", "m", credentials=3)
    found = routing.targets_for(load(), "m", None, ANYONE)
    assert [target.credential for target in found] == ["secret-A-0", "secret-A-1", "secret-A-2"]
    assert "secret" not in repr(found)


def test_a_provider_is_named_in_any_case_in_body_or_path_or_model() -> None:
    make("Acme", "org/m", "other", default_model="other")
    assert targets("org/m", "acme") == ["Acme/org/m"]
    assert targets("ACME/org/m") == ["Acme/org/m"]
    assert targets("acme") == ["Acme/other"]
    assert targets("", "acme") == ["Acme/other"]
    assert targets("default", "acme") == ["Acme/other"]
    assert targets("acme/other", "acme") == ["Acme/other"]


def test_unknown_names() -> None:
    make("Acme", "m")
    make("Empty")
    with pytest.raises(ModelNotFound):
        targets("nope")
    with pytest.raises(ModelNotFound):
        targets("acme/nope")
    with pytest.raises(ModelNotFound):
        targets("nope", "acme")
    with pytest.raises(ModelNotFound):
        targets("", "empty")
    with pytest.raises(ProviderNotFound):
        targets("m", "nope")


def test_no_list_of_models_takes_over_another_providers_name() -> None:
    make("Good", "secret", default_model="secret")
    make("Evil", "Good/secret", "Good", "good", "Good/other", priority=1)
    assert targets("Good/secret") == ["Good/secret"]
    assert targets("Good") == ["Good/secret"]
    # What the other provider does not have is nobody's but the lister's.
    assert targets("Good/other") == ["Evil/Good/other"]
    assert targets("good") == ["Evil/good"]
    key = scoped("Good/secret")
    assert targets("Good/secret", principal=key) == ["Good/secret"]
    with pytest.raises(NotAllowed):
        targets("Good/secret", "Evil", key)


def test_an_alias_is_a_chain() -> None:
    a, b = make("A", "m1"), make("B", "m2")
    alias = ModelAlias.objects.create(name="fast")
    AliasTarget.objects.create(alias=alias, model=b.models.get(), position=0)
    AliasTarget.objects.create(alias=alias, model=a.models.get(), position=1)
    assert targets("fast") == ["B/m2", "A/m1"]


def test_default_goes_through_every_provider_and_demo_steps_aside() -> None:
    demo = Provider.objects.create(name="Demo", adapter="demo", priority=1, auth_style="none")
    ProviderModel.objects.create(provider=demo, public_id="demo")
    assert targets("default") == ["Demo/demo"]
    make("A", "m1", "m2", default_model="m2")
    make("Keyless", "m3", credentials=0)
    assert targets("") == ["A/m2"]
    assert targets("demo") == ["Demo/demo"]


def test_default_is_the_alias_of_that_name_where_there_is_one() -> None:
    make("A", "m1")
    b = make("B", "m2")
    alias = ModelAlias.objects.create(name="default")
    AliasTarget.objects.create(alias=alias, model=b.models.get())
    assert targets("default") == ["B/m2"]


def test_default_is_what_the_server_was_started_with(settings: Settings) -> None:
    make("A", "m1")
    make("B", "m2", "m3")
    settings.DEFAULT_PROVIDER = "b"
    assert targets("default") == ["B/m2"]
    settings.DEFAULT_MODEL = "m3"
    assert targets("default") == ["B/m3"]
    settings.DEFAULT_PROVIDER = ""
    assert targets("") == ["B/m3"]


def test_a_model_that_cannot_chat_is_no_default() -> None:
    row = make("A")
    ProviderModel.objects.create(provider=row, public_id="paint", image=True)
    ProviderModel.objects.create(provider=row, public_id="talk")
    assert targets("a") == ["A/talk"]


def test_a_scoped_key_reaches_its_models_alone() -> None:
    a, b = make("A", "m1", "m2"), make("B", "m2")
    alias = ModelAlias.objects.create(name="fast")
    AliasTarget.objects.create(alias=alias, model=a.models.first())
    key = scoped("m1", "B/m2")
    assert targets("m1", principal=key) == ["A/m1"]
    assert targets("b/m2", principal=key) == ["B/m2"]
    for model, provider in (("m2", "a"), ("fast", None), ("a/m2", None)):
        with pytest.raises(NotAllowed):
            targets(model, provider, key)
    assert targets("fast", principal=scoped("fast")) == ["A/m1"]
    assert targets("default", principal=scoped("default")) == ["A/m1", "B/m2"]
    assert targets("default", principal=scoped("B/m2")) == ["B/m2"]
    with pytest.raises(NotAllowed):
        targets("default", principal=scoped("nothing"))
    assert b.enabled


def test_a_plain_id_in_scope_at_one_provider_does_not_open_the_other() -> None:
    make("A", "m", priority=1)
    make("B", "m", priority=2)
    assert targets("m", principal=scoped("B/m")) == ["B/m"]


def test_nothing_to_try() -> None:
    with pytest.raises(Unavailable):
        targets("default")
    make("A", "m", credentials=0)
    with pytest.raises(Unavailable):
        targets("m")


def test_switched_off_rows_do_not_count(settings: Settings) -> None:
    make("A", "m", enabled=False)
    b = make("B", "m", "n")
    b.models.filter(public_id="n").update(enabled=False)
    make("C", "m")
    settings.IGNORED_PROVIDERS = ["c"]
    assert targets("m") == ["B/m"]
    with pytest.raises(ModelNotFound):
        targets("n")


@pytest.fixture(autouse=True)
def _plain_settings(settings: Settings) -> None:
    settings.DEFAULT_MODEL = settings.DEFAULT_PROVIDER = ""
    settings.IGNORED_PROVIDERS = []


def asked(model: str, *fallbacks: str, principal: Principal = ANYONE, **wanted: Any) -> list[str]:
    preferences = Preferences(**wanted) if wanted else None
    chat = ChatRequest(model, None, False, False, {}, preferences=preferences, fallbacks=fallbacks)
    found = routing.targets_of(load(), chat, principal)
    return [f"{target.provider}/{target.public_id}" for target in found]


def three(*models: str) -> None:
    for name in ("A", "B", "C"):
        make(name, *(models or ("m",)))


def test_an_order_comes_first_and_the_rest_stays_as_it_was() -> None:
    three()
    assert asked("m", order=("c", "nobody")) == ["C/m", "A/m", "B/m"]
    assert asked("m", order=("c", "b"), allow_fallbacks=False) == ["C/m", "B/m"]


def test_only_and_ignore_leave_providers_out() -> None:
    three()
    assert asked("m", only=frozenset("bc")) == ["B/m", "C/m"]
    assert asked("m", ignore=frozenset("a"), only=frozenset("ac")) == ["C/m"]
    assert asked("m", allow_fallbacks=False) == ["A/m"]
    with pytest.raises(ProviderNotFound):
        asked("m", only=frozenset({"nobody"}))


def test_further_models_follow_the_first_one_and_nothing_is_asked_twice() -> None:
    three("m", "n")
    assert asked("m", "n", "B/m", order=("b",)) == ["B/m", "A/m", "C/m", "B/n", "A/n", "C/n"]
    assert asked("nope", "n") == ["A/n", "B/n", "C/n"]
    with pytest.raises(ModelNotFound, match="nope"):
        asked("nope", "neither")


def test_a_further_model_out_of_the_keys_scope_is_passed_over() -> None:
    three("m", "n")
    assert asked("m", "n", principal=scoped("A/m", "m")) == ["A/m", "B/m", "C/m"]
    assert asked("n", "m", principal=scoped("B/m")) == ["B/m"]
    with pytest.raises(NotAllowed):
        asked("n", "m", principal=scoped("other"))


def test_among_equals_the_one_with_less_under_way_for_its_weight_is_first() -> None:
    make("A", "m", priority=10, weight=2)
    make("B", "m", priority=10, weight=1)
    make("Last", "m", priority=20)
    a, b = (ProviderModel.objects.get(provider__name=name).pk for name in "AB")
    under_way = [b, a, a, a, a]
    busy.enter(b)
    assert {asked("m")[0] for _ in range(20)} == {"A/m"}
    for model in under_way[1:]:
        busy.enter(model)
    assert {asked("m")[0] for _ in range(20)} == {"B/m"}
    assert asked("m")[-1] == "Last/m"
    for model in under_way:
        busy.leave(model)
    assert not busy


def test_a_key_for_default_may_use_what_the_operator_made_of_it(settings: Settings) -> None:
    make("A", "m")
    settings.DEFAULT_MODEL = "m"
    assert targets("default", principal=scoped("default")) == ["A/m"]
    with pytest.raises(NotAllowed):
        targets("m", principal=scoped("default"))


def test_what_is_remembered_of_a_name_is_for_those_who_may_use_all() -> None:
    make("A", "m")
    snapshot = load()
    chat = ChatRequest("m", None, stream=False, include_usage=False, body={})
    assert routing.targets_of(snapshot, chat, ANYONE) == snapshot.direct["chat", "m"]
    assert routing.targets_of(snapshot, chat, ANYONE) == snapshot.direct["chat", "m"]
    with pytest.raises(NotAllowed):
        routing.targets_of(snapshot, chat, scoped("other"))
    with pytest.raises(ProviderNotFound):
        routing.targets_of(snapshot, ChatRequest("m", "B", False, False, {}), ANYONE)


def chosen(operation: str, provider: str | None = None) -> list[str]:
    found = routing.targets_for(load(), "", provider, ANYONE, None, operation)
    return [f"{target.provider}/{target.public_id}" for target in found]


def known(provider: Provider, **models: dict[str, bool]) -> None:
    for name, flags in models.items():
        ProviderModel.objects.create(provider=provider, public_id=name, **flags)


def test_a_model_that_nobody_named_is_the_first_that_is_known() -> None:
    for name, priority in (("B", 20), ("A", 10)):
        known(
            make(name, priority=priority), talks={"chat": True}, z={"image": True}, m={"image": True}, a={"image": True}
        )
    wanted = [f"{provider}/{model}" for provider in "AB" for model in "zma"]
    assert all(chosen("images") == wanted for _ in range(20))
    assert all(chosen("images", "b") == wanted[3:] for _ in range(20))


def test_equal_providers_share_their_first_models() -> None:
    for name in "AB":
        known(make(name, priority=10), first={"speech": True}, second={"speech": True})
    found = Counter(tuple(chosen("speech")) for _ in range(60))
    assert {item[0] for item in found} == {"A/first", "B/first"}
    assert all(set(item[2:]) == {"A/second", "B/second"} for item in found)


@pytest.mark.parametrize(
    ("operation", "own", "other"),
    [("speech", "speech", "transcription"), ("transcriptions", "transcription", "speech")],
)
def test_a_model_of_the_other_direction_is_not_chosen(operation: str, own: str, other: str) -> None:
    known(
        make("A"),
        wrong={"audio": True, other: True},
        right={"audio": True},
        both={"audio": True, other: True, own: True},
    )
    assert chosen(operation) == ["A/both"]
    ProviderModel.objects.filter(public_id="both").delete()
    assert chosen(operation) == ["A/right"]
    ProviderModel.objects.filter(public_id="right").delete()
    with pytest.raises(BadRequest):
        chosen(operation, "A")
    with pytest.raises(ModelNotFound):
        chosen(operation)
