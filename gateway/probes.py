"""Asks providers that failed whether they are back, so that no caller has to find out. The cheap question: which
models there are. A thread of each process asks, because each has a breaker of its own."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from enum import Enum, auto

from django.conf import settings

from gateway.breaker import breaker
from gateway.dialects import dialect_of
from gateway.discovery import DiscoveryFailed, listed
from gateway.presets import models_url_of
from gateway.snapshot import ProviderPolicy, store
from gateway.targets import Target

log = logging.getLogger(__name__)


class Health(Enum):
    """`UNKNOWN`: something answers, but a list of models is not what it gives, or not to this credential."""

    WELL = auto()
    AWAY = auto()
    UNKNOWN = auto()


class Probes:
    """`look` once asks about every target that is open; `start` does so again and again."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        if not settings.PROBE_SECONDS or (self._thread and self._thread.is_alive()):
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for a question that is under way: it has nothing to write."""
        self._stop.set()
        self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(settings.PROBE_SECONDS):
            try:
                self.look()
            except Exception:
                log.exception("providers could not be probed")

    def look(self) -> None:
        by_credential: dict[tuple[int, int], list[Target]] = defaultdict(list)
        for target in breaker.suspects():
            by_credential[target.provider_id, target.credential_id].append(target)
        providers = {provider.id: provider for provider in store.current.providers}
        for (provider_id, _), targets in by_credential.items():
            provider = providers.get(provider_id)
            if provider is not None and not provider.is_demo and not self._stop.is_set():
                self._tell(targets, _health(provider, targets[0].credential))

    def _tell(self, targets: list[Target], health: Health) -> None:
        for target in targets:
            if health is Health.WELL:
                breaker.vouched(target)
            elif health is Health.AWAY:
                breaker.still_away(target, 2 * settings.PROBE_SECONDS)


def _health(provider: ProviderPolicy, credential: str) -> Health:
    try:
        # A health question needs no details of each model.
        listed(
            provider.endpoint,
            credential,
            dialect_of(provider.adapter),
            models_url_of(provider.preset, provider.endpoint.base_url),
        )
    except DiscoveryFailed as failure:
        return Health.AWAY if failure.unreachable else Health.UNKNOWN
    return Health.WELL


probes = Probes()
