"""Run beside a gateway's database before it starts: writes the rig's users, keys, providers and models.

python -m tests.faults.rows PROVIDER_PORT PROXY_PORT DEAD_PORT     # prints [[user id, key id, key], ...]
"""

from __future__ import annotations

import json
import os
import sys

import django

from tests.faults.cases import CONNECT, FIRST_EVENT, GAP, KINDS, MODELS, TOTAL, USERS


def _provider(name: str, port: int, credentials: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    from gateway.models import Credential, Provider, ProviderModel

    row = Provider.objects.create(
        name=name,
        base_url=f"http://127.0.0.1:{port}/v1",
        adapter="openai_chat",
        allow_private=True,
        connect_timeout=CONNECT,
        timeout=TOTAL,
        first_event_timeout=FIRST_EVENT,
        gap_timeout=GAP,
    )
    for plain in credentials:
        credential = Credential(provider=row)
        credential.set_secret(plain)
        credential.save()
    ProviderModel.objects.bulk_create(
        ProviderModel(provider=row, public_id=f"{kind}-{number}") for kind in kinds for number in range(MODELS)
    )


def _people() -> list[tuple[int, int, str]]:
    from gateway.models import ApiKey
    from tests.people import person

    made = []
    for number in range(USERS):
        user = person(f"caller{number}")
        key, plain = ApiKey.make(user, "rig")
        made.append((user.pk, key.pk, plain))
    return made


def main() -> None:
    provider, proxy, dead = map(int, sys.argv[1:4])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "g4fsite.settings")
    django.setup()
    _provider("Faulty", provider, ("sk-faulty-000000000001",), ("alone", "pair"))
    _provider("Twice", provider, ("sk-faulty-000000000002", "sk-healthy-000000000002"), ("twice",))
    _provider("Proxied", proxy, ("sk-faulty-000000000003",), ("proxied", "proxiedpair"))
    _provider("Refusing", dead, ("sk-faulty-000000000004",), ("refused", "refusedpair"))
    behind = tuple(kind.name for kind in KINDS if kind.name.endswith("pair"))
    _provider("Healthy", provider, ("sk-healthy-000000000005",), behind)
    print(json.dumps(_people()))


if __name__ == "__main__":
    main()
