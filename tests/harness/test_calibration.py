"""The calibration of intervals, gates and comparisons, short: enough to fail when they are off, too little to publish."""

from __future__ import annotations

import numpy as np
import pytest

from harness import calibration, queue_runs
from harness.queue_runs import columns_ms, truth_ms


def test_the_queue_is_what_its_truth_says() -> None:
    columns = columns_ms(0.5, 400_000, np.random.default_rng(3))
    ttft = np.sum(list(columns.values()), axis=0)
    for p in (0.5, 0.99):
        truth = truth_ms(0.5, p)
        assert np.quantile(ttft, p) == pytest.approx(truth["ttft"], rel=0.02)
        order, at = np.argsort(ttft), int(p * len(ttft))
        for layer, values in columns.items():
            assert values[order[at - 1000 : at + 1000]].mean() == pytest.approx(truth[layer], rel=0.05), (layer, p)
        assert sum(truth[layer] for layer in columns) == pytest.approx(truth["ttft"], rel=1e-6)
    assert truth_ms(0.5, 0.5)["prefill"] < -np.log(0.5) * queue_runs.SERVICE_MS / 0.5 + 1


@pytest.mark.timeout(300)
def test_intervals_hold_the_truth_and_those_of_independent_requests_do_not() -> None:
    asked, control = calibration.coverage(40, n=2_000)
    assert min(figure.value for figure in asked) >= 0.85, asked
    assert max(figure.value for figure in control) < 0.80, control


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_equals_are_left_alone_and_effects_are_found() -> None:
    asked, control = calibration.gates(8, n=600)
    for figure in asked:
        if figure.name.startswith("equals"):
            assert figure.value <= 2 / 8, figure
        elif "prints" in figure.name:
            assert figure.value >= 3 / 8, figure
    assert control[0].value > 0


def test_how_many_alarms_are_too_many() -> None:
    assert calibration._most(200, 0.05) == 18
    assert calibration._most(1, 0.0) == 0
    assert calibration._order_statistics(10_000, 0.5) == (4902, 5098)
