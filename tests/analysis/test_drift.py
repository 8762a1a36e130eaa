from __future__ import annotations

import math

import numpy as np
from made_requests import m_m_1

from latprof.analysis.validity.drift import drift


def test_a_steady_run_raises_nothing_even_under_load() -> None:
    draws = np.random.default_rng(1)
    for utilisation in (0.3, 0.5, 0.8):
        apart = [drift(m_m_1(utilisation, 3_000, draws)[1_000:]).standard_errors for _ in range(100)]
        assert np.mean(np.abs(apart) > 3) <= 0.03


def test_a_step_a_climb_and_an_overload_are_seen() -> None:
    draws = np.random.default_rng(2)
    noise = draws.lognormal(6, 0.2, 2_000)
    assert drift(noise * np.repeat([1.0, 1.3], 1_000)).standard_errors > 3
    assert drift(noise * np.linspace(1, 2, 2_000)).standard_errors > 3
    assert drift(noise * np.linspace(2, 1, 2_000)).standard_errors < -3
    assert drift(m_m_1(1.5, 2_000, draws)).standard_errors > 3


def test_it_says_by_how_much() -> None:
    found = drift(np.repeat([100, 150], 200))
    assert (found.first_ns, found.second_ns, found.share) == (100, 150, 0.5)


def test_too_few_requests_say_nothing() -> None:
    assert math.isnan(drift(np.arange(199)).standard_errors)
    assert drift(np.full(400, 7)).standard_errors == 0
