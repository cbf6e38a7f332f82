"""The verdict on conversations: each kind of damage is found, and a good run has none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from uuid import UUID

import pytest

from tests.faults.cases import KINDS, Case
from tests.faults.disturbances import Span
from tests.faults.talk_verdict import Message, TalkVerdict, judge_talks
from tests.faults.talks import Talk, Told
from tests.faults.verdict import Person, Row

PEOPLE = [Person(1, 10, "a"), Person(2, 20, "b")]
CONVERSATION, ANSWER, QUESTION = (f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2, 3))
CASE = Case(0, "m000000000001", KINDS[0], "alone-1", 0, True, True, "none", words=3, at=1)
KILL = Span("kill", 105.0, 106.0)


class Run:
    """One question and its answer, all well."""

    def __init__(self) -> None:
        self.told = Told(Talk(CASE, CONVERSATION), 100.0, 104.0, ["req1"], message=ANSWER, state="done", text=CASE.text)
        self.messages = [
            Message(UUID(QUESTION), UUID(CONVERSATION), 1, "user", "done", CASE.prompt),
            Message(UUID(ANSWER), UUID(CONVERSATION), 1, "assistant", "done", CASE.text),
        ]
        self.rows = [Row("req1", 1, 10, "alone-1", True, "ok", 200, (7, 3))]
        self.spans: list[Span] = []

    def judged(self) -> TalkVerdict:
        return judge_talks([self.told], self.messages, self.rows, {CASE.mark: 1}, PEOPLE, self.spans)

    def answer(self, **changed: object) -> None:
        self.messages[1] = dataclasses.replace(self.messages[1], **changed)  # type: ignore[arg-type]

    def killed(self, kept: str) -> None:
        """A word came at each second until the worker was killed at 105."""
        self.spans, self.told.ended = [KILL], 107.0
        self.told.state, self.told.text, self.told.snapshot = "interrupted", kept, True
        self.told.times = [(102.0 + at, (at + 1) * len(CASE.text) // 3) for at in range(3)]
        self.answer(state="interrupted", text=kept)
        self.rows[0] = dataclasses.replace(self.rows[0], status="interrupted", tokens=(None, None))


def test_a_good_run_has_no_fault() -> None:
    assert Run().judged().problems == []


def test_what_a_kill_took_is_measured() -> None:
    run = Run()
    run.killed(CASE.text[: 2 * len(CASE.text) // 3])
    verdict = run.judged()
    assert (verdict.problems, verdict.lost_seconds) == ([], 1.0)


def test_what_was_begun_while_the_database_went_is_nobodys_fault() -> None:
    run = Run()
    _unmade(run)
    run.told.refusals.append((101.0, 503, "storage_unavailable"))
    run.spans = [Span("terminate", 100.5, 101.0)]
    assert run.judged().problems == []


def _unmade(run: Run) -> None:
    """Its rows are there, but nobody makes it."""
    run.told.state, run.told.text, run.told.unheard = "interrupted", "", 1
    run.told.request_ids.clear()
    run.answer(state="interrupted", text="")
    run.rows = [dataclasses.replace(run.rows[0], status="interrupted", tokens=(None, None))]


def _stranger(run: Run) -> None:
    run.told.strangers.add("m000000000002")


def _late_kill(run: Run) -> None:
    run.killed("")


DAMAGE: list[tuple[str, Callable[[Run], object]]] = [
    ("texts that differ", lambda run: setattr(run.told, "text", CASE.text[:-1])),
    ("texts that differ", lambda run: run.answer(text=CASE.text[:-1])),
    ("messages lost", lambda run: run.messages.pop()),
    ("messages lost", lambda run: run.messages.pop(0)),
    ("messages doubled", lambda run: run.messages.append(dataclasses.replace(run.messages[1], id=UUID(int=9)))),
    ("messages doubled", lambda run: run.messages.append(dataclasses.replace(run.messages[0], id=UUID(int=9)))),
    ("usage rows lost", lambda run: run.rows.pop()),
    ("usage rows doubled", lambda run: run.rows.append(dataclasses.replace(run.rows[0], request_id="req2"))),
    ("usage rows wrong", lambda run: run.rows.__setitem__(0, dataclasses.replace(run.rows[0], user_id=2))),
    ("usage rows wrong", lambda run: run.rows.__setitem__(0, dataclasses.replace(run.rows[0], tokens=(7, 4)))),
    ("answers to the wrong user", _stranger),
    ("answers to the wrong user", lambda run: run.answer(owner_id=2)),
    ("hung", lambda run: setattr(run.told, "state", "hung")),
    ("other violations", lambda run: run.told.breaks.append((101.0, 102.0))),
    ("other violations", lambda run: run.answer(state="streaming")),
    ("other violations", _late_kill),
    ("other violations", _unmade),
]


@pytest.mark.parametrize(("kind", "damage"), DAMAGE)
def test_damage_is_found(kind: str, damage: Callable[[Run], object]) -> None:
    run = Run()
    damage(run)
    verdict = run.judged()
    assert verdict.counts[kind] >= 1, verdict.problems
