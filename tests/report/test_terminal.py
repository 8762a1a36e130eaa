"""The whole report against golden text. After a wanted change: ``LATPROF_GOLDEN=write pytest tests/report/test_terminal.py``, then read the diff."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_run import META, made_injection, made_report, made_targets, made_tasks
from rich.console import Console

from latprof.report.terminal import render, write
from latprof.report.values import Report

GOLDEN = Path(__file__).parent / "golden"


def text_of(report: Report, width: int, encoding: str = "utf-8", **options: Any) -> str:
    """What a console of that width and encoding shows, without the spaces at the ends of lines."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    write(report, Console(file=stream, width=width, highlight=False, markup=False, emoji=False, **options))
    shown = stream.buffer.getvalue().decode(encoding)
    return "".join(f"{line.rstrip()}\n" for line in shown.splitlines())


REPORTS: dict[str, tuple[Callable[[], Report], int, str]] = {
    "wide": (made_report, 120, "utf-8"),
    "narrow": (made_report, 80, "utf-8"),
    "ascii": (made_report, 120, "ascii"),
    "few": (lambda: made_report(150, arrival_model="closed loop, 8 in flight"), 120, "utf-8"),
    "none": (lambda: made_report(0), 80, "utf-8"),
    "injected": (lambda: made_report(injection=made_injection()), 120, "utf-8"),
    "targets": (made_targets, 80, "utf-8"),
    "tasks": (lambda: made_report(tasks=made_tasks()), 120, "utf-8"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_the_report_reads_as_it_should(name: str) -> None:
    report, width, encoding = REPORTS[name]
    shown = text_of(report(), width, encoding)
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("LATPROF_GOLDEN") == "write":
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")
    assert max(map(len, shown.splitlines())) <= width


def test_colour_is_for_terminals_and_can_be_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    report = made_report(30)
    assert "\x1b[" in text_of(report, 100, force_terminal=True, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in text_of(report, 100, force_terminal=True, color_system="standard")
    assert "\x1b[" not in text_of(report, 100)


def test_a_stream_that_cannot_show_a_servers_words_still_gets_the_report() -> None:
    report = made_report(30, stub={"died": "gateway ended with 1: \N{SNOWMAN} [bold]"})
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    render(report, stream)
    shown = stream.buffer.getvalue().decode()
    assert "NOT VALID" in shown
    assert "? [bold]" in shown  # and what looks like markup is left as it is


def test_files_get_the_wide_form_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def longest() -> int:
        stream = io.StringIO()
        render(made_report(30, **META), stream)
        return max(len(line.rstrip()) for line in stream.getvalue().splitlines())

    monkeypatch.delenv("COLUMNS", raising=False)
    assert 80 < longest() <= 120
    monkeypatch.setenv("COLUMNS", "80")
    assert longest() <= 80
