"""Layers: the table that adds up. One row per request, one column per layer, in ns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latprof.spans.clocks import ClockOffset

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two kinds of evidence that disagree about one layer of one request; the first was used."""

    request: int
    layer: str
    used: str  # provenance
    used_ns: int
    other: str
    other_ns: int


@dataclass(frozen=True, slots=True)
class OffPath:
    """Time a layer spent in parallel with another that held the request up: real work, but not part of the sum."""

    request: int
    layer: str
    hidden_ns: int


@dataclass(frozen=True, slots=True)
class Layers:
    """The partition of one metric's window for every request that has it.

    ``total_ns`` (n, L) sums along each row to the metric, to the nanosecond, and is never negative. ``wait_ns`` and ``service_ns`` are the
    parts of it told apart; what is left of a cell was not told apart. A layer a request lacks contributes 0 and is not ``present``.
    """

    metric: str
    names: tuple[str, ...]  # path order
    rows: IntArray  # (n,) row numbers in the run's `Requests`
    total_ns: IntArray
    wait_ns: IntArray
    service_ns: IntArray
    present: BoolArray
    sources: tuple[tuple[str, ...], ...]  # (L,) provenances that filled the column, the most frequent first
    hops: tuple[str, ...]  # from the client inwards, as used
    conflicts: tuple[Conflict, ...] = ()
    off_path: tuple[OffPath, ...] = ()
    clocks: tuple[ClockOffset, ...] = ()
    told: npt.NDArray[np.float64] | None = None  # (L,) the coverage, where a row is more than one request

    def coverage(self) -> npt.NDArray[np.float64]:
        """Share of the requests that have evidence for each layer, shape (L,)."""
        if self.told is not None:
            return self.told
        return self.present.mean(axis=0) if len(self.rows) else np.zeros(len(self.names))


@dataclass(frozen=True, slots=True)
class Tables:
    """The partitions of one run by metric: to the first token, and to the last (the call)."""

    ttft: Layers
    e2el: Layers
