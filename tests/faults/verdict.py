"""What must hold after a run: of every answer, of the usage rows, and of the gateway itself. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.cases import Case
from tests.faults.catalogue import ALL, Failure, Fault
from tests.faults.client import Answered, Outcome, read

ENDED = {"ok", "error", "cancelled"}


@dataclass(frozen=True, slots=True)
class Row:
    """A usage row; `tokens` are those of the prompt and the completion."""

    request_id: str
    user_id: int
    key_id: int
    model: str
    stream: bool
    status: str
    http_status: int
    tokens: tuple[int | None, int | None]


@dataclass(frozen=True, slots=True)
class Person:
    user_id: int
    key_id: int
    key: str


@dataclass(frozen=True, slots=True)
class Outages:
    """Times (time.monotonic) between which a worker was dead or dying: an answer may break off there alone."""

    spans: Sequence[tuple[float, float]] = ()

    def excuse(self, began: float, ended: float) -> bool:
        return any(began <= end and ended >= start for start, end in self.spans)


@dataclass
class Verdict:
    """`problems` are violations, each a sentence; `counts` say what was seen."""

    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, case: Case, what: str) -> None:
        kind = "stream" if case.stream else "plain"
        self.problems.append(f"request {case.number} ({case.mark}, {case.model}, {kind}, {case.fault}): {what}")


def judge(
    outcomes: Sequence[Outcome],
    rows: Sequence[Row],
    seen: Mapping[str, int],
    people: Sequence[Person],
    outages: Outages,
) -> Verdict:
    """`seen` says how often each mark reached the provider."""
    verdict = Verdict()
    answers = {id(outcome): read(outcome) for outcome in outcomes if outcome.end == "complete"}
    for outcome in outcomes:
        _judge_answer(verdict, outcome, answers.get(id(outcome)), outages)
        _judge_arrivals(verdict, outcome, answers.get(id(outcome)), seen)
    _judge_rows(verdict, outcomes, answers, rows, people)
    _judge_unnamed(verdict, outcomes, rows, seen, people)
    broken = sum(outcome.end == "broken" for outcome in outcomes)
    left = sum(outcome.end == "left" for outcome in outcomes) if outages.spans else 0
    interrupted = sum(row.status == "interrupted" for row in rows)
    if interrupted > broken + left:
        verdict.problems.append(f"{interrupted} rows are interrupted, but only {broken} answers broke off")
    verdict.counts.update(f"row {row.status}" for row in rows)
    verdict.counts["rows"] = len(rows)
    verdict.counts["marks at the provider"] = len(seen)
    verdict.counts["calls of the provider"] = sum(seen.values())
    return verdict


def _judge_answer(verdict: Verdict, outcome: Outcome, answer: Answered | None, outages: Outages) -> None:
    case = outcome.case
    if outcome.strangers:
        verdict.add(case, f"the answer carries marks of others: {sorted(outcome.strangers)[:3]}")
    if answer is None:
        verdict.counts[f"answer {outcome.end}"] += 1
        if outcome.end == "hung":
            verdict.add(case, f"no end after {outcome.ended - outcome.began:.1f} s")
        elif outcome.end == "broken" and not outages.excuse(outcome.began, outcome.ended):
            verdict.add(case, f"broke off after status {outcome.status} and {len(outcome.body)} bytes")
        return
    if answer.problem:
        verdict.add(case, answer.problem)
    elif answer.error is None:
        verdict.counts["answer whole"] += 1
        _judge_whole(verdict, case, answer)
    else:
        status = outcome.status if outcome.status != 200 else "cut stream"
        verdict.counts[f"answer {status} {answer.error['code']}"] += 1
        _judge_failure(verdict, outcome, answer)


def _allowed(case: Case) -> tuple[Failure | None, ...]:
    fault: Fault = ALL[case.fault]
    return fault.stream if case.stream else fault.plain


def _judge_whole(verdict: Verdict, case: Case, answer: Answered) -> None:
    if None not in _allowed(case) and not case.kind.has_fallback:
        verdict.add(case, "the gateway made an answer of a fault")
    if answer.text != case.text:
        at = next((i for i, pair in enumerate(zip(answer.text, case.text, strict=False)) if pair[0] != pair[1]), -1)
        verdict.add(case, f"{len(answer.text)} letters differ from the {len(case.text)} sent, first at {at}")
    if answer.finish != "stop":
        verdict.add(case, f"finished with {answer.finish!r}")
    if answer.usage is None:
        verdict.add(case, "no usage")


def _judge_failure(verdict: Verdict, outcome: Outcome, answer: Answered) -> None:
    case, code = outcome.case, answer.error["code"] if answer.error else ""
    status = outcome.status
    wanted = [failure for failure in _allowed(case) if failure is not None]
    # In a stream that was silent for a while, or that had begun, the status is 200 and the code tells.
    if not any(code == failure.code and status in {failure.status, 200} for failure in wanted):
        verdict.add(case, f"failed with {status} {code}: {answer.error}")
    if not case.text.startswith(answer.text):
        verdict.add(case, "what came before the failure is not the beginning of the answer")
    if case.kind.has_fallback and not answer.text:
        verdict.add(case, f"the caller saw {status} {code} though another provider was well")
    if answer.text and not ALL[case.fault].mid:
        verdict.add(case, "words came before a fault that comes before all words")


def _judge_arrivals(verdict: Verdict, outcome: Outcome, answer: Answered | None, seen: Mapping[str, int]) -> None:
    case = outcome.case
    arrived = seen.get(case.mark, 0)
    if arrived > case.kind.targets:
        verdict.add(case, f"the provider was called {arrived} times for {case.kind.targets} targets")
    if answer is not None and answer.text and not arrived:
        verdict.add(case, "answered without a call of the provider")


def _judge_rows(
    verdict: Verdict,
    outcomes: Iterable[Outcome],
    answers: Mapping[int, Answered],
    rows: Sequence[Row],
    people: Sequence[Person],
) -> None:
    by_id: dict[str, Row] = {}
    for row in rows:
        if by_id.setdefault(row.request_id, row) is not row:
            verdict.problems.append(f"usage row {row.request_id} is there twice")
    taken: set[str] = set()
    for outcome in outcomes:
        if not outcome.request_id:
            continue
        if outcome.request_id in taken:
            verdict.add(outcome.case, f"shares the request id {outcome.request_id}")
        taken.add(outcome.request_id)
        found = by_id.get(outcome.request_id)
        if found is None:
            verdict.add(outcome.case, f"has no usage row ({outcome.request_id}, {outcome.end})")
        else:
            _judge_row(verdict, outcome, answers.get(id(outcome)), found, people[outcome.case.user])


def _judge_row(verdict: Verdict, outcome: Outcome, answer: Answered | None, row: Row, person: Person) -> None:
    case = outcome.case
    if (row.user_id, row.key_id, row.model, row.stream) != (person.user_id, person.key_id, case.model, case.stream):
        verdict.add(case, f"its row is another one's: {row}")
    if answer is None:
        allowed = ENDED | ({"interrupted"} if outcome.end in {"broken", "left"} else set())
        if row.status not in allowed:
            verdict.add(case, f"its row says {row.status} for an answer that was {outcome.end}")
        return
    wanted = "error" if answer.error else "ok"
    if row.status != wanted:
        verdict.add(case, f"its row says {row.status} instead of {wanted}")
    if answer.error and outcome.status not in (200, row.http_status):
        verdict.add(case, f"its row says {row.http_status} instead of {outcome.status}")
    if not answer.error and ALL[case.fault].counted and row.tokens != (7, case.words):
        verdict.add(case, f"its row says {row.tokens} tokens instead of {(7, case.words)}")


def _judge_unnamed(
    verdict: Verdict,
    outcomes: Sequence[Outcome],
    rows: Sequence[Row],
    seen: Mapping[str, int],
    people: Sequence[Person],
) -> None:
    """Requests whose head of an answer never came are counted per key, model and form."""
    named = {outcome.request_id for outcome in outcomes if outcome.request_id}
    extra = Counter((row.key_id, row.model, row.stream) for row in rows if row.request_id not in named)
    at_most: Counter[tuple[int, str, bool]] = Counter()
    at_least: Counter[tuple[int, str, bool]] = Counter()
    for outcome in outcomes:
        if not outcome.request_id and outcome.end != "unsent":
            case = outcome.case
            group = (people[case.user].key_id, case.model, case.stream)
            at_most[group] += 1
            at_least[group] += case.mark in seen
    for group in extra.keys() | at_most.keys():
        if not at_least[group] <= extra[group] <= at_most[group]:
            verdict.problems.append(
                f"{extra[group]} usage rows of {group} belong to no answer; {at_least[group]} requests without an "
                f"answer reached the provider, {at_most[group]} were sent"
            )


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a worker holds. `sockets` are those with callers and providers; `files` all other descriptors."""

    tasks: int
    sockets: int
    files: int
    threads: int
    megabytes: float


# The database's pool, threads of executors and log files come with use and stay: a leak per request is far more.
SLACK = 25


def judge_vitals(before: Mapping[int, Vitals], after: Mapping[int, Vitals]) -> list[str]:
    """Workers that were started during the run are held to what the others began with."""
    problems = []
    first = next(iter(before.values()))
    for pid, now in after.items():
        then = before.get(pid, first)
        if now.tasks > then.tasks:
            problems.append(f"worker {pid} has {now.tasks} asyncio tasks, at first {then.tasks}")
        if now.sockets > then.sockets:
            problems.append(f"worker {pid} has {now.sockets} sockets, at first {then.sockets}")
        if now.files > then.files + SLACK:
            problems.append(f"worker {pid} has {now.files} open files, at first {then.files}")
        if now.threads > then.threads + SLACK:
            problems.append(f"worker {pid} has {now.threads} threads, at first {then.threads}")
    return problems


def judge_journal(left: Collection[str], workers: int) -> list[str]:
    """After a quiet while each worker holds one file of its own, or none."""
    return [f"the journal has {len(left)} files for {workers} workers: {sorted(left)}"] if len(left) > workers else []
