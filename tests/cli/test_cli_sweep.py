"""``latprof sweep`` and ``latprof run --sweep`` as a user starts them: what they refuse, and short sweeps live and simulated."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import OF_THE_MACHINE, ROOT, Ended, latprof

from latprof.cli import main
from latprof.sweep.runs import simulated

CALM = ("--set", "stub.gateway.tokenize=1ms", "-q")


def sweep(folder: Path, *arguments: str | Path) -> Ended:
    return asyncio.run(latprof("sweep", *arguments, tmp_path=folder))


Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refused:
    """The console script in this process, which must end with 2 and say why on standard error alone."""

    def run(*arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["latprof", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code, said.out) == (2, "")
        return said.err

    return run


# --- what is refused, before the first run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "a sweep needs something to sweep: --speedup decode=1,2,4,8"),
        (("--speedup", "decod=1,2"), "--speedup decod: is no layer of the stack in a box that works; did you mean decode?"),
        (("--speedup", "gateway.saftey=1,2"), "did you mean gateway.safety?"),
        (("--speedup", "engine.queue=1,2"), "is no layer of the stack in a box that works"),
        (("--speedup", "decode=0,1"), "--speedup decode wants numbers above 0, got 0"),
        (("--speedup", "decode=1,-2"), "--speedup decode wants numbers above 0, got -2"),
        (("--speedup", "decode=1,inf"), "--speedup decode wants numbers above 0, got inf"),
        (("--speedup", "decode=1,fast"), "--speedup decode wants a list of numbers such as 1,2,4,8, got 'fast' in it"),
        (("--speedup", "decode="), "--speedup decode wants a list of numbers such as 1,2,4,8, got none"),
        (("--speedup", "decode"), "--speedup wants LAYER=K,K,... such as decode=1,2,4,8, got 'decode'"),
        (("--speedup", "decode=1,2,1"), "--speedup decode names 1 more than once"),
        (("--speedup", "decode=1,1.0"), "--speedup decode names 1 more than once"),
        (("--speedup", "decode=1,2", "--speedup", "decode=4"), "decode is swept twice"),
        (("--speedup", "gateway.tokenize=1,2"), "stub.gateway.tokenize is real, so its time is measured and cannot be divided"),
        (("--rate", "10,0"), "--rate wants numbers above 0, got 0"),
        (("--concurrency", "1.5"), "--concurrency wants whole numbers of requests in flight, got 1.5"),
        (("--rate", "10", "--concurrency", "2"), "--rate is an open loop and --concurrency a closed one"),
        (("--speedup", "decode=1,2,4", "--rate", "5,10", "--together"), "--together moves all axes at once and wants lists of one length"),
        (("--vary", "stub.prefil.replicas=1,2"), "--vary stub.prefil.replicas: prefil is not a known key; did you mean prefill?"),
        (("--vary", "stub.prefill.replicas=0.5,1"), "--vary stub.prefill.replicas: cannot be 0.5"),
        (("--vary", "stub.gateway.tokenize.workers=1,2"), "tokenize holds no other keys here"),
        (("--vary", "replicas=1,2"), "--vary wants KEY=V,V,..."),
        (("--vary", "stub.speedup.decode=1,2"), "a speed-up is swept by --speedup decode=1,2"),
        (("--speedup", "decode=1,2", "--leverage"), "--leverage runs every point again"),
        (("--speedup", "decode=1,2", "--replications", "0"), "--replications must be at least 1, got 0"),
        (("--rate", "5:200", "--find-goodput", "99"), "--find-goodput wants a share of the requests such as 0.99, got 99"),
        (("--rate", "5,200", "--find-goodput", "0.99"), "--rate wants a span LOW:HIGH such as 5:200"),
        (("--rate", "200:5", "--find-goodput", "0.99"), "--rate wants a span LOW:HIGH such as 5:200"),
        (("--find-goodput", "0.99"), "--find-goodput wants exactly one of --rate LOW:HIGH and --concurrency LOW:HIGH"),
        (("--speedup", "decode=1,2", "--rate", "5:9", "--find-goodput", "0.99"), "--find-goodput searches one load"),
        (("--rate", "5:9", "--find-goodput", "0.99", "--refine", "1"), "--refine belongs to a sweep of given points"),
        (("--rate", "5:9", "--find-goodput", "0.99", "--together"), "--together belongs to a sweep of given points"),
        (("--rate", "5:9", "--find-goodput", "0.99", "--leverage", "--simulate"), "--leverage belongs to a sweep of given points"),
        (("--set", "target.url=http://127.0.0.1:9/v1", "--speedup", "decode=1,2"), "latprof whatif RUN --speedup decode=8"),
        (("--set", "target.url=http://127.0.0.1:9/v1", "--rate", "1,2", "--simulate"), "--simulate simulates the stack in a box"),
        (("--set", "target.url=http://127.0.0.1:9/v1", "--rate", "1:2", "--find-goodput", "0.9"), "--find-goodput needs objectives"),
    ],
    ids=str,
)
def test_what_cannot_be_swept_is_told_with_its_flag(refused: Refused, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    assert told in refused("sweep", *arguments, "-q")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--sweep", "5,10"), "--sweep wants rate=5,10,20 or concurrency=1,2,4, got '5,10'"),
        (("--sweep", "decode=1,2"), "to sweep speed-ups: latprof sweep --speedup"),
        (("--sweep", "rate=5,10", "--dry-run"), "--dry-run plans one run, --sweep makes many"),
        (("--find-goodput", "0.99"), "say which and where with --sweep rate=5:200"),
        (("--sweep", "rate=0"), "--sweep wants numbers above 0, got 0"),
        (("--sweep", "rate=5,10", "--replications", "0"), "--replications must be at least 1, got 0"),
        (("--sweep", "rate=5,10", "--budget", "b.yaml"), "--budget belongs to a gate, which judges one load"),
        (("--sweep", "rate=5:10", "--find-goodput", "0.9", "--budget", "b.yaml"), "latprof gate SWEEP/rate=N,r* --budget FILE"),
        (("--sweep", "rate=5,10", "--baseline", "b.json"), "--baseline belongs to a gate"),
        (("--sweep", "rate=5,10", "--inconclusive", "pass"), "--inconclusive belongs to a gate"),
        (("--sweep", "rate=5,10", "--junit", "j.xml"), "--junit belongs to a gate"),
        (("--sweep", "concurrency=1,2", "--ci", "ci"), "latprof gate SWEEP/concurrency=N,r* --budget FILE"),
        (("--sweep", "rate=5,10", "--early-stop"), "latprof run --rate N --replications 5 --budget FILE --early-stop"),
        (("--early-stop",), "--early-stop is for a gate; say what is promised with --budget FILE"),
        (("--inconclusive", "pass"), "--inconclusive is for a gate; say what is promised with --budget FILE"),
    ],
    ids=str,
)
def test_a_run_that_sweeps_refuses_alike(refused: Refused, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    assert told in refused("run", *arguments, "-q")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("with_page", [True, False])
def test_a_run_that_sweeps_repeats_every_load_and_leaves_the_page_out_if_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, with_page: bool
) -> None:
    """In virtual time, as if that were live: how the runs are made is not what is asked here."""
    monkeypatch.setattr("latprof.sweep.runs.live", lambda jobs, *, seed: simulated(jobs, processes=1))  # noqa: ARG005
    flags = ("--sweep", "rate=10,20", "--replications", "2", "--num-prompts", "40", *CALM, "--no-live", "--out", "swept")
    assert run_here(monkeypatch, tmp_path, "run", *flags, *(() if with_page else ("--no-html",))) == 0
    runs = sorted(folder.parent.name for folder in (tmp_path / "swept").glob("*/run.json"))
    assert runs == ["rate=10,r0", "rate=10,r1", "rate=20,r0", "rate=20,r1"]
    assert (tmp_path / "swept" / "report.html").exists() == with_page


# --- simulated --------------------------------------------------------------------------------------------------------------------------


def test_a_simulated_sweep_is_a_folder_of_runs_and_is_printed_again(tmp_path: Path) -> None:
    flags = ("--rate", "20", "--num-prompts", "400", "--simulate", *CALM, "--set", "workload.output_tokens=40")
    ended = sweep(tmp_path, "--speedup", "decode=1,4,16", "--out", "swept", "--json", "told.json", "--refine", "0", "-R", "2", *flags)
    assert ended.code == 0, ended.said
    assert "As decode gets faster" in ended.out
    assert "all others together are as large as decode at k=" in ended.out
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["schema"], told["simulated"], len(told["points"])) == ("latprof.sweep_summary/1", True, 3)
    medians = [point["metrics"]["e2el"]["p50"]["value_ms"] for point in told["points"]]
    assert medians[0] > medians[1] > medians[2]
    assert {run["used"] for point in told["points"] for run in point["runs"]} == {True}
    assert len(list((tmp_path / "swept").glob("*/run.json"))) == 6
    again = asyncio.run(latprof("report", "swept", tmp_path=tmp_path))
    assert (again.code, again.out) == (0, ended.out)
    one = asyncio.run(latprof("report", "swept/decode=4,rate=20,r0", tmp_path=tmp_path))
    assert "TTFT budget" in one.out


def test_the_same_seed_gives_the_same_sweep(tmp_path: Path) -> None:
    flags = ("--speedup", "decode=1,8", "--rate", "20", "--num-prompts", "120", "--simulate", "--refine", "0", *CALM)
    first, second = (sweep(tmp_path, *flags, "--out", name, "--json", f"{name}.json") for name in ("a", "b"))
    assert first.out.replace("written  a  (latprof report a", "") == second.out.replace("written  b  (latprof report b", "")


def test_the_highest_rate_is_found_in_virtual_time(tmp_path: Path) -> None:
    """Prefill serves 16 at a time, 81 ms each: 197/s. Well below that its queue is gone, beyond it nothing meets 200 ms."""
    flags = ("--find-goodput", "0.95", "--goodput", "ttft:200", "--num-prompts", "1000", "--simulate", "--set", "workload.output_tokens=2")
    ended = sweep(tmp_path, "--rate", "20:400", *flags, *CALM, "--json", "told.json", "--out", "found")
    assert ended.code == 0, ended.said
    told = json.loads((tmp_path / "told.json").read_text())
    assert 100 < told["met"] < told["missed"] < 220
    assert told["missed"] <= 1.04 * told["met"]
    answer = f"highest rate that meets ttft:200 on 95 % of the requests: {told['met']:.4g}/s ({told['missed']:.4g} missed)"
    assert answer in ended.out
    again = asyncio.run(latprof("report", "found", "--json", "again.json", "--html", "again.html", tmp_path=tmp_path))
    assert (again.code, again.out) == (0, ended.out)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "told.json").read_bytes()
    page = (tmp_path / "found" / "report.html").read_text()
    assert f'<p class="verdict good">{answer}</p>' in page
    assert 'id="load"' in page
    assert "--find-goodput=0.95" in page
    assert (tmp_path / "again.html").read_text() == page
    index = tmp_path / "found" / "sweep.json"
    index.write_text(index.read_text().replace('"status": "complete"', '"status": "running"'))
    killed = asyncio.run(latprof("report", "found", tmp_path=tmp_path))
    assert answer not in killed.out
    assert "Sweep of rate, simulated" in killed.out


def test_a_rate_beyond_what_the_stack_can_do_is_told_and_the_others_stand(tmp_path: Path) -> None:
    ended = sweep(tmp_path, "--rate", "20,400", "--num-prompts", "200", "--simulate", *CALM)
    assert ended.code == 0, ended.said
    assert "no run came of rate=400 (replication 0)" in ended.out
    assert "lower the rate below" in " ".join(ended.out.split())
    alone = sweep(tmp_path, "--rate", "400", "--num-prompts", "200", "--simulate", *CALM)
    assert alone.code == 2, alone.said
    assert "lower the rate below" in alone.err


def test_replicas_are_swept_as_any_key(tmp_path: Path) -> None:
    grid = ("--vary", "stub.prefill.workers=2,8", "--vary", "stub.gateway.safety.workers=1,4")
    ended = sweep(tmp_path, *grid, "--rate", "15", "--num-prompts", "300", "--simulate", *CALM, "--json", "told.json")
    assert ended.code == 0, ended.said
    assert "across stub.prefill.workers" in ended.out
    assert "stub.gateway.safety.workers 4: stub.prefill.workers to 8 -" in ended.out
    told = json.loads((tmp_path / "told.json").read_text())
    at = {tuple(point["setting"].values())[:2]: point for point in told["points"]}
    assert at[2, 1]["stations"][-3]["station"] == "prefill"
    assert (at[2, 1]["stations"][-3]["servers"], at[8, 1]["stations"][-3]["servers"]) == (2, 8)
    p50 = {setting: point["metrics"]["ttft"]["p50"]["value_ms"] for setting, point in at.items()}
    assert p50[2, 1] > p50[8, 1] > p50[8, 4]


def test_the_capacity_question_has_its_answer(tmp_path: Path) -> None:
    """With decoding 15 times faster prefill is what throughput ends at; a second replica takes the queue away."""
    config = ROOT / "configs" / "capacity.yaml"
    short = ("--simulate", "--num-prompts", "60", "--refine", "0", "-q")
    ended = sweep(tmp_path, config, "--vary", "stub.prefill.replicas=1,3", *short, "--json", "told.json")
    assert ended.code == 0, ended.said
    one, three = json.loads((tmp_path / "told.json").read_text())["points"]
    assert one["metrics"]["e2el"]["p50"]["bottlenecks"]["capacity"]["layers"][0] == "prefill"
    assert one["metrics"]["e2el"]["p50"]["value_ms"] > 1.1 * three["metrics"]["e2el"]["p50"]["value_ms"]
    assert "task" in one["metrics"]
    assert one["arrival_model"] == "closed loop, 24 sessions always on"
    assert one["bounds"]["population_per_s"] is not None


def test_a_plan_that_the_stack_will_not_keep_up_with_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    few = ("--dry-run", "--num-prompts", "30", "--isl", "8")
    assert run_here(monkeypatch, tmp_path, "run", "--rate", "900", *few) == 0
    assert "unstable load: phase measured asks" in capsys.readouterr().err
    assert run_here(monkeypatch, tmp_path, "run", "--rate", "9", *few) == 0
    assert "unstable" not in capsys.readouterr().err


# --- live -------------------------------------------------------------------------------------------------------------------------------


def run_here(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    """The console script in this process: a busy machine may take its time."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["latprof", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.slow
@pytest.mark.live
@pytest.mark.timeout(300)
def test_a_live_sweep_of_two_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--num-prompts", "40", "--warmup", "2", "--rate", "10", "--set", "spans.grace=3s", "--set", "workload.output_tokens=16")
    code = run_here(monkeypatch, tmp_path, "sweep", "--speedup", "decode=1,8", *flags, *CALM, "--json", "told.json", "--out", "swept")
    told = json.loads((tmp_path / "told.json").read_text())
    assert {doubt["id"] for doubt in told["doubts"]} <= OF_THE_MACHINE | {"point_missing"}
    assert (code == 0) == any(run["used"] for point in told["points"] for run in point["runs"])
    assert code in {0, 4}
    slow, fast = (point["metrics"]["e2el"]["p50"]["value_ms"] for point in told["points"])
    assert slow - fast > 100  # 15 iterations of 14 ms and more, less an eighth of that
    decode = {row["layer"]: row["contribution_ms"] for row in told["points"][0]["metrics"]["e2el"]["p50"]["layers"]}["decode"]
    assert decode > 150


@pytest.mark.slow
@pytest.mark.live
@pytest.mark.timeout(300)
def test_a_run_sweeps_rates_and_keeps_its_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--num-prompts", "20", "--warmup", "0", "--osl", "2", "--isl", "16", "-q", "--set", "spans.grace=2s")
    code = run_here(monkeypatch, tmp_path, "run", "--sweep", "rate=8,16", *flags, "--out", "swept", "--json", "told.json")
    assert code in {0, 4}
    told = json.loads((tmp_path / "told.json").read_text())
    assert [point["setting"] for point in told["points"]] == [{"rate": 8}, {"rate": 16}]
    run = json.loads((tmp_path / "swept" / "rate=16,r0" / "run.json").read_text())
    assert (run["config"]["load"]["rate_per_s"], run["config"]["workload"]["output_tokens"]["mean"]) == (16, 2)
    assert "load at rate=8: open loop, poisson 8/s" in capsys.readouterr().out


@pytest.mark.live
@pytest.mark.timeout(120)
def test_a_live_run_beyond_what_the_stack_can_do_says_so_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One prefill server at 31 ms: 32/s. The stack is refused nothing, and serves them all."""
    flags = ("--rate", "64", "--num-prompts", "40", "--warmup", "0", "--osl", "2", "--isl", "8", "--set", "spans.grace=2s", "--no-html")
    code = run_here(
        monkeypatch, tmp_path, "run", *flags, "--set", "stub.prefill.workers=1", "--out", "much", "--json", "told.json", "--no-live"
    )
    said = capsys.readouterr()
    assert "unstable load: phase measured asks" in said.err
    assert "of what prefill can do" in said.err
    told = json.loads((tmp_path / "told.json").read_text())
    assert code in {0, 4}
    assert told["doubts"][0]["id"] == "unstable" or told["doubts"][0]["id"] in OF_THE_MACHINE
    assert "unstable load: phase measured asks" in said.out
    (unstable,) = json.loads((tmp_path / "much" / "run.json").read_text())["unstable"]
    assert (unstable["phase"], unstable["layer"]) == ("measured", "prefill")
