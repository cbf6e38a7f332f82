"""The preset file is sound, and `provider add --preset` can rely on it."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import yaml
from django.core.exceptions import ValidationError

from gateway import models, modelspec
from gateway.adapters import ADAPTERS
from gateway.models import Provider
from gateway.models.providers import model_id, provider_name
from gateway.modelspec import ModelSpec, parse_model
from gateway.presets import FILE, PresetError, _preset, models_url_of, preset_named, presets, symbol_of

ALL = list(presets().values())


@pytest.mark.parametrize("preset", ALL, ids=lambda preset: preset.key)
class TestEachPreset:
    def test_its_adapter_is_known(self, preset):
        assert preset.adapter in ADAPTERS

    def test_its_urls_are_https_unless_it_is_local(self, preset):
        assert urlsplit(preset.docs_url).scheme == "https"
        if preset.local:
            assert urlsplit(preset.base_url).hostname == "127.0.0.1"
            assert preset.port
        elif ADAPTERS[preset.adapter].local if preset.adapter else False:
            assert preset.base_url == ""
        else:
            assert urlsplit(preset.base_url).scheme == "https"
            assert preset.api_key_env
        assert not preset.base_url.endswith("/")

    def test_a_separate_model_list_stays_on_the_same_host(self, preset):
        # The credential goes with the request for the list.
        if preset.models_url:
            assert urlsplit(preset.models_url).netloc == urlsplit(preset.base_url).netloc

    def test_a_provider_made_from_it_is_valid(self, preset):
        url = preset.filled_base_url(dict.fromkeys(preset.placeholders, "acme"))
        row = Provider(name=preset.name, base_url=url, **preset.provider_fields())
        row.full_clean(validate_unique=False, validate_constraints=False)

    def test_its_names_can_be_used(self, preset):
        provider_name(preset.name)
        assert preset.key == preset.key.lower()
        assert preset.key.isalnum()
        assert len(preset.symbol) == 2
        for spec in preset.models:
            model_id(spec.public_id)
            model_id(spec.upstream_name)

    def test_its_default_model_is_one_of_its_models(self, preset):
        assert not preset.default_model or preset.default_model in {spec.public_id for spec in preset.models}


def test_keys_names_and_symbols_are_unique():
    entries = yaml.safe_load(FILE.read_text())
    for field in ("key", "name", "symbol"):
        values = [entry[field].lower() for entry in entries]
        assert len(values) == len(set(values))


def test_every_company_of_the_plan_is_there():
    assert set(presets()) >= {
        "openai", "openrouter", "groq", "mistral", "deepseek", "xai", "together", "fireworks", "cerebras", "perplexity",
        "huggingface", "github", "nvidia", "azure", "ollama", "lmstudio", "llamacpp", "vllm", "litellm", "anthropic",
        "gemini", "pollinations", "copilot",
    }  # fmt: skip


def test_each_says_whether_it_was_seen_live():
    assert all("seen_live" in entry for entry in yaml.safe_load(FILE.read_text()))


def test_local_presets_need_no_credential():
    assert {preset.auth_style for preset in ALL if preset.local} == {"none"}


def test_a_placeholder_must_be_given():
    azure = preset_named("AZURE")
    with pytest.raises(PresetError, match="--param resource=VALUE"):
        azure.filled_base_url({})
    assert azure.filled_base_url({"resource": "acme-1"}) == "https://acme-1.openai.azure.com/openai/v1"


@pytest.mark.parametrize("value", ["", "evil.com/", "a b", "-a", "a\n", "a.b"])
def test_a_placeholder_cannot_leave_its_place_in_the_host_name(value):
    with pytest.raises(PresetError, match="part of a host name"):
        preset_named("azure").filled_base_url({"resource": value})


def test_an_unknown_parameter_is_refused():
    with pytest.raises(PresetError, match="no parameter region"):
        preset_named("openai").filled_base_url({"region": "eu"})


def test_an_unknown_preset_names_those_that_are_there():
    with pytest.raises(PresetError, match="openrouter"):
        preset_named("nope")


def test_an_unknown_field_in_the_file_is_noticed():
    with pytest.raises(PresetError, match="colour"):
        _preset({"key": "x", "colour": "red"})


def test_symbols_of_presets_and_of_others():
    assert symbol_of("openai", "Mine") == "OA"
    assert symbol_of("", "my-server") == "MY"


def test_a_separate_list_is_only_used_at_the_presets_own_url():
    assert models_url_of("github", "https://models.github.ai/inference/") == "https://models.github.ai/catalog/models"
    assert models_url_of("github", "http://127.0.0.1:1/v1") == ""
    assert models_url_of("", "https://models.github.ai/inference") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpt-x", ModelSpec("gpt-x", "gpt-x")),
        ("llama3.1:8b", ModelSpec("llama3.1:8b", "llama3.1:8b")),
        ("gpt-x:vision,tools", ModelSpec("gpt-x", "gpt-x", {"vision": True, "tools": True})),
        ("gpt-x:!tools", ModelSpec("gpt-x", "gpt-x", {"tools": False})),
        ("llama3.1:8b:chat", ModelSpec("llama3.1:8b", "llama3.1:8b", {"chat": True})),
        ("fast=org/model:7b:chat,!json", ModelSpec("fast", "org/model:7b", {"chat": True, "json": False})),
        ("gpt-x:vision,telepathy", ModelSpec("gpt-x:vision,telepathy", "gpt-x:vision,telepathy")),
        ("a=b=c", ModelSpec("a", "b=c")),
    ],
)
def test_a_model_is_read_as_decided(text, expected):
    assert parse_model(text) == expected


@pytest.mark.parametrize("text", ["", "=x", "x=", ":vision", "x:"])
def test_a_model_without_a_name_is_refused(text):
    with pytest.raises(ValueError, match="is not ID"):
        parse_model(text)


def test_flags_are_those_of_the_table():
    assert modelspec.CAPABILITIES == models.CAPABILITIES
    assert modelspec.EMULATIONS == models.EMULATIONS


def test_a_slash_cannot_be_in_a_providers_name():
    with pytest.raises(ValidationError):
        provider_name("a/b")


def test_the_documentation_has_a_row_for_each():
    text = (FILE.parents[2] / "docs" / "providers.md").read_text()
    for preset in ALL:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{preset.key}` |")]
        assert f"| {preset.name} |" in row
        assert f"({preset.docs_url})" in row
        assert (f"`{preset.base_url}`" if preset.base_url else "| none |") in row
