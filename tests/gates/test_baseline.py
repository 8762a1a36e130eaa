"""Baselines: what is kept is what was measured, to the last digit, and what must not be compared is refused by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.queue_runs import replication
from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.arms import Arm, Key, arm_of
from latprof.analysis.verdicts.compare import Tolerance, change, compare
from latprof.analysis.verdicts.differences import Shift
from latprof.analysis.verdicts.replications import Selector, estimate
from latprof.commands.baseline import save_baseline
from latprof.errors import ConfigError, Exit, RunFailedError, UsageError
from latprof.gates.arms import runs_at
from latprof.gates.baseline import load, mismatches, save

SEEDS = range(5)
HOST = {"platform": "linux", "machine": "x86_64", "cpu_model": "A processor", "cpus": 2, "python": "CPython 3.11.7", "latprof": "0.1.0"}


def runs(seeds: Sequence[int] = SEEDS, n: int = 600, scale: float = 1.0, **meta: Any) -> list[Any]:
    made = [replication((seed,), 0.5, n, scale=scale) for seed in seeds]
    return [replace(one, meta={**one.meta, "seed": seed, "host": HOST, **meta}) for seed, one in zip(seeds, made, strict=True)]


def arm(**other: Any) -> Arm:
    return arm_of("arm", runs(**other))


def every_key(of: Arm) -> list[Key]:
    return [*of.metric_keys(), *of.layer_keys("ttft"), Key(Selector("ttft"), None), Key(Selector("ttft", "gateway"), 0.95)]


def test_what_is_kept_is_what_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    measured = arm()
    save(measured, file)
    kept = load(file).arm
    assert (kept.seeds, kept.metrics, kept.layers) == (measured.seeds, measured.metrics, measured.layers)
    for key in every_key(measured):
        was, now = measured.figure(key), kept.figure(key)
        assert now.figures == (was.figures if key.selector.layer != "gateway" else pytest.approx(was.figures, rel=1e-12)), key
        assert (now.low, now.high) == pytest.approx((was.low, was.high), rel=1e-12, nan_ok=True), key
        assert (now.value, now.n, now.n_eff) == pytest.approx((was.value, was.n, was.n_eff), rel=1e-12), key
        assert now.together == pytest.approx(was.together, rel=1e-12), key
    found = compare(kept, arm())
    assert found.is_paired
    assert {one.verdict for one in (*found.end_to_end, *found.layers)} == {"same"}
    assert all(one.value == 0.0 for one in found.end_to_end)
    of_prefix = change(kept, measured, Key(Selector("ttft", "gateway"), 0.95), Tolerance())  # summed in another order
    assert of_prefix.shift == Shift(0.0, 0.0, 4.0)


def test_a_prefix_is_the_sum_of_its_children(tmp_path: Path) -> None:
    save(arm(), tmp_path / "b.json")
    kept = load(tmp_path / "b.json").arm.figure(Key(Selector("ttft", "gateway"), 0.5))
    asked = estimate(runs(), Selector("ttft", "gateway"), 0.5)
    assert kept.value == pytest.approx(asked.value)
    assert kept.error == pytest.approx(asked.error)
    assert "no request tells of router" in load(tmp_path / "b.json").arm.figure(Key(Selector("ttft", "router"), 0.5)).why


def test_saving_again_changes_nothing_and_a_figure_is_a_line(tmp_path: Path) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    save(arm(), first)
    save(arm(), second)
    assert first.read_bytes() == second.read_bytes()
    lines = first.read_text().splitlines()
    assert sum('"value"' in line for line in lines) == sum(line.count('"value"') for line in lines) > 15
    assert len(first.read_bytes()) < 20_000


def test_time_batches_of_a_single_run_are_kept_too(tmp_path: Path) -> None:
    single = arm_of("one", runs([1], n=2000))
    save(single, tmp_path / "b.json")
    kept = load(tmp_path / "b.json").arm
    key = Key(Selector("ttft"), 0.5)
    assert len(kept.figure(key).figures) == 20
    assert kept.figure(key).why == "from 20 time batches"
    assert "p99 needs 3 replications" in kept.figure(Key(Selector("ttft"), 0.99)).why


def test_the_ceiling_stays_while_the_baseline_rolls(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    key = Key(Selector("ttft"), 0.5)
    first = save(arm(), file)
    assert first.ceilings_ns[key] == pytest.approx(1.2 * arm().figure(key).value)
    assert save(arm(scale=1.1), file).ceilings_ns[key] == pytest.approx(first.ceilings_ns[key])
    assert load(file).ceilings_ns[key] == pytest.approx(first.ceilings_ns[key])
    before = file.read_bytes()
    with pytest.raises(UsageError, match=r"ttft p50 is .* ms, above the fixed ceiling of .* ms"):
        save(arm(scale=1.25), file)
    assert file.read_bytes() == before
    assert save(arm(scale=1.25), file, ceiling_share=0.1).ceilings_ns[key] == pytest.approx(1.1 * arm(scale=1.25).figure(key).value)


def test_ceilings_of_another_load_go_only_when_asked_to(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    key = Key(Selector("ttft"), 0.5)
    save(arm(config={"load": {"rate_per_s": 5.0}}), file)
    before = file.read_bytes()
    with pytest.raises(UsageError, match=r"another load \(load\.rate_per_s 5\.0 -> 9\.0\).*--ceiling 20%"):
        save(arm(scale=2.0, config={"load": {"rate_per_s": 9.0}}), file)
    assert file.read_bytes() == before
    anew = save(arm(scale=2.0, config={"load": {"rate_per_s": 9.0}}), file, ceiling_share=0.2)
    assert anew.ceilings_ns[key] == pytest.approx(1.2 * arm(scale=2.0).figure(key).value)


def ceilings(of: Arm, file: Path, share: float | None = None) -> set[str]:
    return {str(key) for key in save(of, file, ceiling_share=share).ceilings_ns}


def test_a_percentile_that_says_nothing_gets_no_ceiling(tmp_path: Path) -> None:
    assert ceilings(arm(), tmp_path / "many.json") == {"ttft p50", "ttft p95"}
    assert ceilings(arm(seeds=[1], n=60), tmp_path / "one.json") == {"ttft p50"}
    assert ceilings(arm(seeds=[1], n=5_000), tmp_path / "long.json") == {"ttft p50"}  # no other run says how it scatters
    assert ceilings(arm(n=10), tmp_path / "short.json") == {"ttft p50"}
    assert ceilings(arm(seeds=[1], n=10), tmp_path / "shortest.json") == set()


def test_a_ceiling_is_added_when_more_runs_are_saved_and_stays_when_fewer_are(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    assert ceilings(arm(seeds=[1]), file) == {"ttft p50"}
    assert ceilings(arm(scale=0.95), file) == {"ttft p50", "ttft p95"}
    fixed = load(file).ceilings_ns
    assert save(arm(seeds=[1], scale=0.9), file).ceilings_ns == pytest.approx(fixed)
    # Three of 60 requests above the ceiling of p95 are no news; five runs are.
    key = Key(Selector("ttft"), 0.95)
    lucky = next(one for seed in range(100) if (one := arm(seeds=[seed], n=60, scale=0.8)).figure(key).value > fixed[key])
    assert save(lucky, file).ceilings_ns == pytest.approx(fixed)
    with pytest.raises(UsageError, match="above the fixed ceiling"):
        save(arm(scale=1.5), file)


def test_what_got_no_ceiling_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (single,) = runs([1], n=60)
    monkeypatch.setattr("latprof.gates.arms.replication_of", lambda _folder, _objectives=None: single)
    save_baseline([tmp_path], tmp_path / "b.json", None)
    told = capsys.readouterr().out
    assert "with fewer than 3 runs only medians can be held against it" in told
    assert "ceilings: ttft p50 " in told
    assert "no ceiling for ttft p95: p95 needs 3 replications, got 1" in told


def test_another_load_or_machine_is_named_and_another_stack_is_not(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    save(arm(is_simulated=False, config={"load": {"rate_per_s": 5.0, "seed": 1}, "stub": {"plant": {}}}), file)
    kept = load(file).arm
    same_asked = {"load": {"rate_per_s": 5.0, "seed": 9}, "stub": {"plant": {"router": "5000000ns"}}}
    assert list(mismatches(kept, arm(is_simulated=False, config=same_asked))) == []
    other = arm(is_simulated=False, config={"load": {"rate_per_s": 6.0}}, host={**HOST, "cpu_model": "Another"})
    assert list(mismatches(kept, other)) == ["load.rate_per_s 5.0 -> 6.0", "cpu_model A processor -> Another"]


def test_a_simulation_does_not_ask_for_the_same_processor(tmp_path: Path) -> None:
    save(arm(is_simulated=True), tmp_path / "b.json")
    kept = load(tmp_path / "b.json").arm
    assert list(mismatches(kept, arm(is_simulated=True, host={**HOST, "cpu_model": "Another", "cpus": 64}))) == []
    assert list(mismatches(kept, arm(is_simulated=True, host={**HOST, "python": "CPython 3.11.9"}))) == []
    assert list(mismatches(kept, arm(is_simulated=True, host={**HOST, "python": "CPython 3.12.1"}))) == [
        "python CPython 3.11 -> CPython 3.12"
    ]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda told: {**told, "schema": "latprof.baseline/2"},
            "schema must be latprof.baseline/1, got 'latprof.baseline/2'; save a new baseline",
        ),
        (lambda told: {**told, "schema": "other"}, "name a file that latprof baseline save wrote"),
        (lambda told: [told], "schema must be latprof.baseline/1, got None"),
        (lambda told: {key: value for key, value in told.items() if key != "conditions"}, "is damaged"),
        (lambda told: {**told, "metrics": {"ttft": {"p50": {"value": "fast", "n": 1, "n_eff": 1}}}}, "is damaged"),
        (lambda told: {**told, "layers": {"ttft": {"prefill": {"p50": {"value": 1.0, "n": 5, "n_eff": 5.0}}}}}, "is damaged"),
    ],
)
def test_what_is_not_a_baseline_is_refused(tmp_path: Path, damage: Any, said: str) -> None:
    file = tmp_path / "b.json"
    save(arm(), file)
    file.write_text(json.dumps(damage(json.loads(file.read_text()))))
    with pytest.raises(ConfigError) as error:
        load(file)
    assert said in str(error.value)
    assert str(file) in str(error.value)


def test_a_file_that_is_missing_or_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="latprof baseline save"):
        load(tmp_path / "none.json")
    (tmp_path / "torn.json").write_text('{"schema": ')
    with pytest.raises(ConfigError, match="is not a baseline"):
        load(tmp_path / "torn.json")


def test_a_figure_nobody_has_is_told_and_not_made_up(tmp_path: Path) -> None:
    save(arm(), tmp_path / "b.json")
    missing = load(tmp_path / "b.json").arm.figure(Key(Selector("ttft"), 0.75))
    assert np.isnan(missing.value)
    assert missing.why == "the baseline has no ttft p75; it has p50, p90, p95, p99, mean"


def test_runs_are_found_in_a_folder_of_them(tmp_path: Path) -> None:
    for name in ("02", "01"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    assert runs_at(tmp_path) == [tmp_path / "01", tmp_path / "02"]
    assert runs_at(tmp_path / "01") == [tmp_path / "01"]
    assert runs_at(tmp_path / "none") == [tmp_path / "none"]


def test_layers_in_doubt_are_no_baseline_and_the_whole_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    doubted = [replace(one, doubts=(Doubt("spans_lost", "warning", "spans were lost", "look"),)) for one in runs()]
    monkeypatch.setattr("latprof.gates.arms.replication_of", lambda folder, _objectives=None: doubted[int(folder.name)])
    save_baseline([tmp_path / str(seed) for seed in SEEDS], tmp_path / "b.json", None)
    assert "no layer can be held against it: spans were lost" in capsys.readouterr().out
    kept = load(tmp_path / "b.json").arm
    assert kept.figure(Key(Selector("ttft"), 0.5)).has_interval
    assert not kept.figure(Key(Selector("ttft", "gateway.auth"), 0.5)).has_interval


def test_runs_nobody_may_trust_are_no_baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doubted = replace(runs([1])[0], doubts=(Doubt("lateness", "fatal", "requests went late", "lower the rate"),))
    monkeypatch.setattr("latprof.gates.arms.replication_of", lambda _folder, _objectives=None: doubted)
    with pytest.raises(RunFailedError, match=r"cannot be a baseline, for it is not valid: requests went late; lower the rate") as refused:
        save_baseline([tmp_path], tmp_path / "b.json", None)
    assert refused.value.exit_code == Exit.UNTRUSTED
    assert not (tmp_path / "b.json").exists()
