"""Simulated runs from configuration to report: rows, layers, gaps, laws, schedule and refusals."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latprof.analysis.gaps import distribution_of, gaps_of
from latprof.analysis.laws import laws_in
from latprof.analysis.metrics import e2el_ns, goodput, itl_ns, ttft_ns
from latprof.analysis.quantiles import distribution
from latprof.config import Config, load_config
from latprof.errors import ConfigError, Exit
from latprof.observations.columns import Chunks
from latprof.observations.folder import Run, load
from latprof.observations.graph import load_steps
from latprof.observations.segments import Segments
from latprof.opening import report_of, tables_of
from latprof.pipeline import simulate
from latprof.schedule.build import build_plan
from latprof.spans import store

AGENTS: dict[str, Any] = {"prompt_tokens": 300, "turns": 2, "calls": 3, "tool_time": "200ms", "output_tokens": 20, "tool_tokens": 64}
COLOCATED: dict[str, Any] = {
    "engine": {"mode": "colocated", "replicas": 2, "token_budget": 512, "max_sequences": 32},
    "prefill": {"t0": "2ms", "per_token_ns": 20_000},
    "decode": {"t1": "5ms"},
}


def config(out: Path, **sections: Any) -> Config:
    sections.setdefault("load", {})
    sections["load"] = {"rate_per_s": 20, "num_requests": 120, "warmup_requests": 10, **sections["load"]}
    return load_config(None, {"out": out, **sections})


def played(out: Path, **sections: Any) -> Run:
    return load(simulate(config(out, **sections)).folder)


SHAPES: dict[str, dict[str, Any]] = {
    "pools": {},
    "colocated": {"stub": COLOCATED},
    "held chunks": {"stub": {"gateway": {"per_chunk": "20ms"}, "plant": {"proxy.hold": "30ms"}}},
    "late firsts": {"stub": {"plant": {"decode.first": "60ms"}}},
    "several tokens a chunk": {"stub": {"decode": {"stream_interval": 3}}},
    "agents": {"workload": AGENTS},
}


def chunks_of(run: Run) -> Chunks:
    """Every chunk, made again one by one from the segments: what the short cuts are held against."""
    segments = run.segments
    assert isinstance(segments, Segments)
    ends = {
        (pool, int(first) + i): (int(step), i)
        for pool, log in segments.pools.items()
        for first, step, count in zip(log.first, log.step_ns, log.count, strict=True)
        for i in range(int(count))
    }
    first_ns = dict(zip(run.requests.request.tolist(), run.requests.first_token_ns.tolist(), strict=True))
    rows: list[tuple[int, int]] = []
    for request, pool, joined, ended in zip(segments.request, segments.pool, segments.joined, segments.ended, strict=True):
        at_ns = first_ns[int(request)]
        rows.append((int(request), at_ns))
        for iteration in range(int(joined), int(ended)):
            at_ns += ends[int(pool), iteration][0]
            rows.append((int(request), at_ns))
    own = zip(segments.own_request, segments.own_start_ns, segments.own_step_ns, segments.own_count, strict=True)
    rows += [(int(request), int(start + step * i)) for request, start, step, count in own for i in range(int(count))]
    request, at = np.array(rows, np.int64).T
    return Chunks(request, at, np.ones_like(at), np.ones_like(at))


@pytest.mark.parametrize("shape", SHAPES)
def test_gaps_are_those_of_the_chunks(tmp_path: Path, shape: str) -> None:
    run = played(tmp_path / "run", **SHAPES[shape])
    assert run.segments is not None
    chunks = chunks_of(run)
    last_ns = [int(chunks.at_ns[chunks.request == request].max()) for request in run.requests.request]
    assert last_ns == run.requests.last_token_ns.tolist()
    assert np.bincount(chunks.request).tolist() == run.requests.token_chunks.tolist()
    ok = run.requests.select(run.requests.measured & run.requests.success)
    one_by_one, summed = distribution(itl_ns(ok, chunks)[1]), distribution_of(gaps_of(ok, run.segments))
    assert (summed.n, summed.mean, summed.tail_mean) == pytest.approx((one_by_one.n, one_by_one.mean, one_by_one.tail_mean))
    assert summed.percentiles == pytest.approx(one_by_one.percentiles)
    for limit_ms in (10.0, 14.5, 15.0, 20.0):
        rows, gaps_ns = itl_ns(ok, chunks)
        mean_ns = [gaps_ns[rows == row].mean() if (rows == row).any() else 0.0 for row in range(len(ok))]
        assert goodput(ok, run.chunks, {"itl": limit_ms}).good == sum(mean <= limit_ms * 1e6 for mean in mean_ns)


@pytest.mark.parametrize("shape", SHAPES)
def test_layers_add_up_to_the_metrics(tmp_path: Path, shape: str) -> None:
    run = played(tmp_path / "run", **SHAPES[shape])
    tables = tables_of(run, store.load(run.folder))
    for table, metric_ns in ((tables.ttft, ttft_ns(run.requests)), (tables.e2el, e2el_ns(run.requests))):
        assert (table.total_ns.sum(axis=1) == metric_ns[table.rows]).all()
        assert (table.total_ns >= 0).all()
        assert (table.wait_ns + table.service_ns == table.total_ns).all()
        assert len(table.rows) == int((run.requests.measured & run.requests.success).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_laws_hold_and_the_report_is_valid(tmp_path: Path, shape: str) -> None:
    outcome = simulate(config(tmp_path / "run", **SHAPES[shape]))
    laws = laws_in(load(outcome.folder).meta)
    assert all(law.holds for law in laws)
    assert {"calls", "gateway.safety", "router"} < {law.layer for law in laws}
    assert outcome.report.is_simulated
    assert outcome.report.valid
    assert outcome.exit_code == Exit.DONE


def test_budgets_add_up_to_their_percentiles(tmp_path: Path) -> None:
    report = simulate(config(tmp_path / "run", load={"num_requests": 1500})).report
    for budget, metric in ((report.budget, "ttft"), (report.call_budget, "e2el")):
        assert budget is not None
        hd = dict(zip(("p50", "p90", "p99"), report.metrics[metric].hd, strict=True))
        for column in (*budget.columns, budget.mean):
            assert sum(row.total_ns[column.label] for row in budget.rows) == pytest.approx(column.value_ns, rel=1e-9)
            if column.kind == "percentile":
                assert column.value_ns == pytest.approx(hd[column.label], rel=1e-9)


def test_the_itl_has_its_percentiles(tmp_path: Path) -> None:
    report = simulate(config(tmp_path / "run", load={"num_requests": 400})).report
    assert report.metrics["itl"].given == report.metrics["itl"].percentiles
    assert report.metrics["itl"].n >= 1_000


def test_rows_that_do_not_agree_with_the_integrals_are_a_fatal_doubt(tmp_path: Path) -> None:
    outcome = simulate(config(tmp_path / "run"))
    path = outcome.folder / "run.json"
    meta = json.loads(path.read_text())
    next(law for law in meta["laws"] if law["layer"] == "prefill")["mean_present"] *= 1.02
    path.write_text(json.dumps(meta))
    report = report_of(outcome.folder)
    assert not report.valid
    assert "prefill" in next(doubt.text for doubt in report.doubts if doubt.id == "laws")


def test_the_schedule_is_that_of_a_live_run(tmp_path: Path) -> None:
    for load_section in (
        {},
        {"phases": [{"name": "ramp", "duration": "4s", "ramp_per_s": [2, 20]}, {"name": "hold", "num_requests": 20, "rate_per_s": 9}]},
    ):
        settings = load_config(None, {"load": {"rate_per_s": None if load_section else 15, "num_requests": None if load_section else 60, **load_section}, "workload": {"prompt_tokens": {"dist": "lognormal", "mean": 200}}, "out": tmp_path / f"run{len(load_section)}"})  # fmt: skip
        run = load(simulate(settings).folder)
        for phase, told in zip(build_plan(settings).phases, run.meta["phases"], strict=True):
            names = {part.name for part in phase.parts} or {phase.name}
            rows = run.requests.select(np.isin(run.requests.phase, list(names)))
            assert rows.session.tolist() == [one.session.session for one in phase.planned]
            assert (rows.intended_ns - told["start_ns"]).tolist() == [one.offset_ns for one in phase.planned]
            assert rows.prompt_tokens.tolist() == [one.session.turns[0].prompt_tokens for one in phase.planned]
            assert rows.phase.tolist() == [one.phase or phase.name for one in phase.planned]


def test_graphs_are_written_down(tmp_path: Path) -> None:
    run = played(tmp_path / "run", workload=AGENTS)
    steps = load_steps(run.folder)
    assert set(steps.session.tolist()) == set(run.requests.session.tolist())
    assert int(steps.is_turn.sum()) == len(run.requests)
    assert report_of(run.folder).tasks is not None


def test_a_closed_loop_keeps_its_concurrency(tmp_path: Path) -> None:
    run = played(tmp_path / "run", load={"rate_per_s": None, "concurrency": 5, "num_requests": 200})
    calls = next(law for law in laws_in(run.meta) if law.layer == "calls")
    assert calls.mean_present == pytest.approx(5, rel=0.05)
    assert "closed loop, 5 in flight" in run.meta["arrival_model"]


# --- the same bytes -----------------------------------------------------------------------------------------------------------------------

GOLDEN = "e242fb96c7c25f817e26fba4219e273101d1ebc64ccd1b84898c579514bb92ae"
"""Of the tables of one small run. It changes when the models, the draws or the workload do, and then on purpose."""

_HASHED = """
import hashlib, sys
from pathlib import Path
import pyarrow.parquet as pq
from latprof.config import load_config
from latprof.pipeline import simulate
out = Path(sys.argv[1])
simulate(load_config(None, {"out": out, "load": {"seed": 11, "phases": [
    {"name": "warmup", "num_requests": 10, "rate_per_s": 20},
    {"name": "gaps", "num_requests": 120, "rate_per_s": 20, "burstiness": 0.5},
    {"name": "wave", "duration": "4s", "sine": {"mean_per_s": 20, "amplitude_per_s": 10, "period": "3s"}},
    {"name": "places", "concurrency": 6, "num_requests": 60},
]}, "workload": {"preset": "chat", "prompt_tokens": {"dist": "lognormal", "mean": 300, "cv": 0.7}, "cached_share": 0.4},
"stub": {"seed": 12, "gateway": {"auth": {"service": {"dist": "gamma", "mean": "1ms", "cv": 1.4}}, "ratelimit":
    {"service": {"dist": "exponential", "mean": "1ms"}}}, "plant": {"proxy.hold": "5ms"}}}), allow_unstable=True)
digest = hashlib.sha256()
for name in ("requests", "layers", "segments", "streamed", "steps"):
    table = pq.read_table(out / f"{name}.parquet")
    for column in sorted(table.schema.names):
        if table[column].null_count < table.num_rows:  # a column that is new in live runs changes nothing here
            digest.update(repr((column, table[column].to_pylist())).encode())
print(digest.hexdigest())
"""


def digest(out: Path, **environment: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", _HASHED, str(out)], env={**os.environ, **environment}, check=True, capture_output=True, text=True
    )
    return run.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="the promise is for x86-64 Linux")
def test_the_same_seed_gives_the_same_bytes_as_ever(tmp_path: Path) -> None:
    """Whatever the processor can do, and however hashes are seeded; the content of every table is hashed, not what Parquet makes of it."""
    cpu = importlib.import_module("numpy._core._multiarray_umath")
    features = " ".join(name for name in cpu.__cpu_dispatch__ if cpu.__cpu_features__.get(name))
    assert digest(tmp_path / "a", PYTHONHASHSEED="0") == GOLDEN
    assert digest(tmp_path / "b", PYTHONHASHSEED="123", NPY_DISABLE_CPU_FEATURES=features) == GOLDEN
    # The C library's exp and log differ in their last bit without fused multiply-add; a draw rounded to ns does not.
    assert digest(tmp_path / "c", GLIBC_TUNABLES="glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F") == GOLDEN


def test_two_folders_are_equal_byte_for_byte(tmp_path: Path) -> None:
    folders = [simulate(config(tmp_path / name, workload=AGENTS, stub=COLOCATED)).folder for name in ("one", "two")]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    for name in names[0]:
        first, second = (hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in folders)
        assert first == second, name


# --- what is refused ----------------------------------------------------------------------------------------------------------------------


def test_an_endpoint_is_not_simulated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"target\.url must be left out"):
        simulate(load_config(None, {"target": {"url": "http://127.0.0.1:1"}, "out": tmp_path / "run"}))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("stub", "rate_per_s", "layer"),
    [
        ({}, 300, "prefill"),
        ({"decode": {"slots": 1}}, 20, "decode"),
        ({"gateway": {"safety": {"service": {"dist": "lognormal", "mean": "100ms"}, "workers": 1}}}, 11, "gateway.safety"),
        ({"gateway": {"tokenize_model": {"per_token_ns": 1e6}}}, 5, "gateway.tokenize"),
        ({**COLOCATED, "prefill": {"per_token_ns": 1e6}}, 10, "engine"),
        ({"faults": [{"stage": "router", "kind": "stall", "share": 0.5, "for": "10s"}]}, 20, "router"),
    ],
)
def test_an_unstable_open_loop_is_told_before_it_runs(tmp_path: Path, stub: dict[str, Any], rate_per_s: float, layer: str) -> None:
    settings = config(tmp_path / "run", stub=stub, load={"rate_per_s": rate_per_s, "num_requests": 50})
    with pytest.raises(ConfigError, match=rf"times of what {layer} can do.*--allow-unstable"):
        simulate(settings)
    assert not (tmp_path / "run").exists()
    assert simulate(settings, allow_unstable=True).report.counts.ok == 50


def test_what_is_asked_for_is_what_happens(tmp_path: Path) -> None:
    """The utilisation that is told beforehand is the one that comes out, at a load that is far from unstable."""
    from latprof.pipeline.simulated import offered_load

    settings = config(tmp_path / "run", load={"rate_per_s": 40, "num_requests": 4000}, stub={"gateway": {"tokenize": "5ms"}})
    told = offered_load(settings)["measured"]
    found = {law.layer: law.utilisation for law in laws_in(load(simulate(settings).folder).meta)}
    for layer in ("gateway.safety", "gateway.tokenize", "router", "prefill", "kv.transfer"):
        assert found[layer] == pytest.approx(told[layer], rel=0.05)


def test_a_slow_call_is_told_where_a_client_would_have_hung_up(tmp_path: Path) -> None:
    outcome = simulate(config(tmp_path / "run", stub={"prefill": {"t0": "3s"}}, target={"timeout": "2s"}, load={"rate_per_s": 1}))
    assert any("nobody hangs up" in doubt.text for doubt in outcome.report.doubts)
