"""The simulator against closed forms. Seeds are fixed; tolerances are those of the verification plan, sample sizes such that they hold for most seeds."""

from __future__ import annotations

import heapq
import math
import random

import numpy as np
import pytest
from virtual_queues import FloatArray, Law, mark_ns, one_turn, play, poisson, stack, thinking, waits_and_sojourns

from latprof.stub.virtual.call import VirtualPhase

EXPONENTIAL: Law = lambda rng: rng.expovariate(1.0)  # noqa: E731
CONSTANT: Law = lambda _: 1.0  # noqa: E731
# Mean 1, squared coefficient of variation 4.
SPREAD: Law = lambda rng: rng.gammavariate(0.25, 4.0)  # noqa: E731


@pytest.mark.parametrize(("load", "customers"), [(0.3, 150_000), (0.6, 300_000), (0.8, 800_000)])
def test_mm1_sojourns_are_exponential(load: float, customers: int) -> None:
    _, sojourns = waits_and_sojourns(1, load, EXPONENTIAL, customers, seed=3)
    assert sojourns.mean() == pytest.approx(1 / (1 - load), rel=0.02)
    for p in (0.5, 0.99):
        assert np.quantile(sojourns, p) == pytest.approx(-math.log(1 - p) / (1 - load), rel=0.03)


def test_md1_waits_half_as_long_as_mm1() -> None:
    load = 0.6
    waits, _ = waits_and_sojourns(1, load, CONSTANT, 300_000, seed=1)
    assert waits.mean() == pytest.approx(load / (2 * (1 - load)), rel=0.02)
    exponential, _ = waits_and_sojourns(1, load, EXPONENTIAL, 300_000, seed=3)
    assert exponential.mean() == pytest.approx(2 * waits.mean(), rel=0.03)


def test_mmc_waits_as_erlang_c_says() -> None:
    servers, load = 4, 0.7
    offered = servers * load
    queued = offered**servers / math.factorial(servers) / (1 - load)
    erlang_c = queued / (sum(offered**k / math.factorial(k) for k in range(servers)) + queued)
    waits, _ = waits_and_sojourns(servers, load, EXPONENTIAL, 400_000, seed=1)
    assert waits.mean() == pytest.approx(erlang_c / (servers * (1 - load)), rel=0.03)
    assert (waits > 0).mean() == pytest.approx(erlang_c, rel=0.03)


def test_mg1_waits_as_pollaczek_khinchine_says() -> None:
    load, cv2 = 0.5, 4
    waits, _ = waits_and_sojourns(1, load, SPREAD, 400_000, seed=1)
    assert waits.mean() == pytest.approx(load * (1 + cv2) / (2 * (1 - load)), rel=0.03)


# --- the whole stack ----------------------------------------------------------------------------------------------------------------------


def test_every_wait_in_the_stack_is_that_of_kiefer_and_wolfowitz() -> None:
    """Exactly, call by call: the station of a stack with the services its draws gave, in order of arrival."""
    servers = 3
    stub = stack(gateway={"safety": {"service": {"dist": "exponential", "mean": "50ms"}, "workers": servers}})
    calls = sorted(play(stub, VirtualPhase(poisson(50, 5_000, seed=1))).calls, key=lambda call: call.start_ns)
    services, waits = mark_ns(calls, "gateway.safety", 1), mark_ns(calls, "gateway.safety", 0)
    free_ns = [0] * servers
    for call, service_ns, wait_ns in zip(calls, services, waits, strict=True):
        began_ns = max(call.start_ns, heapq.heappop(free_ns))
        assert began_ns - call.start_ns == wait_ns
        heapq.heappush(free_ns, began_ns + int(service_ns))
    assert waits.max() > 0


def test_a_queue_in_the_stack_is_mm1() -> None:
    stub = stack(router={"route": {"service": {"dist": "exponential", "mean": "10ms"}, "workers": 1}})
    calls = play(stub, VirtualPhase(poisson(30, 40_000, seed=5))).calls
    sojourns = (mark_ns(calls, "router", 0) + mark_ns(calls, "router", 1)) / 1e7
    assert sojourns.mean() == pytest.approx(1 / 0.7, rel=0.02)
    assert np.quantile(sojourns, 0.99) == pytest.approx(math.log(100) / 0.7, rel=0.03)


def test_layers_tile_every_call() -> None:
    stub = stack(
        gateway={"safety": {"service": {"dist": "exponential", "mean": "20ms"}, "workers": 2}, "per_chunk": "1ms"},
        decode={"t1": "5ms", "slots": 8, "kv_transfer": "2ms"},
    )
    played = play(stub, VirtualPhase(poisson(30, 2_000, seed=1, output_tokens=4), max_concurrency=16))
    for call in played.calls:
        assert call.intended_ns <= call.start_ns
        assert call.start_ns + sum(call.marks) == call.first_token_ns <= call.last_token_ns
        assert min(call.marks) >= 0


# --- the closed network of an agent loop, against exact convolution ------------------------------------------------------------------------

SESSIONS = 60
DEMANDS_S = {"gateway.safety": 0.030, "router": 0.080, "kv.transfer": 6.0}
SERVERS = {"gateway.safety": 1, "router": 2, "kv.transfer": 64}
THINK_S = 1.0


def buzen(demands_s: list[float], servers: list[float], customers: int) -> tuple[float, list[float]]:
    """Throughput and mean numbers present of a closed product-form network, by Buzen's convolution; a delay has infinitely many servers.

    Station i with n customers has weight D^n / prod over j <= n of min(j, c).
    """
    scale = max(demand / min(c, customers) for demand, c in zip(demands_s, servers, strict=True))
    weights: list[FloatArray] = []
    for demand, c in zip(demands_s, servers, strict=True):
        weight = [1.0]
        for n in range(1, customers + 1):
            weight.append(weight[-1] * demand / scale / min(n, c))
        weights.append(np.array(weight))

    def together(parts: list[FloatArray]) -> FloatArray:
        whole: FloatArray = np.eye(1, customers + 1)[0]
        for part in parts:
            whole = np.convolve(whole, part)[: customers + 1]
        return whole

    g = together(weights)
    numbers = []
    for index, own in enumerate(weights):
        others = together(weights[:index] + weights[index + 1 :])
        numbers.append(float(np.arange(customers + 1) * own @ others[::-1] / g[customers]))
    return float(g[customers - 1] / g[customers] / scale), numbers


def test_buzen_is_the_closed_form_of_one_server_and_a_delay() -> None:
    """The machine repairman: Erlang's loss formula turned around."""
    x, numbers = buzen([1.0, 10.0], [1, math.inf], 5)
    r = 0.1
    p0 = 1 / sum(math.factorial(5) / math.factorial(5 - n) * r**n for n in range(6))
    assert x == pytest.approx(1 - p0)
    assert sum(numbers) == pytest.approx(5)


@pytest.mark.parametrize("speedup", [1, 2, 4, 8, 16])
def test_the_closed_loop_is_as_convolution_says(speedup: int) -> None:
    demands_s = [*DEMANDS_S.values(), THINK_S]
    demands_s[2] /= speedup
    x_per_s, numbers = buzen(demands_s, [*SERVERS.values(), math.inf], SESSIONS)
    exponential = {name: {"dist": "exponential", "mean": f"{demand * 1e3}ms"} for name, demand in DEMANDS_S.items()}
    stub = stack(
        gateway={"safety": {"service": exponential["gateway.safety"], "workers": 1}},
        router={"route": {"service": exponential["router"], "workers": 2}},
        decode={"kv_transfer": {"service": exponential["kv.transfer"], "workers": 64}},
        speedup={"kv.transfer": speedup},
    )
    count = 30_000
    lasting_ns = round(count / x_per_s * 1e9)
    calls = play(stub, VirtualPhase(thinking(THINK_S, seed=7), concurrency=SESSIONS, duration_ns=lasting_ns)).calls
    steady = [call for call in calls if lasting_ns // 20 < call.last_token_ns <= lasting_ns]
    assert len(steady) / (lasting_ns * 19 / 20 / 1e9) == pytest.approx(x_per_s, rel=0.01)
    upstream_s = sum((mark_ns(steady, name, 0)).mean() for name in ("gateway.safety", "router")) / 1e9
    wanted_s = sum(number / x_per_s - demand for number, demand in zip(numbers[:2], demands_s[:2], strict=True))
    assert upstream_s == pytest.approx(wanted_s, rel=0.05)


# --- operational laws ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["disaggregated", "colocated"])
@pytest.mark.parametrize("concurrency", [None, 12])
def test_integrals_agree_with_the_calls_to_the_nanosecond(mode: str, concurrency: int | None) -> None:
    """Little: time integral of who is there = sum of times there, between two instants at which nobody is."""
    rng = random.Random(2)
    stub = stack(
        gateway={"safety": {"service": {"dist": "lognormal", "mean": "30ms", "cv": 1}, "workers": 2}},
        prefill={"t0": "10ms", "per_token_ns": 50_000, "workers": 2},
        decode={"t1": "8ms", "per_sequence_ns": 300_000, "slots": 6, "kv_transfer": "2ms"},
        engine={"mode": mode, "replicas": 2, "token_budget": 512, "max_sequences": 6},
    )
    offsets = sorted(rng.randrange(60_000_000_000) for _ in range(800))
    sessions = [
        one_turn(i, None if concurrency else offset, rng.randrange(1, 900), rng.randrange(1, 30)) for i, offset in enumerate(offsets)
    ]
    played = play(stub, VirtualPhase(sessions, concurrency=concurrency))
    stations = played.stations[0]
    for name in ("gateway.safety", "router"):
        wait, service = (int(mark_ns(played.calls, name, part).sum()) for part in (0, 1))
        assert (stations[name].present_ns, stations[name].busy_ns) == (wait + service, service)
    decoding = sum(call.engine_last_ns - call.engine_first_ns for call in played.calls)
    firsts = [int(mark_ns(played.calls, "decode.first", part).sum()) for part in (0, 1)]
    prefill = [int(mark_ns(played.calls, "prefill", part).sum()) for part in (0, 1)]
    if mode == "colocated":
        assert stations["engine"].present_ns == sum(prefill) + sum(firsts) + decoding
        assert stations["engine"].busy_ns == prefill[1] + firsts[1] + decoding
    else:
        assert (stations["prefill"].present_ns, stations["prefill"].busy_ns) == (sum(prefill), prefill[1])
        assert (stations["decode"].present_ns, stations["decode"].busy_ns) == (sum(firsts) + decoding, firsts[1] + decoding)
    assert stations["calls"].present_ns == sum(call.last_token_ns - call.start_ns for call in played.calls)
