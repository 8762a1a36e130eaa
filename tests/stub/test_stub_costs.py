"""Iteration costs against formulas written out by hand, and what an experimenter finds who fits them (V21)."""

from __future__ import annotations

import random

import numpy as np
import pytest

from latprof.config import Stub
from latprof.stub.filling import filled
from latprof.stub.models.costs import KV_UNITS, TICKS_PER_NS, Coefficients, costs, kv_transfer_ns
from latprof.stub.models.engine import Engine, Job, Limits
from latprof.stub.models.engines import costs_of, limits_of

MS = 1e6
DENSE = Coefficients(
    t0_ns=5e6,
    per_token_ns=36_000,
    per_pair_ns=1.2,
    t1_ns=2e6,
    per_sequence_ns=1000,
    per_stream_ns=36_000,
    weights_ns=7.4e6,
    kv_token_ns=60,
    comm_ns=0.1e6,
)


def ns(ticks: int) -> float:
    return ticks / TICKS_PER_NS


def test_a_decode_step_by_hand() -> None:
    # 40 streams of 1000 tokens read 7.4 ms of weights and 2.4 ms of KV; their FLOPs take 1.44 ms and hide behind it.
    memory, compute = costs(DENSE).decode(40, 40_000 * KV_UNITS)
    assert ns(memory) == pytest.approx(2e6 + 0.1e6 + 40_000 + 7.4e6 + 2.4e6)
    assert ns(compute) == pytest.approx(2e6 + 0.1e6 + 40_000 + 1.44e6)
    # 400 streams of 10 tokens are bound by compute.
    memory, compute = costs(DENSE).decode(400, 4_000 * KV_UNITS)
    assert ns(compute) - ns(memory) == pytest.approx(14.4e6 - 7.4e6 - 0.24e6)


def test_a_prompt_alone_and_with_decodes_by_hand() -> None:
    own = costs(DENSE)
    flops = 36_000 * 500 + 1.2 * (2000 * 500 + 500**2 / 2)
    alone = own.mixed(0, 0, 500, 2 * 2000 * 500 + 500**2, 2000)
    assert ns(alone) == pytest.approx(5e6 + 0.1e6 + flops)
    # The decodes' FLOPs join the prompt's; their bytes hide behind both.
    merged = own.mixed(10, 30_000 * KV_UNITS, 500, 2 * 2000 * 500 + 500**2, 2000)
    assert ns(merged) == pytest.approx(5e6 + 0.1e6 + 10_000 + flops + 360_000)
    # One new token on 400 000 cached: reading the context is what takes the time.
    lookup = own.mixed(0, 0, 1, 2 * 400_000 + 1, 400_000)
    assert ns(lookup) == pytest.approx(5e6 + 0.1e6 + 7.4e6 + 60 * 400_000)


def test_chunks_cost_as_much_as_the_whole_but_for_their_starts() -> None:
    own = costs(Coefficients(t0_ns=5e6, per_token_ns=36_000, per_pair_ns=1.2, t1_ns=2e6))
    whole = own.mixed(0, 0, 700, 700**2, 0)
    parts = own.mixed(0, 0, 500, 500**2, 0) + own.mixed(0, 0, 200, 2 * 500 * 200 + 200**2, 500)
    assert parts - whole == own.prefill_start


def test_speedups_divide_their_own_part_only() -> None:
    plain, fast = costs(DENSE), costs(DENSE, decode_speedup=4)
    assert [ns(side) for side in fast.decode(40, 4 << 20)] == pytest.approx([ns(side) / 4 for side in plain.decode(40, 4 << 20)])
    assert fast.mixed(0, 0, 500, 500**2, 0) == plain.mixed(0, 0, 500, 500**2, 0)
    quick = costs(DENSE, prefill_speedup=2)
    assert ns(quick.mixed(0, 0, 500, 500**2, 0)) == pytest.approx(ns(plain.mixed(0, 0, 500, 500**2, 0)) / 2)
    assert quick.decode(40, 4 << 20) == plain.decode(40, 4 << 20)


def test_experts_are_read_as_far_as_tokens_touch_them() -> None:
    own = costs(Coefficients(t0_ns=0, per_token_ns=0, per_pair_ns=0, t1_ns=0, experts_ns=64e6, experts_missed=1 - 4 / 128))
    assert ns(own.decode(1, 0)[0]) == pytest.approx(64e6 * 4 / 128)
    assert ns(own.decode(32, 0)[0]) == pytest.approx(64e6 * (1 - (124 / 128) ** 32))
    assert ns(own.mixed(1, 0, 2000, 0, 0)) == pytest.approx(64e6)


def test_a_transfer_waits_for_what_outlasts_the_prefill() -> None:
    assert kv_transfer_ns(1000, 3000.0) == 3_000_000
    assert kv_transfer_ns(1000, 3000.0, overlap_layers=30, prefill_ns=1_000_000) == 2_000_000
    assert kv_transfer_ns(1000, 3000.0, overlap_layers=30, prefill_ns=9_000_000) == 100_000


# --- V21: what a sweep of new and cached tokens tells ------------------------------------------------------------------------------------


def prefill_times(stub: Stub, news: list[int], cached: list[int]) -> list[tuple[int, int, float]]:
    """(n, m, ns) as seen from outside: a prompt is computed, then the same with n more tokens, of which m come from the cache."""
    seen = []
    block_tokens = stub.prefill.cache_block_tokens
    for m in cached:
        for n in news:
            engine: Engine[str] = Engine(costs_of(stub), limits_of(stub))
            blocks = tuple(range((m + n) // block_tokens))
            engine.arrive(0, Job("first", m + 1, blocks[: m // block_tokens], 1))
            now_ns = max(one.at_ns for one in drain(engine))
            engine.arrive(now_ns, Job("again", m + n, blocks, 1))
            told = {one.kind: one for one in drain(engine)}
            assert told["prefilled"].cached_tokens == m
            seen.append((n, m, told["prefilled"].at_ns - told["begun"].at_ns))
    return seen


def drain(engine: Engine[str]) -> list:  # type: ignore[type-arg]
    happened = []
    while engine.next_ns is not None:
        happened += engine.advance(engine.next_ns)
    return happened


def fitted(seen: list[tuple[int, int, float]]) -> list[float]:
    """a, b, c, e of a + b*n + c*n^2 + e*m*n, by least squares on relative errors."""
    n, m, t = (np.array(column, dtype=float) for column in zip(*seen, strict=True))
    terms = np.stack([np.ones_like(n), n, n * n, m * n], axis=1) / t[:, None]
    solution, *_ = np.linalg.lstsq(terms, np.ones_like(t), rcond=None)
    return list(map(float, solution))


NEWS, CACHED = [600, 1500, 4000, 9000, 20_000, 40_000], [0, 1280, 12_800, 128_000, 384_000]


@pytest.mark.parametrize(
    "said",
    [
        {"prefill": {"t0": "30ms", "per_token_ns": 200_000, "per_token_pair_ns": 0.5, "cache_blocks": 10_000}},
        {"engine": {"hardware": "H100", "model": "llama-3-8b", "overhead": "20ms"}, "prefill": {"cache_blocks": 10_000}},
    ],
    ids=["coefficients", "roofline"],
)
def test_v21_a_sweep_recovers_the_prefill_coefficients(said: dict[str, dict[str, object]]) -> None:
    engine = {"mode": "colocated", "token_budget": 1_000_000, "kv_tokens": 10_000_000, **said.get("engine", {})}
    stub = Stub.model_validate({**said, "engine": engine})
    noise = random.Random(21)
    seen = [(n, m, t * noise.uniform(0.995, 1.005)) for n, m, t in prefill_times(stub, NEWS, CACHED)]
    known = filled(stub).prefill
    planted = [known.t0_ns, known.per_token_ns, known.per_token_pair_ns / 2, known.per_token_pair_ns]
    assert fitted(seen) == pytest.approx(planted, rel=0.05)
    # A model without the cached-context term is wrong where agents live: by more than 40 % at 600 new tokens on 384 000.
    n, m, t = max(seen, key=lambda one: one[1] / one[0])
    assert planted[0] + planted[1] * n + planted[2] * n * n < 0.6 * t, (n, m)


def test_limits_come_from_the_memory_that_weights_leave() -> None:
    stub = Stub.model_validate({"engine": {"mode": "colocated", "hardware": "H100", "model": "llama-3-8b"}})
    # 0.9 * 80 GB - 16.06 GB of weights at 128 KiB a token.
    assert limits_of(stub).kv_blocks == int((0.9 * 80e9 - 2 * 8.03e9) / 131_072) // 128
    assert limits_of(Stub.model_validate({"engine": {"mode": "colocated", "kv_blocks": 7}})).kv_blocks == 7


@pytest.mark.parametrize(("budget", "most"), [(8, 9), (8, 0)])
def test_limits_that_could_never_go_on_are_refused(budget: int, most: int) -> None:
    with pytest.raises(ValueError, match="max_sequences must be from 1 to the token budget of 8"):
        Engine(costs(DENSE), Limits(budget, most))
