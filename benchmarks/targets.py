"""What can be measured, how each is started, and what installs it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.traffic import GATEWAY_CORE, HERE, Gateway, free_port, stop, wait_for

ROOT = HERE.parent
NAMES = ("direct", "nginx", "litellm", "ours")
OURS_ON = (
    "key authentication, limits of headers and bodies, routing, breaker, journal, "
    "one usage row per request in {database}, metrics"
)


def cache() -> Path:
    """Where peers, compiled tools and results are kept."""
    return Path(os.environ.get("BENCH_DIR") or HERE / ".cache").resolve()


def missing(name: str) -> str | None:
    """Why this target cannot be measured here, and what to do about it; None when it can."""
    installed = {"nginx": shutil.which("nginx"), "litellm": (cache() / "litellm/bin/litellm").exists()}
    if installed.get(name, True):
        return None
    return f"{name} is left out, it is not installed: sh benchmarks/peers/install.sh {name}"


def version(name: str) -> str:
    """As the program itself says it."""
    if name == "nginx":
        return subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.split("/")[-1].strip()
    if name == "litellm":
        code = "from importlib.metadata import version as v; from platform import python_version as p; "
        code += "print(v('litellm'), 'on Python', p())"
        return _output([str(cache() / "litellm/bin/python"), "-c", code])
    if name == "ours":
        commit = _output(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"])
        return f"commit {commit} on Python {sys.version.split()[0]}"
    return ""


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@contextlib.contextmanager
def _running(
    name: str, command: list[str], port: int, key: str, environment: Mapping[str, str], folder: Path, seconds: float
) -> Iterator[Gateway]:
    """Pinned to the gateway's core. Raises RuntimeError with the end of its log when it does not start."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        pinned = ["taskset", "-c", GATEWAY_CORE, *command]
        running = subprocess.Popen(pinned, env=environment, cwd=folder, stdout=output, stderr=output)
    try:
        wait_for(port, seconds, running)
        yield Gateway(name, f"http://127.0.0.1:{port}", key, running.pid)
    except RuntimeError as error:
        raise RuntimeError(f"{name}: {error}\n{log.read_text(errors='replace')[-2000:]}") from None
    finally:
        stop(running)


def _plain_environment() -> dict[str, str]:
    """Ours without the settings of the shell; and compiled files, which some environments switch off."""
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "COVERAGE_PROCESS_CONFIG")
    return {name: os.environ[name] for name in kept if name in os.environ}


@contextlib.contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[Gateway]:
    port, home = free_port(), folder / "nginx"
    home.mkdir(exist_ok=True)
    text = (HERE / "peers/nginx.conf").read_text()
    for name, value in {"FOLDER": home, "PORT": port, "UPSTREAM_ADDRESS": upstream.removeprefix("http://")}.items():
        text = text.replace(f"@{name}@", str(value))
    (home / "nginx.conf").write_text(text)
    command = ["nginx", "-c", str(home / "nginx.conf"), "-p", f"{home}/"]
    with _running("nginx", command, port, "sk-bench", _plain_environment(), folder, 10) as gateway:
        yield gateway


@contextlib.contextmanager
def litellm(folder: Path, upstream: str) -> Iterator[Gateway]:
    port, config = free_port(), folder / "litellm.yaml"
    config.write_text((HERE / "peers/litellm.yaml").read_text().replace("@UPSTREAM@", upstream))
    command = [str(cache() / "litellm/bin/litellm"), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--keepalive_timeout", "75"]
    environment = _plain_environment() | {
        "HOME": str(folder),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": "sk-bench",
        "LITELLM_TELEMETRY": "False",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    with _running("litellm", command, port, "sk-bench", environment, folder, 120) as gateway:
        yield gateway


@contextlib.contextmanager
def script(name: str, file: Path, folder: Path) -> Iterator[Gateway]:
    """A server of one Python file that takes its port as argument."""
    port = free_port()
    with _running(
        name, [sys.executable, str(file), str(port)], port, "none", _plain_environment(), folder, 20
    ) as gateway:
        yield gateway


class Ours:
    """This checkout with a data folder and a database of its own, made once and started as often as needed."""

    def __init__(self, folder: Path, upstream: str, database: str = "") -> None:
        self.folder = folder / "ours"
        self.folder.mkdir(exist_ok=True)
        self.environment = _plain_environment() | {"DATA_DIR": str(self.folder / "data"), "LOG_LEVEL": "WARNING"}
        if database:
            self.environment["DATABASE_URL"] = database
        self.manage("init")
        key = re.search(r"sk-gw-\S+", self.manage("firstrun"))
        if key is None:
            raise RuntimeError("`manage.py firstrun` printed no key")
        # Its owner is staff: the number of its open streams is not limited.
        self.key = key.group()
        base_url = f"{upstream}/v1"
        for name, adapter, model in (("Sim", "openai_chat", "sim"), ("Translated", "anthropic", "translated")):
            self.manage("provider", "add", name, "--adapter", adapter, "--base-url", base_url, "--model", model)

    def manage(self, *arguments: str) -> str:
        """Raises RuntimeError with what the command said when it fails."""
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        done = subprocess.run(command, env=self.environment, cwd=ROOT, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"manage.py {arguments[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def usage_rows(self) -> int:
        code = "from gateway.models import UsageEvent; print('rows', UsageEvent.objects.count())"
        return int(self.manage("shell", "-c", code).rsplit("rows", 1)[1])

    @contextlib.contextmanager
    def running(self, **environment: str) -> Iterator[Gateway]:
        port = free_port()
        command = [sys.executable, str(ROOT / "manage.py"), "api", "--port", str(port)]
        wanted = self.environment | environment
        with _running("ours", command, port, self.key, wanted, self.folder, 60) as gateway:
            yield gateway


@contextlib.contextmanager
def scratch_database(server: str) -> Iterator[str]:
    """An empty PostgreSQL database on that server (postgres://user:password@host:port/any), dropped at the end."""
    import psycopg

    name = f"g4fsite_bench_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    try:
        yield urllib.parse.urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
