"""`route`: who would answer a request, and why. Nobody is asked."""

from __future__ import annotations

from argparse import ArgumentParser

from django.contrib.auth import get_user_model

from gateway.authentication import ANONYMOUS, Principal
from gateway.explain import Explanation, Question, explain, told_cost
from gateway.management.commands.apikey import key_named
from gateway.management.output import OperatorCommand, Options, facts, table
from gateway.models import ApiKey
from gateway.operations import Refused
from gateway.snapshot import Snapshot, load

COLUMNS = ("", "target", "credential", "context", "1,000 + 1,000 tokens", "why")


def principal_of(snapshot: Snapshot, key: ApiKey | None, user: str | None) -> Principal:
    """The caller that is meant; without a key or a user one who may use everything. Raises Refused."""
    if key is not None:
        policy = snapshot.keys_by_id.get(key.pk)
        return Principal(key.user_id, key.user.get_username(), key.user.is_staff, policy)
    if not user:
        return ANONYMOUS
    row = get_user_model().objects.filter(username=user).first()
    if row is None:
        raise Refused(f"There is no user {user!r}.")
    return Principal(row.pk, row.get_username(), row.is_staff)


class Command(OperatorCommand):
    help = "Where requests go. No provider is asked."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = self.actions(parser)
        action = self.action(actions, "explain", self.explain, "Say who would answer a request for MODEL, and why.")
        action.add_argument(
            "model", metavar="MODEL", help="as in a request: a model, an alias, PROVIDER/MODEL, default"
        )
        who = action.add_mutually_exclusive_group()
        who.add_argument("--key", help="a key's number or prefix")
        who.add_argument("--user", help="a user's browser session")
        action.add_argument("--provider", help="as in a request's `provider`")
        action.add_argument("--stream", action="store_true", help="a streamed answer")

    def explain(self, options: Options) -> None:
        snapshot = load()
        key = key_named(options["key"]) if options["key"] else None
        principal = principal_of(snapshot, key, options["user"])
        found = explain(
            snapshot, Question(options["model"], principal, options["provider"], key, stream=options["stream"])
        )
        self.say(options, found.as_json(), _text(found))
        self.note("How targets have fared lately is known to each server process alone; the admin's page shows it.")
        if found.status is not None:
            self.fail()


def _text(found: Explanation) -> str:
    about = [("model", found.model or "default"), ("means", found.meaning), ("allowed", found.allowed)]
    about.append(("right", found.right))
    if found.status is not None:
        about.append(("answer", f"{found.status} {found.code}: {found.message}"))
    blocks = [facts(about)]
    if found.steps:
        rows = [
            (
                step.number,
                f"{step.provider}/{step.model}",
                step.credential,
                step.context_length,
                told_cost(step),
                step.why,
            )
            for step in found.steps
        ]
        blocks.append(table(COLUMNS, rows))
    if found.left_out:
        blocks.append(table(("left out", "why"), [(item.name, item.why) for item in found.left_out]))
    return "\n\n".join(blocks)
