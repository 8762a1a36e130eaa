"""Every file in configs/ runs, shortened by flags alone; and the summary of one such run."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
import yaml
from command import ROOT, Ended, latprof

from latprof.observations.folder import load
from latprof.report.summary import FLAT

pytestmark = pytest.mark.live

CONFIGS = ROOT / "configs"
# Enough requests for a median with its layers (n_eff(1-p) of 10 wants some 40), at a rate that two busy cores can hold.
SHORTENED = (
    "--num-prompts",
    "50",
    "--request-rate",
    "25",
    "--warmup",
    "3",
    "--goodput",
    "ttft:200 tpot:50",
    "-q",
    "--set",
    "spans.grace=3s",
)


def run(folder: Path, *arguments: str | Path) -> Ended:
    flags = ("--out", folder / "run", "--json", folder / "run.json")
    return asyncio.run(latprof("run", *arguments, *flags, tmp_path=folder))


def test_every_configuration_has_its_test() -> None:
    """staging.yaml wants an endpoint: it is run against the stack in a box that ``latprof stub up`` keeps, in test_cli_run_folder.py.

    capacity.yaml is played in virtual time, in test_cli_sweep.py; the budgets are held against runs in test_ci_examples.py.
    """
    run_here = {"quickstart.yaml", "azure-code.yaml", "phases.yaml", "staging.yaml", "capacity.yaml", "spark.yaml", "budgets"}
    assert {path.name for path in CONFIGS.iterdir()} == run_here


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return run(tmp_path_factory.mktemp("quickstart"), CONFIGS / "quickstart.yaml", *SHORTENED)


def test_the_quickstart_runs_and_its_report_can_be_printed_again(quickstart: Ended) -> None:
    assert quickstart.succeeded(), quickstart.said
    assert quickstart.err == ""
    counts = quickstart.summary["counts"]
    assert (counts["planned"], counts["ok"], counts["failed"], counts["warmup"]) == (50, 50, 0, 3)
    again = asyncio.run(latprof("report", quickstart.folder, "--json", "again.json", tmp_path=quickstart.folder.parent))
    assert (again.code, again.out, again.err) == (quickstart.code, quickstart.out, "")
    assert (quickstart.folder.parent / "again.json").read_bytes() == quickstart.json_file.read_bytes()


def test_phases_run_and_name_their_rows(tmp_path: Path) -> None:
    # Shorter by phases that end sooner, so that all of them still come.
    text = (CONFIGS / "phases.yaml").read_text()
    for seconds in ("duration: 3s", "duration: 10s", "duration: 12s", "duration: 5s"):
        text = text.replace(seconds, "duration: 1s")
    (tmp_path / "phases.yaml").write_text(text)
    ended = run(tmp_path, tmp_path / "phases.yaml", "-q", "--set", "spans.grace=3s")
    assert ended.summary["counts"]["failed"] == 0, ended.said
    assert ended.summary["arrival_model"].startswith("open loop, ramp: poisson 10 to 60/s for 1 s, then plateau: ")
    assert ended.summary["arrival_model"].endswith("; then closed loop, 8 in flight")
    requests = load(ended.folder).requests
    assert set(requests.phase) == {"warmup", "ramp", "plateau", "waves", "places"}
    assert set(requests.phase[~requests.measured]) == {"warmup"}
    begun = {name: int(requests.intended_ns[requests.phase == name].min()) for name in ("ramp", "plateau", "waves", "places")}
    assert list(begun) == sorted(begun, key=lambda name: begun[name])


def test_the_fast_decode_case_runs_as_tasks(tmp_path: Path) -> None:
    short = ("workload.prompt_tokens=600", "workload.calls=3", "workload.tool_time=10ms", "workload.output_tokens=25", "spans.grace=3s")
    ended = run(tmp_path, CONFIGS / "spark.yaml", "-q", *(word for key in (*short, "stub.speedup.decode=61.5") for word in ("--set", key)))
    assert (ended.summary["counts"]["ok"], ended.summary["counts"]["failed"]) == (6, 0), ended.said
    assert ended.summary["n_task"] == 2
    rows = {row["layer"]: row["mean_ms"] for row in ended.summary["layers"]["task"]}
    assert math.fsum(rows.values()) == pytest.approx(ended.summary["mean_task_ms"], rel=1e-9)
    assert rows["tool"] >= 20  # two tools of 10 ms on each path
    # One chunk for the first token, then one for every eight.
    assert ended.summary["tokens_per_chunk"] == pytest.approx(25 / 4)


def test_the_quickstart_written_out_is_what_runs_without_a_configuration() -> None:
    from latprof.config import Config
    from latprof.schedule.resolve import resolve_load

    written = Config.model_validate(yaml.safe_load((CONFIGS / "quickstart.yaml").read_text()))
    assert resolve_load(written) == resolve_load(Config())
    assert (written.workload, written.stub) == (Config().workload, Config().stub)


def test_the_summary_has_what_other_tools_read(quickstart: Ended) -> None:
    summary = quickstart.summary
    assert summary["schema"] == "latprof.summary/1"
    assert {"run", "config_hash", "arrival_model", "counts", "rate", "layers", "doubts", "valid"} <= summary.keys()
    assert {f"{figure}_{metric}_ms" for figure in ("mean", "p50", "p90", "p99") for metric in FLAT} <= summary.keys()
    assert {"ttft", "ttft_sent", "tpot", "itl", "e2el", "lateness"} <= set(FLAT)
    columns = {"layer", "p50_ms", "p90_ms", "p99_ms", "mean_ms", "share_p50", "wait_p50_ms", "service_p50_ms", "source", "coverage"}
    assert all(columns <= row.keys() for row in summary["layers"]["ttft"])
    assert all({"id", "level", "text"} <= doubt.keys() for doubt in summary["doubts"])
    assert summary["valid"] is not any(doubt["level"] == "fatal" for doubt in summary["doubts"])
    assert summary["goodput"]["objectives_ms"] == {"ttft": 200, "tpot": 50}


def test_the_layers_add_up(quickstart: Ended) -> None:
    """To the Harrell-Davis percentile where the sample is large enough for it, and to the mean of the slowest where it is not."""
    summary, rows = quickstart.summary, quickstart.summary["layers"]["ttft"]
    for column, whole in (("p50_ms", "p50_ttft_hd_ms"), ("tail_mean_ms", "tail_mean_ttft_ms"), ("mean_ms", "mean_ttft_ms")):
        parts = [row[column] for row in rows]
        assert all(part >= 0 for part in parts)
        assert math.fsum(parts) == pytest.approx(summary[whole], rel=1e-9), column
    assert math.fsum(row["share_p50"] for row in rows) == pytest.approx(1, rel=1e-9)
    assert summary["p99_ttft_hd_ms"] is None
    assert {row["p99_ms"] for row in rows} == {None}


def test_the_layers_are_those_of_the_stack(quickstart: Ended) -> None:
    assert quickstart.summary["counts"]["with_spans_share"] == 1
    names = {row["layer"] for row in quickstart.summary["layers"]["ttft"]}
    assert {"client.lateness", "gateway.auth", "gateway.safety", "gateway.tokenize", "router", "prefill", "decode.first"} <= names


@pytest.mark.skipif(
    not (ROOT.parent / "shared" / "data" / "azure-llm-2023-code.csv").exists(),
    reason="the Azure trace is not there: put AzureLLMInferenceTrace_code.csv of github.com/Azure/AzurePublicDataset (CC-BY) at"
    " ../shared/data/azure-llm-2023-code.csv",
)
def test_the_azure_trace_is_replayed_ten_times_faster(tmp_path: Path) -> None:
    ended = run(tmp_path, CONFIGS / "azure-code.yaml", "--time-scale", "10", "--trace-window", "35s", "--warmup", "2", "-q")
    assert ended.succeeded(), ended.said
    requests = load(ended.folder).requests
    measured = requests.select(requests.measured)
    assert len(measured) == ended.summary["counts"]["planned"] == 43
    assert (measured.prompt_tokens - measured.asked_prompt_tokens).min() >= 0  # the template's tokens come on top, of each the same
    assert len(set(measured.prompt_tokens - measured.asked_prompt_tokens)) == 1
    assert (measured.output_tokens == measured.asked_output_tokens).all()
    assert any(row["layer"] == "gateway.tokenize" and row["wait_mean_ms"] > 0 for row in ended.summary["layers"]["ttft"])
