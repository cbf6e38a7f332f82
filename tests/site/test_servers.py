"""Every way to start the server and every flag of `manage.py api`, each as a process that answers a chat request."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from tests.support import services
from tests.support.answers import Pause, chunk, silent, sse, stream
from tests.support.commands import manage
from tests.support.gateway import GatewayProcess
from tests.support.provider import ScriptedProvider

BIN = Path(sys.executable).parent
SHORT_KEY = "letmein"
LONG_KEY = "a-key-of-any-form-that-somebody-used-before"
APPLICATION = "g4fsite.asgi:application"


@pytest.fixture(scope="module")
def scripted():
    with ScriptedProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def equipped(gateway_template, tmp_path_factory, scripted):
    """A data folder with two providers that can only be reached through the scripted one as their proxy, and one
    that is the scripted one."""
    folder = shutil.copytree(gateway_template, tmp_path_factory.mktemp("equipped") / "data")
    for name, base_url in (
        ("Near", scripted.base_url),
        ("Far", "http://upstream.invalid/v1"),
        ("Farther", "http://farther.invalid/v1"),
    ):
        added = manage(
            folder, "provider", "add", name, "--adapter", "openai_chat", "--base-url", base_url, "--auth-style", "none",
            "--allow-private", "--model", "scripted", "--model", "mute", "--model", "halting",
        )  # fmt: skip
        assert added.code == 0, added.err
    return folder


@pytest.fixture
def start(equipped, tmp_path):
    """Starts any command as the server: `{port}` and `{bin}` in it are filled in."""
    started = []

    def start(*command, wait=True, **environment):
        process = GatewayProcess(equipped, tmp_path / f"data{len(started)}", environment=environment)
        process.arguments = [part.format(port=process.port, bin=BIN) for part in command]
        process.environment.setdefault("HOST", "127.0.0.1")
        started.append(process)
        return process.start() if wait else process.spawn()

    yield start
    for process in started:
        process.kill()


def chats(process, model="Near/scripted", **client):
    """Plain and streamed."""
    api = process.client(**client).chat.completions
    ask = [{"role": "user", "content": "three short words"}]
    assert api.create(model=model, messages=ask).choices[0].message.content == "three short words"
    pieces = [
        item.choices[0].delta.content for item in api.create(model=model, messages=ask, stream=True) if item.choices
    ]
    assert [piece for piece in pieces if piece] == ["three ", "short ", "words"]


def console_script():
    script = BIN / "g4fsite"
    services.require("console script")
    return str(script)


PROGRAM = (
    "from g4fsite.api import AppConfig, run_api\n"
    f"AppConfig.set_config(g4f_api_key={LONG_KEY!r}, provider='Near', model='scripted', timeout=30, demo=True)\n"
    "run_api(host='127.0.0.1', port={port})"
)
OURS = {
    "manage.py": [sys.executable, "manage.py", "api", "-p", "{port}"],
    "module": [sys.executable, "-m", "g4fsite", "api", "--bind", "127.0.0.1:{port}"],
    "script": ["{bin}/g4fsite", "api", "--host", "localhost", "--port={port}"],
    "program": [sys.executable, "-c", PROGRAM],
}
OTHERS = {
    "gunicorn": ["{bin}/gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}", APPLICATION],
    "factory": [
        "{bin}/gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}", "g4fsite.api:create_app()",
    ],
    "uvicorn": ["{bin}/uvicorn", "--port", "{port}", APPLICATION],
    "daphne": ["{bin}/daphne", "-b", "127.0.0.1", "-p", "{port}", APPLICATION],
}  # fmt: skip


@pytest.mark.parametrize("command", OURS.values(), ids=OURS)
def test_each_form_of_the_command_answers_and_ends_well(start, command):
    if command[0].endswith("g4fsite"):
        console_script()
    process = start(*command)
    chats(process)
    assert process.stop() == 0
    assert "Traceback" not in process.output


def test_the_programmatic_form_takes_its_configuration(start):
    process = start(*OURS["program"])
    process.key = LONG_KEY
    chats(process, model="default")
    assert "demo" in {model.id for model in process.client().models.list()}
    assert LONG_KEY not in process.output


@pytest.mark.parametrize("command", OTHERS.values(), ids=OTHERS)
def test_other_servers_run_the_application(start, command):
    process = start(*command)
    chats(process)
    process.stop(signal.SIGTERM)
    assert "Traceback" not in process.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_port_is_free(start, number):
    process = start(sys.executable, "manage.py", "api", "--port", "{port}")
    assert process.stop(number, timeout=10) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(process.url)


FLAGS = [
    "api", "--host=192.0.2.1", "--port", "1", "--bind", "127.0.0.1:{port}", "--debug", "--no-gui", "--g4f-api-key",
    SHORT_KEY, "--provider", "Far", "--model=scripted", "--proxy", "{proxy}", "--timeout", "1", "--stream-timeout=1",
    "--ignored-providers", "near", "Farther", "--demo", "--disable-colors",
]  # fmt: skip
VARIABLES = {
    "HOST": "127.0.0.1",
    "G4F_DEBUG": "1",
    "G4F_GUI": "0",
    "G4F_API_KEY": SHORT_KEY,
    "G4F_PROVIDER": "Far",
    "G4F_MODEL": "scripted",
    "G4F_PROXY": "{proxy}",
    "G4F_TIMEOUT": "1",
    "STREAM_GAP_SECONDS": "1",
    "G4F_IGNORED_PROVIDERS": "near,Farther",
}


@pytest.fixture(params=["flags", "variables"])
def steered(request, start, scripted):
    """Started with every steering flag, or with the variable that each stands for."""
    proxy = scripted.base_url.removesuffix("/v1")
    scripted.on("mute", silent())
    scripted.on("halting", sse([chunk({"role": "assistant", "content": "one"}), Pause(5), chunk({}, "stop")]))
    if request.param == "flags":
        process = start(sys.executable, "manage.py", *(part.replace("{proxy}", proxy) for part in FLAGS))
    else:
        variables = {name: value.format(proxy=proxy) for name, value in VARIABLES.items()}
        process = start("{bin}/python", "manage.py", "api", "--port", "{port}", "--demo", **variables)
    process.key = SHORT_KEY
    return process


def test_each_steering_flag_and_variable_does_what_it_says(steered, scripted):
    # --provider, --model, --proxy, --g4f-api-key: the default model, through the proxy, with a key of any form.
    chats(steered, model="default")
    assert scripted.chats[-1].path == "http://upstream.invalid/v1/chat/completions"
    assert "G4F_API_KEY is shorter than 32 characters" in steered.output
    # --ignored-providers, whatever the case; --demo.
    shown = httpx.get(f"{steered.url}/v1/providers", headers=steered.auth()).json()["data"]
    assert [provider["id"] for provider in shown] == ["Far", "Demo"]
    # --no-gui.
    assert httpx.get(f"{steered.url}/", follow_redirects=False).headers["location"] == "/docs/"
    # --timeout.
    ask = {"messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(openai.APIStatusError) as late:
        steered.client().chat.completions.create(model="mute", **ask)
    assert (late.value.status_code, late.value.code) == (504, "provider_timeout")
    # --stream-timeout.
    began = time.monotonic()
    with pytest.raises(openai.APIError, match="Far"):
        list(steered.client().chat.completions.create(model="halting", stream=True, **ask))
    assert 0.9 < time.monotonic() - began < 4
    # --debug: pages and their files come without `collectstatic`.
    assert httpx.get(f"{steered.url}/accounts/login/").status_code == 200
    assert httpx.get(f"{steered.url}/static/g4fsite/site.css").status_code == 200
    assert SHORT_KEY not in steered.output
    assert steered.stop() == 0


def test_the_variable_wins_over_the_flag_for_the_key(start):
    process = start(
        sys.executable,
        "manage.py",
        "api",
        "--port",
        "{port}",
        "--g4f-api-key",
        SHORT_KEY,
        "--gui",
        "--debug",
        G4F_API_KEY=LONG_KEY,
    )
    first = process.key
    for key, status in ((LONG_KEY, 200), (first, 200), (SHORT_KEY, 401)):
        assert httpx.get(f"{process.url}/v1/models", headers=process.auth(key)).status_code == status
    assert httpx.get(f"{process.url}/").status_code == 200
    assert "warning" not in process.output


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate: install openssl")
def test_it_speaks_tls(start, tmp_path):
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    process = start(
        sys.executable, "manage.py", "api", "--port", "{port}", "--ssl-keyfile", key, "--ssl-certfile", certificate,
        wait=False,
    )  # fmt: skip
    process.url = process.url.replace("http:", "https:")
    with httpx.Client(verify=ssl.create_default_context(cafile=certificate)) as http:
        wait_for(lambda: answers(http, process))
        chats(process, http_client=http)
    assert f"on https://127.0.0.1:{process.port}" in process.output
    assert process.stop() == 0


def test_reload_starts_anew_when_a_file_changes(equipped, tmp_path):
    # From a folder of its own: uvicorn watches the current one.
    watched = tmp_path / "watched"
    watched.mkdir()
    file = watched / "changing.py"
    file.touch()
    process = GatewayProcess(equipped, tmp_path / "data")
    process.environment["PYTHONPATH"] = str(Path.cwd())
    process.process = subprocess.Popen(
        [sys.executable, "-m", "g4fsite", "api", "--reload", "--port", str(process.port)],
        cwd=watched, env=process.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with httpx.Client() as http:
            wait_for(lambda: answers(http, process))
            chats(process)
            before = workers_of(process)
            os.utime(file, (time.time() + 60,) * 2)
            wait_for(lambda: workers_of(process) and workers_of(process).isdisjoint(before))
            wait_for(lambda: answers(http, process))
        chats(process)
        assert process.stop() == 0
    finally:
        process.kill()


@pytest.mark.redis
def test_a_worker_that_dies_is_replaced(start, redis_url):
    process = start(sys.executable, "manage.py", "api", "--port", "{port}", "--workers", "2", REDIS_URL=redis_url)
    victim = min(workers_of(process))
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workers_of(process) - {victim}) == 2)
    wait_for(lambda: answers(process.http, process))
    chats(process)
    assert process.stop() == 0


@pytest.mark.redis
def test_ctrl_c_reaches_every_process_and_answers_still_end(start, scripted, redis_url):
    process = start(sys.executable, "manage.py", "api", "--port", "{port}", "--workers", "2", REDIS_URL=redis_url)
    scripted.enqueue(stream(*["word "] * 10, gap=0.2))
    before = len(scripted.chats)
    ask = {"model": "Near/scripted", "messages": [{"role": "user", "content": "slowly"}]}
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(lambda: list(process.client().chat.completions.create(**ask, stream=True)))
        scripted.wait_for(before + 1)
        for pid in (process.process.pid, *workers_of(process)):
            os.kill(pid, signal.SIGINT)
        assert process.wait(15) == 0
        assert sum(bool(item.choices and item.choices[0].delta.content) for item in answer.result()) == 10


def answers(http, process):
    try:
        return http.get(f"{process.url}/health").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition, timeout=30):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def workers_of(process):
    """Process ids of the workers, without multiprocessing's helper."""
    listed = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children")
    children = {int(child) for child in listed.read_text().split()} if listed.exists() else set()
    return {child for child in children if serves(child)}


def serves(pid):
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
