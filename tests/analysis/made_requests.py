"""Requests and layers with chosen stamps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.client.stamps import Attempt
from latprof.layers.table import Layers
from latprof.observations.columns import Chunks, IntArray, Requests
from latprof.units import NS_PER_MS

MS = NS_PER_MS


def attempt(request: int, **stamps: Any) -> Attempt:
    """A success of the measured phase: intended at 0, sent at 1 ms, first token at 11 ms, last at 41 ms, 4 tokens in 4 chunks."""
    fields: dict[str, Any] = {
        "session": request,
        "turn": 0,
        "attempt": 0,
        "phase": "measured",
        "trace_id": f"{request:032x}",
        "span_id": f"{request:016x}",
        "asked_prompt_tokens": 8,
        "asked_output_tokens": 4,
        "intended_ns": 0,
        "ready_ns": 0,
        "start_ns": 0,
        "send_ns": 1 * MS,
        "written_ns": 1 * MS,
        "headers_ns": 5 * MS,
        "first_token_ns": 11 * MS,
        "first_answer_ns": 11 * MS,
        "last_token_ns": 41 * MS,
        "end_ns": 42 * MS,
        "token_chunks": 4,
        "output_tokens": 4,
        "tokens_source": "usage",
        "status": 200,
    }
    return Attempt(request=request, **(fields | stamps))


def requests(*attempts: Attempt) -> Requests:
    return Requests.from_attempts(attempts)


def chunks(rows: Sequence[tuple[int, int, int]]) -> Chunks:
    """From (request, at ms, channel)."""
    request, at_ms, channel = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Chunks(request, at_ms * MS, np.full(len(rows), 20), channel)


def layers(total_ns: IntArray, names: Sequence[str] | None = None, **others: Any) -> Layers:
    """A table of these totals, all of it service."""
    n, width = total_ns.shape
    fields: dict[str, Any] = {
        "metric": "ttft",
        "names": tuple(names or [f"layer{index}" for index in range(width)]),
        "rows": np.arange(n),
        "total_ns": total_ns,
        "wait_ns": np.zeros_like(total_ns),
        "service_ns": total_ns.copy(),
        "present": total_ns > 0,
        "sources": (("span",),) * width,
        "hops": (),
    }
    return Layers(**(fields | others))


def m_m_1(utilisation: float, n: int, draws: np.random.Generator) -> npt.NDArray[np.float64]:
    """Response times of an M/M/1 queue with mean service 1, by Lindley's recursion."""
    gaps, services = draws.exponential(1 / utilisation, n), draws.exponential(1, n)
    walk = np.r_[0.0, np.cumsum(services[:-1] - gaps[1:])]
    return np.asarray(walk - np.minimum.accumulate(walk) + services)
