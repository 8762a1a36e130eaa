"""What is spent of a latency budget adds up, also where the runs differ; then it is said that they do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from made_replications import replication

from latprof.analysis.verdicts.replications import Replication, Selector, estimate
from latprof.analysis.verdicts.spending import OTHERS, Spending, spend
from latprof.units import NS_PER_MS

MS = NS_PER_MS


def runs(prefill_ms: Sequence[float], stalled: int = 0, n: int = 1_000) -> list[Replication]:
    """One run for each of ``prefill_ms``, with 5 ms of gateway; so many requests of the first wait 600 ms for it."""
    found = []
    for seed, middle in enumerate(prefill_ms):
        draws = np.random.default_rng(seed)
        gateway = draws.normal(5.0, 1.0, n).clip(0.1)
        if not seed:
            gateway[draws.permutation(n)[:stalled]] += 600.0
        found.append(replication(seed, {"gateway": gateway, "router": np.full(n, 1.0), "prefill": draws.normal(middle - 6.0, 8.0, n)}))
    return found


DIFFERENT = runs((100, 100, 100, 100, 160))
STALLED = runs((100,) * 5, stalled=40)
ALIKE = runs((100,) * 5)


def spent(of: list[Replication], p: float | None) -> Spending:
    return spend(of, "ttft", p, 200 * MS, {"gateway": 50 * MS, "prefill": 120 * MS})


@pytest.mark.parametrize("of", [DIFFERENT, STALLED, ALIKE, runs((100,), n=1_500), runs((100, 160)), runs((100,) * 3, n=100)])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.95, None])
def test_what_is_spent_adds_up(of: list[Replication], p: float | None) -> None:
    found = spent(of, p)
    assert math.fsum(row.spent_ns for row in found.rows) == pytest.approx(found.total.spent_ns, rel=1e-9)
    others = next(row for row in found.rows if row.layer == OTHERS)
    assert others.spent_ns == pytest.approx(MS, rel=1e-6)  # the router, whatever the runs are


def test_of_a_percentile_that_too_few_requests_lie_beyond_nothing_is_told() -> None:
    found = spent(runs((100,), n=60), 0.99)
    assert all(math.isnan(row.spent_ns) for row in (*found.rows, found.total))
    assert found.note == "What is spent is not known: too few of 60 requests lie beyond p99; run longer."
    assert [row["spent_ms"] for row in found.as_json()["layers"].values()] == [None] * 3
    assert found.as_json()["total"]["left_ms"] is None


def test_runs_that_differ_are_told_with_both_figures() -> None:
    found = spent(DIFFERENT, 0.5)
    assert found.total.spent_ns / MS == pytest.approx(102, abs=1)
    assert found.note.startswith("The runs differ: ttft p50 is 102.")
    assert "of all requests together, which the rows add up to, and 111." in found.note
    assert "The runs differ: ttft p99 is" in spent(STALLED, 0.99).note
    assert found.as_json()["note"] == found.note
    assert spent(ALIKE, 0.5).note == spent(ALIKE, 0.99).note == spent(DIFFERENT[:1], 0.99).note == ""


def test_the_middle_of_one_run_of_two_kinds_is_told_of_its_stretches() -> None:
    draws = np.random.default_rng(1)
    values = np.where(draws.permutation(2_000) < 1_060, 100.0, 300.0) + draws.normal(0, 1, 2_000)
    found = spend([replication(1, {"prefill": values})], "ttft", 0.5, 200 * MS, {"prefill": 100 * MS})
    assert found.note.startswith("The stretches of time differ: ttft p50 is 10")


def test_an_assertion_about_a_layer_keeps_the_mean_of_the_runs() -> None:
    found = estimate(DIFFERENT, Selector("ttft", "prefill"), 0.5)
    assert found.value == pytest.approx(np.mean(found.figures))
    assert found.low < found.value < found.high
    assert found.together < found.value - 5 * MS
