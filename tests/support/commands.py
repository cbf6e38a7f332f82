"""Runs a management command as an operator does and keeps what it printed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management import CommandError, call_command

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*arguments: str) -> Ran:
    """In this process, on the test's database."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        call_command(*arguments, stdout=out, stderr=err)
    except CommandError as error:
        code = error.returncode
        err.write(str(error))
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def manage(data_dir: Path, *arguments: str, stdin: str = "", **environment: str) -> Ran:
    """`python manage.py ...` in a process of its own, on the SQLite database of `data_dir`."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**inherited, "DATA_DIR": str(data_dir), **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
