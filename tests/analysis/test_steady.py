import numpy as np
import pytest
from made_requests import m_m_1

from latprof.analysis.verdicts.steady import Steady, is_asked, mser_5, steady, warmup_ns
from latprof.units import NS_PER_MS, NS_PER_S

N = 1_500
AT_50_PER_S = np.arange(N) * 20 * NS_PER_MS


def cold(seed: int, height: float = 800.0) -> np.ndarray:
    """450 ms or so, with a bump at the beginning that decays within 80 requests."""
    values = 450 + 160 * np.random.default_rng(seed).normal(size=N) + height * np.exp(-np.arange(N) / 80)
    return np.asarray(values * NS_PER_MS, np.int64)


def test_mser_is_what_its_definition_says() -> None:
    values = cold(1)
    means = values.reshape(-1, 5).mean(axis=1)
    score = [((means[d:] - means[d:].mean()) ** 2).sum() / (len(means) - d) ** 2 for d in range(len(means) // 2 + 1)]
    assert mser_5(values) == 5 * int(np.argmin(score)) > 0


def test_a_cold_start_is_cut_where_it_ends() -> None:
    cuts = [steady(AT_50_PER_S, cold(seed), 30 * NS_PER_S).cut_requests for seed in range(40)]
    assert 140 <= np.median(cuts) <= 260
    found = steady(AT_50_PER_S, cold(0), 30 * NS_PER_S)
    assert not found.reason
    assert found.from_ns == found.cut_ns == found.cut_requests * 20 * NS_PER_MS
    assert f"{found.cut_requests} requests" in found.words


def test_a_steady_run_is_cut_by_the_guard_alone() -> None:
    found = steady(AT_50_PER_S, cold(0, height=0.0), 0)
    p99_ns = np.quantile(cold(0, height=0.0), 0.99)
    assert found.cut_requests == pytest.approx(5 * p99_ns / (20 * NS_PER_MS), abs=2)
    assert not found.reason
    assert steady(AT_50_PER_S, cold(0, height=0.0), 5 * NS_PER_S).cut_requests == 0  # the warm-up counts


def test_steady_queues_are_hardly_ever_refused() -> None:
    draws = np.random.default_rng(5)
    refused = 0
    for _ in range(100):
        values = np.asarray(m_m_1(0.5, 3_250, draws)[2_000:] * 1e7 + 1e8, np.int64)
        refused += bool(steady(np.arange(1_250) * 20 * NS_PER_MS, values, 5 * NS_PER_S).reason)
    assert refused <= 3


@pytest.mark.parametrize("slope", [1.0, -0.5])
def test_a_run_that_never_settles_is_refused(slope: float) -> None:
    values = np.asarray((450 + 40 * np.random.default_rng(2).normal(size=N) + slope * 300 * np.arange(N) / N) * NS_PER_MS, np.int64)
    found = steady(AT_50_PER_S, values, 5 * NS_PER_S)
    assert found.reason
    doubt = found.doubt()
    assert doubt is not None
    assert doubt.level == "fatal"
    assert "no steady state" in doubt.text


def test_a_run_shorter_than_its_warm_up_is_refused() -> None:
    slow = np.full(N, 5 * NS_PER_S)
    found = steady(AT_50_PER_S, slow, 0)
    assert "of 30.0 s of load, 25.0 s would be its warm-up" in found.reason


def test_nothing_to_look_at() -> None:
    assert steady(np.empty(0, np.int64), np.empty(0, np.int64)) == Steady(0)
    assert mser_5(np.ones(99, np.int64)) == 0


def test_a_load_that_changes_by_plan_is_not_asked_to_be_steady() -> None:
    assert is_asked({"config": {"load": {"rate_per_s": 5}}})
    assert not is_asked({"config": {"load": {"phases": [{"name": "a"}]}}})
    assert not is_asked({"config": {"load": {}, "workload": {"trace": "a.csv", "trace_times": True}}})
    assert is_asked({"config": {"load": {}, "workload": {"trace": "a.csv", "trace_times": False}}})


def test_the_warm_up_that_was_sent_counts() -> None:
    phases = [{"name": "warmup", "start_ns": 5, "end_ns": 25}, {"name": "measured", "start_ns": 25, "end_ns": 95}]
    assert warmup_ns({"phases": phases}) == 20
