"""Three bottlenecks that need not be one, and rankings that hang on too little to be published."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_stack import SERVERS, stack

from latprof.analysis.contributions import Contributions, contributions_as
from latprof.analysis.sweeps.bottlenecks import Leader, Share, elasticities, erlang_c, find, leader, queued_share, shares, wait_growth
from latprof.analysis.sweeps.operational import Station, stations
from latprof.layers.table import Layers


def told(call: Layers, servers: dict[str, int], rate_per_s: float) -> tuple[tuple[Station, ...], Contributions, dict[str, Share]]:
    at = stations(call, servers, rate_per_s)
    column = contributions_as(call, 0.5, "mean")
    by_station = shares(call.names, column, at)
    return at, column, by_station


@pytest.mark.parametrize(("servers", "utilisation", "known"), [(1, 0.7, 0.7), (2, 0.5, 1 / 3), (3, 2 / 3, 0.4444), (100, 0.5, 0.0)])
def test_erlang_c(servers: int, utilisation: float, known: float) -> None:
    assert erlang_c(servers, utilisation) == pytest.approx(known, abs=1e-4)


@pytest.mark.parametrize("utilisation", [0.3, 0.7, 0.9])
def test_one_server_s_wait_grows_as_theory_says(utilisation: float) -> None:
    assert wait_growth(1, utilisation) == pytest.approx(1 / (1 - utilisation), rel=1e-4)


@pytest.mark.parametrize("utilisation", [0.3, 0.7, 0.85])
def test_the_leverage_of_m_m_1_is_one_over_what_is_idle(utilisation: float) -> None:
    """1.43, 3.33, 6.67: the exact elasticity of the mean response."""
    service, wait = 1e8, 1e8 * utilisation / (1 - utilisation)
    station = Station("prefill", 1, service, utilisation, wait)
    total, waited, served = (np.array([value]) for value in (service + wait, wait, service))
    only = Contributions(0.5, "mean", service + wait, total, waited, served, 10.0)
    found = elasticities(shares(("prefill",), only, (station,)), only, (station,))
    assert found["prefill"] == pytest.approx(1 / (1 - utilisation), rel=1e-3)


def test_the_estimate_is_what_running_again_finds() -> None:
    """d ln mean / d ln S of every station against runs 5 % longer and shorter, same draws."""
    call = stack({}, rate_per_s=30.0, n=60_000)
    at, column, by_station = told(call, SERVERS, 30.0)
    estimated = elasticities(by_station, column, at)
    for name in SERVERS:
        longer, shorter = (stack({name: 1 / times}, rate_per_s=30.0, n=60_000).total_ns.sum(axis=1).mean() for times in (1.05, 0.95))
        assert estimated[name] == pytest.approx(math.log(longer / shorter) / math.log(1.05 / 0.95), rel=0.15, abs=0.02)


def test_a_wait_that_no_queue_explains_grows_only_in_step() -> None:
    """The time to the next iteration: 64 slots nearly empty do not queue."""
    idle = Station("decode", 64, 4e8, 0.02, wait_ns=7e6)
    assert queued_share(idle) < 1e-6
    busy = Station("prefill", 1, 1e8, 0.8, wait_ns=4e8)
    assert queued_share(busy) == pytest.approx(1.0)


def test_a_thousand_idle_servers_are_no_error() -> None:
    assert wait_growth(1_000, 0.001) == pytest.approx(1_000)
    assert wait_growth(64, 0.02) == pytest.approx(63, rel=0.05)


def test_three_bottlenecks_that_differ() -> None:
    """Decode is the largest; the gateway is by far the busiest, and a per cent less there saves most."""
    servers = {"gateway.safety": 1, "prefill": 30, "decode": 200}
    mean_ms = {"gateway.safety": 27.0, "prefill": 60.0, "decode": 400.0}
    call = stack({}, n=20_000, rate_per_s=33.0, servers=servers, mean_ms=mean_ms)
    at, column, by_station = told(call, servers, 33.0)
    found = find(by_station, at, elasticities(by_station, column, at))
    assert found.budget is not None
    assert found.budget.names[0] == "decode"
    assert found.capacity is not None
    assert found.capacity.names == ("gateway.safety",)
    assert found.capacity.value == pytest.approx(0.89, rel=0.05)
    assert found.leverage is not None
    assert found.leverage.names[0] == "gateway.safety"
    assert found.differ


def test_where_one_layer_is_all_three_they_agree() -> None:
    servers = {"gateway.safety": 50, "prefill": 50, "decode": 14}
    call = stack({}, n=5_000, rate_per_s=25.0, servers=servers)
    at, column, by_station = told(call, servers, 25.0)
    found = find(by_station, at, elasticities(by_station, column, at))
    assert {bottleneck.names for bottleneck in (found.budget, found.capacity, found.leverage) if bottleneck is not None} == {("decode",)}
    assert not found.differ


def test_a_ranking_that_20_per_cent_could_turn_is_a_tie() -> None:
    alike = {"a": 100.0, "b": 90.0, "c": 30.0}
    assert leader(alike, alike) == Leader(("a", "b"), 100.0)  # 100 less 20 is less than 90 and 18 more
    clear = {"a": 100.0, "b": 60.0}
    assert leader(clear, clear) == Leader(("a",), 100.0)
    # A layer whose wait would answer strongly is not sure of its place, however large it is.
    assert leader(clear, {"a": 300.0, "b": 60.0}) == Leader(("a", "b"), 100.0)
    assert leader({"a": 0.0}, {"a": 0.0}) is None
    assert leader({"a": math.nan, "b": 1.0}, {"a": 1.0, "b": 1.0}) == Leader(("b",), 1.0)


def test_without_a_leverage_the_other_two_stand() -> None:
    call = stack({})
    at, _, by_station = told(call, SERVERS, 30.0)
    found = find(by_station, at, {})
    assert found.leverage is None
    assert found.budget is not None
