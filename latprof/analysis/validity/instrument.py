"""How far the instrument itself can be trusted in one run: what stamped the bytes, what of it is only known to an interval, how the workers did.

One read that brings several chunks says when the last of them was there; the others arrived in (the stamp before, this stamp].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from latprof.observations.columns import Chunks, Requests

Stamps = Literal["kernel", "user", "unknown"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """Over the measured phase. Shares are fractions, NaN where nobody knows; ``health`` is that of the worst worker, figure by figure.

    ``stamps``: who stamped the reads, the kernel (the rare read without its stamp left aside) or this process after the fact.
    ``user_stamp_share`` of the reads had no kernel stamp; ``interval_share`` of the token-bearing chunks came with another one in one read.
    """

    workers: int
    deaths: tuple[str, ...]
    stamps: Stamps
    user_stamp_share: float
    interval_share: float
    health: Mapping[str, float]

    def figure(self, name: str) -> float:
        """A figure of the health; NaN where it is not known."""
        value = self.health.get(name)
        return float(value) if value is not None and value >= 0 else np.nan


def instrument(meta: Mapping[str, Any], health: Mapping[str, Any], measured: Requests, chunks: Chunks) -> Instrument:
    """From ``run.json``, the measured rows and all chunks."""
    workers = meta.get("workers", {})
    share = user_stamp_share(measured)
    stamps: Stamps = "unknown" if np.isnan(share) else "user" if share > 0.5 else "kernel"
    return Instrument(
        workers=int(workers.get("count", 1)),
        deaths=tuple(workers.get("deaths", ())),
        stamps=stamps,
        user_stamp_share=share,
        interval_share=interval_share(chunks, measured.request),
        health={name: value for name, value in health.items() if isinstance(value, int | float)},
    )


def user_stamp_share(requests: Requests) -> float:
    """Of the reads that brought ``requests``, those without a kernel stamp; NaN without reads, or where none were counted."""
    counted = (requests.reads > 0) & (requests.user_stamps >= 0)
    reads = int(requests.reads[counted].sum())
    return int(requests.user_stamps[counted].sum()) / reads if reads else np.nan


def interval_share(chunks: Chunks, requests: Sequence[int] | np.ndarray[Any, Any]) -> float:
    """Of the token-bearing chunks of ``requests``, those that share their stamp with another one of their request; NaN without any."""
    tokens = chunks.tokens
    mine = np.repeat(np.isin(tokens.request, requests), tokens.counts)
    if not mine.any():
        return np.nan
    same = tokens.at_ns[1:] == tokens.at_ns[:-1]
    same[tokens.first[1:-1] - 1] = False  # from one request to the next
    shared = np.zeros(len(mine), np.bool_)
    shared[1:] |= same
    shared[:-1] |= same
    return float(shared[mine].mean())
