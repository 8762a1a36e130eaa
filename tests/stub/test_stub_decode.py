from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.config import Decode
from latprof.queues.events import EventHeap
from latprof.stub.models.decode import Boundary, DecodePool, Iteration, Token

T1, PER_SEQUENCE = 1000, 10


def pool_of(slots: int) -> DecodePool[int]:
    return DecodePool(Decode.model_validate({"slots": slots, "t1": f"{T1}ns", "per_sequence_ns": PER_SEQUENCE}))


class Play:
    """Runs a pool in virtual time; every token with its time, and the largest number of slots taken."""

    def __init__(self, slots: int, arrivals: list[tuple[int, int, int]]) -> None:
        self.pool = pool_of(slots)
        self.tokens: defaultdict[int, list[tuple[int, Token[int]]]] = defaultdict(list)
        self.arrived_ns: list[int] = []
        self.most_running = 0
        self._heap: EventHeap[tuple[str, int]] = EventHeap()
        self._sizes = [(tokens, extra_ns) for _, tokens, extra_ns in arrivals]
        now_ns = 0
        for job, (gap_ns, _, _) in enumerate(arrivals):
            now_ns += gap_ns
            self.arrived_ns.append(now_ns)
            self._heap.push(now_ns, ("arrive", job))
        while self._heap:
            self._step()

    def _step(self) -> None:
        now_ns, (what, job) = self._heap.pop()
        if what == "arrive":
            self._next(self.pool.arrive(now_ns, job, *self._sizes[job]))
        elif what == "release":
            token, iteration = self.pool.release(now_ns, job)
            assert token is not None
            self.tokens[job].append((now_ns, token))
            self._next(iteration)
        else:
            boundary: Boundary[int] = self.pool.boundary(now_ns)
            for token in boundary.tokens:
                self.tokens[token.job].append((now_ns, token))
            for held in boundary.held:
                self._heap.push(held.due_ns, ("release", held.job))
            self._next(boundary.next)
        self.most_running = max(self.most_running, self.pool.running)

    def _next(self, iteration: Iteration | None) -> None:
        if iteration is not None:
            assert iteration.ends_ns - iteration.started_ns == T1 + PER_SEQUENCE * iteration.batch
            self._heap.push(iteration.ends_ns, ("boundary", -1))


ARRIVALS = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 6), st.sampled_from([0, 0, 0, 2500])), min_size=1, max_size=20)


@given(st.integers(1, 4), ARRIVALS)
def test_every_stream_gets_its_tokens_once_in_order_and_after_it_came(slots: int, arrivals: list[tuple[int, int, int]]) -> None:
    play = Play(slots, arrivals)
    for job, (_, tokens, extra_ns) in enumerate(arrivals):
        out = play.tokens[job]
        assert [token.nth for _, token in out] == list(range(tokens))
        assert [token.last for _, token in out] == [False] * (tokens - 1) + [True]
        times = [at_ns for at_ns, _ in out]
        assert times == sorted(set(times))
        assert play.arrived_ns[job] <= out[0][1].admitted_ns
        assert times[0] - out[0][1].admitted_ns >= T1 + PER_SEQUENCE + extra_ns
    assert play.most_running <= slots
    assert (play.pool.running, play.pool.waiting) == (0, 0)


@given(st.integers(1, 4), ARRIVALS)
def test_streams_are_admitted_in_the_order_they_came(slots: int, arrivals: list[tuple[int, int, int]]) -> None:
    play = Play(slots, arrivals)
    admitted = [play.tokens[job][0][1].admitted_ns for job in range(len(arrivals))]
    assert admitted == sorted(admitted)


@given(ARRIVALS)
def test_the_same_arrivals_give_the_same_tokens(arrivals: list[tuple[int, int, int]]) -> None:
    assert Play(2, arrivals).tokens == Play(2, arrivals).tokens


def test_an_idle_pool_begins_at_once_and_a_busy_one_at_its_boundary() -> None:
    pool = pool_of(4)
    assert pool.arrive(100, 1, 2) == Iteration(100, 1110, 1)
    assert pool.arrive(200, 2, 1) is None
    boundary = pool.boundary(1115)  # 5 ns late: the next iteration begins now, not when it was planned to
    assert boundary.tokens == (Token(1, 0, last=False, admitted_ns=100),)
    assert boundary.next == Iteration(1115, 1115 + T1 + 2 * PER_SEQUENCE, 2)
    assert pool.boundary(3000).tokens == (Token(1, 1, last=True, admitted_ns=100), Token(2, 0, last=True, admitted_ns=1115))


def test_a_full_pool_makes_the_next_wait_for_a_slot() -> None:
    pool = pool_of(1)
    pool.arrive(0, 1, 2)
    pool.arrive(1, 2, 1)
    assert pool.boundary(1010).next == Iteration(1010, 2020, 1)
    boundary = pool.boundary(2020)
    assert boundary.next is not None
    assert pool.boundary(3030).tokens == (Token(2, 0, last=True, admitted_ns=2020),)


def test_a_planted_first_token_delays_nobody_else() -> None:
    arrivals = [(0, 5, 0), (10, 5, 0)]
    plain = Play(4, arrivals)
    planted = Play(4, [arrivals[0], (10, 5, 40_000)])
    first_ns = [play.tokens[1][0][0] for play in (plain, planted)]
    assert first_ns[1] - first_ns[0] == 40_000
    assert planted.tokens[0][-1][0] <= plain.tokens[0][-1][0]


def test_a_speedup_divides_every_iteration() -> None:
    fast: DecodePool[int] = DecodePool(Decode.model_validate({"t1": "1000ns", "per_sequence_ns": 10}), speedup=2)
    assert fast.arrive(0, 1, 1) == Iteration(0, 505, 1)


def test_who_leaves_gives_the_slot_back() -> None:
    pool = pool_of(1)
    pool.arrive(0, 1, 100)
    pool.arrive(1, 2, 1)
    pool.arrive(2, 3, 1)
    pool.leave(1)
    pool.leave(2)
    pool.leave(99)
    assert pool.boundary(1010) == Boundary((), (), Iteration(1010, 2020, 1))
    assert pool.boundary(2020).tokens[0].job == 3
    pool.arrive(3000, 4, 2, 500)
    pool.boundary(4000)
    pool.leave(4)
    assert pool.release(4500, 4) == (None, None)
    assert pool.running == 0


def test_misuse_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        pool_of(1).arrive(0, 1, 0)
    with pytest.raises(RuntimeError, match="without an iteration"):
        pool_of(1).boundary(0)
