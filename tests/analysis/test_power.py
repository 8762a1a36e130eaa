import math

import pytest
from scipy import stats

from latprof.analysis.verdicts.power import reach


@pytest.mark.parametrize("freedom", [2, 4, 7.3, 19])
@pytest.mark.parametrize("level", [0.95, 0.995])
def test_the_reach_is_that_of_the_noncentral_t(freedom: float, level: float) -> None:
    mean_of_s = math.sqrt(2 / freedom) * math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    effect = reach(freedom, level, 0.8) * mean_of_s
    assert stats.nct.sf(stats.t.ppf((1 + level) / 2, freedom), freedom, effect) == pytest.approx(0.8, abs=1e-6)
