from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from made_run import META, made_injection, made_report, made_tasks

from latprof.report.summary import FLAT, SCHEMA, summary

DOC = (Path(__file__).parents[2] / "docs" / "summary.md").read_text(encoding="utf-8")
KEYED_BY_NAME = {
    "counts.errors",
    "targets[].errors",
    "goodput.objectives_ms",
    "tokens_source",
    "host",
    "tasks.incomplete",
    "tasks.hidden_mean_ms",
    "injection.slopes",
}
"""Objects whose keys are names from the run, not from the schema."""


def paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Every key as a dotted path; ``[]`` for what is in a list, layers' metric left out."""
    if isinstance(value, dict) and prefix not in KEYED_BY_NAME:
        for key, below in value.items():
            path = f"{prefix}.{key}" if prefix else key
            if prefix == "layers":
                yield from paths(below, "layers")
            else:
                yield path
                yield from paths(below, path)
    elif isinstance(value, list):
        for below in value:
            yield from paths(below, f"{prefix}[]")


LAWS = [
    {
        "layer": "prefill",
        "servers": 16,
        "rate_per_s": 50.0,
        "mean_present": 4.0,
        "mean_time_ns": 80e6,
        "mean_busy": 4.0,
        "mean_service_ns": 80e6,
    }
]


TARGETS = [
    {"name": "", "url": "https://a.example/v1", "model": "m", "dialect": "openai-chat", "weight": 9.0},
    {"name": "canary", "url": "https://b.example/v1", "model": "m", "dialect": "openai-chat", "weight": 1.0},
]


def documented() -> set[str]:
    """The paths in the first column of the document's tables, with <metric> written out."""
    found = {path for line in DOC.splitlines() if line.startswith("| `") for path in re.findall(r"`([^`]+)`", line.split("|")[1])}
    return {path.replace("<metric>", metric) for path in found for metric in (FLAT if "<metric>" in path else [""])}


def test_every_key_is_documented_and_no_other() -> None:
    everything: dict[str, Any] = {"phases": [], "stub": {"died": "x"}, "laws": LAWS, "targets": TARGETS}
    written = set(paths(summary(made_report(tasks=made_tasks(), injection=made_injection(), **everything))))
    assert written == documented()


def test_the_documents_example_has_the_keys_of_a_summary() -> None:
    example = json.loads(DOC.split("```json\n")[1].split("```")[0])
    assert example["schema"] == SCHEMA
    assert set(paths(example)) <= set(paths(summary(made_report(stub={"died": "x"}))))
    flat = {key for key in summary(made_report()) if key != "layers"}
    assert flat == {key for key in example if key != "layers"}
    given = [label for label in ("p50", "p90", "p99") if example[f"{label}_ttft_hd_ms"] is not None]
    assert given
    for label in given:
        layers = sum(row[f"{label}_ms"] for row in example["layers"]["ttft"])
        assert layers == pytest.approx(example[f"{label}_ttft_hd_ms"], rel=1e-9)


def test_tasks_have_a_budget_that_adds_up() -> None:
    told = summary(made_report(tasks=made_tasks()))
    assert sum(row["p50_ms"] for row in told["layers"]["task"]) == pytest.approx(told["p50_task_hd_ms"], rel=1e-9)
    assert told["n_task"] == told["tasks"]["complete"] == 400
    assert told["tasks"]["incomplete"] == {"failed": 3, "cut": 2}
    assert told["tasks"]["hidden_mean_ms"] == {"tool": pytest.approx(40)}
    alone = summary(made_report())
    assert (alone["tasks"], alone["p50_task_ms"], alone["n_task"]) == (None, None, 0)


def test_slopes_are_told_with_their_intervals() -> None:
    told = summary(made_report(injection=made_injection()))["injection"]
    assert (told["before"], told["per"], told["block_s"], told["delays_ms"]) == ("router", "both", 5.0, [0, 5, 20, 50])
    assert told["slopes"]["ttft"]["per_request"] == {"value": 1.01, "low": 0.96, "high": 1.06, "clusters": 20, "n": 900}
    assert told["slopes"]["ttft"]["p90"]["value"] == 1.01
    assert told["slopes"]["e2el"]["per_block"] is None
    assert told["reading"].startswith("serial: ")
    assert summary(made_report())["injection"] is None


def test_layers_sum_to_the_harrell_davis_percentile_and_peers_keys_are_interpolated() -> None:
    found = summary(made_report())
    rows = found["layers"]["ttft"]
    for label in ("p50", "p90", "p99"):
        assert sum(row[f"{label}_ms"] for row in rows) == pytest.approx(found[f"{label}_ttft_hd_ms"], rel=1e-9)
        assert found[f"{label}_ttft_ms"] != found[f"{label}_ttft_hd_ms"]
    assert sum(row["mean_ms"] for row in rows) == pytest.approx(found["mean_ttft_ms"], rel=1e-9)
    assert sum(row["share_p50"] for row in rows) == pytest.approx(1)
    assert found["n_itl"] == 3_600


def test_a_refused_percentile_is_null_and_its_tail_mean_stands_beside_it() -> None:
    found = summary(made_report(150))
    rows = found["layers"]["ttft"]
    assert found["p99_ttft_hd_ms"] is None
    assert found["p99_ttft_ms"] is not None
    assert {row["p99_ms"] for row in rows} == {None}
    assert sum(row["tail_mean_ms"] for row in rows) == pytest.approx(found["tail_mean_ttft_ms"], rel=1e-9)
    assert {row["tail_mean_ms"] for row in summary(made_report())["layers"]["ttft"]} == {None}


def test_what_was_not_told_apart_is_null_and_not_zero() -> None:
    rows = {row["layer"]: row for row in summary(made_report())["layers"]["ttft"]}
    assert rows["net.request"]["wait_p50_ms"] is None
    assert rows["net.request"]["service_p50_ms"] is None
    assert rows["prefill"]["wait_p50_ms"] == 0
    tokenize = rows["gateway.tokenize"]
    assert tokenize["wait_p50_ms"] + tokenize["service_p50_ms"] == pytest.approx(tokenize["p50_ms"])


@pytest.mark.parametrize("n", [0, 1, 12, 150, 1_200])
def test_it_is_json_whatever_the_run(n: int) -> None:
    found = summary(made_report(n))
    assert json.loads(orjson.dumps(found)) == found
    assert not [value for value in found.values() if isinstance(value, float) and not math.isfinite(value)]
    assert set(found) == set(summary(made_report(**META)))


def test_validity_is_that_of_the_doubts() -> None:
    assert summary(made_report())["valid"] is True
    found = summary(made_report(stub={"died": "router ended"}))
    assert found["valid"] is False
    assert found["doubts"][0]["id"] == "stub_bound"
