"""Random draws of a workload, keyed by (seed, session, turn, purpose): never by order of use, nor by how many sessions there are."""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import blake2b, shake_128
from statistics import NormalDist
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from latprof.config import ServiceTime, ShareLaw, TokenCount
from latprof.errors import ConfigError

T = TypeVar("T")

_NORMAL = NormalDist()
_UNIT = 2.0**-52


def uniform(seed: int, session: int, turn: int, purpose: str) -> float:
    """A number in (0, 1), both ends excluded, so that every inverse transform is finite."""
    return _share(_key(seed, session, turn, purpose))


def indices(count: int, below: int, seed: int, session: int, turn: int, purpose: str) -> npt.NDArray[np.uint16]:
    """``count`` numbers in [0, ``below``), shape (count,); a longer draw begins with the shorter one.

    ``below`` is a power of two up to 65 536. The bytes of one extendable hash: 5 µs where seeding a generator alone takes 20.
    """
    stream = shake_128(_key(seed, session, turn, purpose)).digest(2 * count)
    return np.frombuffer(stream, dtype="<u2") & np.uint16(below - 1)


def token_count(law: TokenCount, seed: int, session: int, turn: int, purpose: str) -> int:
    """One count of ``law``: rounded, then kept inside [min, max], which may shift the mean."""
    if law.dist == "constant":
        return round(min(max(law.mean, law.min), law.max))
    at = _key(seed, session, turn, purpose)
    drawn: float = _one_of(law.values, at) if law.dist == "empirical" else LAWS[law.dist](law.mean, law.cv, at)
    return round(min(max(drawn, law.min), law.max))


def counter(law: TokenCount, purpose: str) -> Callable[[int, int, int], int]:
    """`token_count` of one law and purpose, to the bit, with what does not change found once; told seed, session and turn."""
    low, high = law.min, law.max
    if law.dist == "constant":
        count = round(min(max(law.mean, low), high))
        return lambda _seed, _session, _turn: count
    share = _drawer(purpose)
    if law.dist == "empirical":
        kept = [min(max(value, low), high) for value in law.values]
        number = len(kept)
        return lambda *of: kept[int(share(of) * number)]
    if law.dist != "lognormal":
        return lambda seed, session, turn: token_count(law, seed, session, turn, purpose)
    mean, variance = law.mean, math.log1p(law.cv**2)
    sigma, half = math.sqrt(variance), variance / 2
    exp, inverse = math.exp, _NORMAL.inv_cdf

    def counted(*of: int) -> int:
        drawn = mean * exp(sigma * inverse(share(of)) - half)
        return round(drawn if low <= drawn <= high else min(max(drawn, low), high))

    return counted


def duration_ns(law: ServiceTime, seed: int, session: int, turn: int, purpose: str) -> int:
    """One duration of ``law``, in ns, >= 0."""
    at = _key(seed, session, turn, purpose)
    if law.dist == "empirical":
        return _one_of(law.values_ns, at)
    return max(0, round(LAWS[law.dist](law.mean_ns, law.cv, at)))


def drawn_share(law: ShareLaw, seed: int, session: int, turn: int, purpose: str) -> float:
    """One share of ``law``, kept inside [min, max], which may shift the mean."""
    if law.dist == "constant":
        return min(max(law.mean, law.min), law.max)
    at = _key(seed, session, turn, purpose)
    drawn: float = _one_of(law.values, at) if law.dist == "empirical" else LAWS[law.dist](law.mean, law.cv, at)
    return min(max(drawn, law.min), law.max)


def sharer(law: ShareLaw, purpose: str) -> Callable[[int, int, int], float]:
    """`drawn_share` of one law and purpose; told seed, session and turn."""
    if law.dist == "constant":
        share = min(max(law.mean, law.min), law.max)
        return lambda _seed, _session, _turn: share
    return lambda seed, session, turn: drawn_share(law, seed, session, turn, purpose)


def chance(share: float, seed: int, session: int, turn: int, purpose: str) -> bool:
    """Whether something that happens to this ``share`` happens here."""
    return uniform(seed, session, turn, purpose) < share


def check_law(law: TokenCount | ShareLaw, path: str) -> None:
    """Refuse a law that cannot be meant.

    Raises:
        ConfigError: naming the key below ``path``.
    """
    if law.min > law.max:
        raise ConfigError(f"{path}.min must not be above {path}.max, got {law.min} above {law.max}; swap them")
    if law.dist != "empirical" and not law.min <= law.mean <= law.max:
        raise ConfigError(f"{path}.mean must lie between min and max, got {law.mean:g} outside [{law.min}, {law.max}]; move the bound")
    if law.dist == "uniform" and law.cv > 1 / math.sqrt(3):
        raise ConfigError(f"{path}.cv must be at most 0.577 for dist uniform (it reaches 0 there), got {law.cv:g}; take lognormal")
    if law.dist == "pareto" and law.cv <= 1:
        raise ConfigError(
            f"{path}.cv must be above 1 for dist pareto (its tail is heavier than exponential), got {law.cv:g}; take lognormal"
        )


# --- the laws -----------------------------------------------------------------------------------------------------------------------------

Law = Callable[[float, float, bytes], float]
"""(mean, standard deviation over mean, key of the draw) -> one draw."""


def _uniform(mean: float, cv: float, at: bytes) -> float:
    return mean * (1 + math.sqrt(3) * cv * (2 * _share(at) - 1))


def _normal(mean: float, cv: float, at: bytes) -> float:
    return mean * (1 + cv * _NORMAL.inv_cdf(_share(at)))


def _exponential(mean: float, _: float, at: bytes) -> float:
    return -mean * math.log(_share(at))


def _geometric(mean: float, _: float, at: bytes) -> float:
    """1, 2, 3, ... with the same chance to go on each time."""
    return 1.0 if mean <= 1 else 1 + math.floor(math.log(_share(at)) / math.log1p(-1 / mean))


def _lognormal(mean: float, cv: float, at: bytes) -> float:
    variance = math.log1p(cv**2)
    return mean * math.exp(math.sqrt(variance) * _NORMAL.inv_cdf(_share(at)) - variance / 2)


def _gamma(mean: float, cv: float, at: bytes) -> float:
    """No inverse in closed form: a generator of its own for the one draw (20 µs)."""
    if cv == 0:
        return mean
    entropy = int.from_bytes(blake2b(at, digest_size=16).digest(), "big")
    return float(np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy))).gamma(cv**-2, mean * cv**2))


def _pareto(mean: float, cv: float, at: bytes) -> float:
    """Lomax: from 0 on, with a tail of power ``shape``; cv^2 = shape / (shape - 2)."""
    shape = 2 * cv**2 / (cv**2 - 1)
    return mean * (shape - 1) * math.expm1(-math.log(_share(at)) / shape)


def _constant(mean: float, _: float, __: bytes) -> float:
    return mean


LAWS: dict[str, Law] = {
    "constant": _constant,
    "uniform": _uniform,
    "normal": _normal,
    "exponential": _exponential,
    "geometric": _geometric,
    "lognormal": _lognormal,
    "gamma": _gamma,
    "pareto": _pareto,
}
"""Laws by their configured name; the empirical one has values instead of moments."""


def _one_of(values: tuple[T, ...], at: bytes) -> T:
    return values[int(_share(at) * len(values))]


def _share(at: bytes) -> float:
    """A number in (0, 1), both ends excluded."""
    return ((int.from_bytes(blake2b(at, digest_size=8).digest(), "big") >> 12) + 0.5) * _UNIT


def _drawer(purpose: str) -> Callable[[tuple[int, ...]], float]:
    """`uniform` of one purpose, told (seed, session, turn): a hash that is copied takes half the time of one that is made."""
    text, empty, number = b"%d/%d/%d/" + purpose.replace("%", "%%").encode(), blake2b(digest_size=8), int.from_bytes

    def share(of: tuple[int, ...]) -> float:
        hashed = empty.copy()
        hashed.update(text % of)
        return ((number(hashed.digest(), "big") >> 12) + 0.5) * _UNIT

    return share


def _key(seed: int, session: int, turn: int, purpose: str) -> bytes:
    return f"{seed}/{session}/{turn}/{purpose}".encode()
