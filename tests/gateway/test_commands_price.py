"""`price`: from a file to rows, exactly, shown before it is done, and twice is once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import pricing
from gateway.events import Usage
from gateway.models import ConfigVersion, Price, Provider, ProviderModel
from gateway.snapshot import load
from gateway.usage import cost_of
from tests.support.commands import run

pytestmark = pytest.mark.django_db
FILE = """
prices:
  - {model: A/m, input: 2.5, cached_input: 0.000000001, output: 10, from: 2026-01-01, source: its page}
  - {model: both, input: "0.15", output: 0.6, reasoning: 1, image: 40000, audio_second: 100, character: 0.5}
  - {model: nobody/has, input: 1, output: 1}
"""


@pytest.fixture
def models() -> None:
    for name in ("A", "B"):
        row = Provider.objects.create(name=name, adapter="openai_chat", base_url="https://x.test/v1", auth_style="none")
        ProviderModel.objects.create(provider=row, public_id="both")
    ProviderModel.objects.create(provider=Provider.objects.get(name="A"), public_id="m")


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(text: str) -> str:
        path = tmp_path / "prices.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_a_file_is_shown_first_and_applied_when_told(models: None, file: Any) -> None:
    shown = run("price", "import", file(FILE))
    assert shown.code == 0
    assert not Price.objects.exists()
    assert "+ A/m from 2026-01-01: input $2.5, cached input $0.000000001, output $10" in shown.out
    assert "? nobody/has: no provider has it, passed over" in shown.out
    assert "--yes applies it" in shown.err
    assert "3 prices would be set." in run("price", "import", file(FILE), "--yes", "--dry-run").out
    assert not Price.objects.exists()
    before = ConfigVersion.current()
    assert "3 prices set." in run("price", "import", file(FILE), "--yes").out
    assert ConfigVersion.current() > before
    row = Price.objects.get(model__public_id="m")
    assert (row.input, row.cached_input, row.output, row.source) == (2_500_000_000, 1, 10_000_000_000, "its page")
    other = Price.objects.get(model__public_id="both", model__provider__name="B")
    assert (other.input, other.image, other.audio_second) == (150_000_000, 40_000_000_000_000, 100_000_000_000)
    assert (other.reasoning, other.character) == (1_000_000_000, 500_000_000)


def test_twice_is_once_and_a_change_shows_both_amounts(models: None, file: Any) -> None:
    run("price", "import", file(FILE), "--yes")
    again = run("price", "import", file(FILE), "--yes", "--json")
    assert again.json == {"changes": [], "unknown": ["nobody/has"], "applied": True}
    dearer = file(FILE.replace("2.5", "3"))
    assert "~ A/m from 2026-01-01: input $2.5 -> $3\n" in run("price", "import", dearer, "--yes").out
    assert Price.objects.filter(model__public_id="m").count() == 1
    # From a later day on it is a further price, and the earlier one stays true of its time.
    run("price", "set", "A/m", "--input", "4", "--output", "10", "--from", "2026-06-01")
    policy = load().by_model["m"][0].targets[0]
    usage, first = Usage(1_000_000, 0), datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    assert cost_of(policy.prices, usage, first)[1] == 3_000_000_000
    assert cost_of(policy.prices, usage, datetime(2026, 7, 1, tzinfo=UTC).timestamp())[1] == 4_000_000_000
    assert cost_of(policy.prices, usage, datetime(2025, 7, 1, tzinfo=UTC).timestamp()) == (None, None)


def test_what_was_exported_changes_nothing_and_makes_an_empty_gateway_the_same(models: None, file: Any) -> None:
    run("price", "import", file(FILE), "--yes")
    texts = run("price", "export").out, json.dumps(run("price", "export", "--json").json)
    columns = ("model", "input", "image", "valid_from", "source")
    rows = list(Price.objects.order_by("model").values_list(*columns))
    for text in texts:
        assert run("price", "import", file(text), "--json").json["changes"] == []
        Price.objects.all().delete()
        run("price", "import", file(text), "--yes")
        assert list(Price.objects.order_by("model").values_list(*columns)) == rows


def test_what_is_not_said_stays_as_it_is(models: None) -> None:
    run("price", "set", "A/m", "--input", "1", "--output", "2")
    run("price", "set", "A/m", "--output", "3")
    row = Price.objects.order_by("valid_from").last()
    assert row is not None
    assert (row.input, row.output) == (10**9, 3 * 10**9)


def test_what_is_unknown_is_said(models: None) -> None:
    run("price", "set", "A/m", "--input", "1", "--output", "2")
    listed = run("price", "list")
    assert "A/m" in listed.out
    assert "$1" in listed.out
    unknown = run("price", "list", "--unknown")
    assert "A/m" not in unknown.out
    assert unknown.out.count("unknown") >= 2
    assert {item["known"] for item in run("price", "list", "--unknown", "--json").json} == {False}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prices: [{model: A/m, input: 0.0000000001, output: 1}]", "prices[0].input: Dollars"),
        ("prices: [{model: A/m, input: -1, output: 1}]", "prices[0].input: Dollars"),
        ("prices: [{model: A/m, input: .inf}]", "prices[0].input: Dollars"),
        ("prices: [{model: A/m, input: true}]", "prices[0].input: Dollars"),
        ("prices: [{model: A/m, input: cheap}]", "prices[0].input: Dollars"),
        ("prices: [{model: A/m, input: 9e99}]", "prices[0].input: Dollars"),
        ("prices: [{model: A/m}]", "No price is named"),
        ("prices: [{input: 1}]", "model is missing"),
        ("prices: [{model: 1, input: 1}]", "Text belongs here"),
        ("prices: [{model: A/m, input: 1, from: soon}]", "A date"),
        ("prices: [{model: A/m, price: 1}]", "not known here"),
        ("prices: {}", "A list belongs here"),
        ("prices: [{model: A/m, input: 1, from: 2026-01-01}, {model: m, input: 2, from: 2026-01-01}]", "two prices"),
        ("other: []", "prices is missing"),
        ("[", "neither YAML nor JSON"),
        ("17", "A list belongs here"),
    ],
)
def test_a_bad_file_names_the_place_and_changes_nothing(models: None, file: Any, text: str, said: str) -> None:
    ran = run("price", "import", file(text), "--yes")
    assert ran.code == 1
    assert said in ran.err
    assert not Price.objects.exists()


def test_files_and_amounts_that_make_no_sense(models: None, tmp_path: Path) -> None:
    assert "cannot be read" in run("price", "import", str(tmp_path / "none")).err
    (tmp_path / "bytes").write_bytes(b"\xff")
    assert "not UTF-8" in run("price", "import", str(tmp_path / "bytes")).err
    assert "no model" in run("price", "set", "nope", "--input", "1").err
    assert "not an amount" in run("price", "set", "A/m", "--input", "x").err
    assert "at least one" in run("price", "set", "A/m").err
    assert "A date" in run("price", "set", "A/m", "--input", "1", "--from", "soon").err


@given(st.integers(0, 2**32 * 10**9 - 1))
def test_every_amount_survives_being_written_and_read(nano: int) -> None:
    text = pricing.dollars(nano).removeprefix("$")
    assert pricing.nanos(text) == nano
    (line,) = pricing.read(f"- {{model: m, input: {text}}}")
    assert line.amounts["input"] == nano
    assert Decimal(text) * 10**9 == nano
