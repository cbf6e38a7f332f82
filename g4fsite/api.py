"""The programmatic form: `from g4fsite.api import AppConfig, run_api`.

AppConfig.set_config(g4f_api_key="...", provider="OpenAI", model="gpt-4o", timeout=300)
run_api(host="0.0.0.0", port=8080, debug=True)
"""

from __future__ import annotations

import os
from typing import Any, ClassVar


class AppConfig:
    """What the server is started with; each option is one flag of `manage.py api`."""

    VARIABLES: ClassVar[dict[str, str]] = {
        "g4f_api_key": "G4F_API_KEY",
        "provider": "G4F_PROVIDER",
        "model": "G4F_MODEL",
        "proxy": "G4F_PROXY",
        "timeout": "G4F_TIMEOUT",
        "stream_timeout": "STREAM_GAP_SECONDS",
        "ignored_providers": "G4F_IGNORED_PROVIDERS",
        "gui": "G4F_GUI",
        "debug": "G4F_DEBUG",
    }
    demo: ClassVar[bool] = False

    @classmethod
    def set_config(cls, **options: Any) -> None:
        """Raises TypeError for an option that does not exist; None leaves an option as it is."""
        for name, value in options.items():
            if value is None:
                continue
            if name == "demo":
                cls.demo = bool(value)
                continue
            if name not in cls.VARIABLES:
                known = ", ".join(sorted([*cls.VARIABLES, "demo"]))
                raise TypeError(f"unknown option {name!r}; there are: {known}")
            os.environ[cls.VARIABLES[name]] = _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def run_api(
    host: str = "0.0.0.0",  # noqa: S104 # nosec B104 - the signature that existing scripts call
    port: int = 1337,
    bind: str | None = None,
    debug: bool = False,
    workers: int | None = None,
    **options: Any,
) -> None:
    """Starts the server and returns when it ends. Raises TypeError for options that do not exist."""
    unknown = set(options) - {"use_colors", "reload", "ssl_keyfile", "ssl_certfile"}
    if unknown:
        raise TypeError(f"unknown option {min(unknown)!r}")
    if debug:
        AppConfig.set_config(debug=True)
    from g4fsite.cli import main

    arguments = ["api", "--bind", bind or f"{host}:{port}"]
    arguments += ["--workers", str(workers)] if workers else []
    arguments += ["--reload"] if options.get("reload") else []
    arguments += ["--demo"] if AppConfig.demo else []
    for name in ("ssl_keyfile", "ssl_certfile"):
        if options.get(name):
            arguments += [f"--{name.replace('_', '-')}", str(options[name])]
    main(arguments)


def create_app() -> Any:
    """The ASGI application, for `gunicorn "g4fsite.api:create_app()" -k uvicorn_worker.UvicornWorker`."""
    from g4fsite.asgi import application

    return application
