"""Random draws of a workload, keyed by (seed, session, turn, purpose): never by order of use, nor by how many sessions there are."""

from __future__ import annotations

import math
from hashlib import blake2b, shake_128
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from latprof.config import TokenCount
from latprof.errors import ConfigError

_NORMAL = NormalDist()
_UNIT = 2.0**-52


def uniform(seed: int, session: int, turn: int, purpose: str) -> float:
    """A number in (0, 1), both ends excluded, so that every inverse transform is finite."""
    digest = blake2b(_key(seed, session, turn, purpose), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> 12) + 0.5) * _UNIT


def indices(count: int, below: int, seed: int, session: int, turn: int, purpose: str) -> npt.NDArray[np.uint16]:
    """``count`` numbers in [0, ``below``), shape (count,); a longer draw begins with the shorter one.

    ``below`` is a power of two up to 65 536. The bytes of one extendable hash: 5 µs where seeding a generator alone takes 20.
    """
    stream = shake_128(_key(seed, session, turn, purpose)).digest(2 * count)
    return np.frombuffer(stream, dtype="<u2") & np.uint16(below - 1)


def token_count(law: TokenCount, seed: int, session: int, turn: int, purpose: str) -> int:
    """One token count of ``law``, by inverse transform: rounded, then kept inside [min, max], which may shift the mean."""
    drawn = law.mean
    if law.dist == "uniform":
        drawn = law.mean * (1 + math.sqrt(3) * law.cv * (2 * uniform(seed, session, turn, purpose) - 1))
    elif law.dist == "lognormal":
        variance = math.log1p(law.cv**2)
        drawn = law.mean * math.exp(math.sqrt(variance) * _NORMAL.inv_cdf(uniform(seed, session, turn, purpose)) - variance / 2)
    return round(min(max(drawn, law.min), law.max))


def check_law(law: TokenCount, path: str) -> None:
    """Refuse a law that cannot be meant.

    Raises:
        ConfigError: naming the key below ``path``.
    """
    if law.min > law.max:
        raise ConfigError(f"{path}.min must not be above {path}.max, got {law.min} above {law.max}; swap them")
    if not law.min <= law.mean <= law.max:
        raise ConfigError(f"{path}.mean must lie between min and max, got {law.mean:g} outside [{law.min}, {law.max}]; move the bound")
    if law.dist == "uniform" and law.cv > 1 / math.sqrt(3):
        raise ConfigError(f"{path}.cv must be at most 0.577 for dist uniform (it reaches 0 tokens there), got {law.cv:g}; take lognormal")


def _key(seed: int, session: int, turn: int, purpose: str) -> bytes:
    return f"{seed}/{session}/{turn}/{purpose}".encode()
