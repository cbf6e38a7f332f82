"""A mistake in the settings stops the start: one sentence that names it, exit status 1, never a trace or a secret."""

from __future__ import annotations

import shutil
import socket

import pytest

from g4fsite.bootstrap import make_secrets
from tests.support.commands import manage

FERNET = "bm90LWEtcmVhbC1vbmUtYnV0LTMyLWJ5dGVzLWxvbmc="
PASSWORD = "hunter2hunter2"
UPSTREAM_KEY = "sk-upstream-0123456789abcdef"

BAD_SETTINGS = {
    "an example secret": ({"SECRET_KEY": "change-me"}, "SECRET_KEY is an example"),
    "Django's example": ({"SECRET_KEY": "django-insecure-" + "x" * 40}, "SECRET_KEY is an example"),
    "a short pepper": ({"KEY_PEPPER": "pepper"}, "KEY_PEPPER is an example or shorter"),
    "a missing file": ({"KEY_PEPPER_FILE": "/nowhere/pepper"}, "KEY_PEPPER is not set and /nowhere/pepper"),
    "no Fernet key": ({"ENCRYPTION_KEYS": "example"}, "ENCRYPTION_KEYS holds a value that is not a Fernet key"),
    "one bad among good": ({"ENCRYPTION_KEYS": f"{FERNET},nonsense"}, "ENCRYPTION_KEYS holds a value"),
    "nothing but commas": ({"ENCRYPTION_KEYS": ","}, "ENCRYPTION_KEYS is empty"),
    "equal secrets": ({"SECRET_KEY": FERNET, "ENCRYPTION_KEYS": FERNET}, "must differ from each other"),
    "an unknown database": ({"DATABASE_URL": "mysql://db/x"}, "DATABASE_URL must begin with sqlite"),
    "no database URL": ({"DATABASE_URL": "nonsense"}, "DATABASE_URL cannot be read"),
    "a raw password": ({"DATABASE_URL": f"postgres://u:{PASSWORD}/#@h:port/x"}, "DATABASE_URL cannot be read"),
    "a missing folder": ({"DATABASE_URL": "sqlite:////nowhere/db"}, "the database cannot be used: unable to open"),
    "not Redis": ({"REDIS_URL": "http://127.0.0.1"}, "REDIS_URL must begin with redis://"),
    "a Redis port": ({"REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:first/0"}, "REDIS_URL cannot be read"),
    "a Redis number": ({"REDIS_URL": "redis://127.0.0.1/zero"}, "REDIS_URL cannot be read"),
    "a word for a number": ({"MAX_BODY_BYTES": "lots"}, "MAX_BODY_BYTES must be a whole number, not 'lots'"),
    "too small a number": ({"HEARTBEAT_SECONDS": "0"}, "HEARTBEAT_SECONDS must be at least 1"),
    "too large a number": ({"TRUSTED_PROXIES": "11"}, "TRUSTED_PROXIES must be between 0 and 10"),
    "a word for yes": ({"ANONYMOUS_ACCESS": "maybe"}, "ANONYMOUS_ACCESS must be 1/0"),
    "an unknown choice": ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL must be one of DEBUG"),
    "a bare host": ({"PUBLIC_URL": "gateway.example.com"}, "PUBLIC_URL must begin with http"),
    "a path": ({"PUBLIC_URL": "https://gateway.example.com/ai"}, "PUBLIC_URL must be scheme, host and port"),
    "a port that is none": ({"FETCH_PORTS": "80,https"}, "FETCH_PORTS must list ports"),
    "an origin without scheme": ({"CORS_ALLOWED_ORIGINS": "example.com"}, "CORS_ALLOWED_ORIGINS must list origins"),
    "an origin with a path": ({"CSRF_TRUSTED_ORIGINS": "https://a.example/b"}, "CSRF_TRUSTED_ORIGINS must list"),
    "an unknown storage": ({"MEDIA_STORAGE": "tape"}, "MEDIA_STORAGE must be one of file, s3"),
    "no bucket": ({"MEDIA_STORAGE": "s3"}, "MEDIA_STORAGE=s3 needs "),
    "workers in words": ({"WORKERS": "two"}, "WORKERS must be a whole number"),
    "workers without Redis": ({"WORKERS": "2"}, "set REDIS_URL"),
    "a port in words": ({"PORT": "http"}, "PORT must be a whole number"),
    "a port out of range": ({"PORT": "70000"}, "The port must be between 0 and 65535"),
    "another machine's address": ({"HOST": "192.0.2.1"}, "Cannot listen on 192.0.2.1:1337"),
}


def refused(folder, *arguments, **environment):
    """What `manage.py api` said when it refused."""
    ran = manage(folder, "api", *arguments, **environment)
    assert ran.code == 1, ran
    assert "Traceback" not in ran.err
    assert ran.err.strip().count("\n") == 0, ran.err
    assert PASSWORD not in ran.err
    return ran.err


@pytest.mark.parametrize(("environment", "sentence"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_a_bad_setting_is_named(gateway_template, environment, sentence):
    assert sentence in refused(gateway_template, **environment)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ssl-keyfile", "key.pem"], "--ssl-keyfile and --ssl-certfile belong together"),
        (["--ssl-certfile", "cert.pem"], "--ssl-keyfile and --ssl-certfile belong together"),
        (["--bind", "1337"], "--bind wants HOST:PORT"),
        (["--bind", "127.0.0.1:http"], "--bind wants HOST:PORT"),
        (["--port", "65536"], "The port must be between 0 and 65535"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--timeout", "0"], "G4F_TIMEOUT must be at least 1"),
    ],
)
def test_a_bad_flag_is_named(gateway_template, arguments, sentence):
    assert sentence in refused(gateway_template, *arguments)


def test_a_certificate_that_cannot_be_read(gateway_template, tmp_path):
    (tmp_path / "empty.pem").touch()
    missing = refused(gateway_template, "--ssl-keyfile", "/nowhere/k", "--ssl-certfile", "/nowhere/c", "--port", "0")
    assert "The certificate cannot be used" in missing
    empty = str(tmp_path / "empty.pem")
    assert "The certificate cannot be used" in refused(
        gateway_template, "--ssl-keyfile", empty, "--ssl-certfile", empty, "--port", "0"
    )


def test_reloading_takes_one_worker(gateway_template, redis_url):
    assert "--reload works with one worker" in refused(
        gateway_template, "--workers", "2", "--reload", REDIS_URL=redis_url
    )


@pytest.mark.parametrize("name", ["SECRET_KEY", "KEY_PEPPER", "ENCRYPTION_KEYS"])
def test_a_missing_secret_is_named(tmp_path, name):
    make_secrets(tmp_path)
    (tmp_path / name.lower()).unlink()
    said = refused(tmp_path)
    assert f"{name} is not set" in said
    assert "python -m g4fsite init" in said


@pytest.mark.postgres
def test_a_database_that_is_not_there(gateway_template):
    url = f"postgres://nobody:{PASSWORD}@127.0.0.1:1/none"
    ran = manage(gateway_template, "api", DATABASE_URL=url, LOG_LEVEL="ERROR")
    assert (ran.code, ran.out) == (1, "")
    assert "g4fsite: the database cannot be used" in ran.err
    assert "Traceback" not in ran.err
    assert PASSWORD not in ran.err


def test_a_database_without_tables(tmp_path):
    make_secrets(tmp_path)
    assert "Run `./manage.py migrate` first" in refused(tmp_path)


def test_nobody_listens_to_the_world_before_the_first_user(tmp_path):
    make_secrets(tmp_path)
    assert manage(tmp_path, "migrate", "--verbosity", "0").code == 0
    said = refused(tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert "There is no user yet" in said
    assert "createsuperuser" in said


def test_a_port_that_is_taken(gateway_template):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"Cannot listen on 127.0.0.1:{port}: Address already in use" in refused(
            gateway_template, "--port", str(port)
        )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_lost_encryption_key_names_the_provider(gateway_template, tmp_path, workers):
    folder = shutil.copytree(gateway_template, tmp_path / "data")
    added = manage(folder, "provider", "add", "Keyed", "--preset", "openai", "--api-key-stdin", stdin=UPSTREAM_KEY)
    assert added.code == 0
    said = refused(
        folder, "--workers", workers, "--port", "0", ENCRYPTION_KEYS=FERNET, REDIS_URL="redis://127.0.0.1:6379/9"
    )
    assert "The credentials of Keyed cannot be decrypted" in said
    assert UPSTREAM_KEY not in said
    assert FERNET not in said


def test_the_deployment_checks_are_clean(gateway_template):
    ran = manage(
        gateway_template, "check", "--deploy", "--fail-level", "WARNING", "--database", "default",
        PUBLIC_URL="https://gateway.example.com",
    )  # fmt: skip
    assert (ran.code, ran.out, ran.err) == (0, "System check identified no issues (1 silenced).\n", "")


def test_secrets_may_come_from_files(gateway_template, tmp_path):
    folder = shutil.copytree(gateway_template, tmp_path / "data")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    named = {}
    for name in ("secret_key", "key_pepper", "encryption_keys"):
        shutil.move(folder / name, secrets / name)
        named[f"{name.upper()}_FILE"] = str(secrets / name)
    assert manage(folder, "check", **named).code == 0


def test_the_first_secrets_are_for_their_owner_alone(tmp_path):
    made = make_secrets(tmp_path / "var")
    assert {oct(path.stat().st_mode & 0o777) for path in made} == {"0o600"}
    assert make_secrets(tmp_path / "var") == []
    assert len({path.read_text() for path in made}) == 3
    assert (tmp_path / "var").stat().st_mode & 0o077 == 0
