from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_requests import layers, m_m_1

from latprof.analysis.contributions import columns, contributions, mean_contributions
from latprof.analysis.quantiles import hd_quantile, tail_mean
from latprof.layers.table import IntArray

TABLES = st.integers(1, 6).flatmap(
    lambda width: st.integers(1, 300).flatmap(lambda n: arrays(np.int64, (n, width), elements=st.integers(0, 10**11)))
)


@settings(max_examples=60)
@given(TABLES, st.sampled_from([0.5, 0.9, 0.99]))
def test_contributions_add_up_to_what_the_column_says(total_ns: IntArray, p: float) -> None:
    found = contributions(layers(total_ns), p)
    metric_ns = total_ns.sum(axis=1)
    expected = {"percentile": hd_quantile(metric_ns, p), "tail mean": tail_mean(metric_ns), "mean": metric_ns.mean()}[found.kind]
    assert found.total_ns.sum() == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert found.value_ns == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert (found.total_ns >= 0).all()


@settings(max_examples=40)
@given(arrays(np.int64, (120, 3), elements=st.integers(0, 5)), st.randoms(use_true_random=False))
def test_the_order_of_tied_requests_does_not_matter(total_ns: IntArray, random: object) -> None:
    shuffled = total_ns[np.random.default_rng(hash(random) % 2**32).permutation(len(total_ns))]
    assert contributions(layers(total_ns), 0.5).total_ns == pytest.approx(contributions(layers(shuffled), 0.5).total_ns, abs=1e-12)


def test_wait_and_service_are_weighted_alike() -> None:
    total_ns = np.random.default_rng(1).integers(1, 10**9, (1_000, 3))
    wait_ns = total_ns // 3
    found = contributions(layers(total_ns, wait_ns=wait_ns, service_ns=total_ns - wait_ns), 0.9)
    assert found.wait_ns + found.service_ns == pytest.approx(found.total_ns, rel=1e-12)


def test_too_few_requests_give_a_tail_mean_and_say_so() -> None:
    table = layers(np.random.default_rng(2).integers(1, 10**9, (500, 2)))
    assert [column.kind for column in columns(table)] == ["percentile", "percentile", "tail mean"]
    few = layers(table.total_ns[:12])
    assert [column.kind for column in columns(few)] == ["mean", "tail mean"]  # one tail mean for p90 and p99


def test_requests_that_depend_on_each_other_count_less() -> None:
    queued = m_m_1(0.7, 3_000, np.random.default_rng(3))
    total_ns = (queued * 1e6).astype(np.int64)[:, None]
    intended_ns = np.arange(3_000)
    assert contributions(layers(total_ns), 0.99, intended_ns).kind == "tail mean"
    # The same requests in an order that hides their company: the reason why the intended start is asked for.
    shuffled = np.random.default_rng(4).permutation(3_000)
    assert contributions(layers(total_ns[shuffled]), 0.99).kind == "percentile"
    assert contributions(layers(total_ns[shuffled]), 0.99, intended_ns[shuffled]).kind == "tail mean"


def test_no_request_is_an_error_that_says_so() -> None:
    with pytest.raises(ValueError, match="at least one request"):
        contributions(layers(np.zeros((0, 2), np.int64)), 0.5)


def test_the_mean_column_is_the_layers_means() -> None:
    total_ns = np.random.default_rng(5).integers(1, 10**9, (77, 3))
    assert mean_contributions(layers(total_ns)).total_ns == pytest.approx(total_ns.mean(axis=0))


# --- why Harrell-Davis: four layers, one with a stall, against 1.5 million draws ----------------------------------------------------------

FloatArray = npt.NDArray[np.float64]


def _stack(n: int, draws: np.random.Generator) -> IntArray:
    """Tokenizer, gateway (2 % stall for 150 ms), prefill, decode; ns."""
    tokenizer = draws.gamma(4, 2.5, n)
    gateway = draws.lognormal(np.log(18), 0.3, n) + np.where(draws.random(n) < 0.02, 150.0, 0.0)
    prefill = draws.lognormal(np.log(400), 0.35, n)
    decode = draws.exponential(15, n) + 5
    return np.rint(np.stack([tokenizer, gateway, prefill, decode], axis=1) * 1e6).astype(np.int64)


def test_harrell_davis_beats_the_one_request_at_the_percentile_and_per_layer_percentiles_do_not_add_up() -> None:
    draws = np.random.default_rng(6)
    large = _stack(1_500_000, draws)
    metric = large.sum(axis=1)
    q99 = np.quantile(metric, 0.99)
    near = np.abs(metric - q99) < 0.01 * q99
    truth = large[near].mean(axis=0) * q99 / metric[near].mean()

    assert np.quantile(large, 0.99, axis=0).sum() > 1.1 * q99

    hd_errors, single_errors = [], []
    for _ in range(120):
        sample = _stack(2_000, draws)
        hd_errors.append(contributions(layers(sample), 0.99).total_ns - truth)
        single_errors.append(sample[np.argsort(sample.sum(axis=1))[int(0.99 * 2_000)]] - truth)

    def rmse(errors: list[FloatArray]) -> FloatArray:
        return np.asarray(np.sqrt(np.mean(np.square(errors), axis=0)))

    assert (rmse(hd_errors) < 0.6 * rmse(single_errors)).all()
    # Unbiased up to the experiment's own noise.
    assert (np.abs(np.mean(hd_errors, axis=0)) < 4 * rmse(hd_errors) / np.sqrt(120)).all()
