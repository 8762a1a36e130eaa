from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.queues.batch import BatchMachine
from latprof.queues.courses import TOOL, Course, Session, Step, alone
from latprof.queues.path import ABSENT, Lockstep, Slots, Stack, Station
from latprof.queues.replay import Replayed, replay
from latprof.queues.sharing import SharingMachine

MANY = 1 << 20


def stack_of(*stations: Station, decode_ns: Sequence[int] | None = None, gate: int | None = None, slots: int = MANY) -> Stack:
    """These stations with nothing between them; decode takes ``decode_ns`` after a first token that prefill made."""
    n = len(stations[0].service_ns) if stations else len(decode_ns or ())
    none = [0] * n
    pool = Slots(slots, none, decode_ns or none, makes_first=False)
    return Stack(stations, pool, none, none, none, none, none, none, gate)


def station(servers: int, service_ns: Sequence[int], delay_ns: int = 0) -> Station:
    return Station(servers, [delay_ns] * len(service_ns), service_ns)


def singles(*starts_ns: int) -> list[Session]:
    return [alone(start_ns, job) for job, start_ns in enumerate(starts_ns)]


def test_first_come_first_served_by_hand() -> None:
    out = replay(stack_of(station(1, [10, 10, 10], delay_ns=1), station(2, [30, 5, 5])), singles(0, 2, 40))
    assert out.waits_ns == [[0, 8, 0], [0, 0, 0]]
    assert out.first_here_ns == [41, 26, 56]


def test_whoever_does_not_pass_a_station_waits_for_nobody_there() -> None:
    out = replay(stack_of(station(1, [100, ABSENT, 1])), singles(0, 1, 2))
    assert out.waits_ns == [[0, 0, 98]]
    assert out.first_here_ns[1] == 1


JOBS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 80)), min_size=1, max_size=40)


@given(JOBS, st.integers(1, 4))
def test_every_wait_follows_lindley_and_no_server_idles_before_a_queue(jobs: list[tuple[int, int]], servers: int) -> None:
    starts = np.cumsum([gap for gap, _ in jobs]).tolist()
    service = [service_ns for _, service_ns in jobs]
    out = replay(stack_of(station(servers, service)), singles(*starts))
    begun = [start + wait for start, wait in zip(starts, out.waits_ns[0], strict=True)]
    assert begun == sorted(begun)
    for job, at_ns in enumerate(begun):
        inside = sum(begun[other] <= at_ns < begun[other] + service[other] for other in range(job))
        assert inside < servers
        if out.waits_ns[0][job]:
            before = sum(begun[other] <= at_ns - 1 < begun[other] + service[other] for other in range(job))
            assert before == servers


@pytest.mark.slow
def test_the_mean_wait_of_mm2_is_erlangs() -> None:
    n, rng = 200_000, np.random.default_rng(1)
    starts = np.cumsum(rng.exponential(1e6 / 1.4, n)).astype(np.int64)
    service = rng.exponential(1e6, n).astype(np.int64)
    waits = np.array(replay(stack_of(station(2, service.tolist())), singles(*starts.tolist())).waits_ns[0])
    # C(2, 0.7) / (2 mu (1 - rho)) with C = 2 rho^2 / (1 + rho)
    assert waits.mean() == pytest.approx(2 * 0.7**2 / 1.7 / (2 * 0.3) * 1e6, rel=0.03)


def test_a_gate_lets_so_many_in_until_their_end() -> None:
    out = replay(stack_of(station(9, [10, 10, 10]), decode_ns=[5, 5, 5], gate=1), singles(0, 1, 2))
    assert out.gate_wait_ns == [0, 14, 28]
    assert out.last_here_ns == [15, 30, 45]


def test_a_place_takes_the_next_session_when_it_is_free() -> None:
    out = replay(stack_of(station(1, [10, 20, 30])), singles(7, 8, 9), places=2)
    assert out.due_ns == [7, 7, 17]
    assert out.waits_ns == [[0, 10, 20]]


def test_sessions_are_taken_again_until_the_time_is_over() -> None:
    out = replay(stack_of(station(1, [10, 20])), singles(0, 0), places=1, until_ns=65, again=True)
    assert list(zip(out.job, out.due_ns, strict=True)) == [(0, 0), (1, 10), (0, 30), (1, 40), (0, 60)]
    with pytest.raises(ValueError, match="a time at which it ends"):
        replay(stack_of(station(1, [10])), singles(0), places=1, again=True)


def test_turns_come_after_their_turns_and_tools() -> None:
    steps = (
        Step(0),
        Step(TOOL, (0,), 100),
        Step(TOOL, (0,), 40),
        Step(1, (1, 2), 5),
        Step(2, (0,), 0, not_before_ns=300),
        Step(TOOL, (3,), 9),
    )
    out = replay(stack_of(station(9, [10, 10, 10])), [Session(1000, steps)])
    assert dict(zip(out.job, out.due_ns, strict=True)) == {0: 1000, 1: 1115, 2: 1300}
    assert out.sessions == [(0, 1000, 1310)]


def test_a_course_waits_for_all_that_it_comes_after() -> None:
    course = Course(Session(0, (Step(0), Step(1), Step(2, (0, 1)))), 0)
    assert course.due() == [(0, 0), (1, 0)]
    course.ended(0, 5)
    assert course.due() == []
    course.ended(1, 3)
    assert (course.due(), course.open) == ([(2, 5)], 1)


def test_decode_in_lockstep_is_the_batch_machine() -> None:
    starts, tokens = [0, 500, 2500, 2600, 9000], [4, 1, 9, 3, 2]
    none = [0] * 5
    pool = Lockstep(1000.0, 10.0, 2, tokens, none, makes_first=True)
    out = replay(replace(stack_of(station(9, none)), pool=pool, back_ns=[7] * 5, stream_ns=[3] * 5), singles(*starts))
    machine: BatchMachine[int] = BatchMachine(1000.0, 10.0, 2)
    ends: dict[int, int] = {}
    for job, start_ns in enumerate(starts):
        ends |= {told.job: told.at_ns for told in machine.advance(start_ns - 1) if told.kind == "ended"}
        machine.arrive(start_ns, job, tokens[job])
    ends |= {told.job: told.at_ns for told in machine.advance(10**9) if told.kind == "ended"}
    assert out.last_ns == [ends[job] for job in range(5)]
    assert out.last_here_ns == [max(last_ns, first_ns + 7) + 3 for last_ns, first_ns in zip(out.last_ns, out.first_ns, strict=True)]


def test_after_a_first_token_that_prefill_made_nobody_waits_for_a_boundary() -> None:
    none = [0] * 3
    pool = Lockstep(1000.0, 100.0, 2, [3, 2, 0], none, makes_first=False)
    out = replay(replace(stack_of(station(9, none)), pool=pool), singles(0, 550, 600))
    # Alone for half an iteration of 1100; then 2 of 1200 for the second one, which ends first; then half an iteration alone.
    assert out.last_ns == [550 + 2400 + 550, 550 + 2400, 600]
    assert out.first_ns == [0, 550, 600]


SHARED = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 9)), min_size=1, max_size=20)


@given(SHARED, st.integers(1, 3))
def test_sharing_ends_everybody_once_and_never_faster_than_alone(jobs: list[tuple[int, int]], slots: int) -> None:
    starts = np.cumsum([gap for gap, _ in jobs]).tolist()
    machine: SharingMachine[int] = SharingMachine(1000.0, 100.0, slots)
    ended = []
    for job, (_, tokens) in enumerate(jobs):
        ended += machine.advance(starts[job])
        machine.arrive(starts[job], job, tokens)
    ended += machine.advance(10**9)
    assert sorted(out.job for out in ended) == list(range(len(jobs)))
    assert [out.at_ns for out in ended] == sorted(out.at_ns for out in ended)
    for out in ended:
        assert out.admitted_ns >= starts[out.job]
        length_ns = out.at_ns - out.admitted_ns
        assert 1100 * jobs[out.job][1] - 20 <= length_ns <= (1000 + 100 * slots) * jobs[out.job][1] + 20
    assert machine.next_ns is None


def test_a_slot_is_kept_from_admission_to_the_last_token() -> None:
    none = [0, 0]
    pool = Slots(1, [10, 10], [20, 20], makes_first=True)
    out = replay(replace(stack_of(station(9, none)), pool=pool), singles(0, 5))
    assert (out.admitted_ns, out.first_ns, out.last_ns) == ([0, 30], [10, 40], [30, 60])


def test_a_replay_repeats_to_the_bit() -> None:
    rng = np.random.default_rng(5)
    service = rng.integers(0, 50, 300).tolist()
    sessions = [Session(0, tuple(Step(3 * number + turn, (turn - 1,) if turn else (), 10) for turn in range(3))) for number in range(100)]

    def once() -> Replayed:
        return replay(stack_of(station(2, service), decode_ns=service, slots=3), sessions, places=7)

    assert once() == once()


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one server"):
        replay(stack_of(station(0, [1])), singles(0))
    with pytest.raises(ValueError, match="needs a place and a session"):
        replay(stack_of(station(1, [1])), [], places=1)
