"""The causal check on runs whose physics are known: queues, held places, closed loops, longer branches."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np
import pytest
from made_requests import MS, attempt, requests

from latprof.analysis.causal.injection import Injection, analyse, reading
from latprof.analysis.quantiles import FloatArray
from latprof.client.stamps import Attempt, ErrorClass
from latprof.client.trace_ids import trace_ids
from latprof.observations.columns import IntArray
from latprof.observations.injected import Injected
from latprof.queues.holding import waits_ns
from latprof.schedule.delays import Delays, Per
from latprof.units import MISSING_NS, NS_PER_S

DELAYS = (0, 5 * MS, 20 * MS, 50 * MS)
BLOCK_NS = 5 * NS_PER_S


def traces(number: int) -> list[str]:
    return [trace_ids("00112233aabbccdd", 7, session, 0, 0)[0] for session in range(number)]


def drawn(design: Delays, arrived_ns: IntArray) -> tuple[list[str], IntArray, IntArray]:
    """Trace, block and delay of requests that came at those times, block 0 at 0."""
    block = np.asarray(arrived_ns // design.block_ns, np.int64)
    ids = traces(len(arrived_ns))
    return ids, block, np.array([design.of(trace, int(b)) for trace, b in zip(ids, block, strict=True)], np.int64)


def analysed(design: Delays, arrived_ns: IntArray, ttft: FloatArray, late_ns: IntArray | None = None) -> Injection:
    """A run of these TTFTs; the call is 30 ms longer."""
    ids, block, delay_ns = drawn(design, arrived_ns)
    attempts = [made(n, trace, int(at), round(float(took))) for n, (trace, at, took) in enumerate(zip(ids, arrived_ns, ttft, strict=True))]
    received = arrived_ns + MS
    forwarded = received + delay_ns + (0 if late_ns is None else late_ns)
    none = np.full(len(ids), MISSING_NS)
    injected = Injected(np.array(ids, object), np.array(ids, object), block, delay_ns, received, forwarded, none, none)
    return analyse(requests(*attempts), injected, design, "gateway")


def made(number: int, trace: str, at_ns: int, ttft: int) -> Attempt:
    return attempt(
        number,
        trace_id=trace,
        intended_ns=at_ns,
        first_token_ns=at_ns + ttft,
        last_token_ns=at_ns + ttft + 30 * MS,
        end_ns=at_ns + ttft + 31 * MS,
    )


def poisson(rate_per_s: float, seconds: float, seed: int) -> IntArray:
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(NS_PER_S / rate_per_s, round(rate_per_s * seconds))
    return np.cumsum(gaps).astype(np.int64)


def design(per: Per) -> Delays:
    return Delays(DELAYS, BLOCK_NS, per, 3)


def test_in_front_of_an_open_queue_every_delay_is_waited_for_once() -> None:
    """The queue behind gets the same requests, a little later: slope 1 by request and by block, at 0.8 of its capacity too."""
    plan = design("both")
    arrived = poisson(16, 400, 1)
    _, _, delay_ns = drawn(plan, arrived)
    rng = np.random.default_rng(2)
    shifted = arrived + delay_ns
    order = np.argsort(shifted, kind="stable")
    service = rng.exponential(50 * MS, len(arrived)).astype(np.int64)
    wait = np.empty(len(arrived))
    wait[order] = waits_ns(shifted[order].tolist(), service[order].tolist(), 1)
    found = analysed(plan, arrived, delay_ns + wait + service)
    assert found.ttft.per_request is not None
    assert found.ttft.per_request.holds(1.0)
    assert found.ttft.per_block is not None
    assert found.ttft.per_block.holds(1.0)
    assert (found.missed, found.failed, found.not_as_drawn) == (0, 0, 0)
    assert found.off_p99_ns == 0


def test_behind_a_held_place_what_delays_everybody_is_amplified() -> None:
    """Two places, used at about 0.75: a request loses its own delay once, and the delays of those before it as well."""
    plan = replace(design("both"), delays_ns=(0, 10 * MS, 20 * MS, 30 * MS))
    arrived = poisson(13, 700, 3)
    _, _, delay_ns = drawn(plan, arrived)
    held = np.full(len(arrived), 100 * MS) + delay_ns
    wait = np.array(waits_ns(arrived.tolist(), held.tolist(), 2))
    found = analysed(plan, arrived, (held + wait).astype(np.float64))
    own, everybody, feedback = found.ttft.per_request, found.ttft.per_block, found.ttft.feedback
    assert own is not None
    assert everybody is not None
    assert feedback is not None
    assert own.value == pytest.approx(1.0, abs=0.15)
    assert everybody.low > 1.2
    assert feedback.low > 0
    assert "amplified: a place is held" in reading(found.ttft)


def test_around_a_closed_loop_what_delays_everybody_takes_load_off() -> None:
    """Six callers, one server of 20 ms: it is always busy, so a delay of all only shortens its queue."""
    plan = design("both")
    rng = np.random.default_rng(4)
    free_ns, at = [(n, n) for n in range(6)], 0
    rows: list[tuple[int, float]] = []
    heapq.heapify(free_ns)
    ids = traces(20_000)
    pending: list[tuple[int, int, int]] = []
    server_ns = 0
    while at < 200 * NS_PER_S:
        # The next to come to the server is the one whose delay is over first.
        while free_ns:
            at, caller = heapq.heappop(free_ns)
            number = len(rows)
            rows.append((at, 0.0))
            heapq.heappush(pending, (at + plan.of(ids[number], at // BLOCK_NS), number, caller))
        ready_ns, number, caller = heapq.heappop(pending)
        server_ns = max(server_ns, ready_ns) + round(rng.exponential(20 * MS))
        rows[number] = (rows[number][0], float(server_ns - rows[number][0]))
        heapq.heappush(free_ns, (server_ns, caller))
    kept = rows[: len(rows) - 6]
    found = analysed(plan, np.array([row[0] for row in kept], np.int64), np.array([row[1] for row in kept]))
    assert found.ttft.per_block is not None
    assert found.ttft.per_block.high < 1
    assert found.ttft.per_request is not None
    assert found.ttft.per_request.value > found.ttft.per_block.value + 0.3
    assert "damped" in reading(found.ttft)


def test_beside_a_longer_branch_a_delay_is_hidden() -> None:
    plan = design("request")
    arrived = poisson(10, 200, 5)
    _, _, delay_ns = drawn(plan, arrived)
    noise = np.random.default_rng(6).normal(0, 3 * MS, len(arrived))
    found = analysed(plan, arrived, np.maximum(delay_ns + 30 * MS, 120 * MS) + noise)
    assert found.ttft.per_request is not None
    assert abs(found.ttft.per_request.value) < 0.05
    assert found.ttft.per_block is None  # nobody shared a delay
    assert reading(found.ttft).startswith("hidden: ")


def test_requests_that_tell_nothing_are_counted() -> None:
    plan = design("request")
    arrived = poisson(20, 60, 7)
    ids, block, delay_ns = drawn(plan, arrived)
    attempts = [made(n, trace, int(at), 100 * MS) for n, (trace, at) in enumerate(zip(ids, arrived, strict=True))]
    attempts[3].error_class = ErrorClass.TIMEOUT
    attempts[5].phase = "warmup"
    delay_ns[7] += 1
    took = arrived + delay_ns + 3 * MS
    kept = np.arange(len(ids)) != 9
    columns = (np.array(ids, object), np.array(ids, object), block, delay_ns, arrived, took, took, took)
    found = analyse(requests(*attempts), Injected(*(column[kept] for column in columns)), plan, "router")
    assert (found.failed, found.missed, found.not_as_drawn, found.requests) == (1, 1, 1, len(ids) - 3)
    assert found.off_p99_ns == 3 * MS
    assert found.before == "router"


def test_a_run_of_nothing_has_no_slope() -> None:
    empty = np.zeros(0, np.int64)
    texts = np.zeros(0, object)
    found = analyse(requests(), Injected(texts, texts, *(empty,) * 6), design("both"), "gateway")
    assert found.requests == 0
    assert found.ttft.per_request is None
    assert found.ttft.per_block is None
    assert reading(found.ttft) == ""


def test_shuffled_delays_have_no_slope() -> None:
    """The negative control: were the draws another's, there would be nothing to find."""
    plan = design("request")
    arrived = poisson(20, 100, 8)
    ids, block, delay_ns = drawn(plan, arrived)
    ttft = delay_ns + 80 * MS + np.random.default_rng(9).normal(0, 5 * MS, len(ids))
    attempts = [made(n, trace, int(at), round(float(took))) for n, (trace, at, took) in enumerate(zip(ids, arrived, ttft, strict=True))]
    other = np.random.default_rng(10).permutation(delay_ns)
    columns = (np.array(ids, object), np.array(ids, object), block, other, arrived, arrived + other, arrived, arrived)
    found = analyse(requests(*attempts), Injected(*columns), plan, "gateway")
    assert found.not_as_drawn > len(ids) / 2
    assert found.ttft.per_request is not None
    assert found.ttft.per_request.holds(0.0)
    assert not found.ttft.per_request.holds(1.0)
