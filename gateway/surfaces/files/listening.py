"""What is said in a bucket's sound and films, written down by the model that the operator named for it.

It is a transcription like any other: the caller's key must be allowed the model, its limits count, and a row of usage
says what it cost.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from django.conf import settings

from gateway import relay
from gateway.audio import EXTENSIONS, TRANSCRIPTIONS, TranscriptionRequest
from gateway.authentication import Principal
from gateway.breaker import breaker
from gateway.errors import BadRequest, GatewayError, ServerStopping, UpstreamBroken
from gateway.events import Event, Transcript, Usage
from gateway.limiter import limiter, limits_of
from gateway.live import Live, answers
from gateway.routing import targets_of
from gateway.snapshot import store
from gateway.surfaces.audio.recordings import seconds_of
from gateway.surfaces.files.threads import alone, reading, storing, through
from gateway.targets import Target
from gateway.upstream import upstream
from gateway.usage import Tally
from media import buckets, recordings
from media.models import Bucket, Document

log = logging.getLogger(__name__)

SURFACE = "files.transcriptions"
OFF = "off"
# The file is at fault, as far as anyone knows: it would be refused the next time as well.
FINAL = (400, 413, 415, 422)
# There is no room for a transcript that was paid: who asked again would pay again.
FULL = 507
# The operator named a model that does something else: no fault of the file.
MISTAKEN = "unsupported_operation"
HOLD_SECONDS = recordings.CLAIM_SECONDS / 3
LOOK_SECONDS = 0.5


def writes_down() -> tuple[str, str | None] | None:
    """The model, and for a model that is not named its provider; None where nobody writes recordings down."""
    named = settings.TRANSCRIPTION_MODEL
    if named:
        return None if named.lower() == OFF else (named, None)
    for provider in store.current.providers:
        if provider.adapter == "local" and any(model.flags.get("transcription") for model in provider.models.values()):
            return "", provider.name
    return None


class Listener:
    """Who asks for transcripts and pays for them. Nothing here raises what is wrong with a recording or its provider:
    the files of a bucket are whole without."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal
        # A provider that is away, or a limit that is reached, is not asked again for every file of a bucket.
        self.tired = writes_down() is None

    async def write_down(self, bucket: Bucket, document: Document) -> None:
        """Until its transcript is kept, or nobody can make one now. Goes on when the caller leaves."""
        if not self.tired:
            await through(self._alone(bucket, document))

    async def write_down_within(self, seconds: float, bucket: Bucket, documents: Sequence[Document]) -> None:
        """As many as there is time for; the one that is under way goes on, the others wait for a reader."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for document in documents:
                    await self.write_down(bucket, document)

    async def _alone(self, bucket: Bucket, document: Document) -> None:
        try:
            async with alone(document.pk, bucket.owner_id):
                while not await reading(partial(recordings.claim, document)):
                    found = await reading(partial(buckets.fresh, document))
                    if found is None or found.state != Document.State.WAITING or found.original != document.original:
                        return
                    await asyncio.sleep(LOOK_SECONDS)
                async with _held(document):
                    await self._settled(bucket, document)
        except GatewayError as error:
            self._gave_up(document, error)

    async def _settled(self, bucket: Bucket, document: Document) -> None:
        try:
            text = await self._heard(document)
            await storing(partial(buckets.settle, bucket, document, text))
        except GatewayError as error:
            final = error.status in FINAL and error.code != MISTAKEN
            if final or error.status == FULL:
                await reading(partial(buckets.fail, document, error.message))
            if not final:
                self._gave_up(document, error)

    def _gave_up(self, document: Document, error: GatewayError) -> None:
        self.tired = True
        log.info("no transcript of document %s for now: %s %s", document.pk, error.status, error.code)

    async def _heard(self, document: Document) -> str:
        """Raises GatewayError."""
        named = writes_down()
        if named is None:
            raise BadRequest("Nobody writes recordings down here.", status=503)
        sound, kind = await reading(partial(recordings.sound_of, document))
        if kind not in EXTENSIONS:
            raise BadRequest(f"Recordings of type {kind} are not written down.", status=415)
        request = _request(*named, sound, kind, document.language)
        targets = targets_of(store.current, request, self._principal, TRANSCRIPTIONS)
        async with self._revocable() as cut:
            return await self._asked(request, breaker.order(targets), cut)

    @asynccontextmanager
    async def _revocable(self) -> AsyncIterator[list[GatewayError]]:
        """Whoever loses the right, or a server that stops, ends what goes on inside; the reason is in what it gives."""
        cut: list[GatewayError] = []
        task = asyncio.current_task()
        assert task is not None, "it runs in one"

        def stop(reason: GatewayError) -> None:
            if not cut:
                cut.append(reason)
                task.cancel()

        live = Live(self._principal, asyncio.get_running_loop(), stop, False)
        answers.enter(live)
        try:
            yield cut
        except asyncio.CancelledError:
            if not cut:
                raise
            task.uncancel()
            raise cut[0] from None
        finally:
            answers.leave(live)

    async def _asked(
        self, request: TranscriptionRequest, targets: tuple[Target, ...], cut: Sequence[GatewayError]
    ) -> str:
        """Books it exactly once, however it ends. Raises GatewayError."""
        admission, targets = await limiter.admit_somewhere(limits_of(self._principal), targets, request)
        tally = Tally(_request_id(), self._principal, request, SURFACE)
        tally.begin(targets[0])
        try:
            events = await relay.complete(upstream, request, targets, tally)
            tally.usage = next((event for event in events if isinstance(event, Usage)), None)
            text = _text(events)
            tally.end("ok", 200)
        except GatewayError as error:
            tally.end("error", error.status, error)
            admission.settle(tally.total())
            raise
        except asyncio.CancelledError:
            reason = cut[0] if cut else ServerStopping()
            tally.end("interrupted" if isinstance(reason, ServerStopping) else "cancelled", reason.status, reason)
            raise
        except BaseException:
            tally.end("error", 500)
            raise
        admission.settle(tally.total())
        return text


def _request(model: str, provider: str | None, sound: bytes, kind: str, language: str) -> TranscriptionRequest:
    # Providers want ISO 639-1 and browsers say `en-US`.
    body = {"language": language.partition("-")[0].lower()} if language else {}
    return TranscriptionRequest(
        model=model,
        provider=provider,
        stream=False,
        include_usage=False,
        body=body,
        plain=False,
        sound=sound,
        content_type=kind,
        seconds=seconds_of(sound, kind),
    )


def _text(events: Sequence[Event]) -> str:
    for event in events:
        if isinstance(event, Transcript):
            return event.text.replace("\x00", "").strip()
    raise UpstreamBroken("The provider gave no transcript.")


def _request_id() -> str:
    return f"req_{int(time.time() * 1000):012x}{secrets.token_hex(10)}"


@asynccontextmanager
async def _held(document: Document) -> AsyncIterator[None]:
    """Nobody else claims it; what still waits afterwards is free."""

    async def hold() -> None:
        while True:
            await asyncio.sleep(HOLD_SECONDS)
            with suppress(GatewayError):
                await reading(partial(recordings.hold, document))

    holding = asyncio.create_task(hold())
    try:
        yield
    finally:
        holding.cancel()
        await reading(partial(recordings.release, document))
