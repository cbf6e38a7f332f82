"""`alias`: chains of models, by step and weight."""

from __future__ import annotations

import pytest

from gateway.models import ConfigVersion, ModelAlias, Provider, ProviderModel
from tests.support.commands import run

pytestmark = pytest.mark.django_db


def provider(name, *models, priority=None, weight=1):
    row = Provider.objects.create(
        name=name, adapter="openai_chat", base_url="https://8.8.8.8/v1", priority=priority, weight=weight
    )
    for model in models:
        ProviderModel.objects.create(provider=row, public_id=model)
    return row


@pytest.fixture(autouse=True)
def world():
    provider("A", "x", "org/y", "odd@3")
    provider("B", "x", "z")


def chain(name="fast"):
    return [
        (item["model"], item["position"], item["weight"])
        for item in run("alias", "show", name, "--json").json["targets"]
    ]


def test_it_works():
    ran = run("alias", "set", "fast", "B/z", "a/org/y")
    assert ran.out.strip() == "fast: B/z then A/org/y"
    assert chain() == [("B/z", 0, 1), ("A/org/y", 1, 1)]


def test_setting_again_replaces_the_chain_and_moves_the_version():
    run("alias", "set", "fast", "B/z")
    before = ConfigVersion.current()
    run("alias", "set", "fast", "A/x", "--json")
    assert chain() == [("A/x", 0, 1)]
    assert ConfigVersion.current() > before


def test_neighbours_with_weights_share_a_step():
    ran = run("alias", "set", "fast", "A/x@3", "B/x@1", "B/z")
    assert chain() == [("A/x", 0, 3), ("B/x", 0, 1), ("B/z", 1, 1)]
    assert ran.out.strip() == "fast: A/x@3 or B/x then B/z"


def test_a_bare_id_means_every_provider_that_has_it():
    run("alias", "set", "fast", "x")
    assert chain() == [("A/x", 0, 1), ("B/x", 1, 1)]


def test_providers_of_one_priority_share_a_step_by_their_weights():
    provider("C", "w", priority=5, weight=2)
    provider("D", "w", priority=5, weight=7)
    run("alias", "set", "fast", "w", "B/z")
    assert chain() == [("C/w", 0, 2), ("D/w", 0, 7), ("B/z", 1, 1)]


def test_an_id_that_ends_like_a_weight_keeps_its_end():
    run("alias", "set", "fast", "A/odd@3")
    assert chain() == [("A/odd@3", 0, 1)]
    run("alias", "set", "fast", "odd@3")
    assert chain() == [("A/odd@3", 0, 1)]
    run("alias", "set", "fast", "odd@3@2")
    assert chain() == [("A/odd@3", 0, 2)]


@pytest.mark.parametrize(
    ("targets", "text"),
    [
        (["nope"], "no model 'nope'"),
        (["A/nope"], "no model 'A/nope'"),
        (["A/x", "x"], "named twice"),
        (["A/x@0"], "weight"),
        (["A/x@99999999"], "weight"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(targets, text):
    run("alias", "set", "fast", "B/z")
    ran = run("alias", "set", "fast", *targets)
    assert (ran.code, text in ran.err) == (1, True)
    assert chain() == [("B/z", 0, 1)]


def test_a_name_with_spaces_is_refused():
    assert run("alias", "set", "a b", "A/x").code == 1
    assert not ModelAlias.objects.exists()


def test_list_show_and_remove():
    assert "No aliases yet" in run("alias", "list").out
    run("alias", "set", "default", "A/x")
    Provider.objects.filter(name="A").update(enabled=False)
    assert "A/x" in run("alias", "list").out
    assert run("alias", "list", "--json").json[0]["targets"][0]["usable"] is False
    assert "no" in run("alias", "show", "default").out
    assert run("alias", "remove", "default").code == 0
    ran = run("alias", "show", "default")
    assert (ran.code, "none yet" in ran.err) == (1, True)
