"""`provider`: add, look at, test, synchronise, change and remove what answers."""

from __future__ import annotations

import re
from argparse import ArgumentParser, BooleanOptionalAction, _ArgumentGroup
from pathlib import Path
from typing import Any

from django.db import transaction

from gateway.discovery import DiscoveryFailed
from gateway.engines.extras import missing_speech
from gateway.management.describe import (
    credential_table,
    describe_credential,
    describe_preset,
    describe_provider,
    describe_sync,
    joined,
    model_table,
)
from gateway.management.output import (
    Error,
    OperatorCommand,
    Options,
    cell,
    facts,
    pair,
    secret_on_stdin,
    table,
)
from gateway.models import AliasTarget, Provider
from gateway.modelspec import FLAGS, ModelSpec, parse_model
from gateway.operations import (
    PRIVATE,
    NewProvider,
    Refused,
    add_credential,
    add_provider,
    allow_if_private,
    is_local,
    provider_named,
    put_model,
    save_checked,
    secret_from_environment,
    sync_models,
    test_provider,
)
from gateway.portable import is_secret_name
from gateway.presets import Preset, preset_named, presets

# Options that carry the name of the column which they set.
PLAIN = (
    "label",
    "default_model",
    "priority",
    "weight",
    "proxy",
    "auth_style",
    "auth_name",
    "docs_url",
    "completions",
    "timeout",
    "connect_timeout",
    "first_event_timeout",
    "gap_timeout",
)


MAYBE = {"yes": True, "no": False, "auto": None}


def model_spec(text: str) -> ModelSpec:
    return parse_model(text)


model_spec.__name__ = "ID[=UPSTREAM][:FLAGS]"


def _secret_options(parser: ArgumentParser | _ArgumentGroup) -> None:
    parser.add_argument("--api-key-env", metavar="VAR", help="take the credential from this environment variable")
    parser.add_argument("--api-key-stdin", action="store_true", help="take it from the first line of standard input")


def _field_options(parser: ArgumentParser) -> None:
    """What `add` and `set` both take."""
    parser.add_argument("--label", help="shown to people instead of the name")
    parser.add_argument("--default-model", metavar="ID", help="used when a request names only the provider")
    parser.add_argument("--priority", type=int, metavar="N", help="lower is tried first")
    parser.add_argument("--weight", type=int, metavar="N", help="share among providers of the same priority")
    parser.add_argument("--proxy", metavar="URL", help="HTTP proxy for this provider")
    parser.add_argument("--header", type=pair, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--query", type=pair, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--auth-style", choices=Provider.Auth.values, help="how the credential is sent")
    parser.add_argument("--auth-name", metavar="NAME", help="header or parameter that carries the credential")
    parser.add_argument("--docs-url", metavar="URL")
    parser.add_argument(
        "--completions", action=BooleanOptionalAction, default=None, help="whether it has legacy POST /completions"
    )
    parser.add_argument(
        "--fetch-media",
        choices=MAYBE,
        help="whether pictures behind addresses are fetched here; no: it gets the address; auto: if it is private",
    )
    parser.add_argument(
        "--timeout", type=int, metavar="SECONDS", help="for a plain answer; 0: the server's own setting"
    )
    parser.add_argument("--connect-timeout", type=int, metavar="SECONDS")
    parser.add_argument("--first-event-timeout", type=int, metavar="SECONDS", help="until a stream says something")
    parser.add_argument("--gap-timeout", type=int, metavar="SECONDS", help="that a stream may fall silent")
    parser.add_argument(
        "--model",
        type=model_spec,
        action="append",
        default=[],
        metavar="ID[=UPSTREAM][:FLAGS]",
        help=f"a model; flags are of {', '.join(FLAGS)}, separated by commas, !FLAG for an explicit no",
    )


def _fields(options: Options) -> dict[str, Any]:
    """The columns that were named on the command line."""
    found = {name: options[name] for name in PLAIN if options[name] is not None}
    for name in ("timeout", "first_event_timeout", "gap_timeout"):
        if found.get(name) == 0:
            found[name] = None
    if options["fetch_media"]:
        found["fetch_media"] = MAYBE[options["fetch_media"]]
    for option, column in (("header", "headers"), ("query", "query")):
        given = dict(options[option])
        for name in filter(is_secret_name, given):
            raise Refused(
                f"{name} looks like a credential, and {column} are not encrypted. Use --api-key-env VAR with "
                f"--auth-style {'header' if option == 'header' else 'query'} --auth-name {name}."
            )
        if given:
            found[column] = given
    if options.get("base_url"):
        found["base_url"] = options["base_url"]
    if options.get("gguf") is not None:
        # The server may be started elsewhere.
        found["gguf"] = str(Path(options["gguf"]).resolve()) if options["gguf"] else ""
    if options.get("context_length") is not None:
        found["gguf_context"] = options["context_length"] or None
    return found


def model_of(path: str) -> ModelSpec:
    """What a GGUF file is called until somebody says otherwise: its name without what is no part of an id."""
    name = re.sub(r"[^a-z0-9._-]+", "-", Path(path).stem.lower()).strip("-.") or "local"
    return ModelSpec(name, name, {"chat": True})


def _secret(options: Options) -> str:
    if options["api_key_env"] and options["api_key_stdin"]:
        raise Refused("Give either --api-key-env or --api-key-stdin.")
    if options["api_key_env"]:
        return secret_from_environment(options["api_key_env"])
    return secret_on_stdin() if options["api_key_stdin"] else ""


class Command(OperatorCommand):
    help = "Providers: the companies and servers that answer."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = self.actions(parser)
        self._add_options(self.action(actions, "add", self.add, "Add a provider, from a preset or by its URL."))
        self.action(actions, "list", self.list_all, "List the providers, in the order in which they are tried.")
        for name, run, text in (
            ("show", self.show, "Show a provider with its models and credentials (never the secrets)."),
            ("test", self.test, "Ask it for its models, or for one token where it lists none."),
            ("enable", self.enable, "Let requests use it."),
            ("disable", self.disable, "Keep it, but let no request use it."),
            ("remove", self.remove, "Delete it with its credentials, models and prices."),
        ):
            self.action(actions, name, run, text).add_argument("name")
        sync = self.action(actions, "sync", self.sync, "Add the models that it lists; nothing is deleted.")
        sync.add_argument("name")
        sync.add_argument("--prune", action="store_true", help="disable the models that it no longer lists")
        self._set_options(self.action(actions, "set", self.set, "Change a provider."))
        self.action(actions, "presets", self.presets, "List the companies and servers that are known.")
        self._credential_options(actions.add_parser("credential", help="Add, list or remove its credentials."))

    def _add_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", help="as requests name it; the preset's name unless given")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--preset", metavar="P", help="see `provider presets`")
        what.add_argument("--adapter", metavar="A", help="the wire protocol, such as openai_chat; with --base-url")
        what.add_argument("--gguf", metavar="PATH", help="a model file that this server runs itself with llama.cpp")
        parser.add_argument("--context-length", type=int, metavar="N", help="tokens that the GGUF model holds")
        parser.add_argument("--base-url", metavar="URL", help="up to and including the version")
        parser.add_argument("--param", type=pair, action="append", default=[], metavar="NAME=VALUE")
        _secret_options(parser)
        _field_options(parser)
        parser.add_argument("--no-usage", action="store_true", help="for servers that refuse stream_options")
        parser.add_argument("--allow-private", action="store_true", help="allow private addresses and plain http")
        parser.add_argument("--disabled", action="store_true", help="add it, but let no request use it yet")
        parser.add_argument("--sync", action="store_true", help="add the models that it lists")

    def _set_options(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--rename", metavar="NAME", help="as requests name it from now on")
        parser.add_argument("--gguf", metavar="PATH", help="another model file; empty: none")
        parser.add_argument("--context-length", type=int, metavar="N", help="tokens that the GGUF model holds")
        parser.add_argument("--base-url", metavar="URL")
        _field_options(parser)
        parser.add_argument("--remove-header", action="append", default=[], metavar="NAME")
        parser.add_argument("--remove-query", action="append", default=[], metavar="NAME")
        parser.add_argument("--remove-model", action="append", default=[], metavar="ID")
        usage = parser.add_mutually_exclusive_group()
        usage.add_argument("--usage", dest="asks_usage", action="store_true", default=None)
        usage.add_argument("--no-usage", dest="asks_usage", action="store_false", default=None)
        private = parser.add_mutually_exclusive_group()
        private.add_argument("--allow-private", dest="allow_private", action="store_true", default=None)
        private.add_argument("--no-allow-private", dest="allow_private", action="store_false", default=None)

    def _credential_options(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="credential_action", required=True, metavar="ACTION", title="actions")
        add = self.action(actions, "add", self.credential_add, "Add a credential; several are tried in turn.")
        add.add_argument("name")
        add.add_argument("--label", default="")
        _secret_options(add)
        self.action(actions, "list", self.credential_list, "List them, without their secrets.").add_argument("name")
        remove = self.action(actions, "remove", self.credential_remove, "Delete one, by its number in the list.")
        remove.add_argument("name")
        remove.add_argument("id", type=int)

    def add(self, options: Options) -> None:
        preset = preset_named("local" if options["gguf"] else options["preset"]) if not options["adapter"] else None
        row, notes = add_provider(self._new(options, preset))
        for text in notes:
            self.note(text)
        report, problem = None, ""
        if options["sync"]:
            try:
                report = sync_models(row)
            except (Refused, DiscoveryFailed) as error:
                problem = str(error)
        self._remarks(row, preset)
        text = f"Added {row.name} ({row.base_url or row.adapter}) with {row.models.count()} models."
        self.say(options, describe_provider(row) | ({"sync": describe_sync(report)} if report else {}), text)
        if problem:
            raise Error(f"{row.name} was added, but its models could not be listed: {problem}")

    def _new(self, options: Options, preset: Preset | None) -> NewProvider:
        fields = _fields(options) | ({"asks_usage": False} if options["no_usage"] else {})
        fields |= ({"allow_private": True} if options["allow_private"] else {}) | {"enabled": not options["disabled"]}
        models = tuple(options["model"])
        if preset is None:
            if not options["name"]:
                raise Refused("A provider without a preset needs a NAME.")
            fields["adapter"] = options["adapter"]
            return NewProvider(options["name"], fields, None, _secret(options), models)
        if "base_url" not in fields:
            fields["base_url"] = preset.filled_base_url(dict(options["param"]))
        if preset.headers and "headers" in fields:
            fields["headers"] = {**preset.headers, **fields["headers"]}
        if options["gguf"]:
            models = models or (model_of(fields["gguf"]),)
        elif not models and not options["sync"]:
            models = preset.models
        return NewProvider(options["name"] or preset.name, fields, preset, _secret(options), models)

    def _remarks(self, row: Provider, preset: Preset | None) -> None:
        if preset and preset.note and not row.gguf:
            self.note(preset.note)
        if preset and preset.key == "local" and not row.gguf and (missing := missing_speech()):
            self.note(missing)
        if not row.models.exists() and not is_local(row):
            self.note(f"It has no models yet: provider sync {row.name} adds those that it lists.")
        if row.auth_style != Provider.Auth.NONE and not row.credentials.exists():
            variable = preset.api_key_env if preset and preset.api_key_env else "VAR"
            self.note(f"It has no credential yet: provider credential add {row.name} --api-key-env {variable}")

    def list_all(self, options: Options) -> None:
        rows = list(Provider.objects.prefetch_related("credentials", "models"))
        columns = ("name", "adapter", "base url", "enabled", "priority", "models", "credentials")
        lines = [
            (
                row.name,
                row.adapter,
                row.base_url,
                row.enabled,
                row.priority,
                len(row.models.all()),
                len(row.credentials.all()),
            )
            for row in rows
        ]
        self.say(
            options, [describe_provider(row) for row in rows], table(columns, lines) if rows else "No providers yet."
        )

    def show(self, options: Options) -> None:
        data = describe_provider(provider_named(options["name"]))
        plain = [
            (name.replace("_", " "), value) for name, value in data.items() if name not in ("models", "credentials")
        ]
        pairs = [(name, joined(value)) for name, value in plain]
        parts = [facts(pairs)]
        if data["credentials"]:
            parts.append(credential_table(data["credentials"]))
        if data["models"]:
            parts.append(model_table(data["models"]))
        self.say(options, data, "\n\n".join(parts))

    def test(self, options: Options) -> None:
        row = provider_named(options["name"])
        results = test_provider(row)
        data, lines = [], []
        for result in results:
            found = result.connection
            item: dict[str, Any] = {"credential": result.credential, "ok": found is not None}
            if found is None:
                item["problem"] = result.problem
                lines.append(f"{result.credential}: {result.problem}")
            else:
                item |= {"milliseconds": found.milliseconds, "models": found.models, "answered": found.answered or None}
                did = f"{found.answered} answered" if found.answered else f"{found.models} models listed"
                lines.append(f"{result.credential}: {did} in {found.milliseconds} ms")
            data.append(item)
        self.say(options, {"provider": row.name, "results": data}, "\n".join(map(cell, lines)))
        if not all(result.connection for result in results):
            self.fail()

    def sync(self, options: Options) -> None:
        row = provider_named(options["name"])
        report = sync_models(row, prune=options["prune"])
        lines = [f"{row.name}: {len(report.added)} added, {len(report.updated)} updated, {report.unchanged} unchanged."]
        lines += [f"+ {cell(name)}" for name in report.added] + [f"~ {cell(name)}" for name in report.updated]
        lines += [f"- {cell(name)}: no longer listed{', disabled' if options['prune'] else ''}" for name in report.gone]
        lines += [f"! {cell(name)}: not a usable id, passed over" for name in report.skipped]
        self.say(options, describe_sync(report), "\n".join(lines))
        if report.gone and not options["prune"]:
            self.note("Models that are no longer listed stay enabled; --prune disables them.")

    def enable(self, options: Options) -> None:
        self._switch(options, True)

    def disable(self, options: Options) -> None:
        self._switch(options, False)

    def _switch(self, options: Options, enabled: bool) -> None:
        row = provider_named(options["name"])
        if row.enabled != enabled:
            row.enabled = enabled
            row.save()
        self.say(options, {"name": row.name, "enabled": enabled}, f"{row.name} is {'en' if enabled else 'dis'}abled.")

    def remove(self, options: Options) -> None:
        row = provider_named(options["name"])
        aliases = sorted(set(AliasTarget.objects.filter(model__provider=row).values_list("alias__name", flat=True)))
        models = row.models.count()
        row.delete()
        if aliases:
            self.note(f"These aliases have lost a target: {', '.join(aliases)}.")
        data = {"removed": row.name, "models": models, "aliases": aliases}
        self.say(options, data, f"Removed {row.name} and its {models} models.")

    def set(self, options: Options) -> None:
        row = provider_named(options["name"])
        for name, value in _fields(options).items():
            setattr(row, name, {**getattr(row, name), **value} if name in ("headers", "query") else value)
        for option, column in (("remove_header", "headers"), ("remove_query", "query")):
            setattr(
                row,
                column,
                {name: value for name, value in getattr(row, column).items() if name not in options[option]},
            )
        for name in ("asks_usage", "allow_private"):
            if options[name] is not None:
                setattr(row, name, options[name])
        row.name = options["rename"] or row.name
        if options["base_url"] and options["allow_private"] is None and allow_if_private(row):
            self.note(PRIVATE.format(row.base_url, row.name))
        with transaction.atomic():
            save_checked(row)
            for spec in options["model"] or ([model_of(row.gguf)] if options["gguf"] else []):
                put_model(row, spec)
            self._remove_models(row, options["remove_model"])
        self.say(options, describe_provider(row), f"Changed {row.name}.")

    def _remove_models(self, row: Provider, names: list[str]) -> None:
        for name in names:
            found = row.models.filter(public_id=name).first()
            if found is None:
                raise Refused(f"{row.name} has no model {name!r}.")
            found.delete()

    def presets(self, options: Options) -> None:
        rows = list(presets().values())
        columns = ("preset", "name", "adapter", "base url", "key variable", "docs")
        lines = [
            (
                row.key,
                row.name,
                row.adapter,
                row.base_url,
                row.api_key_env,
                row.docs_url,
            )
            for row in rows
        ]
        self.say(options, [describe_preset(row) for row in rows], table(columns, lines))

    def credential_add(self, options: Options) -> None:
        row = provider_named(options["name"])
        secret = _secret(options)
        if not secret:
            raise Refused("Say where the credential is: --api-key-env VAR or --api-key-stdin.")
        unsent = row.auth_style == Provider.Auth.NONE
        credential = add_credential(row, secret, options["label"])
        if unsent:
            self.note(f"{row.name} sent no credential so far; it now sends this one as a bearer token.")
        self.say(options, describe_credential(credential), f"Added credential {credential.pk} to {row.name}.")

    def credential_list(self, options: Options) -> None:
        found = [describe_credential(item) for item in provider_named(options["name"]).credentials.all()]
        self.say(options, found, credential_table(found) if found else "No credentials yet.")

    def credential_remove(self, options: Options) -> None:
        row = provider_named(options["name"])
        found = row.credentials.filter(pk=options["id"]).first()
        if found is None:
            raise Refused(f"{row.name} has no credential {options['id']}.")
        found.delete()
        self.say(options, {"removed": options["id"]}, f"Removed credential {options['id']} of {row.name}.")
