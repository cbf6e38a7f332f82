"""Providers on this server as operators see them; what runs there is tested in `tests/engine`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from gateway import operations
from gateway.breaker import breaker
from gateway.engines import places
from gateway.engines.engine import MAX_LOG, bound, last_line
from gateway.engines.extras import problem_with
from gateway.engines.places import FAILING, LOADING, READY, Place
from gateway.models import AliasTarget, ModelAlias, Provider, ProviderModel
from gateway.operations import Refused
from gateway.presets import presets
from gateway.provider_state import provider_states
from gateway.snapshot import load, store
from tests.support.gateway import LiveGateway
from tests.support.provider import ScriptedProvider

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@pytest.fixture
def row(db: None) -> Provider:
    provider = Provider.objects.create(name="local", adapter="local", auth_style="none", gguf="/models/a.gguf")
    ProviderModel.objects.create(provider=provider, public_id="a", chat=True)
    return provider


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    yield
    for file in places.folder().glob("*.json"):
        file.unlink()


def form(**more: Any) -> dict[str, Any]:
    inline = {f"credentials-{name}": 0 for name in ("TOTAL_FORMS", "INITIAL_FORMS", "MIN_NUM_FORMS")}
    usual = {"name": "Mine", "adapter": "local", "auth_style": "none", "connect_timeout": 5, "weight": 1}
    return {**inline, **usual, "enabled": "on", **more}


def test_the_admin_says_why_a_file_cannot_run(charlie: User, client: Client, tmp_path: Path, settings: Any) -> None:
    client.force_login(charlie)
    model = tmp_path / "a.gguf"
    model.write_bytes(b"GGUF....")

    def refused(**fields: Any) -> str:
        answer = client.post(reverse("admin:gateway_provider_add"), form(**fields))
        assert answer.status_code == 200
        return answer.content.decode()

    assert "no GGUF file" in refused(gguf=str(tmp_path / "none"))
    assert "whole path" in refused(gguf="a.gguf")
    assert "for the adapter" in refused(gguf=str(model), adapter="openai_chat", base_url="https://a.example/v1")
    settings.LOCAL_ENGINE_PYTHON = "/usr/bin/false"
    assert "EXTRAS=local" in refused(gguf=str(model))
    assert not Provider.objects.exists()
    # Speech may be installed later; what is missing is said.
    saved = client.post(reverse("admin:gateway_provider_add"), form(), follow=True)
    assert "Speech is not installed" in saved.content.decode()
    assert Provider.objects.get().name == "Mine"
    settings.LOCAL_ENGINE_PYTHON = "/nowhere/python"
    assert "EXTRAS=local" in problem_with(str(model))


def test_a_file_that_has_gone_is_no_reason_to_refuse_another_change(row: Provider) -> None:
    row.label = "Still here"
    row.full_clean()


def test_its_state_is_shown(row: Provider) -> None:
    def word() -> str:
        return provider_states([row])[row.pk].word

    assert word() == "Not used yet"
    for state, expected in ((LOADING, "Loading its model"), (FAILING, "Not starting"), (READY, "Not used yet")):
        places.write(row.pk, Place(1, "k", state, "No memory."))
        assert word() == expected
    places.write(row.pk, Place(1, "k", FAILING, "No memory."))
    assert "No memory." in provider_states([row])[row.pk].detail


def test_it_cannot_be_asked_while_it_does_not_run(row: Provider) -> None:
    with pytest.raises(Refused, match="runs while the server does"):
        operations.test_provider(row)
    places.write(row.pk, Place(1, "k", LOADING, pid=7))
    with pytest.raises(Refused, match="still loading"):
        operations.test_provider(row)
    places.write(row.pk, Place(1, "k", FAILING, "No memory."))
    with pytest.raises(Refused, match="No memory"):
        operations.test_provider(row)


def test_requests_go_where_it_listens(row: Provider) -> None:
    (before,) = load().providers
    assert (before.endpoint.base_url, before.credentials) == ("http://127.0.0.1:0/v1", ())
    places.write(row.pk, Place(4711, "its-own-key", READY, pid=7))
    (after,) = load().providers
    assert (after.endpoint.base_url, after.credentials) == ("http://127.0.0.1:4711/v1", ((0, "its-own-key"),))
    assert after.endpoint.proxy is None
    assert "its-own-key" not in repr(after)
    assert "its-own-key" not in repr(places.read(row.pk))


def test_a_damaged_place_is_none(row: Provider) -> None:
    (places.folder() / f"{row.pk}.json").write_text('{"port": 1, "surprise": 2}')
    assert places.read(row.pk) is None
    places.forget(row.pk)
    places.forget(row.pk)
    assert places.read(row.pk) is None


def test_the_log_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "engine-1.log"
    assert last_line(log) == ""
    with log.open("ab") as child:
        child.write(b"x" * MAX_LOG + b"\nlast\n")
        child.flush()
        bound(log)
        child.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    assert (tmp_path / "engine-1.log.1").read_bytes().endswith(b"last\n")
    assert last_line(log) == "after"


def test_requests_wait_for_the_model_and_are_told_how_long(row: Provider) -> None:
    from gateway.adapters.local import check_ready
    from gateway.errors import NotReady, UpstreamRejected

    places.write(row.pk, Place(4711, "its-own-key", READY, pid=7))
    target = load().by_model["a"][0].targets[0]
    with pytest.raises(NotReady) as caught:
        check_ready(target)
    assert (caught.value.code, caught.value.status) == ("model_loading", 503)
    try:
        places.known[row.pk] = Place(4711, "its-own-key", FAILING, retry_at=time.time() + 30)
        with pytest.raises(NotReady) as caught:
            check_ready(target)
        assert caught.value.retry_after == pytest.approx(30, abs=2)
        places.known[row.pk] = Place(4711, "its-own-key", READY)
        check_ready(target)
    finally:
        places.known.clear()
    row.gguf = ""
    row.save()
    with pytest.raises(UpstreamRejected, match="no chats"):
        check_ready(load().by_model["a"][0].targets[0])


def test_what_cannot_start_is_told_and_the_next_target_answers(
    gateway: LiveGateway, provider: ScriptedProvider, row: Provider
) -> None:
    """Its file is not there, so the keeper says so again and again without a child."""
    gateway.add_provider(provider, "b", name="Fallback")
    alias = ModelAlias.objects.create(name="safe")
    for position, model in enumerate(ProviderModel.objects.order_by("public_id")):
        AliasTarget.objects.create(alias=alias, model=model, position=position)
    gateway.reload()
    deadline = time.monotonic() + 10
    while (place := places.known.get(row.pk)) is None or place.state != FAILING:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    body = {"model": "a", "messages": [{"role": "user", "content": "Hello"}]}
    for streamed in (False, True):
        refused = gateway.http.post("/v1/chat/completions", json={**body, "stream": streamed}, headers=gateway.auth())
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] in ("provider_not_working", "model_loading")
        assert int(refused.headers["retry-after"]) >= 1
        assert "/models/a.gguf" not in refused.text
    chat = gateway.client().chat.completions.create(model="safe", messages=body["messages"])  # type: ignore[arg-type]
    assert chat.choices[0].message.content
    assert provider.chats


def test_the_command_refuses_what_cannot_run(db: None, tmp_path: Path, settings: Any) -> None:
    (tmp_path / "Some Model.Q4.gguf").write_bytes(b"GGUF....")
    settings.LOCAL_ENGINE_PYTHON = "/usr/bin/false"
    with pytest.raises(CommandError, match="EXTRAS=local"):
        call_command("provider", "add", "--gguf", str(tmp_path / "Some Model.Q4.gguf"))
    with pytest.raises(CommandError, match="no GGUF file"):
        call_command("provider", "add", "--gguf", str(tmp_path / "none.gguf"))
    assert not Provider.objects.exists()
    # Whatever runs, a Python that has it is enough to be added.
    settings.LOCAL_ENGINE_PYTHON = "/usr/bin/true"
    call_command("provider", "add", "--gguf", str(tmp_path / "Some Model.Q4.gguf"), "--context-length", "512")
    found = Provider.objects.get()
    assert (found.name, found.adapter, found.gguf_context) == ("local", "local", 512)
    assert [model.public_id for model in found.models.all()] == ["some-model.q4"]
    call_command("provider", "set", "local", "--gguf", "", "--context-length", "0")
    found.refresh_from_db()
    assert (found.gguf, found.gguf_context) == ("", None)


def test_the_engines_run_in_our_own_python_unless_told(settings: Any) -> None:
    assert sys.executable == settings.LOCAL_ENGINE_PYTHON


@pytest.mark.parametrize("stream", [False, True])
def test_who_asks_it_for_pictures_does_not_pause_its_speech(gateway: LiveGateway, stream: bool) -> None:
    gateway.add_provider("", "espeak-ng", name="local", adapter="local", auth_style="none", credentials=())
    body = {"model": "espeak-ng", "provider": "local", "prompt": "A fox", "stream": stream}
    for _ in range(4):
        answer = gateway.http.post("/v1/images/generations", json=body, headers=gateway.auth())
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_operation")
    (target,) = store.current.by_name["local"].models["espeak-ng"].targets
    assert not breaker.is_open(target)


def test_its_models_are_known_not_to_draw() -> None:
    assert all(model.flags["image"] is False for model in presets()["local"].models)
