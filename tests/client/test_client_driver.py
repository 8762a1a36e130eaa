"""The driver: what goes when, and what becomes of it when the run ends early."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from scripted_peer import ANSWER, CHUNKED, RUN_ID, TWO, Do, chunk, client, plain, scripted

from latprof.client.answer import Answer
from latprof.client.driver import Counters, Driven, Rules, drive
from latprof.client.feed import feed_of
from latprof.client.health import HealthSampler, collector_off
from latprof.client.http1 import ResponseReader
from latprof.client.places import Places
from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.client.transport import Ask, HttpTransport, Transport, ask_for
from latprof.schedule.plan import OnDemand, Phase, Planned
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S
from latprof.workload.sessions import NO_ANSWERS, Answers, Session, Turn, chain

RULES = Rules(RUN_ID, seed=1, timeout_ns=5 * NS_PER_S, drain_ns=50 * NS_PER_MS)
# A busy test machine may wake a task this late; the tests below tell apart things at least twice as far from each other.
SLACK_NS = 60 * NS_PER_MS


def session(number: int, turns: int = 1, think_ns: int = 0) -> Session:
    return chain(number, tuple(Turn(f"prompt {number}.{index}", 8, 4, think_ns if index else 0, answer="") for index in range(turns)))


def open_loop(offsets_ms: Sequence[float], *, turns: int = 1, think_ms: int = 0, **more: Any) -> Phase:
    planned = tuple(
        Planned(session(index, turns, think_ms * NS_PER_MS), round(offset * NS_PER_MS)) for index, offset in enumerate(offsets_ms)
    )
    return Phase("measured", planned, "poisson", rate_per_s=50.0, **more)


def closed_loop(sessions: int, concurrency: int, **more: Any) -> Phase:
    planned = tuple(Planned(session(index), None) for index in range(sessions))
    return Phase("measured", planned, "closed", concurrency=concurrency, **more)


def encode(session: Session, step: int, answers: Answers = NO_ANSWERS) -> Ask:  # noqa: ARG001
    return ask_for(session, step, (json.dumps({"prompt": session.turns[step].prompt}).encode(),))


class Answering:
    """A transport that takes ``service_ms`` per request and answers with an error where told."""

    def __init__(self, service_ms: float = 10, errors: Sequence[ErrorClass] = ()) -> None:
        self.service_s = service_ms / 1000
        self.errors = itertools.chain(errors, itertools.repeat(ErrorClass.NONE))
        self.asks: list[Ask] = []
        self.in_flight = 0
        self.most_in_flight = 0

    async def send(self, ask: Ask, attempt: Attempt, chunks: ChunkLog) -> str:  # noqa: ARG002
        self.asks.append(ask)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        attempt.send_ns = time.monotonic_ns()
        try:
            await asyncio.sleep(self.service_s)
        finally:
            self.in_flight -= 1
        attempt.error_class = next(self.errors)
        attempt.output_tokens = 4
        attempt.end_ns = time.monotonic_ns()
        return ""


async def driven(
    phase: Phase, transport: Transport, rules: Rules = RULES, *, stop_after: int | None = None, **more: Any
) -> tuple[Driven, list[Attempt], Counters]:
    """Drive and collect; ``stop_after`` sets ``stop`` once that many attempts have begun."""
    begun: list[Attempt] = []
    ended: list[Attempt] = []
    counters = Counters()
    if stop_after is not None:
        more["stop"] = stop = asyncio.Event()

    def on_begin(attempt: Attempt) -> None:
        begun.append(attempt)
        if len(begun) == stop_after:
            asyncio.get_running_loop().call_later(0.005, stop.set)

    result = await drive(
        phase,
        transport,
        feed_of(phase, encode),
        encode,
        ChunkLog(),
        rules,
        on_begin=on_begin,
        on_end=ended.append,
        counters=counters,
        **more,
    )
    assert sorted(a.request for a in begun) == sorted(a.request for a in ended), "every attempt begun has an end"
    assert all(a.end_ns != MISSING_NS for a in ended)
    return result, begun, counters


async def drive_all(phase: Phase, transport: HttpTransport, log: ChunkLog, **more: Any) -> Driven:
    encoder = transport.encoder()
    return await drive(phase, transport, feed_of(phase, encoder), encoder, log, RULES, **more)


async def test_intended_starts_are_the_plan_to_the_nanosecond() -> None:
    offsets = [0, 3.000001, 7.5, 7.5, 40.123456]
    result, attempts, counters = await driven(open_loop(offsets), Answering())
    assert [a.intended_ns - result.start_ns for a in attempts] == [round(offset * NS_PER_MS) for offset in offsets]
    assert [a.session for a in attempts] == [0, 1, 2, 3, 4]
    assert all(abs(a.ready_ns - a.intended_ns) < SLACK_NS for a in attempts)
    assert all(a.start_ns == a.ready_ns for a in attempts)
    assert not result.interrupted
    assert (counters.sent, counters.done, counters.failed, counters.in_flight, counters.tokens) == (5, 5, 0, 0, 20)


async def test_requests_are_numbered_across_phases_and_workers() -> None:
    first, attempts, _ = await driven(open_loop([0, 1]), Answering(), numbers=(10, 1))
    second, more, _ = await driven(open_loop([0]), Answering(), numbers=(first.next_request, 1))
    assert [a.request for a in (*attempts, *more)] == [10, 11, 12]
    assert second.next_request == 13
    third, others, _ = await driven(open_loop([0, 1, 2]), Answering(), numbers=(1, 4))
    assert [a.request for a in others] == [1, 5, 9]
    assert third.next_request == 13


async def test_a_turn_has_the_same_trace_whoever_sends_it() -> None:
    _, attempts, _ = await driven(open_loop([0, 1], turns=2), Answering())
    _, again, _ = await driven(open_loop([0, 1], turns=2), Answering(), numbers=(3, 7))
    ids = {(a.session, a.turn): a.trace_id for a in attempts}
    assert ids == {(a.session, a.turn): a.trace_id for a in again}
    assert len(set(ids.values())) == 4
    assert all(trace_id.startswith(RUN_ID) for trace_id in ids.values())


async def test_the_wait_for_a_place_is_first_come_first_served_and_counted() -> None:
    transport = Answering(service_ms=20)
    _, attempts, _ = await driven(open_loop([0, 1, 2, 3, 4, 5], max_concurrency=2), transport)
    assert transport.most_in_flight == 2
    starts = [a.start_ns for a in attempts]
    assert starts == sorted(starts)
    assert [a.session for a in attempts] == list(range(6))
    assert all(a.start_ns >= attempts[i].end_ns for i, a in enumerate(attempts[2:]))
    assert attempts[5].start_ns - attempts[5].ready_ns > 20 * NS_PER_MS


async def test_a_stalled_server_does_not_move_the_intended_starts() -> None:
    result, attempts, _ = await driven(open_loop(range(0, 50, 5), max_concurrency=1), Answering(service_ms=20))
    assert [a.intended_ns - result.start_ns for a in attempts] == [offset * NS_PER_MS for offset in range(0, 50, 5)]
    assert attempts[-1].end_ns - attempts[-1].intended_ns > 150 * NS_PER_MS
    assert attempts[-1].end_ns - attempts[-1].send_ns < 20 * NS_PER_MS + SLACK_NS


async def test_further_turns_follow_the_end_of_the_one_before_after_thinking() -> None:
    _, attempts, _ = await driven(open_loop([0], turns=3, think_ms=15), Answering())
    assert [(a.turn, a.session) for a in attempts] == [(0, 0), (1, 0), (2, 0)]
    for before, after in itertools.pairwise(attempts):
        assert after.intended_ns == before.end_ns + 15 * NS_PER_MS
        assert after.ready_ns >= after.intended_ns - NS_PER_MS


async def test_a_failed_turn_ends_its_session() -> None:
    _, attempts, counters = await driven(open_loop([0], turns=3), Answering(errors=[ErrorClass.NONE, ErrorClass.TIMEOUT]))
    assert [a.turn for a in attempts] == [0, 1]
    assert (counters.done, counters.failed, counters.last_error) == (1, 1, "timeout")


async def test_closed_loop_keeps_its_places_busy() -> None:
    transport = Answering(service_ms=5)
    result, attempts, _ = await driven(closed_loop(sessions=12, concurrency=3), transport)
    assert (len(attempts), transport.most_in_flight) == (12, 3)
    assert [a.intended_ns for a in attempts[:3]] == [result.start_ns] * 3
    ends = {a.end_ns for a in attempts}
    assert all(a.intended_ns in ends for a in attempts[3:]), "intended is when the place became free"
    assert len({a.intended_ns for a in attempts[3:]}) == 9


async def test_a_closed_loop_that_only_time_ends_makes_its_sessions_when_they_are_asked_for() -> None:
    made: list[int] = []

    def noted(number: int) -> Session:
        made.append(number)
        return session(number)

    phase = Phase("measured", OnDemand(noted, 0, None), "closed", concurrency=2, duration_ns=60 * NS_PER_MS)
    _, attempts, _ = await driven(phase, Answering(service_ms=5))
    assert 2 <= len(attempts) <= len(made) <= len(attempts) + 2


async def test_closed_loop_ends_with_its_duration() -> None:
    result, attempts, _ = await driven(closed_loop(sessions=2_000, concurrency=2, duration_ns=60 * NS_PER_MS), Answering(service_ms=5))
    assert 2 <= len(attempts) <= 40
    assert all(a.intended_ns - result.start_ns < 60 * NS_PER_MS for a in attempts)
    assert all(a.succeeded for a in attempts)


async def test_no_turn_begins_after_the_phase_is_over() -> None:
    phase = open_loop([0, 1], turns=50, think_ms=10, duration_ns=60 * NS_PER_MS)
    result, attempts, _ = await driven(phase, Answering(service_ms=1))
    assert 2 < len(attempts) < 50
    assert all(a.intended_ns - result.start_ns < 60 * NS_PER_MS for a in attempts)


async def test_waiting_for_a_place_ends_a_request_timeout_after_the_phase() -> None:
    rules = Rules(RUN_ID, seed=1, timeout_ns=40 * NS_PER_MS, drain_ns=0)
    phase = open_loop([0, 1], max_concurrency=1, duration_ns=10 * NS_PER_MS)
    result, attempts, counters = await driven(phase, Answering(service_ms=60_000), rules)
    assert result.end_ns - result.start_ns < 50 * NS_PER_MS + 10 * SLACK_NS
    assert [a.error_class for a in attempts] == [ErrorClass.INTERRUPTED] * 2
    assert not result.interrupted
    assert counters.in_flight == 0


async def test_stop_sends_nothing_more_and_lets_what_is_in_flight_finish() -> None:
    phase = open_loop([0, 1, 2, 5_000], max_concurrency=2)
    transport = Answering(service_ms=200)
    result, attempts, counters = await driven(phase, transport, Rules(RUN_ID, 1, NS_PER_S, drain_ns=3 * NS_PER_S), stop_after=3)
    assert result.interrupted
    assert result.end_ns - result.start_ns < 3 * NS_PER_S
    assert [a.error_class for a in attempts] == ["", "", ErrorClass.INTERRUPTED]
    assert (attempts[2].start_ns, attempts[2].send_ns) == (MISSING_NS, MISSING_NS)
    assert (len(transport.asks), counters.sent, counters.in_flight) == (2, 2, 0)


async def test_stop_cuts_what_is_in_flight_after_the_drain() -> None:
    stop = asyncio.Event()
    log = ChunkLog()
    ended: list[Attempt] = []
    async with scripted([CHUNKED, chunk(TWO), Do.HANG]) as peer, client(peer.url) as transport:
        asyncio.get_running_loop().call_soon(_set_when, stop, lambda: len(log.at_ns) == 2)
        result = await drive_all(open_loop([0, 1]), transport, log, on_end=ended.append, stop=stop)
    assert result.interrupted
    assert [a.error_class for a in ended] == [ErrorClass.INTERRUPTED] * 2
    assert all(a.first_token_ns != MISSING_NS and a.output_tokens == 1 for a in ended)


def _set_when(stop: asyncio.Event, condition: Callable[[], bool]) -> None:
    if condition():
        stop.set()
    else:
        asyncio.get_running_loop().call_later(0.002, _set_when, stop, condition)


async def test_a_stop_set_before_the_start_sends_nothing() -> None:
    stop = asyncio.Event()
    stop.set()
    transport = Answering()
    result, _, _ = await driven(open_loop([20, 30]), transport, stop=stop)
    assert result.interrupted
    assert transport.asks == []


async def test_retries_are_attempts_of_the_same_turn() -> None:
    rules = Rules(RUN_ID, 1, NS_PER_S, retries=2, retry_wait_ns=5 * NS_PER_MS)
    _, attempts, counters = await driven(open_loop([0]), Answering(errors=[ErrorClass.SERVER, ErrorClass.RATE_LIMITED]), rules)
    assert [(a.attempt, a.error_class) for a in attempts] == [(0, "server"), (1, "rate_limited"), (2, "")]
    assert len({a.intended_ns for a in attempts}) == 1
    assert len({a.request for a in attempts}) == len({a.trace_id for a in attempts}) == 3
    assert attempts[2].ready_ns - attempts[1].end_ns >= 9 * NS_PER_MS
    assert (counters.done, counters.failed) == (1, 2)


@pytest.mark.parametrize("error_class", [ErrorClass.AUTH, ErrorClass.TIMEOUT, ErrorClass.TRUNCATED])
async def test_other_failures_are_not_retried(error_class: ErrorClass) -> None:
    _, attempts, _ = await driven(open_loop([0]), Answering(errors=[error_class]), Rules(RUN_ID, 1, NS_PER_S, retries=2))
    assert len(attempts) == 1


async def test_retries_are_off_by_default() -> None:
    _, attempts, _ = await driven(open_loop([0]), Answering(errors=[ErrorClass.SERVER]))
    assert len(attempts) == 1


async def test_a_fault_of_our_own_is_raised_not_swallowed() -> None:
    class Broken:
        async def send(self, ask: Ask, attempt: Attempt, chunks: ChunkLog) -> str:  # noqa: ARG002
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await driven(open_loop([0, 10_000]), Broken())


async def test_cancelling_the_drive_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    task = asyncio.create_task(driven(open_loop([0, 10_000]), Answering(service_ms=60_000)))
    await asyncio.sleep(0.03)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    assert gc.isenabled()


async def test_the_phase_over_a_real_server() -> None:
    log = ChunkLog()
    attempts: list[Attempt] = []
    async with scripted(ANSWER, plain("500 Oops", b"trace"), ANSWER) as peer, client(peer.url) as transport:
        await drive_all(open_loop(range(0, 40, 4)), transport, log, on_end=attempts.append)
        assert [b"tracestate: latprof=%d.0" % a.session in r for a, r in zip(attempts, peer.requests, strict=True)] == [True] * 10
    assert [a.error_class for a in attempts].count(ErrorClass.SERVER) == 1
    assert sum(a.succeeded for a in attempts) == 9
    assert len(log.at_ns) == 9 * 6


def test_places_are_handed_over_in_order() -> None:
    async def run() -> None:
        now = itertools.count(100)
        places = Places(1, lambda: next(now))
        assert places.try_take()
        assert not places.try_take()
        waiting = [asyncio.create_task(places.take()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
        places.give_back()
        assert await waiting[0] == 100
        places.give_back()
        waiting[2].cancel()  # in the same turn of the loop as it is handed the place
        await asyncio.sleep(0)
        assert places.try_take(), "a place handed to one who left is free again"
        places.give_back()

    asyncio.run(run())


async def test_nothing_is_left_to_the_collector_which_is_off_meanwhile() -> None:
    gc.collect()
    gc.disable()
    try:
        async with scripted(ANSWER, [Do.CLOSE], plain("500 Oops", b"trace"), ANSWER) as peer, client(peer.url) as transport:
            await drive_all(open_loop(range(20)), transport, ChunkLog())
        left = [thing for thing in gc.get_objects() if isinstance(thing, ResponseReader | Answer | Attempt)]
    finally:
        gc.enable()
    assert left == []


async def test_health_sees_a_blocked_loop_and_its_cpu() -> None:
    began_ns = time.monotonic_ns()
    with HealthSampler() as sampler:
        await asyncio.sleep(0.001)
        # A busy machine may take the processor away all the while: what was used counts, not what passed.
        end_ns, used_ns = time.monotonic_ns() + 120 * NS_PER_MS, time.process_time_ns() + 60 * NS_PER_MS
        while time.monotonic_ns() < end_ns or time.process_time_ns() < used_ns:
            pass
        await asyncio.sleep(0.06)
    health = sampler.health()
    passed_ns = time.monotonic_ns() - began_ns
    assert health.loop_lag_max_ns > 80 * NS_PER_MS
    assert health.loop_lag_p50_ns <= health.loop_lag_p99_ns <= health.loop_lag_max_ns
    assert health.cpu_share * passed_ns > 50 * NS_PER_MS
    assert health.involuntary_switches >= 0


async def test_health_of_a_phase_shorter_than_a_tick_is_missing_not_zero() -> None:
    with HealthSampler() as sampler:
        health = sampler.health()
    assert health.loop_lag_p99_ns == MISSING_NS


@pytest.mark.parametrize("restore", [gc.enable, gc.disable])
def test_the_collector_is_left_as_it_was(restore: Callable[[], None]) -> None:
    restore()
    was = gc.isenabled()
    try:
        with collector_off():
            assert not gc.isenabled()
        assert gc.isenabled() is was
    finally:
        gc.enable()
