"""The report of a large run, short: a run that is told again says what it said, and the control finds what it must."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import large_report
from harness.verdict import Figure

pytestmark = [pytest.mark.live, pytest.mark.slow]


def missed(figures: list[Figure]) -> list[str]:
    return [f"{figure.name}: {figure.value:g}, asked {figure.asked}" for figure in figures if not figure.passed]


def test_a_run_told_again_is_reported_as_the_run_it_was(tmp_path: Path) -> None:
    small, large = large_report.measured(tmp_path / "small", 200), tmp_path / "large"
    chunks, tokens = large_report.repeated(small, large, 20)
    of_small, of_large = large_report.report(small), large_report.report(large)
    page = large_report.report(large, "--html", str(tmp_path / "page.html"))
    assert missed(large_report.figures(of_small, of_large, page, 4000, chunks, tokens)) == []
    assert missed(large_report.figures(of_small, of_large, page, 4001, chunks, tokens))
    slow = large_report.report(large, program="harness.large_report")
    assert slow.summary["layers"] == of_large.summary["layers"]
    assert slow.cpu_s > of_large.cpu_s
