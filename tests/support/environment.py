"""Prepares the process for Django: a data folder of its own, and none of the developer's settings."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# What a developer may have set for the server must not steer tests. DATABASE_URL and REDIS_URL stay:
# with them the whole suite runs on PostgreSQL and Redis.
STEERING = (
    "ALLOWED_HOSTS", "ANONYMOUS_ACCESS", "CORS_ALLOWED_ORIGINS", "CSRF_TRUSTED_ORIGINS", "DATA_DIR", "ENCRYPTION_KEYS",
    "ENCRYPTION_KEYS_FILE", "G4F_API_KEY", "G4F_DEBUG", "G4F_GUI", "G4F_IGNORED_PROVIDERS", "G4F_MODEL", "G4F_PROVIDER",
    "G4F_PROXY", "G4F_TIMEOUT", "HOST", "KEY_PEPPER", "KEY_PEPPER_FILE", "MEDIA_STORAGE", "METRICS_TOKEN",
    "OPENAI_API_KEY", "OPENAI_BASE_URL", "PORT", "PUBLIC_URL", "SECRET_KEY", "SECRET_KEY_FILE", "TRUSTED_PROXIES",
    "SEARXNG_URL", "WEB_SEARCH", "WORKERS",
    "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",
)  # fmt: skip


def prepare() -> Path:
    """Returns the data folder of this run; it goes when the process ends."""
    for name in STEERING:
        os.environ.pop(name, None)
    folder = Path(tempfile.mkdtemp(prefix="g4fsite-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["DATA_DIR"] = str(folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = "g4fsite.settings"
    from g4fsite.bootstrap import make_secrets

    make_secrets(folder)
    return folder
