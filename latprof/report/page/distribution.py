"""How long requests took, as pictures: the tail of the distribution, and the run over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from latprof.analysis.metrics import e2el_ns, in_intended_order, lateness_ns, present, ttft_ns
from latprof.analysis.quantiles import Numbers
from latprof.analysis.survival import survival
from latprof.observations.columns import known
from latprof.observations.folder import Run
from latprof.units import NS_PER_MS, NS_PER_S

METRICS: Final[Mapping[str, str]] = {"ttft": "TTFT", "e2el": "call"}
"""Whose tails are shown, and what they are called."""

_DIGITS = 6
_TIME_BINS, _VALUE_BINS = 60, 28


def tails(arms: Mapping[str, Sequence[Mapping[str, Numbers]]]) -> dict[str, Any]:
    """By metric and arm the share of requests above a time, with its band; ``arms`` hold the samples of their runs, in ns and in order of intended start."""
    return {
        metric: {
            "name": name,
            "arms": [
                {"name": arm, **_tail(np.concatenate([run[metric] for run in runs]))}
                for arm, runs in arms.items()
                if sum(len(run[metric]) for run in runs)
            ],
        }
        for metric, name in METRICS.items()
    }


def of_run(run: Run) -> Mapping[str, Numbers]:
    """The samples of a run that `tails` shows: its measured successes."""
    ok = run.requests.select(run.requests.measured & run.requests.success)
    ok = ok.select(in_intended_order(ok))
    return {"ttft": present(ttft_ns(ok)), "e2el": present(e2el_ns(ok))}


def _tail(values: Numbers) -> dict[str, Any]:
    found = survival(values)
    return {
        "n": found.n,
        "value_ms": _rounded(found.value_ns / NS_PER_MS),
        "share": _rounded(found.share),
        "low": _rounded(found.low),
        "high": _rounded(found.high),
    }


def over_time(run: Run) -> dict[str, Any] | None:
    """TTFT against the time of the run, as counts in cells, warm-up before 0; beside it how late requests were sent, and failures.

    Columns are of equal length in time, rows of equal ratio in TTFT. None without a single TTFT.
    """
    requests = run.requests
    at_ns = requests.intended_ns
    there = known(at_ns)
    ttft, late = ttft_ns(requests), lateness_ns(requests)
    has = there & known(ttft) & (ttft > 0)
    if not has.any():
        return None
    measured = there & requests.measured
    zero_ns = int(at_ns[measured].min()) if measured.any() else int(at_ns[there].min())
    at_s = (at_ns - zero_ns) / NS_PER_S
    edges_s = np.linspace(at_s[there].min(), max(at_s[there].max(), at_s[there].min() + 1e-3), _TIME_BINS + 1)
    low, high = ttft[has].min() / NS_PER_MS, ttft[has].max() / NS_PER_MS
    edges_ms = np.geomspace(low, max(high, low * 1.01), _VALUE_BINS + 1)
    column = np.clip(np.digitize(at_s, edges_s) - 1, 0, _TIME_BINS - 1)
    row = np.clip(np.digitize(ttft[has] / NS_PER_MS, edges_ms) - 1, 0, _VALUE_BINS - 1)
    counted = np.zeros((_TIME_BINS, _VALUE_BINS), np.int64)
    np.add.at(counted, (column[has], row), 1)
    sent = there & known(late)
    return {
        "edges_s": _rounded(edges_s),
        "edges_ms": _rounded(edges_ms),
        "cells": [[int(i), int(j), int(counted[i, j])] for i, j in np.argwhere(counted)],
        "late_ms": [_worst(late[sent & (column == index)]) for index in range(_TIME_BINS)],
        "failed": np.bincount(column[there & ~requests.success], minlength=_TIME_BINS).tolist(),
        "warmup_end_s": 0.0 if (there & ~requests.measured).any() else None,
    }


def _worst(late_ns: Numbers) -> float | None:
    return round(float(late_ns.max()) / NS_PER_MS, _DIGITS) if len(late_ns) else None


def _rounded(values: Numbers) -> list[float]:
    """A picture is not finer than a nanosecond."""
    rounded: list[float] = np.round(values, _DIGITS).tolist()
    return rounded
