"""How a plan is split: every session once, every place once, and no worker without work under a cap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.client.shards import cores_needed, count_workers, phase_of, shard, shares
from latprof.schedule.plan import WARMUP_SESSION_BASE, OnDemand, Phase, Planned
from latprof.units import NS_PER_MS
from latprof.workload.sessions import Session, Turn


def session(number: int, output_tokens: int = 100) -> Session:
    return Session(number, (Turn("p", 8, output_tokens),))


def at_rate(rate_per_s: float, sessions: int = 400, output_tokens: int = 100) -> Phase:
    planned = tuple(Planned(session(n, output_tokens), round(n * 1e9 / rate_per_s)) for n in range(sessions))
    return Phase("measured", planned, "constant", rate_per_s=rate_per_s)


@given(st.integers(1, 9), st.integers(0, 40), st.sampled_from([0, 5, WARMUP_SESSION_BASE]))
def test_every_session_goes_to_one_worker_whatever_their_number(workers: int, sessions: int, first: int) -> None:
    finite = tuple(Planned(session(first + n), n * NS_PER_MS) for n in range(sessions))
    lazy = OnDemand(session, first, sessions) if sessions else finite
    for planned in (finite, lazy):
        shards = [shard(planned, worker, workers) for worker in range(workers)]
        numbers = [[one.session.session for one in mine] for mine in shards]
        assert sorted(number for mine in numbers for number in mine) == [first + n for n in range(sessions)]
        assert all(mine == sorted(mine) for mine in numbers)
        assert all(number % workers == worker for worker, mine in enumerate(numbers) for number in mine)


@given(st.integers(1, 9), st.integers(1, 100))
def test_places_are_shared_out_to_the_last(workers: int, places: int) -> None:
    closed = Phase("measured", OnDemand(session, 0, None), "closed", concurrency=places, duration_ns=1)
    mine = [phase_of(closed, worker, workers).concurrency or 0 for worker in range(workers)]
    assert sum(mine) == places
    assert max(mine) - min(mine) <= 1
    assert phase_of(at_rate(10), 0, workers).max_concurrency is None
    assert phase_of(at_rate(10), 0, workers).planned == ()


def test_the_number_of_workers_follows_the_load_the_cores_and_the_caps() -> None:
    idle, busy = at_rate(10), at_rate(2_000)
    assert count_workers(3, [idle], 2, is_local=True) == 3, "as many as were asked for"
    assert count_workers("auto", [idle], 16, is_local=False) == 1
    assert count_workers("auto", [idle, busy], 16, is_local=False) == -(-cores_needed(busy) // 0.5) > 4
    assert count_workers("auto", [busy], 4, is_local=False) == 4
    assert count_workers("auto", [busy], 4, is_local=True) == 3, "a core for the target and the receiver"
    assert count_workers("auto", [busy], 1, is_local=True) == 1
    capped = Phase("measured", OnDemand(session, 0, None), "closed", concurrency=2, duration_ns=1)
    assert count_workers(8, [idle, capped], 16, is_local=False) == 2, "nobody without a place"


@pytest.mark.parametrize(("workers", "phase", "said"), [(1, 64, ""), (2, None, ""), (2, 64, ", the places split over 2 workers")])
def test_split_places_are_told(workers: int, phase: int | None, said: str) -> None:
    capped = Phase("measured", (Planned(session(0), 0),), "poisson", rate_per_s=1.0, max_concurrency=phase)
    assert shares([capped], workers) == said
