import math

import numpy as np
import pytest

from latprof.analysis.verdicts.assertions import Claim, detectable, judge
from latprof.analysis.verdicts.estimates import Estimate, from_figures, without_interval
from latprof.analysis.verdicts.sequential import alpha_of_look


def estimate_of(*figures: float) -> Estimate:
    return from_figures(float(np.mean(figures)), figures, len(figures), 1_000 * len(figures))


AROUND_100 = estimate_of(98.0, 99.0, 100.0, 101.0, 102.0)  # +- 1.96


@pytest.mark.parametrize(
    ("bound", "outcome", "slack"),
    [(110.0, "pass", 10.0), (101.0, "inconclusive", 1.0), (99.0, "inconclusive", -1.0), (90.0, "fail", -10.0)],
)
def test_a_verdict_needs_the_whole_interval(bound: float, outcome: str, slack: float) -> None:
    (verdict,) = judge([Claim("x", AROUND_100, bound)])
    assert verdict.outcome == outcome
    assert verdict.slack == pytest.approx(slack)
    assert verdict.breaks_the_gate == (outcome == "fail")
    assert (verdict.low < bound < verdict.high) == (outcome == "inconclusive")


@pytest.mark.parametrize(("bound", "outcome"), [(90.0, "pass"), (99.0, "inconclusive"), (110.0, "fail")])
def test_lower_bounds_are_the_mirror(bound: float, outcome: str) -> None:
    (verdict,) = judge([Claim("x", AROUND_100, bound, is_upper=False)])
    assert verdict.outcome == outcome
    assert verdict.slack == pytest.approx(100 - bound)


def test_without_an_interval_there_is_no_verdict() -> None:
    (verdict,) = judge([Claim("x", without_interval(50.0, 1, 100, "p99 needs 3 replications, got 1"), 100.0)])
    assert verdict.outcome == "inconclusive"
    assert verdict.why == "p99 needs 3 replications, got 1"
    assert math.isnan(verdict.detectable)


def test_a_warning_breaks_nothing_and_costs_the_errors_nothing() -> None:
    just_beyond = Claim("x", AROUND_100, 98.0)
    warnings = [Claim(f"w{index}", AROUND_100, 90.0, level="warn") for index in range(20)]
    alone, among = judge([just_beyond])[0], judge([just_beyond, *warnings])
    assert alone.outcome == among[0].outcome == "fail"
    assert {verdict.outcome for verdict in among[1:]} == {"fail"}
    assert not any(verdict.breaks_the_gate for verdict in among[1:])


def test_among_many_assertions_a_breach_must_be_surer() -> None:
    beyond = Claim("x", AROUND_100, 98.0)
    others = [Claim(f"o{index}", AROUND_100, 200.0) for index in range(9)]
    assert judge([beyond])[0].outcome == "fail"
    verdict = judge([beyond, *others])[0]
    assert verdict.outcome == "inconclusive"
    assert "among 10 assertions" in verdict.why
    assert judge([Claim("x", AROUND_100, 85.0), *others])[0].outcome == "fail"


def test_passing_needs_no_correction() -> None:
    claims = [Claim(f"x{index}", AROUND_100, 102.0) for index in range(10)]
    assert {verdict.outcome for verdict in judge(claims)} == {"pass"}


def test_it_says_how_many_replications_would_tell() -> None:
    (verdict,) = judge([Claim("x", AROUND_100, 101.0)])
    assert verdict.why == "the interval holds the bound; about 20 replications would tell"


def test_aggregation_of_replications() -> None:
    odd = estimate_of(10.0, 10.1, 9.9, 10.0, 10.05)
    assert judge([Claim("x", odd, 10.5, aggregate="pessimistic")])[0].outcome == "pass"
    assert "1 of 5 replications break" in judge([Claim("x", estimate_of(*[9.0] * 30, 10.6), 10.5, aggregate="pessimistic")])[0].why.replace(
        "of 31", "of 5"
    )
    assert judge([Claim("x", odd, 9.0, aggregate="optimistic")])[0].outcome == "fail"
    kept_once = estimate_of(*[12.0] * 30, 8.9)
    assert judge([Claim("x", kept_once, 9.0)])[0].outcome == "fail"
    assert "1 of 31 replications keep" in judge([Claim("x", kept_once, 9.0, aggregate="optimistic")])[0].why
    median = judge([Claim("x", estimate_of(10.0, 10.1, 9.9, 10.0, 30.0), 100.0, aggregate="median")])[0]
    assert median.value == 10.0
    assert median.high - median.low > 2 * (judge([Claim("x", estimate_of(10.0, 10.1, 9.9, 10.0, 30.0), 100.0)])[0].high - 14.0)


# --- calibration --------------------------------------------------------------------------------------------------------------------------


def drawn(draws: np.random.Generator, mean: float, replications: int) -> Estimate:
    return estimate_of(*draws.normal(mean, 1.0, replications))


@pytest.mark.parametrize(("assertions", "trials"), [(1, 1_000), (8, 300)])
def test_the_gate_as_a_whole_alarms_once_in_forty(assertions: int, trials: int) -> None:
    draws = np.random.default_rng(assertions)
    # All truths lie exactly at their bounds: the worst case in which nothing is broken.
    alarms = sum(
        any(verdict.outcome == "fail" for verdict in judge([Claim(str(index), drawn(draws, 0.0, 5), 0.0) for index in range(assertions)]))
        for _ in range(trials)
    )
    assert alarms / trials < 0.045


def test_without_the_correction_it_would_not() -> None:
    draws = np.random.default_rng(8)
    alarms = sum(any(drawn(draws, 0.0, 5).p_above(0.0) <= 0.025 for _ in range(8)) for _ in range(200))
    assert alarms / 200 > 0.10


def test_a_breach_of_the_printed_size_fails_four_times_in_five() -> None:
    draws = np.random.default_rng(4)
    family = 4
    size = float(np.mean([detectable(drawn(draws, 0.0, 5), 0.05, family) for _ in range(300)]))
    failed = 0
    for _ in range(300):
        claims = [
            Claim("broken", drawn(draws, size, 5), 0.0),
            *(Claim(str(index), drawn(draws, -9.0, 5), 0.0) for index in range(family - 1)),
        ]
        failed += judge(claims)[0].outcome == "fail"
    assert 0.73 < failed / 300 < 0.87


def test_looking_often_does_not_raise_false_alarms() -> None:
    draws = np.random.default_rng(6)
    most, alarms = 8, 0
    for _ in range(300):
        figures = draws.normal(0.0, 1.0, most)
        looks = [judge([Claim("x", estimate_of(*figures[:r]), 0.0)], alpha_of_look(r, most))[0].outcome for r in range(3, most + 1)]
        alarms += "fail" in looks
    assert alarms / 300 <= 0.04  # one side of the 5 %
    naive = sum(
        any(estimate_of(*figures[:r]).p_above(0.0) <= 0.025 for r in range(3, most + 1)) for figures in draws.normal(0.0, 1.0, (300, most))
    )
    assert naive / 300 > 0.05


@pytest.mark.parametrize("most", [1, 2, 3, 5, 20])
def test_looks_share_what_there_is(most: int) -> None:
    looks = [alpha_of_look(r, most) for r in range(min(3, most), most + 1)]
    assert sum(looks) == pytest.approx(0.05, rel=1e-9)
    assert all(look > 0 for look in looks)
    with pytest.raises(ValueError, match="looks are taken"):
        alpha_of_look(most + 1, most)
