"""The flags that settings must know before they are read, and the programmatic form."""

from __future__ import annotations

import os

import pytest

from g4fsite import cli
from g4fsite.api import AppConfig, create_app, run_api


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--port 8080", {}),
        ("--debug --no-gui", {"G4F_DEBUG": "1", "G4F_GUI": "0"}),
        ("-d -g", {"G4F_DEBUG": "1", "G4F_GUI": "1"}),
        ("-ng", {"G4F_GUI": "0"}),
        ("--g4f-api-key K --model m", {"G4F_API_KEY": "K", "G4F_MODEL": "m"}),
        ("--g4f-api-key=K --provider=P", {"G4F_API_KEY": "K", "G4F_PROVIDER": "P"}),
        ("--timeout 300 --stream-timeout 60", {"G4F_TIMEOUT": "300", "STREAM_GAP_SECONDS": "60"}),
        ("--ignored-providers A B --port 1", {"G4F_IGNORED_PROVIDERS": "A,B"}),
        ("--ignored-providers=A --proxy http://p:1", {"G4F_IGNORED_PROVIDERS": "A", "G4F_PROXY": "http://p:1"}),
        ("--model", {}),
    ],
)
def test_flags_become_the_environment(line: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("G4F_API_KEY", raising=False)
    assert cli.api_environment(line.split()) == expected


def test_the_variable_wins_over_the_flag_for_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("G4F_API_KEY", "from the environment")
    assert cli.api_environment(["--g4f-api-key", "K", "--model", "m"]) == {"G4F_MODEL": "m"}


def test_the_version_and_init_need_no_settings(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--version"])
    cli.main(["init"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].count(".") == 2
    assert lines[1].endswith("secrets are there")


def test_options_become_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in AppConfig.VARIABLES.values():
        # Remembered by the fixture, and so put back.
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(AppConfig, "demo", False)
    AppConfig.set_config(g4f_api_key="K", gui=True, timeout=300, ignored_providers=["A", "B"], model=None, demo=True)
    found = {name: os.environ[name] for name in ("G4F_API_KEY", "G4F_GUI", "G4F_TIMEOUT", "G4F_IGNORED_PROVIDERS")}
    assert found == {"G4F_API_KEY": "K", "G4F_GUI": "1", "G4F_TIMEOUT": "300", "G4F_IGNORED_PROVIDERS": "A,B"}
    assert AppConfig.demo
    with pytest.raises(TypeError, match="nonsense"):
        AppConfig.set_config(nonsense=1)


def test_run_api_is_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(cli, "main", ran.append)
    monkeypatch.setattr(AppConfig, "demo", True)
    monkeypatch.setenv("G4F_DEBUG", "")
    run_api(port=8080, debug=True, workers=2, reload=True, ssl_keyfile="k", ssl_certfile="c")
    run_api(bind="127.0.0.1:9")
    assert ran[0] == ("api --bind 0.0.0.0:8080 --workers 2 --reload --demo --ssl-keyfile k --ssl-certfile c".split())
    assert ran[1][:3] == ["api", "--bind", "127.0.0.1:9"]
    with pytest.raises(TypeError, match="nonsense"):
        run_api(nonsense=1)


def test_create_app_is_the_application() -> None:
    from g4fsite.asgi import application

    assert create_app() is application
