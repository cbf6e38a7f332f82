"""Makes what a first start needs before settings can be read: the data folder and its secrets."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet

SECRETS: dict[str, Callable[[], str]] = {
    "secret_key": lambda: secrets.token_urlsafe(50),
    "key_pepper": lambda: secrets.token_urlsafe(32),
    "encryption_keys": lambda: Fernet.generate_key().decode(),
}

# Values that stand in examples and documentation: a server must not run on them.
SHIPPED = {"change-me", "changeme", "secret", "your-secret-key", "insecure", "example"}


def data_dir() -> Path:
    """The folder for the database, secrets, spool and media: `DATA_DIR`, else `var/` in the checkout."""
    named = os.environ.get("DATA_DIR", "").strip()
    return Path(named).resolve() if named else Path(__file__).resolve().parent.parent / "var"


def make_secrets(folder: Path) -> list[Path]:
    """Writes each missing secret to `folder` with mode 0600; returns the files it made."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    for name, make in SECRETS.items():
        path = folder / name
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(make() + "\n")
        made.append(path)
    return made
