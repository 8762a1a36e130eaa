"""The arithmetic of comparisons against scipy, and what the rule promises: rarely a false word, four times in five a true one."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from latprof.analysis.student import quantile, two_sided
from latprof.analysis.verdicts.differences import (
    ALPHA,
    POWER,
    Shift,
    hodges_lehmann,
    holm,
    mann_whitney,
    paired,
    signed_ranks,
    unpaired,
    verdict,
)

DRAWS = np.random.default_rng(7)


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3.3, 4, 8, 19, 40.2, 198])
@pytest.mark.parametrize("level", [0.1, 0.6, 0.9, 0.95, 0.999, 0.9999])
def test_students_law_is_scipys(freedom: float, level: float) -> None:
    t = quantile(freedom, level)
    assert t == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)
    assert two_sided(t, freedom) == pytest.approx(1 - level, rel=1e-8)


def test_two_arms_are_welchs() -> None:
    a, b = DRAWS.normal(10, 1, 5), DRAWS.normal(11, 3, 8)
    shift = unpaired(a, b, float(b.mean() - a.mean()))
    wanted = stats.ttest_ind(b, a, equal_var=False)
    assert shift.p_beyond(0.0) == pytest.approx(wanted.pvalue)
    assert shift.freedom == pytest.approx(wanted.df)
    assert shift.interval() == pytest.approx(tuple(wanted.confidence_interval()))


def test_pairs_are_a_t_test_of_their_differences() -> None:
    a = DRAWS.normal(10, 5, 6)
    b = a + DRAWS.normal(1, 0.1, 6)
    shift = paired(a, b, float((b - a).mean()))
    assert shift.p_beyond(0.0) == pytest.approx(stats.ttest_rel(b, a).pvalue)
    assert shift.error < unpaired(a, b, shift.value).error / 10


def test_the_same_seeds_in_a_simulation_leave_no_doubt() -> None:
    a = np.array([450.1, 460.3, 470.7])
    same, moved = paired(a, a, 0.0), paired(a, a + 15.0, 15.0)
    assert (same.error, moved.error) == (0.0, 0.0)
    assert same.p_beyond(0.0) == 1.0
    assert moved.p_beyond(10.0) == 0.0
    assert moved.p_beyond(15.0) == 1.0  # a bound that is met is not broken
    assert moved.interval() == (15.0, 15.0)


@pytest.mark.parametrize(("sizes", "compare"), [((1, 5), unpaired), ((1, 1), paired), ((3, 4), paired)])
def test_too_few_replications_are_refused(sizes: tuple[int, int], compare: object) -> None:
    assert callable(compare)
    with pytest.raises(ValueError, match=r"got [13]"):
        compare(np.ones(sizes[0]), np.ones(sizes[1]), 0.0)


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == (True, False, False, True)
    assert holm([0.02, 0.02, 0.02]) == (False, False, False)
    assert holm([0.012, 0.012, 0.012, 0.06]) == (True, True, True, False)
    assert holm([]) == ()


def test_ranks_agree_with_scipy_and_with_enumeration() -> None:
    a, b = DRAWS.normal(0, 1, 6), DRAWS.normal(1, 1, 7)
    assert mann_whitney(a, b) == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue)
    pairs = a, a + DRAWS.normal(0.5, 1, 6)
    assert signed_ranks(*pairs) == pytest.approx(stats.wilcoxon(pairs[1], pairs[0], method="exact").pvalue)
    tied_a, tied_b = np.array([1.0, 2.0, 2.0]), np.array([2.0, 3.0, 3.0, 4.0])
    ranks = stats.rankdata(np.concatenate([tied_a, tied_b]))
    sums = np.array([ranks[list(dealt)].sum() for dealt in combinations(range(7), 3)])
    far = np.abs(sums - sums.mean()) >= abs(ranks[:3].sum() - sums.mean()) - 1e-9
    assert mann_whitney(tied_a, tied_b) == pytest.approx(far.mean())
    assert mann_whitney(np.array([]), tied_b) == 1.0
    assert signed_ranks(tied_a, tied_a) == 1.0


def test_the_shift_by_ranks_ignores_one_wild_replication() -> None:
    a, b = np.array([10.0, 11, 12, 13, 14]), np.array([12.0, 13, 14, 15, 1000])
    assert hodges_lehmann(a, b) == 2.0
    assert hodges_lehmann(a, b, pairs=True) == 2.0
    assert b.mean() - a.mean() > 190


def of_two_arms(effect: float = 0.0) -> Shift:
    a, b = DRAWS.normal(100, 3, 5), DRAWS.normal(100 + effect, 3, 5)
    return unpaired(a, b, float(b.mean() - a.mean()))


def test_the_rule_finds_its_minimal_effect_four_times_in_five_and_equals_are_left_alone() -> None:
    trials = 2_000
    equals = [of_two_arms() for _ in range(trials)]
    alarms = sum(shift.p_beyond(0.0) <= ALPHA for shift in equals)
    assert abs(alarms / trials - ALPHA) < 4 * math.sqrt(ALPHA * (1 - ALPHA) / trials)
    printed = float(np.mean([shift.detectable(margin=5.0) for shift in equals]))
    found = sum(of_two_arms(printed).p_beyond(5.0) <= ALPHA for _ in range(trials))
    assert abs(found / trials - POWER) < 0.02 + 4 * math.sqrt(POWER * (1 - POWER) / trials)  # 0.02: Welch's freedom is not that of the law


def test_more_figures_need_more_effect() -> None:
    shift = Shift(0.0, 1.0, 8.0)
    effect = shift.detectable(0.0) * math.sqrt(2 / 8) * math.gamma(4.5) / math.gamma(4.0)  # times E[s], what reach divides by
    assert stats.nct.sf(stats.t.ppf(0.975, 8), 8, effect) == pytest.approx(POWER, abs=1e-6)
    assert shift.detectable(0.0, family=20) > 1.5 * shift.detectable(0.0)
    assert shift.detectable(2.0) == shift.detectable(0.0) + 2.0


def test_four_words() -> None:
    clear, hint, none = Shift(9.0, 1.0, 8.0), Shift(2.8, 1.0, 8.0), Shift(1.0, 1.0, 8.0)
    assert verdict(clear, 0.0, rejected=True) == "worse"
    assert verdict(Shift(-9.0, 1.0, 8.0), 0.0, rejected=True) == "better"
    assert verdict(hint, 0.0, rejected=False) == "unknown"
    assert verdict(hint, 2.0, rejected=False) == "same"
    assert verdict(none, 0.0, rejected=False) == "same"
