"""The verdict itself: each kind of damage that a gateway could do is found, and a good run has no fault."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest

from tests.faults.cases import KINDS, Case
from tests.faults.client import Outcome
from tests.faults.verdict import Outages, Person, Row, Verdict, Vitals, judge, judge_vitals

PEOPLE = [Person(1, 10, "a"), Person(2, 20, "b")]
KIND = {kind.name: kind for kind in KINDS}
ERROR = {"error": {"message": "no", "type": "provider_error", "param": None, "code": "provider_not_working"}}


def case(number: int, fault: str = "none", kind: str = "alone", *, stream: bool = False) -> Case:
    return Case(number, f"m{number:012x}", KIND[kind], f"{kind}-1", 0, stream, False, fault, words=3, at=1)


def answered(asked: Case, *, text: str | None = None, end: str = "complete") -> Outcome:
    made = Outcome(asked, 100.0, 101.0, end, 200, {"x-request-id": f"req{asked.number}"})
    said = asked.text if text is None else text
    usage = {"prompt_tokens": 7, "completion_tokens": asked.words}
    if asked.stream:
        events = [
            json.dumps({"choices": [{"delta": {"content": said}, "finish_reason": "stop"}], "usage": usage}),
            "[DONE]",
        ]
        made.body = "".join(f"data: {event}\n\n" for event in events).encode()
    else:
        made.body = json.dumps(
            {"choices": [{"message": {"content": said}, "finish_reason": "stop"}], "usage": usage}
        ).encode()
    return made


def failed(asked: Case, status: int = 502) -> Outcome:
    made = answered(asked)
    made.status, made.body = status, json.dumps(ERROR).encode()
    return made


def row(outcome: Outcome, status: str = "ok", http_status: int = 200) -> Row:
    asked = outcome.case
    return Row(outcome.request_id, 1, 10, asked.model, asked.stream, status, http_status, (7, asked.words))


def verdict(
    outcomes: list[Outcome], rows: list[Row], seen: dict[str, int] | None = None, outages: Outages | None = None
) -> Verdict:
    arrived = {outcome.case.mark: 1 for outcome in outcomes} if seen is None else seen
    return judge(outcomes, rows, arrived, PEOPLE, outages or Outages())


def test_a_good_run() -> None:
    plain, streamed, bad = answered(case(1)), answered(case(2, stream=True)), failed(case(3, "error-500"))
    left = Outcome(case(4), 100.0, 100.1, "left")
    rows = [row(plain), row(streamed), row(bad, "error", 502)]
    unnamed = dataclasses.replace(row(answered(case(4))), request_id="req-left", status="cancelled")
    found = verdict([plain, streamed, bad, left], [*rows, unnamed])
    assert found.problems == []
    assert found.counts["answer whole"] == 2


GOOD = answered(case(1, stream=True))


@pytest.mark.parametrize(
    ("expected", "outcome"),
    [
        ("marks of others", answered(case(1), text="m00000000000f:0:x ")),
        ("letters differ", answered(case(1), text="m000000000001:0:")),
        ("letters differ", answered(case(1, stream=True), text=case(1).text[:-9])),
        ("made an answer of a fault", answered(case(1, "error-500"))),
        ("failed with 502", failed(case(1))),
        ("failed with 500", failed(case(1, "error-500"), 500)),
        ("another provider was well", failed(case(1, "error-500", "pair"))),
        ("unreadable body", dataclasses.replace(GOOD, body=GOOD.body.replace(b"data: [DONE]\n\n", b""))),
        ("unreadable body", dataclasses.replace(GOOD, body=GOOD.body + GOOD.body)),
        ("unreadable body", dataclasses.replace(failed(case(1, "error-500")), body=b"<h1>Server Error</h1>")),
        ("no end after", answered(case(1), end="hung")),
        ("broke off", answered(case(1), end="broken")),
    ],
)
def test_a_bad_answer_is_found(expected: str, outcome: Outcome) -> None:
    good = "ok" if outcome.status == 200 and outcome.end == "complete" else "error"
    problems = verdict([outcome], [row(outcome, good, outcome.status)]).problems
    assert any(expected in problem for problem in problems), problems


def _other_user(found: Row) -> list[Row]:
    return [dataclasses.replace(found, user_id=2, key_id=20)]


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        ("has no usage row", lambda _: []),
        ("there twice", lambda found: [found, dataclasses.replace(found, status="error")]),
        ("belong to no answer", lambda found: [found, dataclasses.replace(found, request_id="invented")]),
        ("another one's", _other_user),
        ("says error instead of ok", lambda found: [dataclasses.replace(found, status="error")]),
        ("interrupted instead of ok", lambda found: [dataclasses.replace(found, status="interrupted")]),
        ("tokens instead of", lambda found: [dataclasses.replace(found, tokens=(7, 4))]),
    ],
)
def test_a_bad_row_is_found(expected: str, change: Callable[[Row], list[Row]]) -> None:
    outcome = answered(case(1))
    problems = verdict([outcome], change(row(outcome))).problems
    assert any(expected in problem for problem in problems), problems


def test_a_request_that_reached_the_provider_and_has_no_row_is_found_without_its_id() -> None:
    left = Outcome(case(1), 100.0, 100.1, "left")
    assert verdict([left], [], {left.case.mark: 1}).problems
    assert not verdict([left], [], {}).problems


def test_a_provider_that_was_called_too_often_is_found() -> None:
    outcome = answered(case(1))
    assert "called 2 times" in verdict([outcome], [row(outcome)], {outcome.case.mark: 2}).problems[0]


def test_a_broken_answer_is_excused_by_a_killed_worker_alone() -> None:
    outcome = answered(case(1), end="broken")
    rows = [row(outcome, "interrupted", 0)]
    assert not verdict([outcome], rows, outages=Outages([(100.5, 102)])).problems
    assert verdict([outcome], rows, outages=Outages([(50, 60)])).problems


def test_what_a_worker_keeps_is_found() -> None:
    before = {1: Vitals(2, 0, 20, 8, 100)}
    assert not judge_vitals(before, {1: Vitals(2, 0, 30, 9, 150), 2: Vitals(2, 0, 20, 8, 100)})
    for leak in (Vitals(3, 0, 20, 8, 100), Vitals(2, 1, 20, 8, 100), Vitals(2, 0, 99, 8, 100), Vitals(2, 0, 20, 99, 9)):
        assert len(judge_vitals(before, {1: leak})) == 1
