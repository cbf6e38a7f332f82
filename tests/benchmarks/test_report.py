"""A sitting becomes medians, tables and verdicts; and CPU time counts threads that ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import guard, process, report
from benchmarks.report import GOALS, Sitting, disturbed, growth, leaks, reached, write_into


def line(target: str, phase: str, **values: Any) -> dict[str, Any]:
    quiet = {"other": 0.0, "busy": False, "err": 0, "e_order": 0}
    return {"target": target, "phase": phase, **quiet, **values}


def sitting(*lines: dict[str, Any]) -> Sitting:
    return Sitting(lines=list(lines))


def test_a_median_leaves_busy_repetitions_out() -> None:
    measured = [
        line("ours", "plain32", us_per_request=100),
        line("ours", "plain32", us_per_request=120),
        line("ours", "plain32", us_per_request=900, other=1.0, busy=True),
    ]
    assert sitting(*measured).median("ours", "plain32", "us_per_request") == 110


def test_on_a_busy_machine_the_two_least_disturbed_count() -> None:
    costs = ((300, 0.9), (100, 0.4), (200, 0.5))
    measured = [line("ours", "plain32", us_per_request=cost, other=other, busy=True) for cost, other in costs]
    assert sitting(*measured).median("ours", "plain32", "us_per_request") == 150


def test_a_failed_phase_counts_for_no_median_and_is_named() -> None:
    measured = sitting(line("ours", "plain32", fail="load: status -14"))
    assert measured.median("ours", "plain32", "us_per_request") is None
    assert "load: status -14" in report.markdown(measured)


def test_ours_is_compared_with_the_others() -> None:
    values = reached(
        sitting(
            line("direct", "stream100", ttft_p50=0.1),
            line("nginx", "plain32", us_per_request=15),
            line("litellm", "plain32", us_per_request=6000),
            line("ours", "plain32", us_per_request=150),
            line("ours", "stream100", ttft_p50=1.0),
            line("ours", "stream1000", chunks_s=30_000, mb_before=80, mb=130, err=2, e_order=1),
        )
    )
    assert values["cost"] == 150
    assert values["litellm"] == 40
    assert values["nginx"] == 10
    assert values["chunks"] == 30_000
    assert values["kilobytes"] == pytest.approx(51.2)
    assert values["first"] == pytest.approx(0.9)
    assert (values["errors"], values["lost"]) == (2, 1)
    assert values["growth"] is None


def test_errors_of_a_repetition_that_medians_leave_out_still_count() -> None:
    measured = [line("ours", "plain32", us_per_request=1), line("ours", "plain32", us_per_request=1)]
    measured.append(line("ours", "plain32", us_per_request=9, other=2.0, busy=True, err=7))
    assert reached(sitting(*measured))["errors"] == 7


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        ("cost", 161, "miss"),
        ("cost", 160, "PASS"),
        ("cost", 85, "PASS, aim reached"),
        ("chunks", 24_999, "miss"),
        ("chunks", 25_000, "PASS"),
        ("chunks", 40_000, "PASS, aim reached"),
        ("lost", 1, "miss"),
        ("lost", 0, "PASS"),
        ("growth", None, "not measured"),
    ],
)
def test_a_goal_is_reached_or_missed(goal: str, value: float | None, verdict: str) -> None:
    assert GOALS[goal].verdict(value) == verdict


def test_a_goal_is_unsure_when_ours_or_the_peer_was_never_measured_on_a_quiet_machine() -> None:
    quiet = [line("ours", "plain32", us_per_request=100), line("litellm", "plain32", us_per_request=9000)]
    busy = line("litellm", "plain32", us_per_request=90_000, other=2.0, busy=True)
    assert not disturbed(sitting(*quiet, busy), "litellm")
    assert disturbed(sitting(quiet[0], busy), "litellm")
    assert not disturbed(sitting(quiet[0], busy), "cost")
    assert GOALS["litellm"].verdict(900, disturbed=True) == "unsure: the machine was busy"
    assert "unsure" in report.markdown(sitting(line("ours", "plain32", **_TIMES, busy=True)))
    assert "unsure" not in report.markdown(sitting(line("ours", "plain32", **_TIMES)))


_TIMES = {"us_per_request": 100.0, "rps": 1.0, "lat_p50": 1.0, "lat_p99": 2.0}


def test_growth_and_leaks_compare_the_end_with_the_beginning() -> None:
    first = {"requests": 0, "mb": 100.0, "files": 20, "threads": 5, "tasks": 7}
    last = {"requests": 100_000, "mb": 112.0, "files": 20, "threads": 5, "tasks": 9}
    assert growth([first, last]) == pytest.approx(12)
    assert leaks([first, last]) == 2
    steady = [{**first, "files": files} for files in (52, 53, 54, 53, 52, 54)]
    assert leaks(steady) <= 0
    leaking = [{**first, "threads": threads} for threads in (5, 6, 7, 8, 9, 10)]
    assert leaks(leaking) == 1
    values = reached(sitting({"target": "ours", "phase": "memory", "err": 0, "samples": [first, last]}))
    assert GOALS["growth"].verdict(values["growth"]) == GOALS["leaks"].verdict(values["leaks"]) == "miss"


def test_results_are_read_back_and_written_into_a_document(tmp_path: Path) -> None:
    file, document = tmp_path / "results.jsonl", tmp_path / "performance.md"
    lines = [{"about": {"on": "2 cores"}}, line("ours", "plain32", us_per_request=123.4, rps=1, lat_p50=1, lat_p99=2)]
    file.write_text("".join(json.dumps(each) + "\n" for each in lines))
    document.write_text("before\n<!-- measured -->\nold\n<!-- /measured -->\nafter\n")
    write_into(document, report.read(file))
    text = document.read_text()
    assert text.startswith("before\n<!-- measured -->\n")
    assert text.endswith("<!-- /measured -->\nafter\n")
    assert "on: 2 cores" in text
    assert "123.4" in text
    assert "old" not in text


def test_cpu_time_counts_threads_and_children_that_ended() -> None:
    code = "import threading, time\ndef burn():\n e = time.thread_time() + 0.2\n while time.thread_time() < e: pass\n"
    code += "t = threading.Thread(target=burn); t.start(); t.join(); print(flush=True); input()"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], input=b'x')"
    nested += "; print(flush=True); input()"
    for program in (code, nested):
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as running:
            assert running.stdout is not None
            running.stdout.readline()
            time.sleep(0.05)
            assert process.cpu_seconds(running.pid) >= 0.2
            assert os.getpid() in process.tree(os.getpid())
            running.communicate(b"\n")


class _Costs(guard.Costs):
    def __init__(self, **least: float) -> None:
        self.least = least


def test_the_guard_names_what_is_too_dear() -> None:
    costs = _Costs(empty=40, request=200, chunk=20)
    assert judged(costs, request=5.1, chunk=0.6) == []
    assert judged(costs, request=4.9, chunk=0.6) == ["a request costs 5.00 empty answers, more than 4.9"]
    assert judged(costs, request=5.1, chunk=0.4) == ["a chunk costs 0.50 empty answers, more than 0.4"]


def judged(costs: guard.Costs, **ceilings: float) -> list[str]:
    return guard.judged(costs, ceilings)
