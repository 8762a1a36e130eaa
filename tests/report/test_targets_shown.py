"""Several targets on a terminal, on a page and in the summary: the same figures, and nothing where there is but one."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest
from hostile_words import HOSTILE
from made_courses import MadeCourses
from made_run import made_report, made_run, made_targets
from rich.console import Console

from latprof.observations.graph import load_steps
from latprof.report.page.run import Shown, page
from latprof.report.summary import summary
from latprof.report.targets import TARGET_HEAD, target_cells
from latprof.report.terminal import write
from latprof.report.values import Report


def page_of(report: Report) -> str:
    observed, layers, _ = made_run()
    courses = MadeCourses(observed, layers)
    return page(Shown(report, observed, {"ttft": layers, "e2el": courses.call}, load_steps(Path("nowhere")), courses, "", ""))


def terminal(report: Report) -> str:
    file = io.StringIO()
    write(report, Console(file=file, width=120))
    return file.getvalue()


def test_the_summary_says_what_the_table_shows() -> None:
    report = made_targets()
    current, canary, idle = summary(report)["targets"]
    assert [one["name"] for one in (current, canary, idle)] == ["current", "canary", "idle"]
    assert current["ok"] + canary["ok"] == report.counts.ok
    assert current["failed"] + canary["failed"] == report.counts.failed
    assert (canary["ttft"]["p99_ms"], canary["ttft"]["n"], idle["ttft"]["mean_ms"]) == (None, 171, None)
    cells = dict(zip(TARGET_HEAD, target_cells(report.targets[0]), strict=True))
    assert cells["TTFT p50"] == f"{current['ttft']['p50_ms']:.2f}"
    assert cells["call p50"] == f"{current['e2el']['p50_ms']:.2f}"
    assert cells["ok"] == str(current["ok"])


def test_the_page_has_the_terminals_cells() -> None:
    report = made_targets()
    section = page_of(report).split('<section id="targets">')[1].split("</section>")[0]
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", section)]
    assert [tuple(cells) for cells in rows if cells] == [target_cells(one) for one in report.targets]
    lines = [" ".join(line.split()) for line in terminal(report).splitlines()]
    assert all(" ".join(target_cells(one)) in lines for one in report.targets)


def test_one_target_is_not_told_apart() -> None:
    report = made_report()
    assert summary(report)["targets"] == []
    assert "TTFT p99" not in terminal(report)
    assert 'id="targets"' not in page_of(report)


@pytest.mark.parametrize("word", HOSTILE)
def test_a_targets_name_is_shown_and_not_obeyed(word: str) -> None:
    report = made_targets()
    named = dataclasses.replace(report.targets[0], name=word)
    hostile = dataclasses.replace(report, targets=(named, *report.targets[1:]))
    assert "\x1b" not in terminal(hostile)
    assert "<script>alert" not in page_of(hostile)
