"""The overview's numbers: hours kept and made anew, percentiles, states and alerts."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from gateway.charts import bars, lines, strip
from gateway.dashboard import BOUNDS, HOUR, Sums, drop_hours, hour_of, hourly, nice_ceiling, rebuild_hour, total
from gateway.models import Credential, Provider, UsageEvent, UsageHour
from gateway.overview import overview, short
from gateway.provider_state import failed_attempts, provider_states
from gateway.secrets import Secret

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
ids = itertools.count()


def event(at: datetime, name: str = "One", **fields: object) -> UsageEvent:
    values = {"status": "ok", "http_status": 200, "model": "m", "surface": "v1", "first_token_ms": 400}
    values |= {"prompt_tokens": 10, "completion_tokens": 5, **fields}
    return UsageEvent.objects.create(request_id=f"req_{next(ids)}", created_at=at, provider_name=name, **values)


def provider(name: str = "One", **fields: object) -> Provider:
    row = Provider.objects.create(name=name, adapter="openai_chat", base_url="https://one.example/v1", **fields)
    credential = Credential(provider=row)
    credential.set_secret("sk-0123456789abcdef")
    credential.save()
    return row


def test_closed_hours_are_kept_and_open_ones_are_not() -> None:
    event(NOW - timedelta(hours=3))
    event(NOW)
    found = hourly(NOW - timedelta(hours=5), NOW, NOW)
    assert {hour.hour: total(sums.values()).requests for hour, sums in found.items()} == {
        7: 0,
        8: 0,
        9: 1,
        10: 0,
        11: 0,
        12: 1,
    }
    # 9, 10 and 11 are over; 12 goes on; before the first event nothing is worth a row.
    assert {row.hour.hour for row in UsageHour.objects.all()} == {9, 10, 11}


def test_an_hour_is_open_for_ten_minutes_after_its_end() -> None:
    now = NOW.replace(minute=5)
    event(now - HOUR)
    hourly(now - HOUR, now, now)
    assert not UsageHour.objects.exists()


def test_kept_hours_answer_without_the_rows() -> None:
    event(NOW - timedelta(hours=2), status="error", http_status=502, prompt_tokens=None, first_token_ms=None)
    hourly(NOW - timedelta(hours=3), NOW, NOW)
    UsageEvent.objects.update(provider_name="Other")
    sums = hourly(NOW - timedelta(hours=3), NOW, NOW)[hour_of(NOW - timedelta(hours=2))]["One"]
    assert (sums.requests, sums.errors, sums.tokens, sums.latency_count) == (1, 1, 5, 0)


def test_a_late_row_counts_after_its_hour_was_dropped() -> None:
    at = NOW - timedelta(hours=2)
    event(at)
    hourly(at, NOW, NOW)
    event(at)
    assert total(hourly(at, NOW, NOW)[hour_of(at)].values()).requests == 1
    drop_hours([at])
    assert total(hourly(at, NOW, NOW)[hour_of(at)].values()).requests == 2


def test_sums_made_by_a_clock_that_was_ahead_are_not_believed() -> None:
    """Else an hour that was looked at before its time would stay as empty as it was then."""
    event(NOW - timedelta(hours=2))
    hourly(NOW, NOW + timedelta(hours=9), NOW + timedelta(hours=10))
    assert UsageHour.objects.filter(hour__gte=hour_of(NOW)).count() == 10
    event(NOW)
    assert total(hourly(NOW, NOW, NOW).popitem()[1].values()).requests == 1
    later = NOW + timedelta(hours=3)
    event(later)
    assert total(hourly(later, later, later + timedelta(hours=2))[hour_of(later)].values()).requests == 1


def test_rebuilding_drops_what_was_there() -> None:
    at = hour_of(NOW - timedelta(hours=2))
    UsageHour.objects.create(hour=at, provider_name="Gone", requests=9)
    event(at)
    assert set(rebuild_hour(at)) == {"One"}
    assert set(UsageHour.objects.values_list("provider_name", flat=True)) == {"", "One"}


def test_rows_with_other_bounds_still_count() -> None:
    at = hour_of(NOW - timedelta(hours=2))
    event(at)
    UsageHour.objects.create(hour=at, provider_name="", requests=4, latency_count=4, latency_buckets=[4])
    assert total(hourly(at, NOW, NOW)[at].values()).requests == 4


def test_percentiles_come_from_the_histogram() -> None:
    for milliseconds in range(10, 1001, 10):
        event(NOW - timedelta(hours=2), first_token_ms=milliseconds)
    sums = total(hourly(NOW - timedelta(hours=2), NOW, NOW)[hour_of(NOW - timedelta(hours=2))].values())
    assert sums.first_word(0.5) == pytest.approx(500, abs=10)
    assert sums.first_word(0.95) == pytest.approx(950, abs=10)
    assert Sums().first_word(0.5) is None


def test_a_percentile_beyond_the_last_bound_is_the_last_bound() -> None:
    buckets = (*[0] * len(BOUNDS), 3)
    assert Sums(latency_count=3, buckets=buckets).first_word(0.5) == BOUNDS[-1]


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (1, 1), (3, 4), (4.1, 6), (11, 12), (600, 600), (601, 800), (0.035, 0.04)]
)
def test_axes_end_on_round_numbers(value: float, top: float) -> None:
    assert nice_ceiling(value) == pytest.approx(top)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (8412, "8,412"), (12345, "12.3k"), (31.6e6, "31.6M"), (2e9, "2B"), (2.5, "2.5")]
)
def test_figures_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_bars_never_hide_what_happened() -> None:
    plot = bars("t", [[1000], [1], [0]], ["b1"], ("a", "b", "c"), short)
    assert len(plot.boxes) == 2
    assert float(plot.boxes[1].height) >= 1


def test_lines_break_where_nothing_is_known() -> None:
    plot = lines("t", [1, 2, None, 3], [None] * 4, ("a", "b", "c"), short)
    assert plot.lines[1].points.count("M") == 2
    assert lines("t", [], [], ("a", "b", "c"), short).area == ""


def test_the_strip_tells_four_states_apart() -> None:
    assert [box.tone for box in strip([(0, 0), (3, 0), (3, 1), (0, 2)])] == ["bg", "ok", "bw", "bb"]


def test_states_of_providers() -> None:
    now = timezone.now()
    ok, bad, off, bare, fresh = (
        provider("Ok"),
        provider("Bad"),
        provider("Off", enabled=False),
        provider("Bare"),
        provider("Fresh"),
    )
    bare.credentials.all().delete()
    for minute in range(4):
        event(now - timedelta(minutes=minute + 1), "Ok", provider=ok)
        event(now - timedelta(minutes=minute + 1), "Bad", provider=bad, status="error", http_status=503)
    event(now - timedelta(minutes=1), "Ok", provider=ok, status="error", http_status=400)
    words = {pk: state.word for pk, state in provider_states(Provider.objects.all(), now).items()}
    assert [words[row.pk] for row in (ok, bad, off, bare, fresh)] == [
        "Answering", "Not answering", "Switched off", "No credential", "Not used yet",
    ]  # fmt: skip


def test_a_provider_that_is_always_passed_over_is_not_answering() -> None:
    now = timezone.now()
    first, second = provider("First"), provider("Second")
    tried = [{"provider": "First", "model": "m", "ms": 3, "status": 502}, {"provider": "Second", "model": "m", "ms": 9}]
    for minute in range(4):
        event(now - timedelta(minutes=minute + 1), "Second", provider=second, attempts=tried)
    states = provider_states([first, second], now)
    assert (states[first.pk].word, states[second.pk].word) == ("Not answering", "Answering")


@pytest.mark.parametrize("attempts", [None, {}, "x", [1, 2], [{"provider": 3}, {}], [{}, {}]])
def test_attempts_of_any_shape_are_survived(attempts: object) -> None:
    assert failed_attempts(attempts, "x") == []


def test_credentials_that_cannot_be_read_are_an_alert() -> None:
    row = provider()
    row.credentials.update(secret=Secret("of another server"))
    alerts = overview(now=NOW).alerts
    assert [alert.subject for alert in alerts] == ["One has a credential that cannot be read."]


def test_only_the_demo_is_an_alert() -> None:
    Provider.objects.create(name="Demo", adapter="demo", auth_style="none")
    assert overview(now=NOW).alerts[0].text == "Only the demo answers, with made-up text."
    Provider.objects.all().delete()
    assert overview(now=NOW).alerts[0].text == "Every request is refused."


@pytest.mark.parametrize("key", ["24h", "7d", "30d", "nonsense"])
def test_every_period_is_drawn(key: str) -> None:
    provider()
    for hours in range(0, 24 * 40, 7):
        event(NOW - timedelta(hours=hours))
    found = overview(key, now=NOW)
    assert [figure.key for figure in found.figures] == ["requests", "tokens", "errors", "first-word"]
    assert all(len(figure.rows) == found.period.steps for figure in found.figures)
    assert overview(key, "One", NOW).figures[0].value == found.figures[0].value
    assert overview(key, "Nobody", NOW).empty


def test_the_day_before_is_compared_hour_by_hour() -> None:
    for hours in range(1, 24):
        event(NOW - timedelta(hours=hours))
        event(NOW - timedelta(hours=hours))
        event(NOW - timedelta(hours=hours + 24))
    assert overview(now=NOW).figures[0].remark == "+100 % on the day before"


def test_a_removed_provider_keeps_its_figures() -> None:
    event(NOW - timedelta(hours=2), "Old")
    line = overview(now=NOW).providers[0]
    assert (line.name, line.id, line.state.word, line.requests) == ("Old", None, "Removed", "1")


def test_errors_are_told_by_who_made_them() -> None:
    provider()
    for minute in range(3):
        event(NOW - timedelta(minutes=40 + minute), status="error", http_status=503, first_token_ms=None)
    event(NOW - timedelta(minutes=40), "Two")
    found = overview(now=NOW)
    assert (found.figures[2].value, found.figures[2].remark) == ("75.0 %", "3, of them 3 One")
    assert found.providers[0].last_error == "503, 42\xa0minutes ago"
    assert overview("24h", "One", NOW).figures[2].remark == "3"


def test_some_failures_are_not_yet_an_alert() -> None:
    now, row = timezone.now(), provider()
    for minute in range(8):
        failed = {"status": "error", "http_status": 502} if minute in (2, 5) else {}
        event(now - timedelta(minutes=minute + 1), provider=row, **failed)
    assert provider_states([row], now)[row.pk].word == "Failing at times"
