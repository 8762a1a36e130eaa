"""Random draws keyed by (seed, session, turn, layer), never by order of use.

Two runs, two speeds and the simulator therefore share every draw: a change in one layer leaves the others' numbers alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from hashlib import blake2b
from statistics import NormalDist
from typing import NamedTuple

from latprof.config import ServiceTime

_NORMAL = NormalDist()
_UNIT = 2.0**-52


class Key(NamedTuple):
    """Whose draws these are. Requests that tell no session have a negative one, made from their trace id."""

    seed: int
    session: int
    turn: int


def bits(key: Key, purpose: str) -> int:
    """64 uniform bits for one purpose, such as a layer's name."""
    text = f"{key.seed}/{key.session}/{key.turn}/{purpose}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def uniform(key: Key, purpose: str) -> float:
    """A number in (0, 1), both ends excluded, so that every inverse transform is finite."""
    return ((bits(key, purpose) >> 12) + 0.5) * _UNIT


def hits(key: Key, purpose: str, share: float) -> bool:
    """Whether this request belongs to the ``share`` of requests that something happens to."""
    return uniform(key, purpose) < share


def service_ns(law: ServiceTime, key: Key, purpose: str) -> int:
    """One service time of ``law``. By inverse transform, one uniform each, so that a draw moves smoothly with mean and cv; gamma by rejection."""
    if law.dist == "constant":
        return law.mean_ns
    return max(0, round(_LAWS[law.dist](law, key, purpose)))


def sampler(law: ServiceTime, purpose: str) -> Callable[[Key], int]:
    """`service_ns` of one law and purpose, to the bit, with what does not change found once: for a million calls of it."""
    if law.dist == "constant":
        return lambda _: law.mean_ns
    if law.dist != "lognormal":
        return lambda key: service_ns(law, key, purpose)
    mean_ns, variance = law.mean_ns, math.log1p(law.cv**2)
    sigma, half = math.sqrt(variance), variance / 2
    exp, inverse, number = math.exp, _NORMAL.inv_cdf, int.from_bytes
    text, empty = b"%d/%d/%d/" + purpose.replace("%", "%%").encode(), blake2b(digest_size=8)

    def drawn_ns(key: Key) -> int:
        hashed = empty.copy()  # in a third of the time that making one takes
        hashed.update(text % key)
        return round(mean_ns * exp(sigma * inverse(((number(hashed.digest(), "big") >> 12) + 0.5) * _UNIT) - half))

    return drawn_ns


def _exponential(law: ServiceTime, key: Key, purpose: str) -> float:
    return -law.mean_ns * math.log(uniform(key, purpose))


def _lognormal(law: ServiceTime, key: Key, purpose: str) -> float:
    variance = math.log1p(law.cv**2)
    return law.mean_ns * math.exp(math.sqrt(variance) * _NORMAL.inv_cdf(uniform(key, purpose)) - variance / 2)


def _gamma(law: ServiceTime, key: Key, purpose: str) -> float:
    if law.cv == 0 or law.mean_ns == 0:
        return law.mean_ns
    shape = law.cv**-2
    return random.Random(bits(key, purpose)).gammavariate(shape, law.mean_ns / shape)  # noqa: S311 - a simulation


def _empirical(law: ServiceTime, key: Key, purpose: str) -> float:
    return law.values_ns[int(uniform(key, purpose) * len(law.values_ns))]


_LAWS: dict[str, Callable[[ServiceTime, Key, str], float]] = {
    "exponential": _exponential,
    "lognormal": _lognormal,
    "gamma": _gamma,
    "empirical": _empirical,
}
