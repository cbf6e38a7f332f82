"""Keeps one llama.cpp for each provider that has a GGUF file, whatever number of workers there is.

Each worker has a thread that looks twice a second. Who holds the lock of a provider runs its engine; the others read
where it is. When that worker ends, its engine ends, and the next one that looks takes over.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading

from gateway.engines import places
from gateway.engines.engine import CONTEXT, Engine, Spec
from gateway.snapshot import ProviderPolicy, store

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


def spec_of(provider: ProviderPolicy) -> Spec:
    # Models that speak or listen are other libraries' under the same roof.
    models = [
        model
        for model in provider.models.values()
        if not any(model.flags.get(name) for name in ("speech", "transcription"))
    ]
    return Spec(
        provider_id=provider.id,
        path=provider.gguf,
        alias=models[0].upstream_name if models else provider.name,
        context=provider.gguf_context or CONTEXT,
        embedding=any(model.flags.get("embeddings") for model in models),
    )


class Keeper:
    """`start` and `stop` are called once per process; `look` belongs to the thread between them."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._engines: dict[int, Engine] = {}
        self._locks: dict[int, int] = {}

    def start(self) -> None:
        if self._thread and self._thread.is_alive():
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="engines", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=20)
        self._thread = None

    def _run(self) -> None:
        # The children belong to this thread: Linux kills them when it ends.
        failing = False
        while True:
            try:
                self.look()
                failing = False
            except Exception:
                # Once, not twice a second.
                if not failing:
                    log.exception("the engines could not be looked after")
                failing = True
            if self._stop.wait(LOOK_SECONDS):
                break
        for provider_id in list(self._engines):
            self._drop(provider_id)
        places.known.clear()

    def look(self) -> None:
        providers = {provider.id: provider for provider in store.current.providers if provider.gguf}
        wanted = {provider_id: spec_of(provider) for provider_id, provider in providers.items()}
        for provider_id in [found for found in places.known if found not in wanted]:
            places.known.pop(provider_id)
        for provider_id in [found for found in self._engines if found not in wanted]:
            self._drop(provider_id)
            places.forget(provider_id)
        for provider_id, spec in wanted.items():
            engine = self._engine(spec)
            place = engine.tick() if engine else places.read(provider_id)
            if place is not None:
                places.known[provider_id] = place
        if any(_is_elsewhere(provider) for provider in providers.values()):
            store.reload()

    def _engine(self, spec: Spec) -> Engine | None:
        """The engine if it is this process that keeps it."""
        engine = self._engines.get(spec.provider_id)
        if engine is not None and engine.spec != spec:
            engine.stop()
            engine = None
        if engine is None and self._holds(spec.provider_id):
            engine = self._engines[spec.provider_id] = Engine(spec)
        return engine

    def _holds(self, provider_id: int) -> bool:
        if provider_id in self._locks:
            return True
        lock = os.open(places.folder() / f"{provider_id}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._locks[provider_id] = lock
        return True

    def _drop(self, provider_id: int) -> None:
        self._engines.pop(provider_id).stop()
        os.close(self._locks.pop(provider_id))


def _is_elsewhere(provider: ProviderPolicy) -> bool:
    """Whether the snapshot names another place than the engine's."""
    place = places.known.get(provider.id)
    return place is not None and (place.base_url, ((0, place.key),)) != (
        provider.endpoint.base_url,
        provider.credentials,
    )


keeper = Keeper()
