"""The pictures of distributions: every request is in the heat map once, warm-up apart; a band only where runs tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_pages import failed_shown, made_shown
from made_run import made_run

from latprof.analysis.metrics import ttft_ns
from latprof.layers.table import IntArray
from latprof.observations.folder import Run
from latprof.report.page import run as run_page
from latprof.report.page.distribution import of_run, over_time, over_time_words, tails, tails_words
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S


def _run(n: int = 1_200, warmup: int = 0, late_warmup: int = 0) -> Run:
    """A made run of which the first ``warmup`` by intended start are warm-up, and ``late_warmup`` among the last."""
    run = made_run(n)[0]
    order = np.argsort(run.requests.intended_ns)
    return _warmed_up(run, np.r_[order[:warmup], order[len(order) - late_warmup :]])


def _warmed_up(run: Run, rows: IntArray) -> Run:
    phase = np.array(run.requests.phase, dtype=object)
    phase[rows] = "warmup"
    return replace(run, requests=replace(run.requests, phase=phase))


def _drawn(run: Run) -> dict[str, Any]:
    drawn = over_time(run)
    assert drawn is not None
    return drawn


@pytest.mark.parametrize(("warmup", "late_warmup"), [(0, 0), (1, 0), (137, 0), (137, 9)])
def test_every_request_is_in_the_cell_of_its_time_and_its_ttft(warmup: int, late_warmup: int) -> None:
    run = _run(warmup=warmup, late_warmup=late_warmup)
    drawn, requests = _drawn(run), run.requests
    zero_ns = requests.intended_ns[requests.measured].min()
    at_s, ttft_ms = (requests.intended_ns - zero_ns) / NS_PER_S, ttft_ns(requests) / NS_PER_MS
    shown = (requests.measured | (at_s < 0)) & requests.success
    in_time, in_ttft = np.array(drawn["edges_s"]), np.array(drawn["edges_ms"])
    in_ttft[0], in_ttft[-1] = 0, np.inf  # they are rounded
    wanted, _, _ = np.histogram2d(at_s[shown], ttft_ms[shown], (in_time, in_ttft))
    found = np.zeros_like(wanted)
    for i, j, count in drawn["cells"]:
        found[i, j] = count
    # A time on a rounded edge may be on either side of it.
    assert np.abs(found - wanted).sum() <= 0.01 * shown.sum()
    assert found.sum() == shown.sum() == drawn["counts"]["measured"] + drawn["counts"]["warmup"]


def test_no_column_tells_of_both_warm_up_and_measured() -> None:
    for warmup in (1, 50, 137, 600):
        run = _run(warmup=warmup)
        drawn, requests = _drawn(run), run.requests
        edges_s = np.array(drawn["edges_s"])
        assert 0.0 in edges_s
        assert np.diff(edges_s) == pytest.approx(np.diff(edges_s)[0], abs=3e-6)
        before = sum(count for i, _, count in drawn["cells"] if edges_s[i] < 0)
        assert before == drawn["counts"]["warmup"] == int((~requests.measured & requests.success).sum())
        assert drawn["counts"]["measured"] == int((requests.measured & requests.success).sum())
        assert drawn["warmup_end_s"] == 0.0


def test_the_caption_counts_what_is_drawn() -> None:
    assert "warm-up" not in over_time_words(_drawn(_run()))
    run = _run(warmup=200)
    drawn = _drawn(run)
    counts, failed = drawn["counts"], ~run.requests.success
    assert (counts["failed"], counts["failed_warmup"]) == ((failed & run.requests.measured).sum(), (failed & ~run.requests.measured).sum())
    assert sum(drawn["failed"]) == failed.sum()
    for number in (counts["measured"], counts["warmup"]):
        assert f"{number} succeeded" in over_time_words(drawn)


def test_failures_are_drawn_without_a_single_ttft() -> None:
    run = made_run(300)[0]
    failed = run.requests.select(~run.requests.success)
    requests = replace(failed, first_token_ns=np.full(len(failed), MISSING_NS))
    drawn = _drawn(replace(run, requests=requests))
    assert drawn["cells"] == drawn["edges_ms"] == []
    assert sum(drawn["failed"]) == len(requests) > 0
    assert over_time(replace(run, requests=requests.select(np.zeros(len(requests), np.bool_)))) is None


def test_how_late_the_generator_sent_is_told_by_first_attempts() -> None:
    run = _run(60)
    requests = run.requests
    slow = replace(requests, start_ns=requests.start_ns + np.where(np.arange(len(requests)) == 30, 900 * NS_PER_MS, 0))
    retried = replace(slow, attempt=np.where(np.arange(len(requests)) == 30, 1, 0))
    assert max(late for late in _drawn(replace(run, requests=slow))["late_ms"] if late is not None) >= 900
    assert max(late for late in _drawn(replace(run, requests=retried))["late_ms"] if late is not None) < 100


def test_a_run_that_ended_in_its_warm_up_is_all_warm_up() -> None:
    run = _run(60)
    drawn = _drawn(_warmed_up(run, np.arange(len(run.requests))))
    assert drawn["counts"]["measured"] == 0
    assert drawn["counts"]["warmup"] == sum(count for _, _, count in drawn["cells"]) > 0
    assert max(drawn["edges_s"]) == 0


def test_one_run_has_no_band_and_says_why() -> None:
    sample = of_run(made_run(1_200)[0])
    for runs, has_band in (([sample], False), ([sample] * 2, False), ([sample] * 3, True)):
        drawn = tails({"run": runs})
        (arm,) = drawn["ttft"]["arms"]
        assert arm["has_band"] == has_band == any(low is not None for low in arm["low"])
        assert arm["n"] == len(runs) * len(sample["ttft"])
        assert ("No band" in tails_words(drawn)) == (not has_band)
    assert "No band" in run_page.page(made_shown(200))


# --- what too few requests cannot tell ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [15, 60, 1_200])
def test_a_refused_percentile_is_nowhere_on_the_page(n: int) -> None:
    report = made_shown(n).report
    given = dict(zip(("p50", "p90", "p99"), report.metrics["ttft"].given, strict=True))
    headline = [name for name, _, _ in run_page._headline(report) if name.startswith("TTFT")]
    assert headline == [
        "TTFT mean" if np.isnan(given["p50"]) else "TTFT p50",
        "TTFT tail mean" if np.isnan(given["p99"]) else "TTFT p99",
    ]
    (line,) = [one for one in run_page._metrics(report) if one["name"] == "TTFT"]
    assert [value is None for value in line["at"]] == [bool(np.isnan(value)) for value in given.values()]
    assert [value is None for value in line["at"]] == {15: [True] * 3, 60: [False, True, True], 1_200: [False] * 3}[n]


def test_a_page_says_how_its_tables_are_to_be_read() -> None:
    page = run_page.page(made_shown(15))
    for said in (
        "Linearly interpolated percentiles",
        "- where the sample is too small",
        "Harrell-Davis percentiles of TTFT",
        "an example has the time",
    ):
        assert said in page
    assert failed_shown().report.metrics["ttft"].n == 0
