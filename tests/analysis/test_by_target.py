"""Several targets beside each other: counts, shares, and percentiles that a small sample is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from made_requests import MS, attempt, requests

from latprof.analysis.targets import by_target
from latprof.observations.columns import Requests
from latprof.schedule.plan import WARMUP

TOLD: list[dict[str, Any]] = [
    {"name": "current", "url": "https://a.example/v1", "model": "large", "dialect": "openai-chat", "weight": 3.0},
    {"name": "canary", "url": "https://b.example/v1", "model": "small", "dialect": "anthropic-messages", "weight": 1.0},
]


def made() -> Requests:
    """1 200 of the one with a TTFT of 20 to 29 ms, 30 of the other with 10 ms more; a failure there, and a warm-up."""
    rows = [attempt(row, target="current", intended_ns=row * MS, first_token_ns=(row + 20 + row * 7 % 10) * MS) for row in range(1_200)]
    rows += [attempt(2_000 + row, target="canary", intended_ns=row * MS, first_token_ns=(row + 30 + row % 10) * MS) for row in range(30)]
    rows += [
        attempt(3_000, target="canary", error_class="timeout"),
        attempt(3_001, target="canary", phase=WARMUP, first_token_ns=9_000 * MS),
    ]
    for row in rows:
        row.last_token_ns = row.end_ns = row.first_token_ns + 100 * MS
    return requests(*rows)


def test_each_has_figures_of_its_own_in_the_order_of_the_configuration() -> None:
    current, canary = by_target(made(), TOLD)
    assert [(one.name, one.model, one.dialect) for one in (current, canary)] == [
        ("current", "large", "openai-chat"),
        ("canary", "small", "anthropic-messages"),
    ]
    assert (current.counts.ok, current.counts.failed, canary.counts.ok, canary.counts.failed) == (1_200, 0, 30, 1)
    assert canary.counts.errors == {"timeout": 1}
    assert canary.counts.warmup == 0
    assert [current.share, canary.share] == pytest.approx([1_200 / 1_231, 31 / 1_231])
    assert (current.asked_share, canary.asked_share) == (0.75, 0.25)
    assert current.ttft.percentiles[0] == pytest.approx(24.5 * MS)
    assert canary.ttft.percentiles[0] == pytest.approx(34.5 * MS)
    assert canary.e2el.percentiles[0] == pytest.approx(134.5 * MS)
    assert canary.ttft.tail_mean == pytest.approx(39 * MS)


def test_a_small_sample_is_refused_its_percentiles() -> None:
    current, canary = by_target(made(), TOLD)
    assert all(map(math.isfinite, current.ttft.given))
    assert current.ttft.given == current.ttft.percentiles
    p50, p90, p99 = canary.ttft.given
    assert p50 == canary.ttft.percentiles[0]
    assert math.isnan(p90)
    assert math.isnan(p99)


def test_one_target_is_no_breakdown() -> None:
    alone = requests(attempt(0), attempt(1))
    assert by_target(alone, ()) == ()
    assert by_target(alone, [{"name": "", "weight": 1.0}]) == ()
    assert by_target(requests(), ()) == ()


def test_targets_nobody_was_drawn_to_and_folders_that_tell_of_none() -> None:
    current, idle = by_target(requests(attempt(0, target="current")), [TOLD[0], {**TOLD[1], "name": "idle"}])
    assert (idle.share, idle.counts.ok, idle.ttft.n) == (0.0, 0, 0)
    assert math.isnan(idle.ttft.mean)
    assert current.share == 1.0
    untold = by_target(made(), ())
    assert [one.name for one in untold] == ["canary", "current"]
    assert all(math.isnan(one.asked_share) for one in untold)
    warmup = by_target(requests(attempt(0, target="current", phase=WARMUP)), TOLD)
    assert all(math.isnan(one.share) for one in warmup)
