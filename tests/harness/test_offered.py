"""The load that came against the load that was asked for, short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness import offered
from harness.verdict import Figure
from latprof.units import NS_PER_MS

pytestmark = pytest.mark.live


def missed(figures: list[Figure]) -> list[str]:
    return [f"{figure.name}: {figure.value:g}, asked {figure.asked}" for figure in figures if not figure.passed]


@pytest.mark.slow
def test_what_came_is_what_was_asked_for_and_a_starved_generator_says_so() -> None:
    constant = offered.measure("constant", 100, 300, tries=2)
    # On a busy test machine neither a lag at p99 nor a CV means anything in 3 s; how many came, and how fast, does.
    told = {figure.name: figure for figure in offered.figures("constant", constant, constant=True)}
    assert missed([told["constant: arrivals"], told["constant: arrivals at the server"]]) == []
    median_gap_ns = np.median(np.diff(np.sort(constant.arrived_ns)))
    assert median_gap_ns == pytest.approx(10 * NS_PER_MS, rel=0.05)
    assert "constant: CV of the 299 gaps outside stalls" in " ".join(
        missed(offered.control_figures(replace(constant, stalls_ns=np.zeros((0, 2), np.int64))))
    )
    starved = offered.measure("constant", offered.STARVED_PER_S, 3_000, starved=True)
    assert missed(offered.starved_figures(starved)) == []


def test_gaps_that_touch_a_stall_are_left_out_and_no_others() -> None:
    arrived = np.array([0, 10, 20, 30, 40], np.int64) * NS_PER_MS
    stalls = np.array([[19, 23]], np.int64) * NS_PER_MS
    assert offered._touched(arrived, stalls).tolist() == [False, True, True, False], "the one at 20 ms"
    assert not offered._touched(arrived, np.zeros((0, 2), np.int64)).any()
