from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from latprof.report.rounding import rounded_to_sum

VALUES = st.lists(st.floats(0, 1e6, allow_nan=False), max_size=30)


@given(VALUES, st.sampled_from([1.0, 0.01, 10.0]))
def test_rounded_values_sum_to_the_rounded_sum_and_none_is_off_by_a_unit(values: list[float], unit: float) -> None:
    found = rounded_to_sum(values, unit)
    assert sum(found) == round(math.fsum(value / unit for value in values))
    assert all(abs(whole - value / unit) < 1 + 1e-9 for whole, value in zip(found, values, strict=True))
    assert all(whole >= 0 for whole in found)


@given(VALUES.filter(bool))
def test_a_total_from_elsewhere_is_met_and_nothing_turns_negative(values: list[float]) -> None:
    total = math.floor(math.fsum(values))
    found = rounded_to_sum(values, 1.0, total)
    assert sum(found) == total
    assert all(whole >= 0 for whole in found)


def test_the_largest_remainder_goes_up() -> None:
    assert rounded_to_sum([0.4, 0.4, 1.2], 1.0) == [1, 0, 1]
