from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.stub.models.balance import Balancer
from latprof.stub.models.draws import Key


def key(session: int) -> Key:
    return Key(1, session, 0)


def test_round_robin_takes_turns_whatever_is_under_way() -> None:
    balancer = Balancer("round_robin", 3)
    picks = []
    for session in range(7):
        picks.append(balancer.pick(0, (), key(session)))
        balancer.begun(0)
    assert picks == [0, 1, 2, 0, 1, 2, 0]


@given(st.integers(1, 6), st.lists(st.integers(0, 9), max_size=60))
def test_least_outstanding_picks_a_replica_with_the_fewest(replicas: int, moves: list[int]) -> None:
    balancer = Balancer("least_outstanding", replicas)
    under_way: list[int] = []
    for move in moves:
        if move < 6 or not under_way:
            picked = balancer.pick(0, (), key(0))
            counts = Counter(under_way)
            assert counts[picked] == min(counts[replica] for replica in range(replicas))
            balancer.begun(picked)
            under_way.append(picked)
        else:
            balancer.ended(under_way.pop(move % len(under_way)))
    assert balancer.outstanding == [under_way.count(replica) for replica in range(replicas)]


def test_ties_go_round() -> None:
    balancer = Balancer("least_outstanding", 4)
    picks = []
    for _ in range(8):
        picks.append(balancer.pick(0, (), key(0)))
        balancer.begun(picks[-1])
        balancer.ended(picks[-1])
    assert picks == [0, 1, 2, 3, 0, 1, 2, 3]


def test_power_of_two_draws_by_key_and_takes_the_less_busy() -> None:
    idle = Balancer("power_of_two", 8)
    drawn = [idle.pick(0, (), key(session)) for session in range(4000)]
    assert [Balancer("power_of_two", 8).pick(0, (), key(session)) for session in range(4000)] == drawn
    assert all(count == pytest.approx(500, rel=0.15) for count in Counter(drawn).values())
    busy = Balancer("power_of_two", 8)
    busy.begun(3)
    # The busy one is taken only if both draws were it, which cannot be: two different ones are drawn.
    assert 3 not in {busy.pick(0, (), key(session)) for session in range(500)}


def test_power_of_two_is_far_more_even_than_one_draw() -> None:
    balancer, alone = Balancer("power_of_two", 64), Counter[int]()
    for session in range(6400):
        alone[Balancer("power_of_two", 64).pick(0, (), key(session))] += 1
        balancer.begun(balancer.pick(0, (), key(session)))
    assert max(balancer.outstanding) <= 100 + 5
    assert max(alone.values()) >= 100 + 15


def test_a_prefix_goes_where_it_went_and_the_longest_counts() -> None:
    balancer = Balancer("prefix_affinity", 4, slack=8)
    first = balancer.pick(0, (1, 2), key(0))
    balancer.begun(first)
    other = balancer.pick(0, (9,), key(1))
    balancer.begun(other)
    assert other != first
    assert balancer.pick(0, (1, 2, 3), key(2)) == first
    assert balancer.pick(0, (9, 10), key(3)) == other
    assert balancer.pick(0, (1, 7, 8), key(4)) == first


def test_a_prefix_counts_no_more_when_its_replica_is_too_busy() -> None:
    balancer = Balancer("prefix_affinity", 2, slack=2)
    home = balancer.pick(0, (1,), key(0))
    for _ in range(2):
        balancer.begun(home)
    assert balancer.pick(0, (1, 2), key(1)) == home
    balancer.begun(home)
    moved = balancer.pick(0, (1, 2), key(2))
    assert moved != home
    # It lives there from now on.
    balancer.ended(home)
    assert balancer.pick(0, (1, 2), key(3)) == moved


def test_what_is_known_of_prefixes_is_bounded_and_forgets_tails_first() -> None:
    balancer = Balancer("prefix_affinity", 3, index_blocks=3)
    home = balancer.pick(0, (1, 2), key(0))
    balancer.begun(home)
    balancer.begun(balancer.pick(0, (5, 6), key(1)))
    assert balancer.pick(0, (1, 2), key(2)) == home


def test_a_single_replica_is_always_it_and_misuse_is_an_error() -> None:
    assert Balancer("power_of_two", 1).pick(0, (1,), key(0)) == 0
    with pytest.raises(ValueError, match="at least one replica"):
        Balancer("round_robin", 0)
    with pytest.raises(RuntimeError, match="no request that could end"):
        Balancer("round_robin", 1).ended(0)
