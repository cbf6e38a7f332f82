"""The breaker orders targets by how they have been doing, and never refuses one."""

from __future__ import annotations

import dataclasses

from gateway.breaker import Breaker
from gateway.errors import UpstreamBroken, UpstreamLimited, UpstreamRefused, UpstreamRejected
from gateway.targets import Endpoint, Target

A = Target("openai_chat", 1, "A", 1, "m", "m", Endpoint("A", ""), credential_id=1)
B = dataclasses.replace(A, provider_id=2, provider="B", model_id=2, credential_id=2)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_three_failures_in_a_row_and_closes_by_a_probe() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(2):
        breaker.failed(A, UpstreamBroken("x"))
    assert breaker.order((A, B)) == (A, B)
    breaker.failed(A, UpstreamBroken("x"))
    assert breaker.order((A, B)) == (B, A)
    assert breaker.state(1, 1) == "open"
    clock.now += 31
    assert breaker.order((A, B)) == (A, B)
    breaker.trying(A)
    # One request probes; meanwhile the others go elsewhere.
    assert breaker.order((A, B)) == (B, A)
    breaker.succeeded(A)
    assert breaker.order((A, B)) == (A, B)


def test_a_failed_probe_opens_it_for_longer() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(3):
        breaker.failed(A, UpstreamBroken("x"))
    clock.now += 31
    breaker.trying(A)
    breaker.failed(A, UpstreamBroken("x"))
    clock.now += 31
    assert breaker.is_open(A)
    clock.now += 30
    assert not breaker.is_open(A)


def test_a_refused_credential_opens_it_at_once() -> None:
    breaker = Breaker(Clock())
    breaker.failed(A, UpstreamRefused("x"))
    assert breaker.is_open(A)
    # Another credential of the same model is another matter.
    assert not breaker.is_open(dataclasses.replace(A, credential_id=9))


def test_a_limit_pauses_for_as_long_as_the_provider_says() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    breaker.failed(A, UpstreamLimited("x", retry_after=5))
    assert breaker.is_open(A)
    clock.now += 5.1
    assert not breaker.is_open(A)
    breaker.failed(A, UpstreamLimited("x", retry_after=99_999))
    clock.now += 601
    assert not breaker.is_open(A)


def test_a_rejected_request_says_nothing_about_the_provider() -> None:
    breaker = Breaker(Clock())
    for _ in range(9):
        breaker.failed(A, UpstreamRejected("x"))
    assert not breaker.is_open(A)


def test_when_all_are_open_the_order_stays() -> None:
    breaker = Breaker(Clock())
    for target in (A, B):
        breaker.failed(target, UpstreamRefused("x"))
    assert breaker.order((A, B)) == (A, B)
    breaker.clear()
    assert not breaker.is_open(A)
