"""What must hold of conversations after a run: of what pages were told, of the messages, and of the usage rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from tests.faults.catalogue import ALL
from tests.faults.disturbances import Span
from tests.faults.talks import Talk, Told
from tests.faults.verdict import Person, Row

# A kill takes what was said since the last checkpoint.
LOST_SECONDS = 1.0
# How long after a disturbance callers may still hear of it.
AFTER = 3.0
DYING = {"kill", "stop"}
DOUBT = {"lock", "terminate"}
ENDS = {"done", "stopped", "interrupted", "error"}
BOOKED = {
    "done": {"ok"},
    "stopped": {"cancelled", "ok"},
    "error": {"error"},
    # What was over at the provider's may have been cut off before it could be kept.
    "interrupted": {"interrupted", "ok", "error"},
}


@dataclass(frozen=True, slots=True)
class Message:
    """A row; `text` of what a user said is the prompt."""

    id: UUID
    conversation: UUID
    owner_id: int
    role: str
    state: str
    text: str


@dataclass
class TalkVerdict:
    """`problems` are sentences; `counts` the figures of the report, of which those in WRONG must be 0."""

    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    lost_seconds: float = 0.0

    def wrong(self, kind: str, talk: Talk | None, what: str) -> None:
        case = talk.case if talk else None
        who = f"talk {case.number} ({case.mark}, {case.model}, {case.fault}): " if case else ""
        self.counts[kind] += 1
        self.problems.append(f"{kind}: {who}{what}")


WRONG = (
    "texts that differ", "messages lost", "messages doubled", "usage rows lost", "usage rows doubled",
    "usage rows wrong", "answers to the wrong user", "hung", "other violations",
)  # fmt: skip


def judge_talks(
    told: Sequence[Told],
    messages: Sequence[Message],
    rows: Sequence[Row],
    seen: Mapping[str, int],
    people: Sequence[Person],
    spans: Sequence[Span],
) -> TalkVerdict:
    """`told`: also of the answers that were continued, after those that they continue."""
    verdict = TalkVerdict()
    for kind in WRONG:
        verdict.counts[kind] = 0
    by_id = {message.id: message for message in messages}
    for each in told:
        _judge_told(verdict, each, spans)
        if each.message:
            _judge_kept(verdict, each, by_id.get(UUID(each.message)), people, spans)
    _judge_messages(verdict, told, messages)
    _judge_usage(verdict, told, rows, seen, people)
    verdict.counts["answers"] = len(told)
    verdict.counts["streams cut and rejoined"] = sum(bool(each.joins) for each in told)
    verdict.counts["times rejoined"] = sum(each.joins for each in told)
    verdict.counts["refused, and asked again"] = sum(len(each.refusals) for each in told)
    verdict.counts["connections broken"] = sum(len(each.breaks) for each in told)
    verdict.counts.update(f"answer {each.state}" for each in told)
    return verdict


def _near(spans: Sequence[Span], began: float, ended: float, names: set[str] | None = None) -> bool:
    return any(
        began <= span.end + AFTER and ended >= span.start for span in spans if names is None or span.name in names
    )


def _judge_told(verdict: TalkVerdict, told: Told, spans: Sequence[Span]) -> None:
    talk = told.talk
    for stranger in sorted(told.strangers):
        verdict.wrong("answers to the wrong user", talk, f"carries or gave {stranger}")
    for problem in told.problems:
        verdict.wrong("texts that differ", talk, problem)
    if told.state == "lost":
        # It is among the problems.
        return
    if told.state not in ENDS:
        verdict.wrong("hung", talk, f"{told.state or 'no end'} after {told.ended - told.began:.1f} s")
        return
    for began, ended in told.breaks:
        if not _near(spans, began, ended, DYING):
            verdict.wrong("other violations", talk, "a connection broke though no worker died")
    for at, status, code in told.refusals:
        # The first question may still be under way when it is repeated.
        waits = code == "request_in_progress" and told.unheard
        if not waits and not (status == 503 and _near(spans, at, at)):
            verdict.wrong("other violations", talk, f"was refused with {status} {code}")
    _judge_end(verdict, told, spans)


def _judge_end(verdict: TalkVerdict, told: Told, spans: Sequence[Span]) -> None:
    talk, case = told.talk, told.talk.case
    whole, allowed = wanted(told), [failure and failure.code for failure in ALL[case.fault].stream]
    if told.state == "done" and told.text != whole:
        verdict.wrong("texts that differ", talk, f"{len(told.text)} characters came of {len(whole)}")
    elif not whole.startswith(told.text):
        verdict.wrong("texts that differ", talk, f"{told.state} with what is no beginning of the answer")
    if told.state == "done" and None not in allowed and not case.kind.has_fallback:
        verdict.wrong("other violations", talk, "the gateway made an answer of a fault")
    if told.state == "error" and told.code not in allowed:
        verdict.wrong("other violations", talk, f"failed with {told.code}")
    if told.state == "error" and case.kind.has_fallback and not told.text:
        verdict.wrong("other violations", talk, f"saw {told.code} though another provider was well")
    if told.state == "stopped" and not told.stopped:
        verdict.wrong("other violations", talk, "was stopped by nobody")
    if told.state == "interrupted" and _is_doubtful(told, spans):
        verdict.counts["begun while the database went"] += 1
    elif told.state == "interrupted" and not _near(spans, told.began, told.ended, DYING):
        verdict.wrong("other violations", talk, "was interrupted though no worker died")


def _is_doubtful(told: Told, spans: Sequence[Span]) -> bool:
    """Whether its rows were written when the database's word of it was lost: nobody knew that it was to be made."""
    refused = any(status == 503 and _near(spans, at, at, DOUBT) for at, status, _ in told.refusals)
    return refused and not told.text and not told.request_ids


def wanted(told: Told) -> str:
    """The provider's text."""
    return told.whole if told.whole is not None else told.talk.case.text


def _judge_kept(
    verdict: TalkVerdict, told: Told, kept: Message | None, people: Sequence[Person], spans: Sequence[Span]
) -> None:
    talk = told.talk
    if kept is None:
        verdict.wrong("messages lost", talk, f"its answer {told.message} is not there")
        return
    if kept.owner_id != people[talk.case.user].user_id or str(kept.conversation) != talk.conversation:
        verdict.wrong("answers to the wrong user", talk, f"its answer is {kept.owner_id}'s in {kept.conversation}")
    if kept.state != told.state and told.state in ENDS:
        verdict.wrong("other violations", talk, f"is {kept.state}, but its page was told {told.state}")
    if kept.text != told.text:
        verdict.wrong("texts that differ", talk, f"{told.state}: shows {len(told.text)} of {len(kept.text)} characters")
    gone = lost(told, kept.text, spans)
    if gone is None:
        return
    way, seconds = gone
    verdict.counts[f"interrupted by {way}"] += 1
    verdict.lost_seconds = max(verdict.lost_seconds, seconds if way == "kill" else 0)
    if way == "stop" and seconds:
        verdict.wrong("other violations", talk, f"SIGTERM lost {seconds:.2f} s of its text")
    if seconds > LOST_SECONDS:
        verdict.wrong("other violations", talk, f"kill -9 lost {seconds:.2f} s of its text")


def lost(told: Told, kept: str, spans: Sequence[Span]) -> tuple[str, float] | None:
    """What ended it, and how old the oldest word was that was shown and is not kept."""
    late = [at for at, length in told.times if length > len(kept)]
    if told.state != "interrupted" or not told.times:
        return None
    last = told.times[-1][0]
    # Through Redis words may come to a viewer some time after who made them died.
    deaths = [(abs(span.start - last), span.start, span.name) for span in spans if span.name in DYING]
    if not deaths:
        return None
    _, at, name = min(deaths)
    return name, max(0.0, at - late[0]) if late else 0.0


def _judge_messages(verdict: TalkVerdict, told: Sequence[Told], messages: Sequence[Message]) -> None:
    """Each conversation has its question once and an answer for each asking; nothing is left unfinished."""
    by_conversation: defaultdict[str, list[Message]] = defaultdict(list)
    for message in messages:
        by_conversation[str(message.conversation)].append(message)
    tries: defaultdict[str, list[Told]] = defaultdict(list)
    for each in told:
        tries[each.talk.conversation].append(each)
    for conversation, asked in tries.items():
        talk, found = asked[0].talk, by_conversation.pop(conversation, [])
        questions = [message for message in found if message.role == "user"]
        if len(questions) != 1 or questions[0].text != talk.case.prompt:
            kind = "messages doubled" if len(questions) > 1 else "messages lost"
            verdict.wrong(kind, talk, f"{len(questions)} questions are kept")
        names = {each.message for each in asked}
        extra = [message for message in found if message.role == "assistant" and str(message.id) not in names]
        # With a key, what failed before a word was said is asked again.
        empty = [message for message in extra if not message.text and message.state in {"error", "interrupted"}]
        if len(extra) > len(empty) or len(extra) > sum(each.unheard for each in asked):
            verdict.wrong("messages doubled", talk, f"{len(extra)} more answers are kept")
        if left := [message.state for message in found if message.state not in ENDS]:
            verdict.wrong("other violations", talk, f"is left {left}")
    if by_conversation:
        verdict.wrong("messages doubled", None, f"{len(by_conversation)} conversations belong to nobody")


def _judge_usage(
    verdict: TalkVerdict,
    told: Sequence[Told],
    rows: Sequence[Row],
    seen: Mapping[str, int],
    people: Sequence[Person],
) -> None:
    by_id = {row.request_id: row for row in rows}
    if len(by_id) < len(rows):
        verdict.wrong("usage rows doubled", None, f"{len(rows) - len(by_id)} have another's id")
    at_least: Counter[tuple[int, str]] = Counter()
    at_most: Counter[tuple[int, str]] = Counter()
    for each in told:
        case, person = each.talk.case, people[each.talk.case.user]
        group = (person.key_id, case.model)
        # Which of them began the answer, nobody said.
        at_most[group] += each.unheard
        if not each.request_ids:
            at_least[group] += case.mark in seen or each.state == "done"
        for request_id in each.request_ids:
            row = by_id.pop(request_id, None)
            if row is not None:
                _judge_row(verdict, each, row, person)
            elif case.mark in seen or each.state == "done":
                verdict.wrong("usage rows lost", each.talk, f"{request_id} has none ({each.state})")
    extra = Counter((row.key_id, row.model) for row in by_id.values())
    for group in extra.keys() | at_least.keys():
        if extra[group] < at_least[group]:
            verdict.wrong("usage rows lost", None, f"{group} has {extra[group]} of at least {at_least[group]}")
        if extra[group] > at_most[group]:
            verdict.wrong(
                "usage rows doubled", None, f"{group} has {extra[group]}, at most {at_most[group]} were asked"
            )
    verdict.counts["usage rows"] = len(rows)
    verdict.counts.update(f"row {row.status}" for row in rows)


def _judge_row(verdict: TalkVerdict, told: Told, row: Row, person: Person) -> None:
    case = told.talk.case
    if (row.user_id, row.key_id, row.model) != (person.user_id, person.key_id, case.model):
        verdict.wrong("usage rows wrong", told.talk, f"its row is another one's: {row}")
    if told.state in ENDS and row.status not in BOOKED[told.state]:
        verdict.wrong("usage rows wrong", told.talk, f"its row says {row.status} for {told.state}")
    counted = row.status == "ok" and told.whole is None and ALL[case.fault].counted
    if counted and row.tokens != (7, case.words):
        verdict.wrong("usage rows wrong", told.talk, f"its row says {row.tokens} instead of {(7, case.words)} tokens")
