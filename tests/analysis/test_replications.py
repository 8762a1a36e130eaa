import math

import numpy as np
import pytest
from made_replications import replication, ttft
from made_requests import m_m_1
from scipy import stats

from latprof.analysis.quantiles import hd_quantile
from latprof.analysis.verdicts.replications import Replication, Selector, estimate, figures, layer_names

TTFT = Selector()
GATEWAY = Selector("ttft", "gateway")


def lognormal(draws: np.random.Generator, n: int = 400) -> np.ndarray:
    return draws.lognormal(math.log(450), 0.35, n)


def repeats(count: int = 5, n: int = 400) -> list[Replication]:
    draws = np.random.default_rng(3)
    return [
        replication(
            seed,
            {
                "gateway.auth": draws.gamma(4, 1.0, n),
                "gateway.safety": draws.gamma(4, 4.0, n),
                "prefill": lognormal(draws, n),
                "router+engine.queue": draws.gamma(2, 1.0, n),
            },
        )
        for seed in range(count)
    ]


def test_the_point_is_of_all_rows_and_the_interval_of_the_replications() -> None:
    runs = repeats()
    found = estimate(runs, TTFT, 0.95)
    rows = np.concatenate([one.values_ns["ttft"] for one in runs])
    each = [hd_quantile(one.values_ns["ttft"], 0.95) for one in runs]
    half = stats.t.ppf(0.975, 4) * np.std(each, ddof=1) / math.sqrt(5)
    assert found.value == pytest.approx(hd_quantile(rows, 0.95), rel=1e-12)
    assert found.high - found.low == pytest.approx(2 * half, rel=1e-9)
    assert (found.replications, found.n) == (5, 2_000)
    assert found.figures == pytest.approx(each)


def test_layers_sum_to_the_metric_at_every_percentile() -> None:
    runs = repeats()
    for p in (0.5, 0.95, None):
        parts = sum(estimate(runs, Selector("ttft", name), p).value for name in layer_names(runs))
        # About the mean of the replications' own figures, which is a hair off the pooled quantile.
        assert parts == pytest.approx(np.mean(figures(runs, TTFT, p)), rel=1e-9)
        assert parts == pytest.approx(estimate(runs, TTFT, p).value, rel=5e-3)
        children = sum(estimate(runs, Selector("ttft", name), p).value for name in ("gateway.auth", "gateway.safety"))
        assert estimate(runs, GATEWAY, p).value == pytest.approx(children, rel=1e-9)


def test_a_layer_nobody_tells_of_is_missing_and_not_zero() -> None:
    found = estimate(repeats(), Selector("ttft", "detokenize"), 0.5)
    assert math.isnan(found.value)
    assert "no request tells of detokenize" in found.why
    assert "gateway.auth" in found.why


def test_a_replication_that_does_not_tell_of_a_layer_is_named() -> None:
    first, *others = repeats()
    blind = replication(7, {"client.lateness": np.full(400, 0.1), "net+server": first.values_ns["ttft"] / 1e6})
    found = estimate([*others, blind], GATEWAY, 0.5)
    assert math.isnan(found.value)
    assert found.why == "runs/7 does not tell of gateway: it may be in net+server"
    # With spans.hops in the configuration the block has the names of the hops.
    named = replication(8, {"client.lateness": np.full(400, 0.1), "net+gateway+engine": first.values_ns["ttft"] / 1e6})
    for layer in ("gateway", "gateway.auth"):
        found = estimate([*others, named], Selector("ttft", layer), 0.5)
        assert math.isnan(found.value)


def told_by(share: float, *, beside: str = "client.build", n: int = 400) -> list[Replication]:
    """Runs in which only a share of the requests has the spans of an engine; the others' prefill is in the block."""
    runs = []
    for seed in range(5):
        draws = np.random.default_rng(seed)
        prefill, has = lognormal(draws, n), np.arange(n) % 100 < 100 * share
        layers = {"gateway.auth": np.full(n, 5.0), "net+server": np.where(has, 9.0, prefill), "prefill": np.where(has, prefill, 0.0)}
        runs.append(replication(seed, {**layers, beside: np.full(n, 1.0)}))
    return runs


@pytest.mark.parametrize("metric_p", [0.5, None])
def test_a_layer_that_few_requests_tell_of_is_no_small_layer(metric_p: float | None) -> None:
    found = estimate(told_by(0.10), Selector("ttft", "prefill"), metric_p)
    assert math.isnan(found.value)
    assert found.why == "runs/0 tells of prefill in 10 % of its requests only: in the others it may be in what nobody tells apart"
    assert all(estimate(told_by(0.10), Selector("ttft", name), metric_p).has_interval for name in ("gateway", "net+server"))
    assert estimate(told_by(0.96), Selector("ttft", "prefill"), metric_p).has_interval


@pytest.mark.parametrize(
    ("meta", "is_open"),
    [
        ({"targets": [{"name": ""}]}, True),
        ({"targets": [{"name": "a"}, {"name": "b"}]}, False),  # the other one has none
        ({"is_simulated": True}, False),  # where everything is known
    ],
)
def test_a_gateway_that_few_requests_tell_of_was_passed_by_all_of_them(meta: dict[str, object], is_open: bool) -> None:
    runs = []
    for seed in range(5):
        has = np.arange(400) % 10 == 0
        layers = {"net.request": np.where(has, 1.0, 21.0), "gateway.auth": np.where(has, 20.0, 0.0), "prefill": np.full(400, 90.0 + seed)}
        runs.append(replication(seed, layers, meta=meta))
    found = estimate(runs, GATEWAY, None)
    assert found.has_interval != is_open
    assert not is_open or "tells of gateway in 10 % of its requests only" in found.why
    assert estimate(runs, Selector("ttft", "prefill"), None).has_interval


def test_a_hop_that_tells_no_layer_of_itself_was_seen_all_the_same() -> None:
    layers = {"gateway.auth": np.tile([5.0, 0.0], 200), "unattributed@litellm": np.full(400, 2.0), "net.request": np.full(400, 1.0)}
    runs = [replication(seed, {**layers, "prefill": np.full(400, 90.0 + seed)}) for seed in range(5)]
    assert estimate(runs, GATEWAY, None).value == pytest.approx(2.5e6)


def test_a_layer_that_few_requests_pass_is_one_where_its_engine_tells_of_all() -> None:
    # The engine told of every request: what did not compute a prompt had it in a cache.
    found = estimate(told_by(0.10, beside="engine.api"), Selector("ttft", "prefill"), None)
    assert found.value == pytest.approx(48e6, rel=0.2)


def test_a_layer_that_took_no_time_in_one_replication_is_zero_there() -> None:
    runs = repeats()
    retried = replication(7, {"client.retry": np.full(400, 2.0), "prefill": runs[0].values_ns["ttft"] / 1e6})
    seen_from_outside = replication(8, {"client.lateness": np.full(400, 0.1), "net+server": runs[0].values_ns["ttft"] / 1e6})
    found = estimate([*runs, retried, seen_from_outside], Selector("ttft", "client.retry"), None)
    assert found.figures == pytest.approx([0, 0, 0, 0, 0, 2e6, 0])


@pytest.mark.parametrize("layer", ["router", "engine", "engine.queue"])
def test_what_the_evidence_merges_cannot_be_told_apart(layer: str) -> None:
    found = estimate(repeats(), Selector("ttft", layer), 0.5)
    assert not found.has_interval
    assert "router+engine.queue" in found.why


def test_a_merged_layer_can_be_named_itself() -> None:
    assert estimate(repeats(), Selector("ttft", "router+engine.queue"), 0.5).has_interval


def test_a_percentile_beyond_the_sample_has_a_value_and_says_why_no_interval() -> None:
    found = estimate(repeats(n=60), TTFT, 0.99)
    assert not found.has_interval
    assert found.value > 0
    assert "too small for p99: 3.0 independent requests lie beyond it, 0.6 in the smallest replication" in found.why
    assert "send 1.7 times as many" in found.why


def test_a_split_needs_twice_as_many_beyond_as_the_percentile_itself() -> None:
    runs = repeats(n=120)  # 6 beyond p99 in all
    assert estimate(runs, TTFT, 0.99).has_interval
    assert "wanted 10" in estimate(runs, GATEWAY, 0.99).why


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_give_the_median_from_batches_and_nothing_above(count: int) -> None:
    runs = repeats(count, 1_000)
    assert estimate(runs, TTFT, 0.5).why == "from 20 time batches"
    assert len(estimate(runs, TTFT, 0.5).figures) == 20
    assert estimate(runs, GATEWAY, 0.5).has_interval
    for p in (0.9, 0.95, 0.99):
        assert estimate(runs, TTFT, p).why == f"p{100 * p:g} needs 3 replications, got {count}"
    assert "the mean needs 3 replications" in estimate(runs, TTFT, None).why


def test_a_short_run_gives_no_median_either() -> None:
    assert "too short for 20 time batches" in estimate(repeats(1, 150), TTFT, 0.5).why


def test_batches_cover_the_median_of_a_busy_queue() -> None:
    draws = np.random.default_rng(11)
    truth = 1e6 * math.log(2) / 0.5
    found = [estimate([ttft(1, m_m_1(0.5, 4_000, draws)[1_000:])], TTFT, 0.5) for _ in range(150)]
    given = [one for one in found if one.has_interval]
    assert len(given) > 100
    assert 0.89 <= np.mean([one.low <= truth <= one.high for one in given]) <= 0.995


def test_the_same_requests_taken_for_independent_do_not_cover_it() -> None:
    # The control: a queue at 0.8, whose requests are worth a fiftieth.
    draws = np.random.default_rng(12)
    truth = math.log(2) / 0.2
    held = 0
    for _ in range(100):
        values = np.sort(m_m_1(0.8, 12_000, draws)[2_000:])
        low, high = (values[int(stats.binom.ppf(q, len(values), 0.5))] for q in (0.025, 0.975))
        held += low <= truth <= high
    assert held < 60


# --- shares -------------------------------------------------------------------------------------------------------------------------------


def test_errors_are_bounded_by_counting_even_in_one_run() -> None:
    one = ttft(1, np.ones(500), failed=[False] * 500)
    found = estimate([one], Selector("errors"), None)
    assert found.value == 0.0
    assert 0.005 < found.high < 0.01


def test_failures_that_come_together_tell_less() -> None:
    scattered = [index % 20 == 0 for index in range(1_000)]
    in_a_row = [index < 50 for index in range(1_000)]
    lone, together = (
        estimate([ttft(1, np.ones(1_000), failed=marks) for _ in range(5)], Selector("errors"), None) for marks in (scattered, in_a_row)
    )
    assert lone.value == together.value == 0.05
    assert together.high - together.low > 2 * (lone.high - lone.low)


def test_goodput_needs_objectives_and_replications() -> None:
    assert "nothing says what good is" in estimate([ttft(1, np.ones(500))], Selector("goodput"), None).why
    runs = [ttft(seed, np.ones(500), good=[index % 10 != 0 for index in range(500)]) for seed in range(5)]
    assert "goodput needs 3 replications" in estimate(runs[:2], Selector("goodput"), None).why
    found = estimate(runs, Selector("goodput"), None)
    assert found.value == pytest.approx(0.9)
    assert found.low < 0.9 < found.high < 1.0
    assert figures(runs, Selector("goodput"), None) == pytest.approx([0.9] * 5)


def test_no_request_at_all() -> None:
    empty = ttft(1, np.empty(0))
    assert estimate([empty], TTFT, 0.5).why == "no request has a ttft"
    assert estimate([empty], Selector("errors"), None).why == "no request was recorded"
    assert estimate([], TTFT, 0.5).why == "no request has a ttft"
