"""The operator commands as processes: exit codes, the two output streams, and a database without tables."""

from __future__ import annotations

import json

import pytest

from g4fsite.bootstrap import make_secrets
from tests.support.commands import manage
from tests.support.listing import ListingServer

KEY = "sk-upstream-0123456789abcdef"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data folder with a migrated database and one user."""
    folder = tmp_path_factory.mktemp("operator")
    make_secrets(folder)
    assert manage(folder, "migrate", "--verbosity", "0").code == 0
    made = manage(
        folder, "createsuperuser", "--noinput", "--username", "alice", "--email", "a@example.com",
        DJANGO_SUPERUSER_PASSWORD="three quiet otters swim",
    )  # fmt: skip
    assert made.code == 0
    return folder


def test_a_provider_from_nothing_to_answers(home):
    with ListingServer() as server:
        server.lists("small:latest", {"id": "big", "max_model_len": 4096})
        added = manage(
            home, "provider", "add", "Local", "--adapter", "openai_chat", "--base-url", server.base_url,
            "--api-key-stdin", "--sync", "--json", stdin=f"{KEY}\n",
        )  # fmt: skip
        assert added.code == 0
        assert [item["id"] for item in json.loads(added.out)["models"]] == ["small", "big"]
        assert "private address" in added.err
        assert KEY not in added.out + added.err
        assert server.seen[0].headers["Authorization"] == f"Bearer {KEY}"
        tested = manage(home, "provider", "test", "Local")
        assert (tested.code, "2 models listed" in tested.out) == (0, True)
    gone = manage(home, "provider", "test", "Local")
    assert (gone.code, "the connection was refused" in gone.out) == (1, True)
    assert "Traceback" not in gone.err


def test_a_key_alone_on_standard_output(home):
    ran = manage(home, "apikey", "create", "--user", "alice", "--name", "laptop", "--expires", "30d")
    assert ran.code == 0
    assert ran.out.startswith("sk-gw-")
    assert ran.out.count("\n") == 1
    revoked = manage(home, "apikey", "revoke", ran.out[:14])
    assert (revoked.code, "is revoked" in revoked.out) == (0, True)


def test_a_refusal_is_one_sentence_and_status_one(home):
    ran = manage(home, "provider", "remove", "Nobody")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: There is no provider 'Nobody'.")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["provider"],
        ["provider", "fly"],
        ["provider", "add", "X"],
        ["provider", "add", "X", "--preset", "openai", "--header", "novalue"],
        ["provider", "add", "X", "--preset", "openai", "--model", "=x"],
        ["alias", "set", "x"],
        ["apikey", "create", "--user", "alice", "--name", "x", "--expires", "soon"],
        ["config", "apply"],
    ],
)
def test_wrong_usage_is_status_two(home, arguments):
    ran = manage(home, *arguments)
    assert ran.code == 2
    assert "usage:" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["provider"],
        ["provider", "add"],
        ["provider", "credential", "add"],
        ["alias", "set"],
        ["apikey", "create"],
        ["config", "apply"],
        ["rotate_secrets"],
    ],
)
def test_help_is_there(home, arguments):
    ran = manage(home, *arguments, "--help")
    assert ran.code == 0
    assert "usage:" in ran.out
    assert "--settings" not in ran.out


def test_a_configuration_goes_round(home, tmp_path):
    path = tmp_path / "gateway.yaml"
    assert manage(home, "config", "export", str(path)).code == 0
    assert manage(home, "config", "apply", str(path), "--prune").out == "Nothing to change.\n"


def test_secrets_move_to_a_new_key_and_a_lost_one_is_named(home):
    manage(home, "provider", "add", "Keyed", "--preset", "openai", "--api-key-stdin", stdin=f"{KEY}\n")
    file = home / "encryption_keys"
    old = file.read_text().strip()
    fresh = manage(
        home, "shell", "-v", "0", "-c", "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"
    )
    new = fresh.out.strip()
    assert "rotated" in manage(home, "rotate_secrets", ENCRYPTION_KEYS=f"{new},{old}").out
    lost = manage(home, "check", "--database", "default")
    assert lost.code == 1
    assert "gateway.E002" in lost.err
    assert "Keyed" in lost.err
    assert manage(home, "check", "--database", "default", ENCRYPTION_KEYS=new).code == 0
    manage(home, "rotate_secrets", ENCRYPTION_KEYS=f"{old},{new}")


def test_without_tables_each_command_says_what_to_do(tmp_path):
    make_secrets(tmp_path)
    for arguments in (
        ["provider", "list"],
        ["alias", "list"],
        ["apikey", "list"],
        ["config", "export"],
        ["rotate_secrets"],
    ):
        ran = manage(tmp_path, *arguments)
        assert ran.code == 1
        assert "manage.py migrate" in ran.err
        assert "Traceback" not in ran.err
    assert manage(tmp_path, "check", "--database", "default").code == 0
