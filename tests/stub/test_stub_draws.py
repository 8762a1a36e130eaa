from __future__ import annotations

import statistics
from typing import Any

import pytest

from latprof.config import ServiceTime
from latprof.stub.models.draws import Key, hits, sampler, service_ns, uniform

MEAN_NS = 6_000_000


def law(**said: Any) -> ServiceTime:
    return ServiceTime.model_validate({"mean": "6ms", **said})


def sample(of: ServiceTime, n: int = 20_000) -> list[int]:
    return [service_ns(of, Key(1, session, 0), "gateway.auth") for session in range(n)]


@pytest.mark.parametrize(
    ("dist", "cv", "expected_cv"),
    [("exponential", 1.0, 1.0), ("lognormal", 0.4, 0.4), ("lognormal", 1.5, 1.5), ("gamma", 0.5, 0.5), ("gamma", 2.0, 2.0)],
)
def test_a_law_has_the_mean_and_the_cv_it_was_given(dist: str, cv: float, expected_cv: float) -> None:
    drawn = sample(law(dist=dist, cv=cv))
    mean = statistics.fmean(drawn)
    assert mean == pytest.approx(MEAN_NS, rel=0.04)
    assert statistics.pstdev(drawn) / mean == pytest.approx(expected_cv, rel=0.12)


def test_a_constant_is_constant_and_so_is_any_law_without_spread() -> None:
    for of in (law(), law(dist="lognormal", cv=0), law(dist="gamma", cv=0)):
        assert set(sample(of, 50)) == {MEAN_NS}


def test_an_empirical_law_draws_from_its_sample_evenly() -> None:
    drawn = sample(ServiceTime.model_validate({"dist": "empirical", "values": ["1ms", "2ms", "9ms"]}), 9000)
    assert {value: drawn.count(value) for value in set(drawn)} == pytest.approx(
        dict.fromkeys((10**6, 2 * 10**6, 9 * 10**6), 3000), rel=0.08
    )


def test_draws_do_not_depend_on_the_order_they_are_asked_in() -> None:
    of = law(dist="gamma", cv=0.7)
    forwards = [service_ns(of, Key(1, session, turn), layer) for session in range(5) for turn in range(3) for layer in ("a", "b")]
    backwards = [
        service_ns(of, Key(1, session, turn), layer)
        for session in reversed(range(5))
        for turn in reversed(range(3))
        for layer in ("b", "a")
    ]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == len(forwards)


@pytest.mark.parametrize("other", [Key(2, 7, 3), Key(1, 8, 3), Key(1, 7, 4), Key(1, -8, 3)])
def test_every_part_of_the_key_counts(other: Key) -> None:
    assert uniform(Key(1, 7, 3), "router") != uniform(other, "router")
    assert uniform(Key(1, 7, 3), "router") != uniform(Key(1, 7, 3), "prefill")


def test_a_share_is_hit_as_often_as_it_says() -> None:
    assert sum(hits(Key(1, session, 0), "fault.0", 0.02) for session in range(50_000)) == pytest.approx(1000, rel=0.1)
    assert not any(hits(Key(1, session, 0), "fault.0", 0.0) for session in range(100))
    assert all(hits(Key(1, session, 0), "fault.0", 1.0) for session in range(100))


def test_draws_stay_what_they_were() -> None:
    # A recorded run is replayed with these numbers; a change of the keying is a change of format.
    assert service_ns(law(dist="exponential"), Key(1, 2, 3), "router") == PINNED["exponential"]
    assert service_ns(law(dist="lognormal", cv=0.4), Key(1, 2, 3), "router") == PINNED["lognormal"]
    assert service_ns(law(dist="gamma", cv=0.4), Key(1, 2, 3), "router") == PINNED["gamma"]


PINNED = {"exponential": 4_425_525, "lognormal": 5_455_101, "gamma": 5_762_509}


@pytest.mark.parametrize(
    "said",
    [
        {"dist": "constant", "mean": "3ms"},
        {"dist": "exponential", "mean": "3ms"},
        {"dist": "lognormal", "mean": "3ms", "cv": 0.8},
        {"dist": "gamma", "mean": "3ms", "cv": 2},
        {"dist": "empirical", "values": ["1ms", "7ms"]},
    ],
)
def test_a_sampler_draws_what_is_drawn_one_by_one(said: dict[str, Any]) -> None:
    read = ServiceTime.model_validate(said)
    drawn = sampler(read, "router")
    keys = [Key(3, session, turn) for session in (0, 1, 77, -5) for turn in range(20)]
    assert [drawn(key) for key in keys] == [service_ns(read, key, "router") for key in keys]
