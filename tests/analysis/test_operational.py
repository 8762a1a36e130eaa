"""Bounds that nothing can break, and what says so when a run seems to."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from made_requests import MS, attempt, layers, requests
from made_stack import MEAN_MS, SERVERS, stack

from latprof.analysis.sweeps.operational import Loop, Station, bounds, doubts_of, is_at, station_of, stations, think_ns
from latprof.units import NS_PER_S


def test_the_utilisation_law() -> None:
    call = stack({}, rate_per_s=30.0)
    at = {station.name: station for station in stations(call, SERVERS, 30.0)}
    assert list(at) == list(MEAN_MS)  # path order
    for name, station in at.items():
        assert station.utilisation == pytest.approx(30.0 * MEAN_MS[name] / 1000 / SERVERS[name], rel=0.06)
        assert station.is_exact
    assert at["prefill"].capacity_per_s == pytest.approx(50.0, rel=0.06)


def test_queues_and_first_iterations_belong_to_their_stations() -> None:
    assert station_of("engine.queue") == "prefill"
    assert is_at("decode.first", "decode")
    assert is_at("gateway.auth", "gateway")
    assert not is_at("prefill", "decode")
    assert not is_at("decode+stream", "decode")
    total_ns = np.array([[3, 20, 5, 100]]) * MS
    wait_ns = np.array([[3, 0, 2, 0]]) * MS
    call = layers(total_ns, ("engine.queue", "prefill", "decode.first", "decode"), wait_ns=wait_ns, service_ns=total_ns - wait_ns)
    prefill, decode = stations(call, {"prefill": 2, "decode": 4}, 10.0)
    assert (prefill.demand_ns, prefill.wait_ns) == (20 * MS, 3 * MS)
    assert (decode.demand_ns, decode.wait_ns) == (103 * MS, 2 * MS)


def test_what_was_not_told_apart_is_no_proof() -> None:
    total_ns = np.array([[200]]) * MS
    unsplit = layers(total_ns, ("prefill",), service_ns=np.zeros_like(total_ns))
    (station,) = stations(unsplit, {"prefill": 1}, 10.0)
    assert station.utilisation == pytest.approx(2.0)
    assert not station.is_exact
    assert bounds((station,), unsplit, 10.0, Loop("open")).broken == ()
    merged = layers(np.array([[200, 300]]) * MS, ("prefill", "decode.first+prefill"))
    assert not stations(merged, {"prefill": 1}, 1.0)[0].is_exact
    half = layers(np.array([[200, 0], [0, 300]]) * MS, ("prefill", "net+server"))
    assert not stations(half, {"prefill": 1}, 1.0)[0].is_exact  # it may be as busy again with those that do not tell of it


def test_the_lowest_capacity_bounds_an_open_loop() -> None:
    call = stack({})
    found = bounds(stations(call, SERVERS, 30.0), call, 30.0, Loop("open"))
    assert found.by == "decode"
    assert found.capacity_per_s == pytest.approx(40.0, rel=0.06)
    assert math.isnan(found.population_per_s)
    assert found.broken == ()


def test_the_population_bounds_a_closed_loop() -> None:
    """N / (D + Z), D without its waits."""
    call = layers(
        np.array([[150, 850]]) * MS, ("prefill", "decode"), wait_ns=np.array([[50, 0]]) * MS, service_ns=np.array([[100, 850]]) * MS
    )
    loop = Loop("closed", 10.0, 50 * MS)
    at = stations(call, {"prefill": 1, "decode": 64}, 9.0)
    found = bounds(at, call, 9.0, loop)
    assert found.population_per_s == pytest.approx(10.0)
    assert found.broken == ()
    assert bounds(at, call, 10.05, loop).broken == ()  # rounding
    (told,) = bounds(at, call, 10.2, loop).broken
    assert told == "10.2/s is more than 10 in the loop can ask for, 10/s"
    # Time that nobody told apart may be waiting: it must not tighten the bound.
    untold = dataclasses.replace(call, service_ns=np.array([[100, 0]]) * MS)
    assert bounds(at, untold, 10.2, loop).broken == ()


def test_a_broken_bound_is_a_fatal_doubt_and_too_much_load_a_warning() -> None:
    call = stack({})
    at = stations(call, {**SERVERS, "decode": 8}, 30.0)  # half the servers it had
    found = bounds(at, call, 30.0, Loop("open"))
    (broken, *_) = doubts_of(found, at, 30.0)
    assert (broken.id, broken.level) == ("operational_bound", "fatal")
    assert "decode would be 149 % busy on 8 servers" in broken.text
    sound = stations(call, SERVERS, 30.0)
    (overload,) = doubts_of(bounds(sound, call, 30.0, Loop("open")), sound, 60.0)
    assert (overload.id, overload.level) == ("overload", "warning")
    assert "decode serves at most" in overload.text
    assert list(doubts_of(bounds(sound, call, 30.0, Loop("open")), sound, math.nan)) == []


def test_think_time_is_what_lies_between_the_turns_of_a_session() -> None:
    def turn(request: int, session: int, number: int, intended_ms: int, end_ms: int) -> object:
        return dataclasses.replace(attempt(request), session=session, turn=number, intended_ns=intended_ms * MS, end_ns=end_ms * MS)

    chain = requests(turn(0, 0, 0, 0, 100), turn(1, 0, 1, 160, 200), turn(2, 1, 0, 0, 50), turn(3, 2, 0, 50, 80))  # type: ignore[arg-type]
    assert think_ns(chain) == pytest.approx(60 * MS / 4)
    parallel = requests(turn(0, 0, 0, 0, 100), turn(1, 0, 1, 50, 200))  # type: ignore[arg-type]
    assert math.isnan(think_ns(parallel))
    assert math.isnan(bounds((), stack({}, n=50), 1.0, Loop("closed", 4.0, math.nan)).population_per_s)


def test_a_station_without_work_has_no_bound() -> None:
    assert math.isinf(Station("router", 4, 0.0, 0.0).capacity_per_s)
    assert Station("prefill", 2, 10 * MS, 0.0).capacity_per_s == pytest.approx(2 * NS_PER_S / (10 * MS))
