"""The naive line: every request's time less the service that a change takes away from it, waits kept as they were.

It is wrong in both directions (M/M/1 at one station: too little gain, for the queue shrinks as well; a closed loop: too much, for the wait moves
upstream), and is shown only to say by how much.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from latprof.analysis.whatif.changes import Scenario
from latprof.analysis.whatif.model import FIRST
from latprof.analysis.whatif.replays import Played
from latprof.layers.call import DECODE, STREAM, UNTOLD
from latprof.layers.table import IntArray


class Naive(NamedTuple):
    """Shape (n,), ns."""

    ttft_ns: IntArray
    e2el_ns: IntArray


def naive(base: Played, before: Scenario, after: Scenario) -> Naive:
    """Both metrics of the requests of ``base``, the replay without change."""
    call, jobs, names = base.call, base.jobs, before.model.names
    saved_ns = np.where(before.model.passes, before.model.work_ns - after.model.work_ns, 0)[jobs]
    saved_ns[:, [i for i, name in enumerate(names) if name in {FIRST, DECODE, UNTOLD}]] = 0
    ttft_saved_ns = saved_ns[:, [i for i, name in enumerate(names) if name != STREAM]].sum(axis=1)
    first_ns = _column(base, FIRST, "service_ns")
    ttft_saved_ns += first_ns - _first(first_ns, before, after)
    back_ns = call.total_ns[:, before.model.back()].sum(axis=1)
    back_after_ns = after.model.work_ns[jobs][:, after.model.back()].sum(axis=1)
    decode_ns = _column(base, DECODE, "total_ns") + _column(base, UNTOLD, "total_ns")
    engine_ns = np.where(decode_ns > 0, decode_ns + back_ns, 0)
    decode_after_ns = np.maximum(_rest(engine_ns, before, after, jobs) - back_after_ns, 0)
    stream_saved_ns = saved_ns[:, names.index(STREAM)] if STREAM in names else np.zeros(len(jobs), np.int64)
    ttft_ns = base.ttft_ns - ttft_saved_ns
    e2el_ns = base.e2el_ns - ttft_saved_ns - (decode_ns - decode_after_ns) - stream_saved_ns
    return Naive(ttft_ns, e2el_ns)


def _column(played: Played, name: str, table: str) -> IntArray:
    call = played.call
    values: IntArray = getattr(call, table)
    return values[:, call.names.index(name)] if name in call.names else np.zeros(len(call.rows), np.int64)


def _ratio(before: Scenario, after: Scenario) -> float:
    return after.decode.scale / before.decode.scale


def _first(first_ns: IntArray, before: Scenario, after: Scenario) -> IntArray:
    """The service of the first token after the change; nothing where prefill makes it."""
    if not before.decode.makes_first:
        return first_ns
    late_ns = before.decode.late_ns
    added_ns = after.decode.added_ns + after.decode.first_added_ns
    return np.rint(np.maximum(np.maximum(first_ns - late_ns, 0) * _ratio(before, after) + added_ns, 0)).astype(np.int64) + late_ns


def _rest(engine_ns: IntArray, before: Scenario, after: Scenario, jobs: IntArray) -> IntArray:
    """The engine's time after the first token after the change."""
    return np.rint(engine_ns * _ratio(before, after) + after.decode.added_ns * after.decode.after_first[jobs]).astype(np.int64)
