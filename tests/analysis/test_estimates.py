import math

import numpy as np
import pytest
from scipy import stats

from latprof.analysis.verdicts.estimates import Estimate, clopper_pearson, from_figures, t_beyond, without_interval


def test_the_interval_is_students() -> None:
    figures = (98.0, 101.0, 99.0, 104.0, 103.0)
    found = from_figures(101.0, figures, 5, 5_000)
    half = stats.t.ppf(0.975, 4) * np.std(figures, ddof=1) / math.sqrt(5)
    assert (found.low, found.high) == pytest.approx((101.0 - half, 101.0 + half), rel=1e-9)
    assert found.interval(0.5)[1] - 101.0 == pytest.approx(stats.t.ppf(0.75, 4) * found.error, rel=1e-9)


def test_p_values_agree_with_the_interval_at_its_ends() -> None:
    found = from_figures(101.0, (98.0, 101.0, 99.0, 104.0, 103.0), 5, 5_000)
    assert found.p_above(found.low) == pytest.approx(0.025, rel=1e-6)
    assert found.p_below(found.high) == pytest.approx(0.025, rel=1e-6)
    assert found.p_above(90.0) < 0.01
    assert found.p_below(90.0) > 0.99


@pytest.mark.parametrize("freedom", [2, 4, 19])
@pytest.mark.parametrize("t", [-3.0, -0.5, 0.0, 1.0, 6.0])
def test_tails_of_student(freedom: int, t: float) -> None:
    assert t_beyond(t, 1.0, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-9)


def test_without_spread_a_figure_is_certain() -> None:
    found = from_figures(5.0, (5.0, 5.0, 5.0), 3, 300)
    assert (found.low, found.high) == (5.0, 5.0)
    assert (found.p_above(4.0), found.p_above(5.0), found.p_above(6.0)) == (0.0, 0.5, 1.0)


@pytest.mark.parametrize(("hits", "of"), [(0, 100), (3, 100), (97, 100), (100, 100), (1, 2)])
def test_counting_is_exact(hits: int, of: int) -> None:
    oracle = stats.binomtest(hits, of).proportion_ci(0.95)
    assert clopper_pearson(hits, of, 0.95) == pytest.approx((oracle.low, oracle.high), abs=1e-9)


def test_no_failure_in_500_does_not_say_that_there_are_none() -> None:
    found = from_figures(0.0, (0.0,) * 5, 5, 500, counted=(0.0, 500.0))
    assert found.low == 0.0
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 500), rel=1e-6)
    assert found.p_below(0.01) == pytest.approx(0.99**500, rel=1e-6)
    assert found.p_above(0.01) == 1.0


def test_no_interval_says_nothing_about_any_bound() -> None:
    found = without_interval(5.0, 1, 100, "too few")
    assert not found.has_interval
    assert math.isnan(found.p_above(1.0))
    assert all(map(math.isnan, found.interval(0.9)))
    assert isinstance(found, Estimate)
