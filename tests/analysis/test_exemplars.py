from __future__ import annotations

import numpy as np
import pytest

from latprof.analysis.exemplars import exemplars
from latprof.analysis.quantiles import hd_quantile
from latprof.layers.table import Layers


def one_layer(metric_ns: np.ndarray) -> Layers:
    """Rows that are not 0, 1, 2...: a row is not its place in the table."""
    total_ns = metric_ns.reshape(-1, 1)
    n = len(metric_ns)
    return Layers("ttft", ("prefill",), np.arange(n) * 2 + 5, total_ns, total_ns * 0, total_ns, np.ones((n, 1), bool), (("span",),), ())


def test_the_nearest_request_to_each_percentile() -> None:
    metric_ns = np.random.default_rng(3).permutation(4_000) * 1_000 + 17
    found = exemplars(one_layer(metric_ns))
    assert [one.label for one in found] == ["p50", "p95", "p99"]
    for one, p in zip(found, (0.50, 0.95, 0.99), strict=True):
        assert one.value_ns == pytest.approx(hd_quantile(metric_ns, p))
        assert one.own_ns == metric_ns[(one.row - 5) // 2]
        assert abs(one.own_ns - one.value_ns) == np.abs(metric_ns - one.value_ns).min()


def test_a_percentile_the_sample_is_too_small_for_is_not_named() -> None:
    found = exemplars(one_layer(np.arange(1, 101) * 1_000))
    assert [one.label for one in found] == ["p50", "tail mean"]
    assert found[1].value_ns == pytest.approx(np.arange(96, 101).mean() * 1_000)
    assert [one.label for one in exemplars(one_layer(np.array([7, 9, 11])))] == ["mean", "tail mean"]


def test_independence_is_judged_in_the_order_of_intended_starts() -> None:
    # In the order of the table a slow wave; by intended start, shuffled, requests that know nothing of each other.
    metric_ns = np.sort(np.random.default_rng(1).exponential(1e6, 2_000)).astype(np.int64)
    shuffled = np.random.default_rng(2).permutation(2_000)
    assert [one.label for one in exemplars(one_layer(metric_ns))] == ["p50", "tail mean"]
    assert [one.label for one in exemplars(one_layer(metric_ns), intended_ns=shuffled)] == ["p50", "p95", "p99"]


def test_no_request_no_exemplar() -> None:
    assert exemplars(one_layer(np.zeros(0, np.int64))) == ()
