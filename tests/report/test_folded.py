from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from made_run import NAMES, made_report, made_run

from latprof.analysis.contributions import contributions
from latprof.errors import UsageError
from latprof.report.elsewhere.folded import column_at, lines

# What flamegraph.pl reads a line by.
STACK = re.compile(r"(?P<frames>.*)\s+?(?P<weight>\d+(?:\.\d*)?)")


def stacks(at: str, n: int = 1_200) -> dict[tuple[str, ...], int]:
    run, layers, _ = made_run(n)
    label, column = column_at(layers, run.requests.intended_ns[layers.rows], at)
    matches = [STACK.fullmatch(line) for line in lines(layers, column, label)]
    return {tuple(match["frames"].split(";")): int(match["weight"]) for match in matches if match}


@pytest.mark.parametrize("at", ["p50", "p90", "p99", "mean"])
def test_the_weights_are_the_reports_own_contributions_and_sum_to_the_percentile(at: str) -> None:
    budget = made_report().budget
    assert budget is not None
    found = stacks(at)
    assert sum(found.values()) == round(budget.value_ns(at))
    for row in budget.rows:
        of_layer = {frames[-1]: weight for frames, weight in found.items() if row.layer in frames}
        assert sum(of_layer.values()) == pytest.approx(row.total_ns[at], abs=3)
        for part, value_ns in (("wait", row.wait_ns[at]), ("service", row.service_ns[at])):
            assert of_layer.get(part, 0) == pytest.approx(value_ns, abs=1)


def test_a_prefix_is_one_frame_and_what_belongs_to_several_stands_alone() -> None:
    found = stacks("p99")
    assert {frames[:-1] if frames[-1] in {"wait", "service"} else frames for frames in found} == {
        ("TTFT p99", "client", "client.lateness"),
        ("TTFT p99", "net", "net.request"),
        ("TTFT p99", "gateway", "gateway.auth"),
        ("TTFT p99", "gateway", "gateway.tokenize"),
        ("TTFT p99", "engine", "engine.api+engine.tokenize+engine.queue"),
        ("TTFT p99", "prefill"),
        ("TTFT p99", "net", "net.response"),
        ("TTFT p99", "unattributed@gateway"),
    }
    assert ("TTFT p99", "gateway", "gateway.tokenize", "wait") in found
    assert ("TTFT p99", "net", "net.request") in found  # not told apart: the layer itself


def test_time_of_several_prefixes() -> None:
    run, layers, _ = made_run(1_200)
    mixed = replace(layers, names=("net+server", "gateway+engine.api", *NAMES[2:]))
    label, column = column_at(mixed, run.requests.intended_ns[layers.rows], "p50")
    frames = {line.rpartition(" ")[0].split(";")[1] for line in lines(mixed, column, label)}
    assert {"net+server", "gateway+engine.api"} <= frames


def test_any_percentile_that_the_sample_allows() -> None:
    run, layers, _ = made_run(1_200)
    wanted = contributions(layers, 0.75, run.requests.intended_ns[layers.rows]).value_ns
    assert sum(stacks("p75").values()) == round(wanted)
    label, _ = column_at(layers, run.requests.intended_ns[layers.rows], "p97.5")
    assert label == "p97.5"


@pytest.mark.parametrize("at", ["99", "p0", "p100", "p", "P99", "p-1", "tail", "p99\x1b[2J", ""])
def test_what_is_no_percentile(at: str) -> None:
    run, layers, _ = made_run(60)
    with pytest.raises(UsageError, match=r"^--at must be mean or a percentile such as p50 or p99, got ") as raised:
        column_at(layers, run.requests.intended_ns[layers.rows], at)
    assert "\x1b" not in str(raised.value)


def test_too_few_requests_are_refused_not_guessed() -> None:
    run, layers, _ = made_run(150)
    with pytest.raises(UsageError, match=r"--at p99: 150 requests \(\d+ independent\) are too few"):
        column_at(layers, run.requests.intended_ns[layers.rows], "p99")
    nothing, none, _ = made_run(0)
    with pytest.raises(UsageError, match="no successful request"):
        column_at(none, nothing.requests.intended_ns, "mean")


def test_no_frame_ends_another() -> None:
    run, layers, _ = made_run(60)
    hostile = replace(layers, names=("a;b c\n9", *NAMES[1:-1], "unattributed@x;y 5"))
    label, column = column_at(hostile, np.asarray(run.requests.intended_ns[layers.rows]), "mean")
    written = list(lines(hostile, column, label))
    assert len(written) == len({line.rpartition(" ")[0] for line in written})
    assert written[0].startswith(r"TTFT mean;a,b c\x0a9;wait ")
    assert any(line.startswith("TTFT mean;unattributed@x,y 5 ") for line in written)
