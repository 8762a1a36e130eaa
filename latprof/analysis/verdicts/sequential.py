"""Early stopping: how much of the gate's 5 % each look may spend, so that looking often costs nothing in false alarms."""

from __future__ import annotations

import math
from statistics import NormalDist

from latprof.analysis.verdicts.differences import ALPHA
from latprof.analysis.verdicts.replications import FEW


def alpha_of_look(replications: int, most: int, alpha: float = ALPHA) -> float:
    """What the look after so many of ``most`` replications may spend; looks begin at three, and together spend ``alpha``.

    The increments of the spending function of O'Brien and Fleming's kind, 2 - 2 Phi(z / sqrt(t)) (Lan and DeMets 1983): little early, most at the end. Each
    look is a test of its own at its increment, so that the sum bounds the chance of any false alarm whatever the law of the statistic: Student's t
    of a few replications is not the normal of the tables.

    Raises:
        ValueError: no look is taken there.
    """
    first = min(FEW, most)
    if not first <= replications <= most:
        raise ValueError(f"looks are taken from {first} to {most} replications, got {replications}")
    before = 0.0 if replications == first else _spent((replications - 1) / most, alpha)
    return _spent(replications / most, alpha) - before


def _spent(share: float, alpha: float) -> float:
    z = _NORMAL.inv_cdf(1 - alpha / 2)
    return 2 - 2 * _NORMAL.cdf(z / math.sqrt(share))


_NORMAL = NormalDist()
