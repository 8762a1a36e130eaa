"""What the record says of decode: how long an iteration is, and how it grows with the batch.

first token here - back        engine's first token     ... one iteration after the other ...      engine's last token
                                     |--x--|--x--|--x--|              x = t1 + per_sequence * (streams at once)

Every request tells one x, its time per token, and one mean number of streams during it; the line through them, weighted by tokens (least
squares), is the iteration. Where the requests do not lie on a line, decode is a station instead: everyone keeps its own recorded time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from latprof.analysis.quantiles import FloatArray
from latprof.layers.table import IntArray

Kind = Literal["iterations", "slots"]

UNLIMITED = 1 << 30
"""Slots of a pool that nobody told the size of."""

# A line explains decode when half of the answers lie this close to it, and nine in ten within the second; else it is no lockstep batch.
_CLOSE, _NEAR = 0.05, 0.20
# The lengths of iterations and the numbers of streams in them agree to four digits by then.
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Stamps:
    """What is known of each request's decode, shape (n,), ns on the client's clock.

    ``admitted_ns`` is when its first iteration began (when its first token came, where nothing tells), ``first_ns`` and ``last_ns`` when the
    engine made those tokens, ``first_service_ns`` what the first token took once admitted (0 where nothing tells).
    """

    admitted_ns: IntArray
    first_ns: IntArray
    last_ns: IntArray
    first_service_ns: IntArray
    tokens: IntArray
    makes_first: bool


@dataclass(frozen=True, eq=False)
class Decode:
    """Decode as it will be replayed.

    ``iterations``: an iteration lasts ``t1_ns + per_sequence_ns * batch`` (as fitted, before ``scale``); ``slots``: everyone its own recorded
    ``first_ns`` and ``rest_ns``. ``scale`` multiplies every length, ``added_ns`` is on top of each iteration (of each token's time). ``extra_ns``
    is what a first token takes beyond its iteration with its slot kept, ``late_ns`` without. ``error`` is the relative miss of the fit's median
    answer.
    """

    kind: Kind
    slots: int
    tokens: IntArray
    makes_first: bool
    t1_ns: float
    per_sequence_ns: float
    error: float
    first_ns: IntArray
    rest_ns: IntArray
    extra_ns: IntArray
    late_ns: int
    scale: float = 1.0
    added_ns: float = 0.0
    first_added_ns: float = 0.0

    @property
    def after_first(self) -> IntArray:
        """Tokens after the first, shape (n,)."""
        return np.maximum(self.tokens - 1, 0)

    def scaled(self, factor: float) -> Decode:
        """Every iteration ``factor`` times as long."""
        return replace(self, scale=self.scale * factor, added_ns=self.added_ns * factor, first_added_ns=self.first_added_ns * factor)


def streams_during(stamps: Stamps, t1_ns: float = 1.0, per_sequence_ns: float = 0.0) -> FloatArray:
    """Mean number of streams in the batch over each request's iterations after its first token, itself included, shape (n,).

    Over iterations, not over time: full iterations are longer, and would count for more. How long is what is to be found, so the fit is made
    twice and more, from equal lengths on.
    """
    times_ns = np.concatenate([stamps.admitted_ns, stamps.last_ns])
    steps = np.concatenate([np.ones(len(stamps.admitted_ns)), -np.ones(len(stamps.last_ns))])
    order = np.argsort(times_ns, kind="stable")
    times_ns, at_once = times_ns[order], np.cumsum(steps[order])[:-1]
    iterations = np.diff(times_ns) / (t1_ns + per_sequence_ns * np.maximum(at_once, 1.0))

    def inside(amounts: FloatArray) -> FloatArray:
        area = np.concatenate([[0.0], np.cumsum(amounts)])
        return np.asarray(np.interp(stamps.last_ns, times_ns, area) - np.interp(stamps.first_ns, times_ns, area))

    passed = inside(iterations)
    return np.maximum(np.divide(inside(at_once * iterations), passed, where=passed > 0, out=np.ones(len(passed))), 1.0)


def fit_decode(stamps: Stamps, slots: int) -> tuple[Decode, ...]:
    """The models that may replay the record, the likelier first: iterations where a line explains the answers, and slots always."""
    rest_ns = np.maximum(stamps.last_ns - stamps.first_ns, 0)
    after_first = stamps.tokens - 1
    own = Decode(
        kind="slots",
        slots=slots,
        tokens=stamps.tokens,
        makes_first=stamps.makes_first,
        t1_ns=0.0,
        per_sequence_ns=0.0,
        error=0.0,
        first_ns=stamps.first_service_ns,
        rest_ns=rest_ns,
        extra_ns=np.zeros_like(rest_ns),
        late_ns=0,
    )
    tells = (after_first > 0) & (rest_ns > 0)
    if tells.sum() < 20 or (stamps.tokens < 1).any():
        return (own,)
    t1_ns, per_sequence_ns = 1.0, 0.0
    for _ in range(_ROUNDS):
        at_once = streams_during(stamps, t1_ns, per_sequence_ns)
        t1_ns, per_sequence_ns = _line(rest_ns[tells] / after_first[tells], at_once[tells], after_first[tells].astype(np.float64))
    fitted_ns = after_first * (t1_ns + per_sequence_ns * at_once)
    missed = np.abs(fitted_ns[tells] - rest_ns[tells]) / rest_ns[tells]
    if np.median(missed) > _CLOSE or np.quantile(missed, 0.9) > _NEAR:
        return (own,)
    extra_ns, late_ns = _beyond(stamps, t1_ns, per_sequence_ns)
    lockstep = replace(
        own,
        kind="iterations",
        t1_ns=t1_ns,
        per_sequence_ns=per_sequence_ns,
        error=float(np.median(missed)),
        extra_ns=extra_ns,
        late_ns=late_ns,
    )
    return (lockstep, own)


def _line(per_token_ns: FloatArray, at_once: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """Weighted least squares of ``per_token_ns`` on ``at_once``; neither part is negative."""
    mean_x, mean_y = np.average(at_once, weights=weights), np.average(per_token_ns, weights=weights)
    spread = float(weights @ (at_once - mean_x) ** 2)
    slope = float(weights @ ((at_once - mean_x) * (per_token_ns - mean_y))) / spread if spread > 0 else 0.0
    if slope <= 0:
        return float(mean_y), 0.0
    if slope * mean_x > mean_y:
        return 0.0, float(weights @ (at_once * per_token_ns) / (weights @ at_once**2))
    return float(mean_y - slope * mean_x), slope


def _beyond(stamps: Stamps, t1_ns: float, per_sequence_ns: float) -> tuple[IntArray, int]:
    """What first tokens take beyond an iteration: each its own if that is much (something keeps them), else one small lateness for all."""
    none = np.zeros_like(stamps.first_service_ns)
    if not stamps.makes_first:
        return none, 0
    admitted, last = np.sort(stamps.admitted_ns), np.sort(stamps.last_ns)
    at_once = np.searchsorted(admitted, stamps.admitted_ns, "right") - np.searchsorted(last, stamps.admitted_ns, "right")
    step_ns = t1_ns + per_sequence_ns * np.maximum(at_once, 1)
    beyond_ns = np.maximum(stamps.first_service_ns - step_ns, 0)
    usual_ns = float(np.median(beyond_ns))
    if usual_ns > 0.5 * float(np.median(step_ns)):
        return np.rint(beyond_ns).astype(np.int64), 0
    return none, round(usual_ns)
