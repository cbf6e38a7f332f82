"""The gateway under test: in this process over the test database, or as the real command in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx
import openai
import uvicorn

from tests.support.services import ROOT

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from gateway.models import Provider
    from tests.support.provider import ScriptedProvider


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def raw_request(url: str, key: str, body: Any, receive_buffer: int = 0) -> socket.socket:
    """A connection on which one chat request was sent; what becomes of it is the test's."""
    parts = urlsplit(url)
    data = json.dumps(body).encode()
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect((parts.hostname or "127.0.0.1", parts.port or 80))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


class _Clients:
    """What a test asks a gateway with; `url` and `key` are given by the subclass."""

    url: str
    key: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def client(self, key: str | None = None, **options: Any) -> openai.OpenAI:
        """The official client; it does not retry unless told to, so that a test sees the first answer."""
        options = {"max_retries": 0, "timeout": 20, "base_url": self.base_url, **options}
        made = openai.OpenAI(api_key=key or self.key, **options)
        self._opened.append(made)
        return made

    def async_client(self, key: str | None = None, **options: Any) -> openai.AsyncOpenAI:
        """Closed by the test, on its own loop."""
        return openai.AsyncOpenAI(
            api_key=key or self.key, base_url=self.base_url, **{"max_retries": 0, "timeout": 20, **options}
        )

    @cached_property
    def http(self) -> httpx.Client:
        """A plain client without credentials."""
        made = httpx.Client(base_url=self.url, timeout=20)
        self._opened.append(made)
        return made

    @cached_property
    def _opened(self) -> list[openai.OpenAI | httpx.Client]:
        return []

    def auth(self, key: str | None = None) -> dict[str, str]:
        return {"authorization": f"Bearer {key or self.key}"}

    def _close_clients(self) -> None:
        while self._opened:
            self._opened.pop().close()


def _quick(base: type[uvicorn.Server]) -> type[uvicorn.Server]:
    """Our server without uvicorn's pauses of a tenth of a second, which hundreds of tests would wait for.

    How the real one stops is for `GatewayProcess` to show.
    """

    class QuickServer(base):  # type: ignore[misc, valid-type]
        async def main_loop(self) -> None:
            while not self.should_exit:
                await self.on_tick(0)
                await asyncio.sleep(0.01)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for listener in self.servers:
                listener.close()
            for connection in list(self.server_state.connections):
                connection.shutdown()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110 - uvicorn has no event
                        await asyncio.sleep(0.002)
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()

    return QuickServer


class LiveGateway(_Clients):
    """`g4fsite.asgi:application` under our server's configuration, in a thread, on a free port."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @cached_property
    def key(self) -> str:  # type: ignore[override]
        """A key of a user made for it; tests about who may do what make their own."""
        from tests.people import person

        return self.make_key(person("caller"))

    def __enter__(self) -> Self:
        from g4fsite import server

        self._server = _quick(server.Server)(server.config())
        run = {"target": self._server.run, "kwargs": {"sockets": [self._socket]}, "name": "gateway", "daemon": True}
        self._thread = threading.Thread(**run)  # type: ignore[arg-type]
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise AssertionError("the server did not start; its log says why")
            time.sleep(0.002)
        return self

    def __exit__(self, *exception: object) -> None:
        self._close_clients()
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
        if self._thread.is_alive():
            raise AssertionError("the server did not stop within 10 seconds")

    def reload(self) -> None:
        """Makes rows that were just written count, as the watching thread does within a second."""
        from gateway.snapshot import store

        store.reload()

    def make_key(self, user: User, name: str = "test", **fields: Any) -> str:
        from django.db import connection

        from gateway.models import ApiKey

        _, plain = ApiKey.make(user, name, **fields)
        self.reload()
        if threading.current_thread() is not threading.main_thread():
            # A thread that ends with a connection takes one of the pool's places with it.
            connection.close()
        return plain

    def add_provider(
        self,
        scripted: ScriptedProvider | str,
        *models: str | Mapping[str, Any],
        name: str = "Scripted",
        credentials: Sequence[str] = ("sk-upstream-credential-1",),
        **fields: Any,
    ) -> Provider:
        """A provider's row for a scripted provider (or a base URL) with these models, by id or by fields."""
        from gateway.models import Credential, Provider, ProviderModel

        base_url = scripted if isinstance(scripted, str) else scripted.base_url
        fields = {"adapter": "openai_chat", "allow_private": True, **fields}
        row = Provider.objects.create(name=name, base_url=base_url, **fields)
        for plain in credentials:
            credential = Credential(provider=row)
            credential.set_secret(plain)
            credential.save()
        for model in models or ("scripted",):
            ProviderModel.objects.create(provider=row, **({"public_id": model} if isinstance(model, str) else model))
        self.reload()
        return row

    def add_demo(self) -> Provider:
        from gateway.models import Provider, ProviderModel

        row = Provider.objects.create(name="Demo", adapter="demo", auth_style="none")
        ProviderModel.objects.create(provider=row, public_id="demo")
        self.reload()
        return row


def make_template(folder: Path, **environment: str) -> Path:
    """Migrates a database and makes a first admin with a key, which is left in `folder/key`."""
    folder.mkdir(parents=True, exist_ok=True)
    env = _environment(folder, environment)
    subprocess.run([sys.executable, "-m", "tests.support.seed"], env=env, cwd=ROOT, check=True, timeout=120)
    return folder


def _environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    # Tests name their database; the run's own is not for processes that migrate and write.
    inherited = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    # Nobody balances load over a test's server, so it need not wait for that when it stops.
    own = {"DATA_DIR": str(folder), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "DRAIN_SECONDS": "0"}
    return {**inherited, **own, **more}


class GatewayProcess(_Clients):
    """`manage.py api` on a free port with a data folder of its own."""

    def __init__(
        self,
        template: Path,
        folder: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> None:
        self.folder = folder
        shutil.copytree(template, folder)
        self.key = (folder / "key").read_text(encoding="utf-8").strip()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = _environment(folder, environment or {})
        self.arguments = [sys.executable, "manage.py", "api", "--port", str(self.port), *arguments]
        self._output = output or folder / "output.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        """What it has written so far to both streams."""
        return self._output.read_text(encoding="utf-8", errors="replace") if self._output.exists() else ""

    def spawn(self) -> Self:
        with self._output.open("ab") as output:
            self.process = subprocess.Popen(
                self.arguments, env=self.environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
            )
        return self

    def start(self, timeout: float = 50) -> Self:
        """Returns once it answers; raises AssertionError with its output when it ends before."""
        self.spawn()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.running is not None:
                raise AssertionError(f"the server ended with {self.running}:\n{self.output}")
            try:
                if httpx.get(f"{self.url}/health", timeout=2).status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"the server did not answer within {timeout} s:\n{self.output}")

    @property
    def running(self) -> int | None:
        """The exit status, None while it runs."""
        assert self.process
        return self.process.poll()

    def wait(self, timeout: float = 30) -> int:
        assert self.process
        return self.process.wait(timeout)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 40) -> int:
        """Sends the signal and returns the exit status."""
        assert self.process
        self.process.send_signal(number)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL; doing it again does nothing."""
        self._close_clients()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def manage(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Another command in the same surroundings."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=ROOT, input=text, capture_output=True, text=True, timeout=60, check=False
        )


@contextmanager
def scratch_postgres(server_url: str) -> Iterator[str]:
    """The URL of an empty database that is dropped at the end, whoever is still connected."""
    import psycopg

    name = f"g4fsite_scratch_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            yield f"{server_url.rsplit('/', 1)[0]}/{name}"
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
