"""`provider`, through Django's own way of calling commands and against a real upstream."""

from __future__ import annotations

import io

import pytest

from gateway.models import AliasTarget, ConfigVersion, Credential, ModelAlias, Provider, ProviderModel
from tests.support.commands import run
from tests.support.listing import ListingServer

pytestmark = pytest.mark.django_db
KEY = "sk-upstream-0123456789abcdef"


@pytest.fixture
def server():
    with ListingServer() as running:
        yield running


@pytest.fixture
def local(server):
    """A provider at the local server, with no models yet."""
    ran = run("provider", "add", "Local", "--adapter", "openai_chat", "--base-url", server.base_url)
    assert ran.code == 0
    return Provider.objects.get(name="Local")


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    return "UPSTREAM_KEY"


class TestAdd:
    def test_it_works(self, key):
        ran = run("provider", "add", "--preset", "openai", "--api-key-env", key)
        assert ran.code == 0
        row = Provider.objects.get(name="OpenAI")
        assert (row.preset, row.base_url, row.allow_private) == ("openai", "https://api.openai.com/v1", False)
        assert row.credentials.get().secret.reveal() == KEY
        assert row.models.get(public_id="gpt-4o").vision is True
        assert KEY not in ran.out + ran.err

    def test_one_preset_serves_several_names(self, key):
        assert run("provider", "add", "--preset", "openai", "--api-key-env", key).code == 0
        assert run("provider", "add", "Second", "--preset", "openai", "--api-key-env", key, "--priority", "1").code == 0
        assert [row.name for row in Provider.objects.filter(preset="openai")] == ["Second", "OpenAI"]

    def test_a_taken_name_is_refused_whatever_its_case(self, local):
        ran = run("provider", "add", "LOCAL", "--adapter", "openai_chat", "--base-url", "https://8.8.8.8/v1")
        assert (ran.code, "taken" in ran.err) == (1, True)

    def test_a_local_preset_allows_private_addresses_and_says_so(self):
        ran = run("provider", "add", "--preset", "ollama")
        row = Provider.objects.get(name="Ollama")
        assert (row.allow_private, row.auth_style) == (True, "none")
        assert "private addresses are allowed" in ran.err
        assert "provider sync Ollama" in ran.err

    def test_a_private_url_allows_itself_and_says_so(self, server):
        ran = run("provider", "add", "Local", "--adapter", "openai_chat", "--base-url", server.base_url)
        assert Provider.objects.get(name="Local").allow_private
        assert "private address" in ran.err

    def test_a_local_preset_elsewhere_is_not_private(self):
        run("provider", "add", "--preset", "litellm", "--base-url", "https://8.8.8.8/v1")
        assert not Provider.objects.get(name="LiteLLM").allow_private

    def test_plain_http_to_the_world_needs_a_word(self):
        arguments = ("provider", "add", "Far", "--adapter", "openai_chat", "--base-url", "http://8.8.8.8/v1")
        assert "Plain http" in run(*arguments).err
        assert run(*arguments, "--allow-private").code == 0

    def test_every_option_lands_in_its_column(self, key):
        ran = run(
            "provider", "add", "Full", "--adapter", "openai_chat", "--base-url", "https://8.8.8.8/v1", "--label", "All",
            "--api-key-env", key, "--auth-style", "header", "--auth-name", "api-key",
            "--model", "a=up/a:vision,!tools,emulate_tools", "--completions",
            "--model", "llama3.1:8b", "--priority", "7", "--weight", "3", "--proxy", "http://u:pw@10.0.0.1:3128",
            "--header", "X-Title=mine", "--query", "api-version=2", "--default-model", "a", "--no-usage",
            "--timeout", "9", "--connect-timeout", "2", "--first-event-timeout", "3", "--gap-timeout", "4",
            "--docs-url", "https://x.test/",
            "--disabled", "--json",
        )  # fmt: skip
        assert ran.code == 0
        data = ran.json
        assert data["headers"] == {"X-Title": "mine"}
        assert data["query"] == {"api-version": "2"}
        assert data["models"][0] | {"context_length": 0} == {
            "id": "a", "upstream": "up/a", "enabled": True,
            "flags": {"vision": True, "tools": False, "emulate_tools": True}, "context_length": 0,
            "requests_per_minute": None, "tokens_per_minute": None, "max_streams": None,
        }  # fmt: skip
        assert data["completions"] is True
        assert data["models"][1]["id"] == "llama3.1:8b"
        assert (data["priority"], data["weight"], data["asks_usage"], data["enabled"]) == (7, 3, False, False)
        assert (data["auth"], data["auth_name"], data["timeout"], data["gap_timeout"]) == ("header", "api-key", 9, 4)
        assert data["proxy"] == "http://***@10.0.0.1:3128"
        assert "pw" not in ran.out
        assert KEY not in ran.out

    def test_own_models_stand_instead_of_the_presets(self, key):
        run("provider", "add", "--preset", "openai", "--api-key-env", key, "--model", "gpt-x")
        assert list(ProviderModel.objects.values_list("public_id", flat=True)) == ["gpt-x"]

    def test_headers_of_the_preset_stay(self, key):
        run("provider", "add", "--preset", "anthropic", "--api-key-env", key, "--header", "X-A=b")
        assert Provider.objects.get().headers == {"anthropic-version": "2023-06-01", "X-A": "b"}

    def test_a_placeholder_is_filled(self, key):
        assert "--param resource=VALUE" in run("provider", "add", "--preset", "azure", "--api-key-env", key).err
        run("provider", "add", "--preset", "azure", "--param", "resource=acme", "--api-key-env", key, "--model", "gpt")
        row = Provider.objects.get()
        assert row.base_url == "https://acme.openai.azure.com/openai/v1"
        assert (row.auth_style, row.auth_name) == ("header", "api-key")

    def test_the_key_comes_from_standard_input(self, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\nmore\n"))
        assert run("provider", "add", "--preset", "groq", "--api-key-stdin").code == 0
        assert Credential.objects.get().secret.reveal() == KEY

    def test_a_key_for_a_keyless_preset_is_sent(self, key):
        run("provider", "add", "--preset", "vllm", "--api-key-env", key)
        assert Provider.objects.get().auth_style == "bearer"

    def test_without_a_key_it_says_how_to_add_one(self):
        ran = run("provider", "add", "--preset", "groq")
        assert "provider credential add Groq --api-key-env GROQ_API_KEY" in ran.err

    def test_it_synchronises_at_once(self, server):
        server.lists("one", "two:latest")
        ran = run("provider", "add", "--preset", "vllm", "--base-url", server.base_url, "--sync", "--json")
        assert ran.json["sync"]["added"] == ["one", "two"]
        assert [item["id"] for item in ran.json["models"]] == ["one", "two"]

    def test_a_failed_synchronisation_keeps_the_provider_and_fails(self, server):
        ran = run("provider", "add", "--preset", "vllm", "--base-url", server.base_url, "--sync")
        assert ran.code == 1
        assert "was added, but" in ran.err
        assert Provider.objects.filter(name="vLLM").exists()

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["--preset", "nope"], "no preset"),
            (["--adapter", "openai_chat", "--base-url", "https://8.8.8.8/v1"], "needs a NAME"),
            (["X", "--adapter", "telepathy", "--base-url", "https://8.8.8.8/v1"], "Unknown adapter"),
            (["X", "--adapter", "openai_chat"], "base URL is required"),
            (["X", "--adapter", "openai_chat", "--base-url", "ftp://x/v1"], "must look like https"),
            (["X", "--adapter", "openai_chat", "--base-url", "https://k:s@8.8.8.8/v1"], "Credentials belong"),
            (["a/b", "--preset", "openai"], "Use letters"),
            (["--preset", "openai", "--api-key-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is not set"),
            (["--preset", "openai", "--header", "X-Api-Key=abc"], "looks like a credential"),
            (["--preset", "openai", "--query", "key=abc"], "--auth-style query --auth-name key"),
            (["--preset", "openai", "--header", "A B=abc"], "not a header name"),
            (["--preset", "openai", "--param", "region=eu"], "no parameter region"),
            (["--preset", "openai", "--model", "a b"], "no spaces"),
            (["--preset", "openai", "--weight", "0"], "weight"),
            (["--preset", "openai", "--proxy", "socks5://x"], "proxy"),
            (["--preset", "openai", "--docs-url", "javascript:1"], "docs_url"),
            (["--preset", "openai", "--auth-style", "header"], "Name the header"),
        ],
    )
    def test_what_cannot_be_is_one_sentence_and_adds_nothing(self, arguments, text):
        ran = run("provider", "add", *arguments)
        assert ran.code == 1
        assert text in ran.err
        assert not Provider.objects.exists()

    def test_both_ways_to_give_a_key_are_one_too_many(self, key):
        ran = run("provider", "add", "--preset", "openai", "--api-key-env", key, "--api-key-stdin")
        assert "either" in ran.err

    @pytest.mark.parametrize("value", ["ключ-0123456789", "two\x07bells"])
    def test_a_credential_that_no_header_can_carry_adds_nothing(self, monkeypatch, value):
        monkeypatch.setenv("ODD", value)
        ran = run("provider", "add", "--preset", "openai", "--api-key-env", "ODD")
        assert ran.code == 1
        assert value not in ran.err
        assert not Provider.objects.exists()

    def test_an_empty_standard_input_is_refused(self, monkeypatch):
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert "holds no credential" in run("provider", "add", "--preset", "openai", "--api-key-stdin").err


class TestLook:
    def test_an_empty_list_says_so(self):
        assert "No providers yet" in run("provider", "list").out
        assert run("provider", "list", "--json").json == []

    def test_the_list(self, local):
        ran = run("provider", "list")
        assert ran.out.splitlines()[0].split()[:2] == ["NAME", "ADAPTER"]
        assert ran.out.splitlines()[1].split()[:3] == ["Local", "openai_chat", local.base_url]
        assert run("provider", "list", "--json").json[0]["name"] == "Local"

    def test_one_in_full_without_secrets(self, key):
        run("provider", "add", "--preset", "openai", "--api-key-env", key, "--model", "m:vision,!tools")
        for arguments in (["show", "openai"], ["show", "OpenAI", "--json"], ["credential", "list", "OpenAI"]):
            ran = run("provider", *arguments)
            assert ran.code == 0
            assert KEY not in ran.out
            assert KEY[-4:] in ran.out
        assert "vision,!tools" in run("provider", "show", "OpenAI").out

    def test_a_secret_in_a_header_is_masked(self, local):
        local.headers = {"X-Api-Key": "hidden-value"}
        local.save()
        assert "hidden-value" not in run("provider", "show", "Local").out + run("provider", "list", "--json").out

    def test_a_name_cannot_steer_the_terminal(self, local):
        local.label = "a\x1b[31mb"
        local.save()
        assert "\x1b" not in run("provider", "show", "Local").out

    def test_an_unknown_one_names_those_that_are_there(self, local):
        ran = run("provider", "show", "Nope")
        assert (ran.code, "There are: Local" in ran.err) == (1, True)

    def test_presets(self):
        assert "OPENAI_API_KEY" in run("provider", "presets").out
        by_key = {item["key"]: item for item in run("provider", "presets", "--json").json}
        assert by_key["copilot"]["adapter"] == "copilot"


class TestTest:
    def test_it_works(self, local, server):
        server.lists("a", "b")
        ran = run("provider", "test", "Local")
        assert (ran.code, "2 models listed in" in ran.out) == (0, True)

    def test_each_credential_is_tested(self, local, server, monkeypatch):
        def answer(handler):
            good = handler.headers["Authorization"] == "Bearer good-credential-0123456789"
            handler.send_response(200 if good else 401)
            handler.end_headers()
            handler.wfile.write(b'{"object": "list", "data": []}')

        server.does("/v1/models", answer)
        for name, value in (("A", "good-credential-0123456789"), ("B", "spent-credential-0123456789")):
            monkeypatch.setenv(name, value)
            run("provider", "credential", "add", "Local", "--label", name, "--api-key-env", name)
        ran = run("provider", "test", "Local", "--json")
        assert ran.code == 1
        assert [item["ok"] for item in ran.json["results"]] == [True, False]
        assert "refused the credential" in ran.json["results"][1]["problem"]
        assert "spent-credential" not in ran.out

    def test_a_server_without_a_list_answers_a_token(self, local, server):
        server.says("/v1/chat/completions", {"choices": []})
        run("provider", "set", "Local", "--model", "mine=theirs", "--default-model", "mine")
        ran = run("provider", "test", "Local", "--json")
        assert ran.json["results"][0]["answered"] == "theirs"
        assert server.seen[-1].json["model"] == "theirs"

    def test_the_first_chat_model_stands_in_for_a_default(self, local, server):
        server.says("/v1/chat/completions", {"choices": []})
        run("provider", "set", "Local", "--model", "e:!chat", "--model", "m")
        assert run("provider", "test", "Local", "--json").json["results"][0]["answered"] == "m"

    def test_without_a_credential_there_is_nothing_to_test(self):
        run("provider", "add", "--preset", "groq")
        assert "has no credential" in run("provider", "test", "Groq").err

    def test_a_credential_that_cannot_be_read_is_said_so(self, local, settings, key):
        run("provider", "credential", "add", "Local", "--api-key-env", key)
        settings.ENCRYPTION_KEYS = ["A" * 43 + "="]
        assert "can be decrypted" in run("provider", "test", "Local").err
        assert run("provider", "show", "Local", "--json").json["credentials"][0]["readable"] is False

    def test_the_demo_has_no_network(self):
        run("provider", "add", "Demo", "--adapter", "demo")
        assert "nothing to ask" in run("provider", "test", "Demo").err
        assert "nothing to ask" in run("provider", "sync", "Demo").err


class TestSync:
    def test_it_adds_what_is_listed(self, local, server):
        server.lists({"id": "models/gemini", "context_length": 1000}, "llama3:latest", "has space")
        before = ConfigVersion.current()
        ran = run("provider", "sync", "Local", "--json")
        assert ran.json == {
            "added": ["gemini", "llama3"], "updated": [], "unchanged": 0, "gone": [], "disabled": [],
            "skipped": ["has space"],
        }  # fmt: skip
        assert ConfigVersion.current() > before
        row = local.models.get(public_id="gemini")
        assert (row.upstream_name, row.context_length, row.enabled, row.vision) == ("models/gemini", 1000, True, None)

    def test_again_changes_nothing(self, local, server):
        server.lists("a", "b")
        run("provider", "sync", "Local")
        before = ConfigVersion.current()
        assert "0 added, 0 updated, 2 unchanged" in run("provider", "sync", "Local").out
        assert ConfigVersion.current() == before

    def test_it_fills_in_but_never_overrules(self, local, server):
        run("provider", "set", "Local", "--model", "a:!tools", "--model", "fast=other")
        server.lists(
            {"id": "a", "supported_parameters": ["tools"], "max_model_len": 50}, {"id": "fast", "max_model_len": 9}
        )
        ran = run("provider", "sync", "Local", "--json")
        assert ran.json["updated"] == ["a"]
        row = local.models.get(public_id="a")
        assert (row.tools, row.json, row.context_length) == (False, False, 50)
        assert local.models.get(public_id="fast").context_length is None

    def test_what_is_gone_is_reported_and_pruned_only_on_demand(self, local, server):
        server.lists("a", "b")
        run("provider", "sync", "Local")
        server.lists("a")
        ran = run("provider", "sync", "Local")
        assert "- b: no longer listed" in ran.out
        assert "--prune" in ran.err
        assert local.models.get(public_id="b").enabled
        ran = run("provider", "sync", "Local", "--prune", "--json")
        assert (ran.json["gone"], ran.json["disabled"]) == (["b"], ["b"])
        assert not local.models.get(public_id="b").enabled
        assert run("provider", "sync", "Local", "--json").json["gone"] == []

    def test_a_refusal_changes_nothing(self, local, server):
        server.says("/v1/models", {}, status=500)
        ran = run("provider", "sync", "Local")
        assert (ran.code, "status 500" in ran.err) == (1, True)
        assert not local.models.exists()


class TestChange:
    def test_enable_and_disable(self, local):
        assert run("provider", "disable", "local").code == 0
        assert not Provider.objects.get().enabled
        before = ConfigVersion.current()
        run("provider", "disable", "Local")
        assert ConfigVersion.current() == before
        assert run("provider", "enable", "Local", "--json").json == {"name": "Local", "enabled": True}

    def test_set(self, local):
        run("provider", "set", "Local", "--header", "X-A=1", "--header", "X-B=2", "--query", "v=1", "--timeout", "5")
        ran = run(
            "provider", "set", "Local", "--rename", "Nearby", "--remove-header", "X-A", "--header", "X-C=3",
            "--timeout", "0", "--remove-query", "v", "--no-usage", "--weight", "4", "--model", "m:chat", "--json",
        )  # fmt: skip
        assert ran.code == 0
        row = Provider.objects.get(name="Nearby")
        assert row.headers == {"X-B": "2", "X-C": "3"}
        assert (row.query, row.timeout, row.asks_usage, row.weight) == ({}, None, False, 4)
        assert run("provider", "set", "Nearby", "--remove-model", "m", "--usage", "--label", "").code == 0
        assert not row.models.exists()

    def test_a_move_to_a_private_address_is_said(self, key):
        run("provider", "add", "--preset", "openai", "--api-key-env", key)
        ran = run("provider", "set", "OpenAI", "--base-url", "http://10.0.0.5/v1")
        assert "private address" in ran.err
        assert Provider.objects.get().allow_private
        assert "private address" in run("provider", "set", "OpenAI", "--no-allow-private").err

    def test_a_bad_change_changes_nothing(self, local):
        assert run("provider", "set", "Local", "--label", "new", "--remove-model", "none").code == 1
        assert Provider.objects.get().label == ""

    def test_remove_says_which_aliases_lose_a_target(self, local):
        run("provider", "set", "Local", "--model", "m")
        alias = ModelAlias.objects.create(name="fast")
        AliasTarget.objects.create(alias=alias, model=local.models.get())
        ran = run("provider", "remove", "Local")
        assert (ran.code, "fast" in ran.err) == (0, True)
        assert not Provider.objects.exists()

    def test_credentials_come_and_go(self, local, key):
        ran = run("provider", "credential", "add", "Local", "--label", "first", "--api-key-env", key)
        assert "now sends this one" in ran.err
        (found,) = run("provider", "credential", "list", "Local", "--json").json
        assert (found["label"], found["tail"]) == ("first", KEY[-4:])
        assert run("provider", "credential", "remove", "Local", str(found["id"] + 1)).code == 1
        assert run("provider", "credential", "remove", "Local", str(found["id"])).code == 0
        assert "No credentials yet" in run("provider", "credential", "list", "Local").out
        assert "Say where" in run("provider", "credential", "add", "Local").err

    def test_each_change_moves_the_version(self, local, key):
        for arguments in (
            ["set", "Local", "--label", "x"],
            ["credential", "add", "Local", "--api-key-env", key],
            ["set", "Local", "--model", "m"],
            ["disable", "Local"],
            ["remove", "Local"],
        ):
            before = ConfigVersion.current()
            run("provider", *arguments)
            assert ConfigVersion.current() > before
