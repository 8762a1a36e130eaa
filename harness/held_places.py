"""What the experiments of `harness.inject` read from a run: each request's delay, and how it was held by a gateway of few places."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.arms import Arm
from latprof.analysis.causal.slopes import Slope, slope_between
from latprof.analysis.metrics import ttft_ns
from latprof.analysis.quantiles import FloatArray
from latprof.observations.columns import BoolArray, IntArray
from latprof.observations.injected import Injected, load_injected, rows_of
from latprof.queues.holding import waits_ns


@dataclass(frozen=True, slots=True)
class Rows:
    """What slopes are taken of: successes that passed the hop, in order of intended start."""

    session: IntArray
    ttft: FloatArray
    drawn: FloatArray
    became: FloatArray
    block: IntArray
    settled: BoolArray

    def among(self, sessions: Collection[int], rows: BoolArray) -> Rows:
        """Those of ``rows`` whose session is one of ``sessions``."""
        kept = rows & np.isin(self.session, list(sessions))
        return Rows(self.session[kept], self.ttft[kept], self.drawn[kept], self.became[kept], self.block[kept], self.settled[kept])

    def of(self, by_session: Mapping[int, float]) -> FloatArray:
        """A figure per session, row by row."""
        return np.array([by_session[session] for session in self.session.tolist()], np.float64)

    def slope(self, values: FloatArray) -> Slope | None:
        """The slope of ``values`` by blocks."""
        return slope_between(values, self.became, self.block, self.drawn)


def injected_of(arm: Arm) -> Injected:
    """The hop's record of an arm."""
    found = load_injected(arm.observed.folder)
    if found is None:
        raise RuntimeError(f"{arm.name}: no record of the hop")
    return found


def rows(arm: Arm) -> Rows:
    """The requests of an arm."""
    requests, injected = arm.observed.requests, injected_of(arm)
    requests = requests.select(requests.measured & requests.success)
    requests = requests.select(np.argsort(requests.intended_ns, kind="stable"))
    at = rows_of(injected, requests.trace_id)
    requests, at = requests.select(at >= 0), at[at >= 0]
    block_ns = arm.observed.meta["inject"]["block_ns"]
    received, block = injected.received_ns, injected.block[at]
    received_ns = received[at]
    begun_ns = (received_ns - block * block_ns).min()
    return Rows(
        requests.session,
        ttft_ns(requests).astype(np.float64),
        injected.delay_ns[at].astype(np.float64),
        (injected.forwarded_ns - received)[at].astype(np.float64),
        block,
        (received_ns - begun_ns) % block_ns >= block_ns // 4,
    )


@dataclass(frozen=True, slots=True)
class AtGateway:
    """One request in the run without delays: when it came to the gateway, how long it waited for a place and then held it, and its TTFT."""

    arrived_ns: int
    waited_ns: int
    held_ns: int
    ttft_ns: float


def at_gateway(arm: Arm) -> dict[int, AtGateway]:
    """The gateway's own spans of a run, by session."""
    requests = arm.observed.requests
    found: dict[int, AtGateway] = {}
    ttft = ttft_ns(requests)
    for row in np.flatnonzero(requests.measured & requests.success).tolist():
        spans = {span.name: span for span in arm.spans.for_trace(str(requests.trace_id[row])) if _is_gateways(span.resource)}
        server = next((span for name, span in spans.items() if name.startswith("POST ")), None)
        queue = spans.get("gateway.queue")
        if server is not None and queue is not None:
            waited_ns = queue.end_unix_ns - queue.start_unix_ns
            held_ns = server.end_unix_ns - server.start_unix_ns - waited_ns
            found[int(requests.session[row])] = AtGateway(server.start_unix_ns, waited_ns, held_ns, float(ttft[row]))
    return found


def _is_gateways(resource: Mapping[str, Any]) -> bool:
    return str(resource.get("service.name", "")).endswith("-gateway")


def replayed(calm: Mapping[int, AtGateway], delayed: Rows, places: int) -> tuple[dict[int, float], float]:
    """By session, what a replay of the places says the delays cost: each its own, and what it waits longer; and how much of the places is used.

    Arrivals and the rest of each request's way are those of ``calm``, a run (or the record of one) without delays.
    """
    delay_ns = dict(zip(delayed.session.tolist(), delayed.became.tolist(), strict=True))
    order = sorted(calm, key=lambda session: calm[session].arrived_ns)
    arrived_ns = [calm[session].arrived_ns for session in order]
    held_ns = [calm[session].held_ns + round(delay_ns.get(session, 0.0)) for session in order]
    waited = zip(order, waits_ns(arrived_ns, held_ns, places), strict=True)
    used = sum(held_ns) / (places * (arrived_ns[-1] - arrived_ns[0])) if len(order) > 1 else np.nan
    return {session: wait_ns - calm[session].waited_ns + delay_ns.get(session, 0.0) for session, wait_ns in waited}, used


def without_delays(itself: Mapping[int, AtGateway], delayed: Rows, places: int) -> dict[int, AtGateway]:
    """The record of a delayed run with every delay taken out of the rest of its way, and with the waits that then are left."""
    delay_ns = dict(zip(delayed.session.tolist(), delayed.became.tolist(), strict=True))
    order = sorted(itself, key=lambda session: itself[session].arrived_ns)
    held_ns = [itself[session].held_ns - round(delay_ns.get(session, 0.0)) for session in order]
    waited = waits_ns([itself[session].arrived_ns for session in order], held_ns, places)
    return {
        session: replace(itself[session], waited_ns=wait_ns, held_ns=length_ns)
        for session, wait_ns, length_ns in zip(order, waited, held_ns, strict=True)
    }


def twins(calm: Mapping[int, AtGateway], delayed: Rows) -> FloatArray:
    """The TTFT each of ``delayed`` had in the run without delays: the same session, so the same start, prompt and draws."""
    return np.array([calm[session].ttft_ns for session in delayed.session.tolist()], np.float64)
