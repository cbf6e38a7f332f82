"""`manage.py api`: starts the server."""

from __future__ import annotations

import argparse
import os
import ssl
from pathlib import Path
from typing import Any

import redis
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from g4fsite import runtime, server
from g4fsite.firstrun import adopt_key, ensure_demo, first_admin, local_servers_notice
from g4fsite.setup import make_setup_link
from gateway.network import is_loopback


class Command(BaseCommand):
    help = "Start the server: the OpenAI-compatible API, the admin and the browser pages."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("--port", "-p", type=int, help="Port (1337, or PORT).")
        add("--host", help="Address to listen on (127.0.0.1, or HOST).")
        add("--bind", metavar="HOST:PORT", help="Both at once; wins over --host and --port.")
        add("--workers", type=int, help="Processes (1, or WORKERS). More than one needs REDIS_URL.")
        add("--debug", "-d", action="store_true", help="Verbose log and Django's debug pages (G4F_DEBUG).")
        add("--gui", "-g", action="store_true", help="Browser pages on; they are unless --no-gui (G4F_GUI).")
        add("--no-gui", "-ng", action="store_true", help="The API and the admin alone.")
        add("--g4f-api-key", metavar="KEY", help="Makes KEY a valid key of the first admin (G4F_API_KEY wins).")
        add("--provider", help="Provider for requests that name none (G4F_PROVIDER).")
        add("--model", help="Model for requests that ask for the default (G4F_MODEL).")
        add("--proxy", help="HTTP proxy towards providers (G4F_PROXY).")
        add("--timeout", type=int, metavar="SECONDS", help="Limit of a plain answer (G4F_TIMEOUT, 600).")
        add("--stream-timeout", type=int, metavar="SECONDS", help="Silence allowed inside a stream (120).")
        add("--ignored-providers", nargs="*", metavar="NAME", help="Providers left out (G4F_IGNORED_PROVIDERS).")
        add("--ssl-keyfile", default="", metavar="FILE")
        add("--ssl-certfile", default="", metavar="FILE")
        add("--reload", action="store_true", help="Restart when a file changes; for development.")
        add("--demo", action="store_true", help="Make sure that the demo provider is there and enabled.")
        # Flags of older installations that mean nothing here are taken and named, never an error.
        for flag in ("--disable-colors", "--ignore-cookie-files", "--access-log", "--no-access-log"):
            add(flag, action="store_true", help=argparse.SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = self._address(options)
        workers = options["workers"] if options["workers"] is not None else settings.WORKERS
        self._check_workers(workers, options["reload"])
        self._check_database()
        if not settings.DEBUG and not (Path(settings.STATIC_ROOT) / "staticfiles.json").exists():
            call_command("collectstatic", interactive=False, verbosity=0)
        if options["demo"]:
            ensure_demo()
        self._check_redis()
        self._adopt_key()
        self._check_first_user(host)
        _check_certificate(options["ssl_keyfile"], options["ssl_certfile"])
        try:
            sock = server.listening_socket(host, port)
        except (OSError, OverflowError) as error:
            raise CommandError(f"Cannot listen on {host}:{port}: {getattr(error, 'strerror', error)}.") from None
        self._announce(host, sock.getsockname()[1], bool(options["ssl_certfile"]))
        # Workers read it anew: it says how many share a limit while Redis is away.
        settings.WORKERS, os.environ["WORKERS"] = workers, str(workers)
        server.prepare_metrics(workers)
        connection.close()
        server.serve(
            sock,
            server.config(
                workers=workers,
                reload=options["reload"],
                ssl_keyfile=options["ssl_keyfile"],
                ssl_certfile=options["ssl_certfile"],
            ),
        )

    def _address(self, options: dict[str, Any]) -> tuple[str, int]:
        from g4fsite.env import env_str

        host = options["host"] or env_str("HOST") or "127.0.0.1"
        port = options["port"] if options["port"] is not None else _env_int("PORT", 1337)
        if options["bind"]:
            host, colon, number = options["bind"].rpartition(":")
            if not colon or not number.isdigit():
                raise CommandError(f"--bind wants HOST:PORT, not {options['bind']!r}.")
            port = int(number)
        if not 0 <= port <= 65535:
            raise CommandError(f"The port must be between 0 and 65535, not {port}.")
        return host.strip("[]") or "0.0.0.0", port  # noqa: S104 # nosec B104 - what an empty host in --bind means

    def _check_workers(self, workers: int, reload: bool) -> None:
        if workers < 1:
            raise CommandError("--workers must be at least 1.")
        if workers > 1 and not settings.REDIS_URL:
            raise CommandError(
                "More than one worker needs Redis to share limits and running answers: "
                "set REDIS_URL, such as redis://127.0.0.1:6379/0, or run one worker."
            )
        if workers > 1 and reload:
            raise CommandError("--reload works with one worker only.")

    def _check_database(self) -> None:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise CommandError("The database lacks migrations. Run `./manage.py migrate` first.")
        try:
            runtime.check_credentials()
        except runtime.CannotStart as error:
            raise CommandError(str(error)) from None

    def _adopt_key(self) -> None:
        if not settings.G4F_API_KEY:
            return
        if first_admin() is None:
            self.stderr.write("warning: G4F_API_KEY has no effect yet, because there is no administrator to own it.")
            return
        adopt_key(settings.G4F_API_KEY)
        if len(settings.G4F_API_KEY) < 32:
            self.stderr.write("warning: G4F_API_KEY is shorter than 32 characters; anyone may guess it.")

    def _check_redis(self) -> None:
        """Answers go on without Redis, so its absence is said, not fatal."""
        if not settings.REDIS_URL:
            return
        try:
            redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1).ping()
        except redis.RedisError:
            self.stderr.write("warning: Redis at REDIS_URL does not answer; limits are kept per worker until it does.")

    def _check_first_user(self, host: str) -> None:
        if get_user_model().objects.exists():
            return
        if not is_loopback(host):
            raise CommandError(
                f"There is no user yet, so the server does not listen on {host}. Make one first: "
                "`./manage.py createsuperuser`, or start on 127.0.0.1 and open the setup link."
            )
        self._setup_path = make_setup_link()

    _setup_path = ""

    def _announce(self, host: str, port: int, tls: bool) -> None:
        shown = f"[{host}]" if ":" in host else host
        base = f"{'https' if tls else 'http'}://{shown}:{port}"
        self.stdout.write(f"g4fsite {settings.VERSION} on {base}  (Ctrl-C ends it)")
        if self._setup_path:
            self.stdout.write(f"No user yet. Make the first one within 15 minutes: {base}{self._setup_path}")
        for line in local_servers_notice():
            self.stdout.write(line)
        self.stdout.flush()


def _check_certificate(keyfile: str, certfile: str) -> None:
    if bool(keyfile) != bool(certfile):
        raise CommandError("--ssl-keyfile and --ssl-certfile belong together.")
    if not certfile:
        return
    try:
        # The empty password: a protected key must not wait for somebody at a terminal.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certfile, keyfile, password="")
    except OSError as error:
        raise CommandError(f"The certificate cannot be used: {error.strerror or error}.") from None


def _env_int(name: str, default: int) -> int:
    from g4fsite.env import env_int

    return env_int(name, default)
