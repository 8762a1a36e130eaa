"""Arrival processes: when sessions start, in ns from the start of their phase.

Every process draws gaps of mean 1 and divides them by the rate: the same seed at twice the rate is the same pattern in half the time, and a
longer schedule begins with the shorter one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol

import numpy as np
import numpy.typing as npt

from latprof.units import NS_PER_S

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

# Gaps are drawn in blocks of this many until the duration is full.
_BLOCK = 4096
_CENTURY_NS = 100 * 366 * 86_400 * NS_PER_S
_UNBOUNDED = "an arrival process needs a count or a duration"


class Arrivals(Protocol):
    """Start offsets in ns, shape (n,), ascending: the first ``count`` that lie before ``duration_ns`` (None: no such bound; not both)."""

    def __call__(  # noqa: D102
        self,
        rate_per_s: float,
        rng: np.random.Generator,
        *,
        count: int | None = None,
        duration_ns: int | None = None,
        burstiness: float = 1.0,
    ) -> IntArray: ...


def arrival_rng(seed: int, phase: str) -> np.random.Generator:
    """The random numbers of one phase's arrivals; they share nothing with the workload's draws or another phase's."""
    entropy = int.from_bytes(blake2b(f"{seed}/arrivals/{phase}".encode(), digest_size=16).digest(), "big")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def poisson(
    rate_per_s: float, rng: np.random.Generator, *, count: int | None = None, duration_ns: int | None = None, burstiness: float = 1.0
) -> IntArray:
    """Independent exponential gaps. ``burstiness`` has no part in it; a number other than 1 means `gamma`."""
    del burstiness
    return _offsets_ns(rng.standard_exponential, rate_per_s, count, duration_ns)


def gamma(
    rate_per_s: float, rng: np.random.Generator, *, count: int | None = None, duration_ns: int | None = None, burstiness: float = 1.0
) -> IntArray:
    """Independent gamma gaps of shape ``burstiness``: coefficient of variation 1/sqrt(shape), so 1 is Poisson and below 1 is burstier.

    The same law as the ``--burstiness`` of vLLM's ``bench serve``.
    """
    return _offsets_ns(lambda size: rng.standard_gamma(burstiness, size) / burstiness, rate_per_s, count, duration_ns)


def constant(
    rate_per_s: float, rng: np.random.Generator, *, count: int | None = None, duration_ns: int | None = None, burstiness: float = 1.0
) -> IntArray:
    """Equal gaps, the first start at 0; nothing is drawn. Start k is k/rate rounded to the ns: rounding never adds up."""
    del rng, burstiness
    filling = math.inf if duration_ns is None else math.ceil(duration_ns / NS_PER_S * rate_per_s) + 1
    number = min(filling, math.inf if count is None else count)
    if math.isinf(number):
        raise ValueError(_UNBOUNDED)
    return _before(_to_ns(np.arange(number, dtype=np.float64), rate_per_s), duration_ns)


ARRIVALS: dict[str, Arrivals] = {"poisson": poisson, "constant": constant, "gamma": gamma}


def _offsets_ns(gaps: Callable[[int], FloatArray], rate_per_s: float, count: int | None, duration_ns: int | None) -> IntArray:
    """Sum gaps of mean 1 until there are ``count`` of them or the duration is full.

    Draws come one by one out of the generator, so drawing in blocks changes nothing about them.
    """
    if duration_ns is None:
        if count is None:
            raise ValueError(_UNBOUNDED)
        return _to_ns(np.cumsum(gaps(count)), rate_per_s)
    drawn: list[FloatArray] = []
    wanted, total, number = duration_ns / NS_PER_S * rate_per_s, 0.0, 0
    while total <= wanted and (count is None or number < count):
        drawn.append(gaps(_BLOCK))
        total += float(drawn[-1].sum())
        number += _BLOCK
    return _before(_to_ns(np.cumsum(np.concatenate(drawn))[:count], rate_per_s), duration_ns)


def _to_ns(starts: FloatArray, rate_per_s: float) -> IntArray:
    # Beyond a century no start matters; beyond three, an int64 of ns could not hold it.
    return np.rint(np.minimum(starts / rate_per_s * NS_PER_S, _CENTURY_NS)).astype(np.int64)


def _before(offsets_ns: IntArray, duration_ns: int | None) -> IntArray:
    return offsets_ns if duration_ns is None else offsets_ns[offsets_ns < duration_ns]
