"""The causal check: how much of a delay put in on purpose comes out in TTFT and in the call.

per request    slope inside the blocks whose requests draw their own delay: what one request's delay does to that request. 1: the answer waits for
               all of it (serial). Below 1: something longer runs beside it. Whatever a block has in common (load, drift) drops out.
per block      slope across blocks: what it does to the load is in it too, for in a block everybody is delayed.
feedback       per block less per request: what waits in queues because everybody is delayed. Above 0: the delay stands behind something that
               holds a place while it waits. Below 0: requests come back later (a closed loop), and queues get shorter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from latprof.analysis.causal.slopes import Slope, difference, slope_at, slope_between, slope_within
from latprof.analysis.metrics import e2el_ns, ttft_ns
from latprof.analysis.quantiles import FloatArray
from latprof.layers.placing import Place
from latprof.observations.columns import BoolArray, IntArray, Requests, known
from latprof.observations.folder import Run
from latprof.observations.injected import Injected, load_injected, rows_of
from latprof.schedule.delays import Delays

QUANTILES: Final = (0.5, 0.9)
# The beginning of a block still has the queues of the one before.
_SETTLING = 0.25

Metric = Literal["ttft", "e2el"]


@dataclass(frozen=True, slots=True)
class Effect:
    """What the delay did to one metric; None where the design, or the number of blocks, does not tell."""

    metric: Metric
    per_request: Slope | None
    per_block: Slope | None
    feedback: Slope | None
    at_quantiles: tuple[tuple[float, Slope], ...] = ()
    """(p, slope of the p-quantile on the delay), of requests that drew their own."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a hop stood that a gateway was pointed at.

    ``others`` counts requests that were none of the run's (None: not known). The starts of the hops ``in_front`` did not move with the delay, those
    of the hops ``behind`` did; where the ``untold`` are is taken from names.
    """

    address: str
    others: int | None
    in_front: tuple[str, ...]
    behind: tuple[str, ...]
    untold: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Injection:
    """The experiment of one run. ``off_p99_ns``: how much longer than drawn a request was held, at p99.

    ``not_as_drawn`` counts rows whose recorded delay is not what the seed draws: the record, or the configuration, is of another run.
    ``missed`` counts measured requests that did not pass the hop, ``failed`` those that passed and failed, ``again`` passages beyond one of a request.
    """

    before: str
    design: Delays
    requests: int
    blocks: int
    missed: int
    failed: int
    not_as_drawn: int
    off_p99_ns: float
    effects: tuple[Effect, ...]
    again: int = 0
    site: Site | None = None
    """None where the run itself put the hop in front of everything, or into the stack in a box."""

    @property
    def ttft(self) -> Effect:
        """The effect on TTFT."""
        return self.effects[0]


def injection_of(observed: Run, place: Place | None = None) -> Injection | None:
    """What the delays did to the run; None where there were none. ``place`` is where they were put, where that had to be found out."""
    told, injected = observed.meta.get("inject"), load_injected(observed.folder)
    if told is None or injected is None:
        return None
    design = Delays(tuple(told["delays_ns"]), told["block_ns"], told["per"], told["seed"])
    found = analyse(observed.requests, injected, design, told["before"])
    if place is None:
        return found
    address = f"{told['listen']} -> {told['upstream']}"
    return replace(found, site=Site(address, told.get("others"), place.in_front, place.behind, place.untold))


def analyse(requests: Requests, injected: Injected, design: Delays, before: str) -> Injection:
    """Hold the metrics of the measured requests against what each was delayed by."""
    rows = rows_of(injected, requests.trace_id)
    passed = requests.measured & (rows >= 0)
    ok = passed & requests.success
    mine, at = requests.select(ok), rows[ok]
    delay_ns, block = injected.delay_ns[at], injected.block[at]
    expected_ns = np.array([design.of(trace, int(number)) for trace, number in zip(mine.trace_id, block, strict=True)], np.int64)
    became_ns = np.where(known(injected.forwarded_ns[at]), injected.forwarded_ns[at] - injected.received_ns[at], delay_ns)
    off_ns = became_ns - delay_ns
    held = _Held(delay_ns.astype(np.float64), became_ns.astype(np.float64), block)
    shared = np.array([design.is_shared(int(number)) for number in block], np.bool_)
    settled = _settled(injected.received_ns[at], block, design.block_ns)
    values: dict[Metric, IntArray] = {"ttft": ttft_ns(mine), "e2el": e2el_ns(mine)}
    return Injection(
        before=before,
        design=design,
        requests=len(mine),
        blocks=len(np.unique(block)),
        missed=int((requests.measured & (rows < 0)).sum()),
        failed=int((passed & ~requests.success).sum()),
        not_as_drawn=int((expected_ns != delay_ns).sum()),
        off_p99_ns=float(np.quantile(off_ns, 0.99)) if len(off_ns) else math.nan,
        effects=tuple(_effect(metric, value_ns, held, shared, settled) for metric, value_ns in values.items()),
        again=int(np.isin(injected.trace_id.astype(str), requests.trace_id[passed].astype(str)).sum() - passed.sum()),
    )


def _settled(received_ns: IntArray, block: IntArray, block_ns: int) -> BoolArray:
    """Where a request came after the first quarter of its block; blocks begin with the hop, a whole number of blocks before the first row."""
    if not len(block):
        return np.zeros(0, np.bool_)
    # Block b holds [t0 + b * length, t0 + (b + 1) * length): every row bounds t0 from above, and the tightest is near enough.
    begun_ns = int((received_ns - block * block_ns).min())
    return np.asarray((received_ns - begun_ns) % block_ns >= _SETTLING * block_ns, np.bool_)


@dataclass(frozen=True, slots=True)
class _Held:
    """Per request: the delay as drawn, as it became, and the block."""

    drawn: FloatArray
    became: FloatArray
    block: IntArray

    def of(self, rows: BoolArray) -> tuple[FloatArray, IntArray, FloatArray]:
        """What slopes are taken on, the blocks, and the instrument."""
        return self.became[rows], self.block[rows], self.drawn[rows]


def _effect(metric: Metric, value_ns: IntArray, held: _Held, shared: BoolArray, settled: BoolArray) -> Effect:
    has, y = known(value_ns), value_ns.astype(np.float64)
    own, steady = has & ~shared, has & settled
    per_request = slope_within(y[own], *held.of(own))
    # Where every request draws its own, blocks differ by chance, and by so little that nothing can be told.
    per_block = slope_between(y[steady], *held.of(steady)) if shared.any() else None
    feedback = None if per_request is None or per_block is None else difference(per_block, per_request)
    quantiles = tuple((p, found) for p in QUANTILES if (found := slope_at(y[own], *held.of(own), p)) is not None)
    return Effect(metric, per_request, per_block, feedback, quantiles)


# --- in words -----------------------------------------------------------------------------------------------------------------------------

_RESOLVED = 0.25
"""A slope is called 1, or a feedback none, where half the interval is no wider than this."""


def reading(effect: Effect) -> str:
    """What the slopes say, in one sentence."""
    parts = [say(slope) for say, slope in ((_of_request, effect.per_request), (_of_feedback, effect.feedback)) if slope is not None]
    return "; ".join(parts)


def _of_request(slope: Slope) -> str:
    half = (slope.high - slope.low) / 2
    checks: tuple[tuple[Callable[[], bool], str], ...] = (
        (lambda: slope.holds(1) and slope.holds(0), "too few requests to tell a delay that is waited for from one that is hidden"),
        (lambda: slope.holds(1) and half <= _RESOLVED, "serial: the answer waits for all of a delay here"),
        (lambda: slope.holds(1), "the answer waits for a delay here, but how much of it takes more requests to tell"),
        (
            lambda: slope.holds(0) and half <= _RESOLVED,
            "hidden: the answer does not wait for a delay here, something longer runs beside it",
        ),
        (lambda: slope.high < 1, "partly hidden: the answer waits for a part of a delay here only"),
        (lambda: slope.low > 1, "amplified: a request loses more than its own delay"),
    )
    return next((text for check, text in checks if check()), "it does not follow the delay")


def _of_feedback(slope: Slope) -> str:
    if slope.low > 0:
        return "what delays everybody is amplified: a place is held while it waits, and others queue for it"
    if slope.high < 0:
        return "what delays everybody is damped: requests come back later, and queues get shorter"
    if (slope.high - slope.low) / 2 <= _RESOLVED:
        return "no queue feeds it back"
    return "whether queues feed it back takes more blocks to tell"
