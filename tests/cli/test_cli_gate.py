"""``latprof gate`` and ``latprof budget`` as a user starts them; the runs are played in virtual time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

CONFIG = """
load: {rate_per_s: 20, num_requests: 600, warmup: 2s}
stub: {gateway: {tokenize: {service: 3ms, workers: 4}}}
"""
BUDGET = """
budgets: [ttft p50 < 150ms, ttft p95 < 300ms, gateway p95 < 45ms, errors < 1%]
latency_budget: {metric: ttft, at: p95, total: 300ms, layers: {gateway: 45ms, prefill: 120ms}}
"""
RUNS = 3


def latprof(folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "CI_"))}
    return subprocess.run(
        [sys.executable, "-m", "latprof", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=clean | environment,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a configuration, a budget, and the three runs in ``good``."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "budget.yaml").write_text(BUDGET)
    done = latprof(folder, "gate", "--simulate", "config.yaml", "--budget", "budget.yaml", "-R", RUNS, "--out", "good")
    assert done.returncode == 0, done.stdout + done.stderr
    yield folder
    shutil.rmtree(folder)


def gate(place: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return latprof(place, "gate", *arguments, **environment)


# --- verdicts -----------------------------------------------------------------------------------------------------------------------------


def test_a_folder_of_runs_is_its_replications(place: Path) -> None:
    done = gate(place, "good", "--budget", "budget.yaml", "--json", "-")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["verdict"] == "pass"
    assert [run["seed"] for run in told["runs"]] == [1, 2, 3]
    assert done.stderr.startswith("GATE PASSED: 5 passed of 5 assertions")
    one_by_one = gate(place, "good/r01", "good/r02", "good/r03", "--budget", "budget.yaml", "--json", "-")
    assert json.loads(one_by_one.stdout)["assertions"] == told["assertions"]


def test_a_simulated_gate_is_the_same_to_the_last_bit(place: Path, tmp_path: Path) -> None:
    asked = ("--simulate", place / "config.yaml", "--budget", place / "budget.yaml", "-R", RUNS)
    for name in ("a", "b"):
        assert gate(tmp_path, *asked, "--json", f"{name}.json").returncode == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (
        json.loads((tmp_path / "a.json").read_text())["assertions"]
        == json.loads(gate(place, "good", "--budget", "budget.yaml", "--json", "-").stdout)["assertions"]
    )


def test_what_is_broken_fails_and_is_named(place: Path) -> None:
    slower = ("--set", "stub.plant.gateway.auth=40ms")
    done = gate(place, "--simulate", "config.yaml", *slower, "--budget", "budget.yaml", "-R", RUNS)
    assert done.returncode == 1
    assert "GATE FAILED" in done.stdout
    assert any("✗" in line and "gateway p95 < 45ms" in line for line in done.stdout.splitlines())


def test_early_stop_ends_when_the_verdict_is_clear(place: Path) -> None:
    done = gate(place, "--simulate", "config.yaml", "--budget", "budget.yaml", "-R", 8, "--early-stop", "--json", "-")
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert 3 <= len(told["runs"]) < 8
    assert told["level"] > 0.95


@pytest.mark.parametrize(("taken_for", "code"), [((), 3), (("--inconclusive", "pass"), 0), (("--inconclusive", "fail"), 1)])
def test_one_run_says_nothing_about_a_p95(place: Path, taken_for: tuple[str, ...], code: int) -> None:
    done = gate(place, "good/r01", "--budget", "budget.yaml", *taken_for)
    assert done.returncode == code
    assert "p95 needs 3 replications, got 1" in done.stdout
    assert "✓  ttft p50 < 150ms" in done.stdout  # from time batches


def test_regressions_against_a_baseline(place: Path, tmp_path: Path) -> None:
    saved = latprof(place, "baseline", "save", "good", "--to", tmp_path / "baseline.json")
    assert saved.returncode == 0, saved.stderr
    rules = tmp_path / "rules.yaml"
    rules.write_text('budgets: [{layer: "*", kind: regression, at: p50, tolerance: 5%, min_abs: 2ms}]')
    against = ("--budget", rules, "--baseline", tmp_path / "baseline.json", "-R", RUNS)
    assert gate(place, "good", *against[:4]).returncode == 0
    slower = gate(place, "--simulate", "config.yaml", "--set", "stub.plant.gateway.auth=15ms", *against)
    assert slower.returncode == 1, slower.stdout
    assert any("✗" in line and "gateway.auth p50 vs baseline +5% and +2ms" in line for line in slower.stdout.splitlines())
    another_load = gate(place, "--simulate", "config.yaml", "--set", "load.rate_per_s=21", *against)
    assert another_load.returncode == 3
    assert "load.rate_per_s" in another_load.stdout


# --- what a CI reads ----------------------------------------------------------------------------------------------------------------------


def test_files_for_a_ci(place: Path, tmp_path: Path) -> None:
    summary = tmp_path / "summary"
    summary.write_text("before\n")
    for _ in range(2):
        done = gate(
            place, "good", "--budget", "budget.yaml", "--ci", tmp_path / "out", GITHUB_STEP_SUMMARY=str(summary), GITHUB_SHA="0123abc"
        )
        assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"gate.json", "junit.xml", "summary.md", "benchmark.json", "otava.csv"}
    assert summary.read_text().startswith("before\n## ✅ latprof")
    assert summary.read_text().count("## ✅") == 2
    rows = (tmp_path / "out" / "otava.csv").read_text().splitlines()
    assert len(rows) == 3
    assert rows[1].split(",")[1] == "0123abc"
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text())[0]["name"] == "ttft p50"


def test_a_summary_that_cannot_be_written_turns_no_verdict(place: Path, tmp_path: Path) -> None:
    done = gate(place, "good", "--budget", "budget.yaml", GITHUB_STEP_SUMMARY=str(tmp_path / "no" / "summary"))
    assert done.returncode == 0
    assert "cannot be written" in done.stderr


def test_junit_alone(place: Path, tmp_path: Path) -> None:
    assert gate(place, "good", "--budget", "budget.yaml", "--junit", tmp_path / "deep" / "junit.xml").returncode == 0
    assert "<testsuites>" in (tmp_path / "deep" / "junit.xml").read_text()


# --- runs that say nothing ----------------------------------------------------------------------------------------------------------------


def altered(place: Path, to: Path, *, empty: bool) -> Path:
    """The first run without any request, or with nothing but failures."""
    shutil.copytree(place / "good" / "r01", to)
    table = pq.read_table(to / "requests.parquet")
    if empty:
        table = table.slice(0, 0)
    else:
        at = table.schema.get_field_index("error_class")
        table = table.set_column(at, "error_class", pc.if_else(pa.array([True] * len(table)), "server", table["error_class"]))
    pq.write_table(table, to / "requests.parquet")
    return to


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "failures only"])
def test_runs_without_a_success_are_not_valid(place: Path, tmp_path: Path, *, empty: bool) -> None:
    run = altered(place, tmp_path / "run", empty=empty)
    done = gate(place, run, "--budget", "budget.yaml", "--ci", tmp_path / "out")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "NOT VALID" in done.stdout
    assert ("no request was made" if empty else "not one of 600 requests succeeded") in done.stdout
    assert 'errors="1"' in (tmp_path / "out" / "junit.xml").read_text()
    init = latprof(place, "budget", "init", run)
    assert init.returncode == 2
    assert "not one request of these runs succeeded" in init.stderr


def test_a_percentile_the_sample_cannot_support_is_inconclusive(place: Path, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("budgets: [ttft p99.9 < 10s]")
    done = gate(place, "good", "--budget", tmp_path / "b.yaml")
    assert done.returncode == 3
    assert "the sample is too small for p99.9" in " ".join(done.stdout.split())


def test_a_layer_that_the_runs_do_not_know_is_inconclusive(place: Path, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("budgets: [detokenize p50 < 10ms]")
    done = gate(place, "good", "--budget", tmp_path / "b.yaml")
    assert done.returncode == 3
    assert "no request tells of detokenize" in " ".join(done.stdout.split())


# --- what cannot be meant -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "arguments", "said"),
    [
        ("budgets: [gatway p95 < 5ms]", ("good",), "did you mean gateway?"),
        ("budgets: [tftt p95 < 5ms]", ("good",), "did you mean ttft?"),
        ("budgets: [ttft p95 < 600]", ("good",), "must carry a unit such as 600ms"),
        ("budgets: [ttft p100 < 5ms]", ("good",), "no sample has a p100"),
        ("budgets: [ttft p95 < 5ms]", (), "needs a run folder, or --simulate CONFIG.yaml, got neither"),
        ("budgets: [ttft p95 < 5ms]", ("good", "--simulate", "config.yaml"), "got both; drop one"),
        ("budgets: [ttft p95 < 5ms]", ("good", "-R", "4"), "--replications belongs to --simulate"),
        ("budgets: [ttft p95 < 5ms]", ("nowhere",), "nowhere: does not exist"),
        ("budgets: [ttft p95 < 5ms]", ("good", "good/r01"), "hold the same run"),
        ("budgets: [ttft p95 < 5ms]", ("good", "--inconclusive", "maybe"), "--inconclusive must be pass, warn or fail, got 'maybe'"),
        ("budgets: [ttft p95 < 5ms]", ("--simulate", "config.yaml", "-R", "-1"), "--replications must be at least 1, got -1"),
        ("budgets: [ttft p95 < 5ms]", ("--simulate", "config.yaml", "-R", "0"), "--replications must be at least 1, got 0"),
        ("budgets: [ttft p95 < 5ms]", ("good", "-R", "0"), "--replications belongs to --simulate"),
        ("budgets: [{kind: regression, metric: ttft, at: p50}]", ("good",), "name one with --baseline FILE"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(
    place: Path, tmp_path: Path, budget: str, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "b.yaml").write_text(budget)
    done = gate(place, *arguments, "--budget", tmp_path / "b.yaml")
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert not done.stdout


def test_a_baseline_of_another_schema_version(place: Path, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("budgets: [{kind: regression, metric: ttft, at: p50}]")
    (tmp_path / "old.json").write_text('{"schema": "latprof.baseline/99"}')
    done = gate(place, "good", "--budget", tmp_path / "b.yaml", "--baseline", tmp_path / "old.json")
    assert done.returncode == 2
    assert "got 'latprof.baseline/99'" in done.stderr


def test_a_gate_without_a_budget(place: Path) -> None:
    done = gate(place, "good")
    assert done.returncode == 2
    assert "latprof budget init RUN" in done.stderr
    run = latprof(place, "run", "--replications", "3")
    assert run.returncode == 2
    none = latprof(place, "run", "--budget", "budget.yaml", "-R", "0")
    assert none.returncode == 2
    assert "--replications must be at least 1, got 0" in none.stderr
    assert "--replications is for a gate; say what is promised with --budget FILE" in run.stderr


# --- budgets ------------------------------------------------------------------------------------------------------------------------------


def test_a_first_budget_passes_on_what_it_was_made_from(place: Path, tmp_path: Path) -> None:
    made = latprof(place, "budget", "init", "good", "--to", tmp_path / "first.yaml")
    assert made.returncode == 0, made.stderr
    assert "latency_budget:" in (tmp_path / "first.yaml").read_text()
    assert gate(place, "good", "--budget", tmp_path / "first.yaml").returncode == 0
    again = latprof(place, "budget", "init", "good", "--to", tmp_path / "first.yaml")
    assert again.returncode == 2
    assert "never overwritten" in again.stderr


def test_spending_can_be_kept_and_compared(place: Path, tmp_path: Path) -> None:
    shown = latprof(place, "budget", "show", "good", "--budget", "budget.yaml", "--json", tmp_path / "a.json")
    assert shown.returncode == 0, shown.stderr
    told = json.loads((tmp_path / "a.json").read_text())
    assert sum(row["spent_ms"] for row in told["layers"].values()) == pytest.approx(told["total"]["spent_ms"], abs=0.01)
    assert sum(row["promised_ms"] for row in told["layers"].values()) == pytest.approx(told["total"]["promised_ms"])
    slower = ("--set", "stub.plant.gateway.auth=40ms")
    gate(place, "--simulate", "config.yaml", *slower, "--budget", "budget.yaml", "-R", RUNS, "--json", tmp_path / "b.json")
    changed = latprof(place, "budget", "diff", tmp_path / "a.json", tmp_path / "b.json")
    assert changed.returncode == 0, changed.stderr
    row = next(line for line in changed.stdout.splitlines() if line.startswith("gateway"))
    assert row.endswith("OVER")
    assert float(row.split()[-2]) == pytest.approx(40, abs=3)
    assert latprof(place, "budget", "diff", "config.yaml", tmp_path / "b.json").returncode == 2
