from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from latprof.spans.clocks import TOLERANCE_NS, ClockOffset, Constraint, estimate
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_US

SKEWS_NS = [0, 2 * NS_PER_MS, -2 * NS_PER_MS, 250 * NS_PER_MS, -250 * NS_PER_MS]


def planted(clock: str, reference: str, skew_ns: int, reference_skew_ns: int, n: int, rng: np.random.Generator) -> list[Constraint]:
    """Requests with random one-way delays between two clocks that stamp ``skew_ns`` too late: the truth to find is ``-skew_ns``."""
    out_ns = 30 * NS_PER_US + rng.exponential(400 * NS_PER_US, n).astype(np.int64)
    back_ns = 30 * NS_PER_US + rng.exponential(900 * NS_PER_US, n).astype(np.int64)
    work_ns = 5 * NS_PER_MS + rng.exponential(5 * NS_PER_MS, n).astype(np.int64)
    asked = rng.integers(0, 10**12, n) + reference_skew_ns
    began = asked - reference_skew_ns + out_ns + skew_ns
    passed_on = began + work_ns
    answered = passed_on - skew_ns + back_ns + reference_skew_ns
    lows, highs = (asked - began).tolist(), (answered - passed_on).tolist()
    return [Constraint(clock, reference, low, high) for low, high in zip(lows, highs, strict=True)]


def within_bounds(found: ClockOffset, truth_ns: int) -> bool:
    return found.low_ns <= truth_ns <= found.high_ns


@given(skew_ns=st.sampled_from(SKEWS_NS), n=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_the_truth_lies_in_the_bounds_and_the_estimate_near_it(skew_ns: int, n: int, seed: int) -> None:
    found = estimate(planted("far", "client", skew_ns, 0, n, np.random.default_rng(seed)), "client")["far"]
    assert found.consistent
    assert found.requests == n
    assert within_bounds(found, -skew_ns)
    half_width_ns = (found.high_ns - found.low_ns) / 2
    if found.corrected:
        assert abs(found.offset_ns + skew_ns) <= half_width_ns + 1
    else:
        assert found.offset_ns == 0
        assert abs(skew_ns) <= found.high_ns - found.low_ns + TOLERANCE_NS


@given(
    skews_ns=st.lists(st.sampled_from(SKEWS_NS), min_size=2, max_size=5),
    reverse=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_bounds_of_a_chain_add(skews_ns: list[int], reverse: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = ["client", *(f"hop{i}" for i in range(len(skews_ns)))]
    all_skews_ns = [0, *skews_ns]
    constraints = []
    for at in range(len(skews_ns)):
        constraints += planted(names[at + 1], names[at], all_skews_ns[at + 1], all_skews_ns[at], 50, rng)
    if reverse:  # which of the two a constraint calls the reference says nothing
        constraints = [Constraint(c.reference, c.clock, -c.high_ns, -c.low_ns) for c in constraints]
    found = estimate(constraints, "client")
    assert set(found) == set(names[1:])
    widths_ns = [found[name].high_ns - found[name].low_ns for name in names[1:]]
    assert widths_ns == sorted(widths_ns)
    for name, skew_ns in zip(names[1:], skews_ns, strict=True):
        offset = found[name]
        assert offset.consistent
        assert within_bounds(offset, -skew_ns)
        assert abs(offset.offset_ns + skew_ns) <= max(offset.high_ns - offset.offset_ns, offset.offset_ns - offset.low_ns) + TOLERANCE_NS


def test_zero_inside_the_bounds_changes_nothing() -> None:
    found = estimate([Constraint("far", "client", -1 * NS_PER_MS, 90 * NS_PER_MS)], "client")
    assert found == {"far": ClockOffset("far", 0, -1 * NS_PER_MS, 90 * NS_PER_MS, 1, corrected=False, consistent=True)}


@pytest.mark.parametrize(("beyond_ns", "corrected"), [(TOLERANCE_NS, False), (TOLERANCE_NS + 1, True)])
def test_zero_may_miss_the_bounds_by_the_tolerance(beyond_ns: int, corrected: bool) -> None:
    found = estimate([Constraint("far", "client", beyond_ns, beyond_ns + 1000)], "client")["far"]
    assert found.corrected is corrected
    assert found.offset_ns == (beyond_ns + 500 if corrected else 0)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("near", "offset_ms"), [((True, True), 130), ((False, False), 130), ((True, False), 10), ((False, True), 250)])
def test_a_bound_with_work_in_it_does_not_pull_the_clock(near: tuple[bool, bool], offset_ms: int, swapped: bool) -> None:
    told = Constraint("far", "client", 10 * NS_PER_MS, 250 * NS_PER_MS, *near)
    if swapped:
        told = Constraint(told.reference, told.clock, -told.high_ns, -told.low_ns, told.high_is_near, told.low_is_near)
    found = estimate([told], "client")["far"]
    assert found.offset_ns == offset_ms * NS_PER_MS
    assert (found.low_ns, found.high_ns) == (10 * NS_PER_MS, 250 * NS_PER_MS)


def test_two_clocks_of_one_host_are_moved_together() -> None:
    constraints = [
        Constraint("gateway", "client", 249 * NS_PER_MS, 251 * NS_PER_MS),
        # Between the two zero fits, though the middle of these bounds lies 20 ms off.
        Constraint("engine", "gateway", -1 * NS_PER_MS, 41 * NS_PER_MS),
    ]
    found = estimate(constraints, "client")
    assert found["gateway"].offset_ns == found["engine"].offset_ns == 250 * NS_PER_MS
    assert (found["engine"].low_ns, found["engine"].high_ns) == (248 * NS_PER_MS, 292 * NS_PER_MS)


def test_one_lying_request_in_a_hundred_is_forgiven() -> None:
    good = planted("far", "client", -250 * NS_PER_MS, 0, 300, np.random.default_rng(1))
    liars = [Constraint("far", "client", 10**12, 2 * 10**12), Constraint("far", "client", -(10**12), -(10**11))]
    found = estimate([*good, *liars], "client")["far"]
    assert found.consistent
    assert found.corrected
    assert abs(found.offset_ns - 250 * NS_PER_MS) < NS_PER_MS


def test_a_clock_that_stepped_is_not_consistent() -> None:
    rng = np.random.default_rng(1)
    before, after = (planted("far", "client", skew_ns, 0, 50, rng) for skew_ns in (0, 100 * NS_PER_MS))
    found = estimate([*before, *after], "client")["far"]
    assert not found.consistent
    assert found.low_ns <= found.offset_ns <= found.high_ns
    assert found.offset_ns == 0  # half of the requests allow it


@pytest.mark.parametrize("count", [50, 1000])
def test_a_few_stamps_that_lie_move_no_clock(count: int) -> None:
    rng = np.random.default_rng(2)
    lying = max(1, count // 50)
    straight = planted("far", "client", 0, 0, count - lying, rng)
    found = estimate([*straight, *planted("far", "client", 500 * NS_PER_MS, 0, lying, rng)], "client")["far"]
    assert found.offset_ns == 0
    assert not found.corrected
    skewed = planted("far", "client", 250 * NS_PER_MS, 0, count - lying, rng)
    moved = estimate([*skewed, *planted("far", "client", -500 * NS_PER_MS, 0, lying, rng)], "client")["far"]
    assert moved.low_ns <= -250 * NS_PER_MS <= moved.high_ns


def test_an_inconsistent_clock_makes_those_behind_it_so() -> None:
    constraints = [
        Constraint("near", "client", 10 * NS_PER_MS, 11 * NS_PER_MS),
        Constraint("near", "client", -11 * NS_PER_MS, -10 * NS_PER_MS),
        Constraint("far", "near", -NS_PER_MS, NS_PER_MS),
    ]
    assert not estimate(constraints, "client")["far"].consistent


def test_a_clock_nobody_ties_to_the_root_is_left_alone() -> None:
    found = estimate([Constraint("b", "a", 5, 6)], "client")
    assert found["a"] == ClockOffset("a", 0, MISSING_NS, MISSING_NS, 1, corrected=False, consistent=False)
    assert set(found) == {"a", "b"}
    assert estimate([], "client") == {}


def test_several_ways_to_a_clock_are_intersected() -> None:
    constraints = [
        Constraint("a", "client", 100, 200),
        Constraint("b", "client", -NS_PER_MS, 150 * NS_PER_MS),
        Constraint("b", "a", 90 * NS_PER_MS, 95 * NS_PER_MS),
    ]
    found = estimate(constraints, "client")["b"]
    assert (found.low_ns, found.high_ns) == (90 * NS_PER_MS + 100, 95 * NS_PER_MS + 200)


@given(skews_ns=st.lists(st.sampled_from(SKEWS_NS), min_size=3, max_size=3), seed=st.integers(0, 2**32))
@example(skews_ns=[2 * NS_PER_MS, 2 * NS_PER_MS, 0], seed=136010)  # a neighbour's offset fits the neighbour, not the client
def test_honest_stamps_never_contradict_each_other_in_a_mesh(skews_ns: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    skew_of = dict(zip(["client", "a", "b", "c"], [0, *skews_ns], strict=True))
    pairs = [("a", "client"), ("b", "client"), ("b", "a"), ("c", "a"), ("c", "b")]
    constraints = [c for clock, of in pairs for c in planted(clock, of, skew_of[clock], skew_of[of], 3, rng)]
    for name, offset in estimate(constraints, "client").items():
        assert offset.consistent
        assert within_bounds(offset, -skew_of[name])
        assert offset.low_ns - TOLERANCE_NS <= offset.offset_ns <= offset.high_ns + TOLERANCE_NS


@given(
    st.lists(
        st.builds(
            Constraint,
            st.sampled_from("abcd"),
            st.sampled_from("abcd"),
            st.integers(-(2**63), 2**63),
            st.integers(-(2**63), 2**63),
        )
    )
)
def test_whatever_the_stamps_say_there_is_an_answer(constraints: list[Constraint]) -> None:
    found = estimate(constraints, "a")
    assert set(found) | {"a"} >= {c.clock for c in constraints if c.clock != c.reference}
    assert all(clock.corrected == (clock.offset_ns != 0) for clock in found.values())
