"""`config`: out and in again, as a file without secrets, all or nothing."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
import yaml

from gateway.models import AliasTarget, ConfigVersion, Credential, ModelAlias, Price, Provider, ProviderModel
from tests.support.commands import run

pytestmark = pytest.mark.django_db
KEY = "sk-upstream-0123456789abcdef"
SMALL = """
version: 1
providers:
  - name: Local
    adapter: openai_chat
    base_url: http://127.0.0.1:9999/v1
    allow_private: true
    auth_style: none
    models:
      - id: small
        flags: {tools: true, vision: false}
        prices:
          - {input: 0.15, output: 0.6, from: 2026-01-01}
      - id: big
        upstream: org/big
        context_length: 8192
        requests_per_minute: 60
        max_streams: 4
aliases:
  - name: default
    targets: [Local/small, Local/big]
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "gateway.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def full(monkeypatch):
    """A configuration with something of everything."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    run("provider", "add", "--preset", "openai", "--api-key-env", "OPENAI_API_KEY", "--header", "X-Title=mine")
    run("provider", "credential", "add", "OpenAI", "--label", "spare", "--api-key-env", "OPENAI_API_KEY")
    run("provider", "add", "--preset", "ollama", "--model", "small=small:7b:chat,!tools", "--disabled")
    run("provider", "set", "Ollama", "--proxy", "http://user:hidden@10.0.0.1:3128")
    Provider.objects.filter(name="Ollama").update(headers={"X-Api-Key": "hidden-too"})
    ProviderModel.objects.filter(public_id="small").update(enabled=False, context_length=4096)
    Credential.objects.filter(label="spare").update(enabled=False)
    model = ProviderModel.objects.get(public_id="gpt-4o")
    day = datetime(2026, 1, 1, tzinfo=UTC)
    Price.objects.create(
        model=model, input=2_500_000_000, output=10_000_000_000, cached_input=1_250_000_001, valid_from=day
    )
    Price.objects.create(
        model=model, input=1, output=2, reasoning=3, valid_from=day.replace(2025), valid_to=day, source="its page"
    )
    run("alias", "set", "default", "OpenAI/gpt-4o@2", "OpenAI/gpt-4.1@1", "Ollama/small")
    run("alias", "set", "solo", "Ollama/small")
    ModelAlias.objects.filter(name="solo").update(enabled=False)


def contents():
    """Every row that a file speaks of, without numbers that may differ."""
    skip = {"id", "created_at", "secret", "provider_id", "model_id", "alias_id", "position"}
    rows = [
        *Provider.objects.values(),
        *Credential.objects.values("provider__name", "label", "enabled", "tail"),
        *ProviderModel.objects.values(
            "provider__name", *[f.name for f in ProviderModel._meta.fields if f.name != "provider"]
        ),
        *Price.objects.order_by("valid_from").values(),
        *ModelAlias.objects.values(),
        *AliasTarget.objects.values("alias__name", "model__public_id", "weight"),
    ]
    return [{name: value for name, value in row.items() if name not in skip} for row in rows]


class TestExport:
    def test_it_holds_everything_but_secrets(self, full):
        text = run("config", "export").out
        assert all(part not in text for part in (KEY, "hidden", KEY[-4:]))
        data = yaml.safe_load(text)
        openai, ollama = data["providers"]
        assert openai["credentials"] == [
            {"api_key": {"keep": True}},
            {"label": "spare", "api_key": {"keep": True}, "enabled": False},
        ]
        assert ollama["proxy"] == ollama["headers"]["X-Api-Key"] == {"keep": True}
        assert ollama["models"] == [
            {"id": "small", "upstream": "small:7b", "enabled": False, "flags": {"chat": True, "tools": False},
             "context_length": 4096}
        ]  # fmt: skip
        assert data["aliases"][0]["targets"] == [
            [{"model": "OpenAI/gpt-4o", "weight": 2}, {"model": "OpenAI/gpt-4.1", "weight": 1}], "Ollama/small",
        ]  # fmt: skip

    def test_credentials_can_refer_to_the_environment(self, full):
        (openai, _) = run("config", "export", "--secrets", "env", "--json").json["providers"]
        assert [item["api_key"] for item in openai["credentials"]] == [
            {"env": "OPENAI_API_KEY"}, {"env": "OPENAI_API_KEY_2"},
        ]  # fmt: skip

    def test_another_name_has_another_variable(self, full):
        run("provider", "set", "OpenAI", "--rename", "my.openai")
        (row, _) = run("config", "export", "--secrets", "env", "--json").json["providers"]
        assert row["credentials"][0]["api_key"] == {"env": "MY_OPENAI_API_KEY"}

    def test_to_a_file(self, full, tmp_path):
        path = tmp_path / "out.yaml"
        ran = run("config", "export", str(path))
        assert "2 providers and 2 aliases" in ran.out
        assert yaml.safe_load(path.read_text())["version"] == 1
        assert list(tmp_path.iterdir()) == [path]

    def test_a_place_that_cannot_be_written(self, tmp_path):
        ran = run("config", "export", str(tmp_path / "no" / "where.yaml"))
        assert (ran.code, "cannot be written" in ran.err) == (1, True)


class TestRoundTrip:
    def test_what_was_exported_changes_nothing(self, full, file):
        text = run("config", "export").out
        before = ConfigVersion.current()
        ran = run("config", "apply", file(text), "--prune")
        assert (ran.code, ran.out.strip()) == (0, "Nothing to change.")
        assert ConfigVersion.current() == before

    def test_an_empty_gateway_becomes_the_same(self, full, file, monkeypatch):
        # What was kept cannot come from a file alone: those are given by the environment here.
        text = run("config", "export", "--secrets", "env").out.replace("keep: true", "env: HIDDEN")
        monkeypatch.setenv("HIDDEN", "http://user:hidden@10.0.0.1:3128")
        monkeypatch.setenv("OPENAI_API_KEY_2", KEY)
        before = contents()
        Provider.objects.all().delete()
        ModelAlias.objects.all().delete()
        ran = run("config", "apply", file(text))
        assert ran.code == 0
        assert KEY not in ran.out
        assert "hidden" not in ran.out
        for row in (*before, *(after := contents())):
            if "headers" in row:
                row["headers"].pop("X-Api-Key", None)
        assert after == before
        assert {row.secret.reveal() for row in Credential.objects.all()} == {KEY}


class TestApply:
    def test_it_works_and_says_what_it_did(self, file):
        ran = run("config", "apply", file(SMALL))
        assert ran.code == 0
        assert ran.out.splitlines()[:3] == [
            "+ provider Local", "+ model Local/small", "+ price of Local/small from 2026-01-01",
        ]  # fmt: skip
        price = Price.objects.get()
        assert (price.input, price.output, price.cached_input) == (150_000_000, 600_000_000, None)
        assert ProviderModel.objects.get(public_id="big").upstream_name == "org/big"
        assert [str(row.model) for row in AliasTarget.objects.order_by("position")] == ["Local/small", "Local/big"]

    def test_twice_is_once(self, file):
        path = file(SMALL)
        run("config", "apply", path)
        before = (ConfigVersion.current(), list(AliasTarget.objects.values_list("pk", flat=True)))
        assert run("config", "apply", path).out.strip() == "Nothing to change."
        assert (ConfigVersion.current(), list(AliasTarget.objects.values_list("pk", flat=True))) == before

    def test_a_dry_run_shows_and_changes_nothing(self, file):
        ran = run("config", "apply", file(SMALL), "--dry-run", "--json")
        assert ran.json["applied"] is False
        assert "+ provider Local" in ran.json["changes"]
        assert not Provider.objects.exists()
        assert "would be made" in run("config", "apply", file(SMALL), "--dry-run").out

    def test_differences_are_shown_by_column(self, file):
        run("config", "apply", file(SMALL))
        changed = SMALL.replace("tools: true", "tools: false").replace("8192", "4096").replace("0.15", "0.2")
        changed = changed.replace(
            "auth_style: none", "auth_style: none\n    weight: 5\n    headers: {X-A: b, X-Token: c}"
        )
        lines = run("config", "apply", file(changed)).out.splitlines()
        assert "~ provider Local: weight 1 -> 5, headers {} -> {X-A=b, X-Token=***}" in lines
        assert "~ model Local/small: tools yes -> no" in lines
        assert "~ model Local/big: context_length 8192 -> 4096" in lines
        assert "~ price of Local/small from 2026-01-01: input $0.15 -> $0.2" in lines

    def test_what_a_model_does_not_name_becomes_unknown(self, file):
        run("config", "apply", file(SMALL))
        run("config", "apply", file(SMALL.replace("flags: {tools: true, vision: false}", "flags: {}")))
        assert ProviderModel.objects.get(public_id="small").tools is None

    def test_what_is_not_named_stays_unless_pruned(self, full, file):
        path = file(SMALL)
        run("config", "apply", path)
        assert Provider.objects.count() == 3
        run("provider", "set", "Local", "--model", "extra")
        lines = run("config", "apply", path, "--prune").out.splitlines()
        assert "- provider OpenAI" in lines
        assert "- model Local/extra" in lines
        assert "- alias solo" in lines
        assert [row.name for row in Provider.objects.all()] == ["Local"]

    def test_aliases_change_by_their_steps(self, file):
        run("config", "apply", file(SMALL))
        shared = SMALL.replace(
            "[Local/small, Local/big]", "[[{model: Local/small, weight: 3}, {model: Local/big, weight: 1}]]"
        )
        assert "~ targets of alias default" in run("config", "apply", file(shared)).out
        assert sorted(AliasTarget.objects.values_list("position", "weight")) == [(0, 1), (0, 3)]
        assert "Nothing" in run("config", "apply", file(shared)).out

    def test_a_price_that_is_not_listed_goes(self, file):
        run("config", "apply", file(SMALL))
        later = SMALL.replace("from: 2026-01-01", "from: '2026-02-01T00:00:00+00:00', to: 2027-01-01, source: page")
        out = run("config", "apply", file(later)).out
        assert "- price of Local/small from 2026-01-01" in out
        assert Price.objects.get().source == "page"

    def test_credentials_come_from_the_environment(self, file, monkeypatch):
        text = SMALL.replace("auth_style: none", "credentials: [{label: main, api_key: {env: SOME_KEY}}]")
        ran = run("config", "apply", file(text))
        assert (ran.code, "SOME_KEY is not set" in ran.err) == (1, True)
        assert not Provider.objects.exists()
        monkeypatch.setenv("SOME_KEY", KEY)
        assert "+ credential of Local “main”" in run("config", "apply", file(text)).out
        assert run("config", "apply", file(text)).out.strip() == "Nothing to change."
        monkeypatch.setenv("SOME_KEY", f"{KEY}-new")
        ran = run("config", "apply", file(text))
        assert "~ credential of Local “main”: replaced" in ran.out
        assert KEY not in ran.out
        assert Credential.objects.get().secret.reveal() == f"{KEY}-new"

    def test_a_credential_that_cannot_be_read_is_replaced(self, file, monkeypatch, settings):
        monkeypatch.setenv("SOME_KEY", KEY)
        text = SMALL.replace("auth_style: none", "credentials: [{api_key: {env: SOME_KEY}}]")
        run("config", "apply", file(text))
        settings.ENCRYPTION_KEYS = ["A" * 43 + "="]
        assert "replaced" in run("config", "apply", file(text)).out

    def test_credentials_are_pruned_by_label(self, full, file):
        text = "{version: 1, providers: [{name: OpenAI, preset: openai, credentials: [{api_key: {keep: true}}]}]}"
        out = run("config", "apply", file(text), "--prune").out
        assert "- credential of OpenAI “spare”" in out
        assert Credential.objects.get().label == ""

    def test_from_standard_input(self, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.StringIO(SMALL))
        assert run("config", "apply", "-").code == 0
        assert Provider.objects.exists()

    def test_yes_no_and_unknown_come_back(self, file):
        flagged = SMALL.replace("vision: false", "vision: false, cache_answers: true")
        for text, value in (("true", True), ("false", False), ("null", None)):
            given = flagged.replace("    allow_private: true", f"    allow_private: true\n    fetch_media: {text}")
            assert run("config", "apply", file(given)).code == 0
            assert Provider.objects.get().fetch_media is value
            shown = yaml.safe_load(run("config", "export").out)
            assert shown["providers"][0].get("fetch_media") is value
        assert ProviderModel.objects.get(public_id="small").cache_answers is True
        assert shown["providers"][0]["models"][0]["flags"]["cache_answers"] is True
        bad = run("config", "apply", file(given.replace("fetch_media: null", "fetch_media: perhaps")))
        assert "providers.Local.fetch_media: true or false belongs here" in bad.err

    def test_a_preset_fills_in_what_the_file_leaves_out(self, file):
        run("config", "apply", file("{version: 1, providers: [{name: Mistral, preset: mistral}]}"))
        row = Provider.objects.get()
        assert (row.base_url, row.asks_usage, row.default_model) == (
            "https://api.mistral.ai/v1", False, "mistral-small-latest",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("old", "new", "text"),
        [
            ("version: 1", "version: 2", "version: This server reads version 1"),
            ("version: 1", "", "version: This server reads"),
            ("version: 1", "version: 1\ncolour: red", "colour: This is not known here"),
            ("adapter: openai_chat", "adapter: telepathy", "providers.Local: adapter: Unknown adapter"),
            ("adapter: openai_chat", "preset: nope", "providers.Local.preset: There is no preset"),
            ("adapter: openai_chat", "adapter: 3", "providers.Local.adapter: Text belongs here"),
            ("name: Local", "label: Local", "providers[0]: name is missing"),
            ("allow_private: true", "", "providers.Local: base_url"),
            ("allow_private: true", "allow_private: maybe", "allow_private: true or false"),
            ("allow_private: true", "allow_private: true\n    weight: heavy", "weight: A whole number"),
            ("allow_private: true", "allow_private: true\n    headers: [a]", "headers: A map of names"),
            ("allow_private: true", "allow_private: true\n    headers: {X-Key: {keep: true}}", "nothing to keep"),
            ("auth_style: none", "credentials: [{api_key: sk-1}]", "do not belong into this file"),
            ("auth_style: none", "credentials: [{api_key: {keep: true}}]", "nothing to keep"),
            ("allow_private: true", "allow_private: true\n    credentials: [{api_key: {keep: false}}]", "Write {env"),
            ("allow_private: true", "allow_private: true\n    credentials: [{}]", "api_key is missing"),
            ("id: big", "id: small", "models.small: This is named twice"),
            ("id: big", "id: b ig", "models.b ig"),
            ("vision: false", "visions: false", "models.small.flags.visions: This is not known here"),
            ("input: 0.15", "input: cheap", "prices[0].input: Dollars"),
            ("input: 0.15", "input: 0.0000000001", "nine decimal places"),
            ("input: 0.15", "input: .inf", "prices[0].input"),
            ("input: 0.15, ", "", "prices[0]: input is missing"),
            ("from: 2026-01-01", "from: someday", "from: A date"),
            ("prices:", "prices:\n          - {input: 1, output: 1, from: '2026-01-01'}", "Two prices"),
            ("context_length: 8192", "context_length: -1", "context_length: A whole number"),
            ("context_length: 8192", "prices: none", "prices: A list"),
            ("Local/big]", "Local/none]", "aliases.default.targets[1]: There is no model"),
            ("Local/big]", "Local/small]", "aliases.default.targets: A model is named twice"),
            ("Local/big]", "{model: Local/big, weight: 0}]", "A weight is 1 or more"),
            ("Local/big]", "{weight: 2}]", "model is missing"),
            ("name: default", "name: 'de fault'", "aliases.de fault: name"),
            ("aliases:", "aliases: {}\nother:", "other"),
        ],
    )  # fmt: skip
    def test_a_bad_file_names_the_place_and_changes_nothing(self, file, old, new, text):
        assert old in SMALL
        ran = run("config", "apply", file(SMALL.replace(old, new, 1)))
        assert ran.code == 1
        assert text in ran.err
        assert not Provider.objects.exists()
        assert not ModelAlias.objects.exists()

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a: [", "line 1"),
            ("just text", "A map of names"),
            ("", "A map of names"),
            ("!!python/object:os.system {}", "This is not YAML"),
            ("[" * 5000, "This is not YAML"),
            ("version: 1\nproviders: 3", "providers: A list"),
            ("version: 1\nproviders: [3]", "providers[0]: A map"),
            ("{version: 1, providers: [{name: a}, {name: A}]}", "adapter"),
            ("version: 1\n3: 4", "3: This is not known"),
            ("version: 1\nproviders: [{name: x, weight: 2001-99-99}]", "weight"),
        ],
    )
    def test_what_is_not_a_configuration(self, file, text, said):
        ran = run("config", "apply", file(text))
        assert (ran.code, said in ran.err) == (1, True), ran.err

    def test_files_that_cannot_be_read(self, tmp_path, monkeypatch):
        assert "cannot be read" in run("config", "apply", str(tmp_path / "none.yaml")).err
        (tmp_path / "odd").write_bytes(b"\xff\xfe\x00")
        assert "not UTF-8" in run("config", "apply", str(tmp_path / "odd")).err
        monkeypatch.setattr("gateway.management.commands.config.MAX_BYTES", 3)
        (tmp_path / "big").write_text("version: 1")
        assert "larger than" in run("config", "apply", str(tmp_path / "big")).err
