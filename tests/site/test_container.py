"""What the image runs, on code that cannot be written; and that the files of a deployment agree with the settings."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import openai
import pytest
import yaml

from g4fsite.stopping import LAST_WORDS_SECONDS
from tests.support.gateway import free_port
from tests.support.services import ROOT


def image_files(target):
    """What .dockerignore lets into the image, copied; nothing in it may be written."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in kept:
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy2(source, copy)
    for path in (target, *target.rglob("*")):
        path.chmod(0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444)
    return target


@pytest.fixture
def container():
    """A folder for the code that cannot be written, and one for data."""
    folder = Path(tempfile.mkdtemp(prefix="g4fsite-image-"))
    folder.chmod(0o755)
    app = image_files(folder / "app")
    data = folder / "data"
    data.mkdir(mode=0o700)
    port = free_port()
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "DATA_DIR": str(data), "HOST": "0.0.0.0",
        "PORT": str(port), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(data),
    }  # fmt: skip
    yield {"cwd": app, "env": environment}
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


def obeying_modes(*command):
    """The command without root's right to write where file modes forbid it."""
    if os.getuid() != 0:
        return command
    return ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all", *command)


def run_container(options, output):
    assert subprocess.run(obeying_modes("touch", "new"), **options, capture_output=True, check=False).returncode
    start = obeying_modes(options["cwd"] / "deploy/start.sh")
    process = subprocess.Popen(start, stdout=output, stderr=subprocess.STDOUT, **options)
    check = [sys.executable, "deploy/healthcheck.py"]
    deadline = time.monotonic() + 45
    while subprocess.run(check, **options, capture_output=True, check=False).returncode:
        assert process.poll() is None, Path(output.name).read_text()
        assert time.monotonic() < deadline, Path(output.name).read_text()
        time.sleep(0.2)
    return process


def end_container(process):
    process.send_signal(signal.SIGTERM)
    return process.wait(40)


@pytest.mark.timeout(120)
def test_the_containers_commands_on_a_read_only_checkout(container, tmp_path):
    port = container["env"]["PORT"]
    with (tmp_path / "first.log").open("w") as output:
        process = run_container(container, output)
    said = (tmp_path / "first.log").read_text()
    key = re.search(r"API key\s+(sk-gw-\S+)", said)[1]
    url = f"http://127.0.0.1:{port}"
    with openai.OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0) as client:
        ask = {"model": "default", "messages": [{"role": "user", "content": "Hello"}]}
        assert "demo" in client.chat.completions.create(**ask).choices[0].message.content.lower()
        assert len(list(client.chat.completions.create(**ask, stream=True))) > 3
    assert httpx.get(f"{url}/accounts/login/").status_code == 200
    assert end_container(process) == 0
    assert not list(container["cwd"].rglob("*.pyc"))
    with (tmp_path / "second.log").open("w") as output:
        process = run_container(container, output)
    assert httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert end_container(process) == 0
    again = (tmp_path / "second.log").read_text()
    assert "password" not in again
    assert "sk-gw-" not in again


def test_the_health_check_fails_when_nothing_answers():
    ran = subprocess.run(
        [sys.executable, "deploy/healthcheck.py"], cwd=ROOT, env={"PORT": str(free_port())}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "does not answer" in ran.stderr
    assert "Traceback" not in ran.stderr


def seconds(directive):
    text = (ROOT / "deploy/nginx.conf").read_text()
    return int(re.search(rf"^\s*{directive}\s+(\d+)s;", text, re.MULTILINE)[1])


def test_nginx_agrees_with_the_gateways_limits():
    from django.conf import settings

    from g4fsite import server

    text = (ROOT / "deploy/nginx.conf").read_text()
    megabytes = int(re.search(r"client_max_body_size\s+(\d+)m;", text)[1])
    assert megabytes * 2**20 == settings.MAX_BODY_BYTES
    assert f"max_size {megabytes}MiB" in (ROOT / "deploy/Caddyfile").read_text()
    assert seconds("proxy_read_timeout") > max(settings.UPSTREAM_TIMEOUT, settings.HEARTBEAT_SECONDS)
    assert seconds("client_body_timeout") <= settings.BODY_STALL_SECONDS
    assert seconds("client_header_timeout") <= server.HEADER_SECONDS
    upstream = re.search(r"upstream gateway \{(.*?)\}", text, re.DOTALL)[1]
    assert int(re.search(r"keepalive_timeout (\d+)s", upstream)[1]) < server.config().timeout_keep_alive


def test_compose_agrees_with_the_settings():
    from django.conf import settings

    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    gateway = compose["services"]["gateway"]
    longest = settings.DRAIN_SECONDS + settings.STOP_GRACE_SECONDS + 2 * LAST_WORDS_SECONDS
    assert int(gateway["stop_grace_period"].removesuffix("s")) > longest
    assert gateway["read_only"]
    assert gateway["environment"]["TRUSTED_PROXIES"] == "1"
    example = (ROOT / "deploy/env.example").read_text()
    named = set(re.findall(r"^#?([A-Z0-9_]+)=", example, re.MULTILINE)) | set(gateway["environment"])
    documented = set(re.findall(r"^\| `([A-Z0-9_]+)`", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE))
    assert named - documented == {"POSTGRES_PASSWORD"}
    service = (ROOT / "deploy/g4fsite.service").read_text()
    assert int(re.search(r"TimeoutStopSec=(\d+)", service)[1]) > longest


def test_the_image_brings_everything_but_secrets():
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert "--require-hashes" in text
    assert "\nUSER g4fsite\n" in text
    kept = (ROOT / ".dockerignore").read_text().split()
    assert "*" in kept
    assert not {"!var", "!.env", "!tests", "!.git"} & set(kept)
