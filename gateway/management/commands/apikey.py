"""`apikey`: keys for callers, shown once and only to whoever makes them."""

from __future__ import annotations

import re
from argparse import SUPPRESS, ArgumentParser
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone

from gateway.management.output import OperatorCommand, Options, facts, table
from gateway.models import ApiKey, ModelAlias, ProviderModel
from gateway.models.keys import SURFACES
from gateway.operations import Refused
from gateway.references import at_provider

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
SPAN = re.compile(r"([0-9]{1,6})([mhdw])\Z")


def span(text: str) -> timedelta:
    """`30d`, `12h`; raises ValueError, which argparse turns into a usage error."""
    match = SPAN.match(text)
    if not match:
        raise ValueError(text)
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def moment(text: str) -> datetime:
    """A span from now, the end of a day, or an ISO time (UTC unless it says otherwise). Raises ValueError."""
    if SPAN.match(text):
        return timezone.now() + span(text)
    found = datetime.fromisoformat(text)
    if len(text) == 10:
        found = datetime.combine(found.date(), time.max)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


span.__name__ = "span such as 24h or 30d"
moment.__name__ = "30d, 12h or 2026-12-31"


def describe(row: ApiKey) -> dict[str, Any]:
    return {
        "id": row.pk,
        "prefix": row.prefix,
        "name": row.name,
        "user": row.user.get_username(),
        "state": row.state(),
        "models": row.models,
        "surfaces": row.surfaces,
        "networks": row.networks,
        "requests_per_minute": row.requests_per_minute,
        "tokens_per_minute": row.tokens_per_minute,
        "streams": row.max_streams,
        "cache_answers": row.cache_answers,
        "expires_at": row.expires_at.isoformat() if row.expires_at else None,
        "last_used_at": row.last_used_at.isoformat() if row.last_used_at else None,
        "created_at": row.created_at.isoformat(),
    }


def key_named(text: str) -> ApiKey:
    """By number or by the visible beginning. Raises Refused unless exactly one fits."""
    rows = ApiKey.objects.select_related("user")
    if text.isascii() and text.isdigit() and len(text) < 19:
        found = list(rows.filter(pk=int(text)))
    else:
        found = list(rows.filter(prefix=text)) or list(
            rows.filter(prefix__startswith=text)[:2] if len(text) > 5 else []
        )
        # Whoever pastes a whole key means that key; only its visible part is compared and nothing of it is printed.
        found = found or list(rows.filter(prefix=text[:14]) if len(text) > 14 else [])
    if not found:
        raise Refused("There is no such key. Name it by its number or its prefix, as `apikey list` shows them.")
    if len(found) > 1:
        raise Refused("Several keys begin so. Name it by its number.")
    return found[0]


def amount(text: str) -> int | None:
    """None for `none`; raises ValueError."""
    return None if text == "none" else int(text)


amount.__name__ = "number, or none"
LIMITS = {
    "requests_per_minute": ("--requests-per-minute", "requests a minute"),
    "tokens_per_minute": ("--tokens-per-minute", "tokens a minute, prompts and answers together"),
    "max_streams": ("--streams", "streams open at once; 0: no limit, none: MAX_STREAMS_PER_KEY in each worker"),
}


def _add_limits(parser: ArgumentParser) -> None:
    for name, (flag, text) in LIMITS.items():
        parser.add_argument(flag, dest=name, type=amount, default=SUPPRESS, metavar="N", help=f"at most so many {text}")


def _limits(options: Options) -> dict[str, Any]:
    """Those that were named."""
    return {name: options[name] for name in LIMITS if name in options}


class Command(OperatorCommand):
    help = "API keys of users."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = self.actions(parser)
        make = self.action(
            actions, "create", self.create, "Make a key and print it, this once, alone on standard output."
        )
        make.add_argument("--user", required=True, metavar="U", help="whose key it is")
        make.add_argument("--name", required=True, metavar="N", help="what it is for")
        make.add_argument(
            "--model", action="append", default=[], metavar="M", help="only these models; may be repeated"
        )
        make.add_argument("--surface", action="append", default=[], choices=SURFACES, help="only these routes")
        make.add_argument("--network", action="append", default=[], metavar="CIDR", help="only from there")
        make.add_argument("--expires", type=moment, metavar="WHEN", help="30d, 12h, 2026-12-31 (its end, UTC)")
        make.add_argument("--cache", action="store_true", help="give the answer kept of exactly the same request")
        _add_limits(make)
        cache = self.action(actions, "cache", self.cache, "Say whether a key's answers are kept and given again.")
        cache.add_argument("key", metavar="ID|PREFIX")
        cache.add_argument("switch", choices=("on", "off"))
        limit = self.action(actions, "limit", self.limit, "Change what a key may do in a minute or at once.")
        limit.add_argument("key", metavar="ID|PREFIX")
        _add_limits(limit)
        listing = self.action(actions, "list", self.list_all, "List keys, never the keys themselves.")
        listing.add_argument("--user", metavar="U", help="only this user's")
        revoke = self.action(actions, "revoke", self.revoke, "End a key, open streams included.")
        revoke.add_argument("key", metavar="ID|PREFIX")
        rotate = self.action(actions, "rotate", self.rotate, "Make a successor with the same rights and print it.")
        rotate.add_argument("key", metavar="ID|PREFIX")
        rotate.add_argument(
            "--grace", type=span, default=timedelta(hours=24), metavar="SPAN", help="the old one goes on"
        )

    def create(self, options: Options) -> None:
        user = get_user_model().objects.filter(**{get_user_model().USERNAME_FIELD: options["user"]}).first()
        if user is None:
            raise Refused(f"There is no user {options['user']!r}.")
        if options["expires"] and options["expires"] <= timezone.now():
            raise Refused("That time has passed already.")
        row, plain = ApiKey.make(
            user,
            options["name"],
            models=options["model"],
            surfaces=options["surface"],
            networks=options["network"],
            expires_at=options["expires"],
            cache_answers=options["cache"],
            **_limits(options),
        )
        for name in options["model"]:
            if not self._is_known(name):
                self.note(f"No provider has a model {name!r} at present.")
        if not user.is_active:
            self.note(f"{options['user']} is not active, so the key cannot be used yet.")
        self._print(options, row, plain)

    def _is_known(self, name: str) -> bool:
        is_alias = ModelAlias.objects.filter(name=name).exists()
        return is_alias or ProviderModel.objects.filter(public_id=name).exists() or at_provider(name) is not None

    def _print(self, options: Options, row: ApiKey, plain: str) -> None:
        end = f", valid until {row.expires_at:%Y-%m-%d %H:%M} UTC" if row.expires_at else ""
        self.note(f"Key {row.pk} of {row.user.get_username()}, “{row.name}”{end}. It is shown only now.")
        self.say(options, describe(row) | {"key": plain}, plain)

    def list_all(self, options: Options) -> None:
        rows = ApiKey.objects.select_related("user")
        if options["user"]:
            rows = rows.filter(**{f"user__{get_user_model().USERNAME_FIELD}": options["user"]})
        found = [describe(row) for row in rows]
        columns = ("id", "prefix", "user", "name", "state", "expires", "last used", "models")
        lines = [
            [item[name] for name in ("id", "prefix", "user", "name", "state", "expires_at", "last_used_at", "models")]
            for item in found
        ]
        self.say(options, found, table(columns, lines) if found else "No keys yet.")

    def limit(self, options: Options) -> None:
        row = key_named(options["key"])
        changes = _limits(options)
        if not changes:
            raise Refused("Name a limit to change; --help lists them.")
        for name, value in changes.items():
            setattr(row, name, value)
        row.full_clean(exclude=["user"])
        row.save(update_fields=list(changes))
        self.say(options, describe(row), facts([(name.replace("_", " "), getattr(row, name)) for name in LIMITS]))

    def cache(self, options: Options) -> None:
        row = key_named(options["key"])
        row.cache_answers = options["switch"] == "on"
        row.save(update_fields=["cache_answers"])
        said = "are kept and given again" if row.cache_answers else "are not kept"
        self.say(options, describe(row), f"Answers of key {row.pk} ({row.prefix}...) {said}.")

    def revoke(self, options: Options) -> None:
        row = key_named(options["key"])
        row.revoke()
        self.say(options, describe(row), f"Key {row.pk} ({row.prefix}...) is revoked.")

    def rotate(self, options: Options) -> None:
        row = key_named(options["key"])
        if row.state() != "active":
            raise Refused(f"Key {row.pk} is {row.state()}; only an active key can be rotated.")
        successor, plain = row.rotate(options["grace"])
        self.note(f"Key {row.pk} goes on until {row.expires_at:%Y-%m-%d %H:%M} UTC.")
        self._print(options, successor, plain)
