"""How long requests took, as pictures: the tail of the distribution, and the run over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from latprof.analysis.metrics import e2el_ns, in_intended_order, lateness_ns, present, ttft_ns
from latprof.analysis.quantiles import FloatArray, Numbers
from latprof.analysis.survival import FEW, survival
from latprof.layers.table import IntArray
from latprof.observations.columns import known
from latprof.observations.folder import Run
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

METRICS: Final[Mapping[str, str]] = {"ttft": "TTFT", "e2el": "call"}
"""Whose tails are shown, and what they are called."""

_DIGITS = 6
_TIME_BINS, _VALUE_BINS = 60, 28


def tails(arms: Mapping[str, Sequence[Mapping[str, Numbers]]]) -> dict[str, Any]:
    """By metric and arm the share of requests above a time, with its band where there are runs enough for one (`latprof.analysis.survival`).

    ``arms`` hold the samples of their runs, in ns and in order of intended start.
    """
    return {
        metric: {
            "name": name,
            "arms": [
                {"name": arm, **_tail([run[metric] for run in runs])} for arm, runs in arms.items() if sum(len(run[metric]) for run in runs)
            ],
        }
        for metric, name in METRICS.items()
    }


def of_run(run: Run) -> Mapping[str, Numbers]:
    """The samples of a run that `tails` shows: its measured successes."""
    ok = run.requests.select(run.requests.measured & run.requests.success)
    ok = ok.select(in_intended_order(ok))
    return {"ttft": present(ttft_ns(ok)), "e2el": present(e2el_ns(ok))}


def _tail(runs: Sequence[Numbers]) -> dict[str, Any]:
    found = survival(runs)
    return {
        "n": found.n,
        "value_ms": _rounded(found.value_ns / NS_PER_MS),
        "share": _rounded(found.share),
        "low": _or_none(found.low),
        "high": _or_none(found.high),
        "has_band": found.has_band,
    }


def tails_words(drawn: Mapping[str, Any]) -> str:
    """How sure one may be of what `tails` drew, in a sentence."""
    arms = [arm for one in drawn.values() for arm in one["arms"]]
    if any(arm["has_band"] for arm in arms):
        return "The band holds 95 % at every point: Student's t over the runs of a side, drawn where enough of their requests lie on either side of it."
    return f"No band: how far another run would lie from this shows between runs only, at least {FEW} of them."


def over_time(run: Run) -> dict[str, Any] | None:
    """TTFT against the time of the run, as counts in cells, warm-up before 0; beside it how late requests were sent, and failures.

    Columns are of equal length in time, one of them beginning at 0; rows of equal ratio in TTFT, none without a single TTFT. Left out is the warm-up
    that was due after 0: a column tells either of warm-up or of what is measured. None without a request.
    """
    at_ns = run.requests.intended_ns
    there, is_measured = known(at_ns), run.requests.measured
    if not there.any():
        return None
    measured = there & is_measured
    zero_ns = int(at_ns[measured].min()) if measured.any() else int(at_ns[there].max()) + 1
    requests = run.requests.select(measured | (there & (at_ns < zero_ns)))
    at_s = (requests.intended_ns - zero_ns) / NS_PER_S
    edges_s, column = _columns(at_s)
    ttft = ttft_ns(requests)
    late = np.where(requests.attempt == 0, lateness_ns(requests), MISSING_NS)  # a retry is late by its back-off
    has = known(ttft) & (ttft > 0) & requests.success
    edges_ms, row = _rows(ttft[has] / NS_PER_MS)
    columns = len(edges_s) - 1
    counted = np.zeros((columns, _VALUE_BINS), np.int64)
    np.add.at(counted, (column[has], row), 1)
    return {
        "edges_s": _rounded(edges_s),
        "edges_ms": _rounded(edges_ms),
        "cells": [[int(i), int(j), int(counted[i, j])] for i, j in np.argwhere(counted)],
        "late_ms": [_worst(late[known(late) & (column == index)]) for index in range(columns)],
        "failed": np.bincount(column[~requests.success], minlength=columns).tolist(),
        "counts": {
            "measured": int((has & requests.measured).sum()),
            "warmup": int((has & ~requests.measured).sum()),
            "failed": int((requests.measured & ~requests.success).sum()),
            "failed_warmup": int((~requests.measured & ~requests.success).sum()),
        },
        "warmup_end_s": 0.0 if not requests.measured.all() else None,
    }


def over_time_words(drawn: Mapping[str, Any]) -> str:
    """Of what `over_time` is, in a sentence: what counts, and what is drawn besides."""
    counts = drawn["counts"]
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    told = f"Measured requests: {counts['measured']} succeeded{failed}."
    if drawn["warmup_end_s"] is None:
        return told
    failed_warmup = f", {counts['failed_warmup']} failed (grey)" if counts["failed_warmup"] else ""
    return f"{told} Shaded, the warm-up, which counts nowhere else: {counts['warmup']} succeeded{failed_warmup}."


def _columns(at_s: FloatArray) -> tuple[FloatArray, IntArray]:
    """Edges of equal columns, one edge at 0, and each time's column."""
    width = max(float(at_s.max() - at_s.min()), 1e-3) / _TIME_BINS
    first, last = math.floor(at_s.min() / width), math.floor(at_s.max() / width) + 1
    return width * np.arange(first, last + 1), np.floor(at_s / width).astype(np.int64) - first


def _rows(values_ms: FloatArray) -> tuple[FloatArray, IntArray]:
    """Edges of rows of equal ratio, and each value's row; nothing of nothing."""
    if not len(values_ms):
        return np.zeros(0), np.zeros(0, np.int64)
    edges_ms = np.geomspace(values_ms.min(), max(values_ms.max(), values_ms.min() * 1.01), _VALUE_BINS + 1)
    return edges_ms, np.clip(np.digitize(values_ms, edges_ms) - 1, 0, _VALUE_BINS - 1)


def _worst(late_ns: Numbers) -> float | None:
    return round(float(late_ns.max()) / NS_PER_MS, _DIGITS) if len(late_ns) else None


def _rounded(values: Numbers) -> list[float]:
    """A picture is not finer than a nanosecond."""
    rounded: list[float] = np.round(values, _DIGITS).tolist()
    return rounded


def _or_none(values: FloatArray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in _rounded(values)]
