"""Traced integers: sums and comparisons hold for whoever goes the same way, and what cannot be followed is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.layers.traced import Guards, Named, Traced, Unread, Untraceable, form_of, settled, summed, traced


def traced_all(values: list[int], guards: Guards) -> list[Traced]:
    return [traced(value, ((column, 1),), guards) for column, value in enumerate(values)]


def computed(numbers: list[int]) -> tuple[int, ...]:
    """As a partition computes: sorted, cut, the greatest, the difference, by cases."""
    ordered = sorted(numbers)
    a, b, c = numbers
    cut = min(max(a, b - 3), c)
    rest = abs(c - a) + 2 * b
    return ordered[0], ordered[-1] - ordered[0], cut, rest, sum(n for n in numbers if n > 0), a if a in (b, c) else -b, 10 - c


@given(st.lists(st.tuples(*[st.integers(-9, 9)] * 3), min_size=1, max_size=30))
def test_what_is_said_of_one_holds_for_all_that_go_its_way(requests: list[tuple[int, int, int]]) -> None:
    columns = np.array(requests, np.int64).T
    guards = Guards()
    said = computed(list(traced_all(list(requests[0]), guards)))
    assert tuple(int(summed(form_of(one), columns, np.array([0]))[()].item()) if form_of(one) else 0 for one in said) == computed(
        list(requests[0])
    )
    same = guards.hold(columns, np.arange(len(requests)))
    assert 0 in same
    for row in same.tolist():
        assert settled(said, columns[:, row]) == computed(list(requests[row]))


def test_another_way_is_told_apart() -> None:
    guards = Guards()
    a, b = traced_all([7, 5], guards)
    assert max(a, b) == 7
    assert guards.hold(np.array([[7, 1, 9], [5, 3, 9]]), np.arange(3)).tolist() == [0]


A = traced(7, ((0, 1),), Guards())
REFUSED: dict[str, Callable[[], object]] = {
    "int": lambda: int(A),
    "float": lambda: float(A),
    "a quotient": lambda: A / 2,
    "a floor": lambda: A // 2,
    "a product": lambda: A * A,
    "a fraction beside it": lambda: A < 1.5,
    "a key": lambda: {A: 1},
    "a text": lambda: f"{A}",
    "rounding": lambda: round(A),
    "bits": lambda: A & 1,
    "looking at a text": lambda: Unread("x") == "x",
    "part of a text": lambda: "x" in Unread("xy"),
    "an empty text": lambda: bool(Unread("")),
    "a lower text": lambda: Unread("x").lower(),
    "a number in a text": lambda: float(Unread("1.5").strip()),
    "an order of names": lambda: Named("a") < Named("b"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_followed_is_refused(what: str) -> None:
    with pytest.raises(Untraceable):
        REFUSED[what]()


def test_names_are_told_apart() -> None:
    assert Named("a") == Named("a") != Named("b")
    assert {Named("a"): 1}[Named("a")] == 1
    assert Named("a")
    assert not Named("")


@dataclass(frozen=True)
class Said:
    lengths: dict[str, int]
    parts: list[tuple[str, int]]


def test_settling_reaches_into_collections() -> None:
    a, b = traced_all([7, 5], Guards())
    said = Said({"x": a - b}, [("y", a + 1), ("z", 4)])
    assert settled(said, np.array([20, 6])) == Said({"x": 14}, [("y", 21), ("z", 4)])
