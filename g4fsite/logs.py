"""Log lines: one event, one line, JSON by default, with control characters escaped and secrets struck out."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

from django.views.debug import SafeExceptionReporterFilter

# Whole credentials in any spelling that reaches a log: header values, our keys, common provider keys.
SECRETS = re.compile(
    r"(?i)((?:authorization|g4f-api-key|x-api-key|cookie|set-cookie)['\"]?\s*[:=,]\s*b?['\"]?(?:bearer\s+)?)[^\s'\",;]+"
    r"|\bsk-[A-Za-z0-9_-]{8,}"
    r"|\bBearer\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=[?&]signature=)[A-Za-z0-9_.-]+"
    r"|(?<=/setup/)[A-Za-z0-9_-]+"
    r"|\bgAAAAA[A-Za-z0-9_=-]{40,}"
)
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u2028\u2029]")


def mask(text: str) -> str:
    return SECRETS.sub(lambda match: (match.group(1) or "") + "***", text)


class ReporterFilter(SafeExceptionReporterFilter):
    """Django's debug pages hide settings by name; ours hold secrets under more names than it knows."""

    hidden_settings = re.compile(
        "API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|COOKIE|PEPPER|URL|PROXY|DATABASES|CACHES|CHANNEL_LAYERS",
        re.IGNORECASE,
    )


class MaskSecrets(logging.Filter):
    """Rewrites the message before any formatter sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = mask(record.getMessage()), ()
        # Django's own record of a failed request: give it the id that the caller was told.
        scope = getattr(getattr(record, "request", None), "scope", None)
        if scope and not hasattr(record, "request_id"):
            record.request_id, record.path = scope.get("g4f.request_id", ""), scope["path"]
        return True


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("request_id", "path"):
            if hasattr(record, name):
                entry[name] = mask(str(getattr(record, name)))
        if record.exc_info:
            entry["trace"] = mask(self.formatException(record.exc_info))
        return json.dumps(entry)


class PlainFormatter(logging.Formatter):
    """For a terminal: the same facts, still one line but for the trace."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        message = CONTROL.sub(lambda match: ascii(match.group())[1:-1], record.getMessage()).replace("\n", "\\n")
        line = f"{clock} {record.levelname.lower():<7} {message}"
        if hasattr(record, "request_id"):
            line += f" [{record.request_id}]"
        return line + ("\n" + mask(self.formatException(record.exc_info)) if record.exc_info else "")
