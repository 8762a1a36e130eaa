"""The gate on rows with known truth: what it catches, and what it lets through."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_replications import replication

from latprof.analysis.arms import arm_of
from latprof.analysis.doubts import Doubt
from latprof.analysis.replications import Replication
from latprof.analysis.steady import Steady
from latprof.baseline import Baseline
from latprof.budget import Budget, read_budget
from latprof.errors import Exit, UsageError
from latprof.gate import gate
from latprof.report.gate_values import Gated


def runs(first_seed: int, gateway_ms: float = 20.0, prefill_ms: float = 0.0, count: int = 5, **others: Any) -> list[Replication]:
    """A TTFT of 450 +- 160 ms, of which the gateway is 20 +- 4 ms; ``prefill_ms`` more, or less, of prefill."""
    found = []
    for seed in range(first_seed, first_seed + count):
        draws = np.random.default_rng(seed)
        spread = math.sqrt(math.log(1 + (160 / 430) ** 2))
        layers = {
            "gateway.safety": draws.normal(gateway_ms, 4.0, 1_000).clip(0.1),
            "prefill": prefill_ms * draws.normal(1.0, 0.01) + draws.lognormal(math.log(430) - spread**2 / 2, spread, 1_000),
        }
        found.append(replication(seed, layers, **others))
    return found


def baseline(of: list[Replication]) -> Baseline:
    return Baseline(Path("baseline.json"), arm_of("baseline", of), {})


def budget(*rules: object) -> Budget:
    return read_budget({"budgets": list(rules)})


END_TO_END = {"kind": "regression", "metric": "ttft", "at": "p50", "tolerance": "5%", "min_abs": "10ms"}
PER_LAYER = {"kind": "regression", "layer": "*", "at": "p50", "tolerance": "5%", "min_abs": "5ms"}


def outcomes(gated: Gated) -> dict[str, str]:
    return {verdict.claim.name.split(" ")[0]: verdict.outcome for verdict in gated.verdicts}


def test_15_ms_more_in_the_gateway_are_caught_by_its_layer_alone() -> None:
    before, after = baseline(runs(0)), runs(100, gateway_ms=35.0)
    assert gate("pr", after, budget(END_TO_END), before).word != "fail"
    per_layer = gate("pr", after, budget(PER_LAYER), before)
    assert per_layer.word == "fail"
    assert per_layer.exit_code == Exit.GATE_FAILED
    assert outcomes(per_layer)["gateway.safety"] == "fail"
    assert outcomes(per_layer)["prefill"] != "fail"
    (verdict,) = [verdict for verdict in per_layer.verdicts if verdict.outcome == "fail"]
    assert verdict.value == pytest.approx(15e6, abs=1e6)


def test_the_same_build_twice_passes() -> None:
    assert outcomes(gate("pr", runs(100), budget(PER_LAYER), baseline(runs(0))))["gateway.safety"] == "pass"


def test_a_limit_on_the_layer_needs_no_baseline() -> None:
    rules = budget("ttft p50 < 600ms", "gateway p50 < 30ms")
    assert gate("pr", runs(0), rules).word == "pass"
    assert outcomes(gate("pr", runs(0, gateway_ms=35.0), rules)) == {"ttft": "pass", "gateway": "fail"}


def test_time_that_only_moved_is_said_to_have_moved() -> None:
    gated = gate("pr", runs(0, gateway_ms=50.0, prefill_ms=-30.0), budget(PER_LAYER), baseline(runs(0)))
    assert {(one.lost, one.gained) for one in gated.moved} == {("prefill", "gateway.safety")}
    assert gated.word == "fail"


def test_a_relative_and_an_absolute_tolerance_must_both_be_exceeded() -> None:
    before, after = baseline(runs(0)), runs(100, gateway_ms=23.0)  # +15 %, and 3 ms
    assert outcomes(gate("pr", after, budget({**PER_LAYER, "layer": "gateway"}), before)) == {"gateway": "pass"}
    assert outcomes(gate("pr", after, budget({**PER_LAYER, "layer": "gateway", "min_abs": "1ms"}), before)) == {"gateway": "fail"}
    assert outcomes(gate("pr", after, budget({**PER_LAYER, "layer": "gateway", "min_abs": "1ms", "tolerance": "20%"}), before)) == {
        "gateway": "pass"
    }


def test_a_ceiling_holds_where_the_baseline_drifted() -> None:
    drifted = Baseline(Path("b"), arm_of("b", runs(0)), {key: 400e6 for key in arm_of("b", runs(0)).metric_keys() if key.p == 0.5})
    gated = gate("pr", runs(100), budget(END_TO_END), drifted)
    assert [(verdict.claim.name, verdict.outcome) for verdict in gated.verdicts][-1] == ("ttft p50 < ceiling 400ms", "fail")


def test_a_baseline_of_another_place_says_nothing() -> None:
    elsewhere = {"host": {"cpu_model": "another"}}
    gated = gate("pr", runs(100, gateway_ms=35.0), budget(PER_LAYER), baseline(runs(0, meta=elsewhere)))
    assert gated.word == "inconclusive"
    assert gated.exit_code == Exit.INCONCLUSIVE
    assert all("cpu_model another -> none" in verdict.why for verdict in gated.verdicts)


@pytest.mark.parametrize(
    ("taken_for", "code"), [("exit-3", Exit.INCONCLUSIVE), ("pass", Exit.DONE), ("warn", Exit.DONE), ("fail", Exit.GATE_FAILED)]
)
def test_what_an_inconclusive_gate_is_taken_for(taken_for: object, code: Exit) -> None:
    gated = gate("pr", runs(0, count=1), budget("ttft p95 < 10s"), inconclusive=taken_for)  # type: ignore[arg-type]
    assert gated.word == "inconclusive"
    assert gated.exit_code == code


# --- runs that cannot be trusted ----------------------------------------------------------------------------------------------------------


def doubt(name: str, level: str) -> Doubt:
    return Doubt(name, level, f"{name} was seen", "look")  # type: ignore[arg-type]


@pytest.mark.parametrize("bound", ["1ms", "10s"])
def test_no_verdict_counts_with_a_fatal_doubt(bound: str) -> None:
    one_bad = [*runs(0, count=4), *runs(9, count=1, doubts=[doubt("starved", "fatal")])]
    gated = gate("pr", one_bad, budget(f"ttft p50 < {bound}"))
    assert gated.word == "invalid"
    assert gated.exit_code == Exit.UNTRUSTED
    assert "in 1 of 5 runs" in gated.doubts[0].text


def test_a_doubt_counts_as_grave_as_it_is_anywhere() -> None:
    mixed = [*runs(0, count=1, doubts=[doubt("lateness", "warning")]), *runs(9, count=4, doubts=[doubt("lateness", "fatal")])]
    assert gate("pr", mixed, budget("ttft p50 < 10s")).word == "invalid"


@pytest.mark.parametrize("name", ["starved", "generator_cpu"])
def test_a_generator_without_its_core_is_fatal(name: str) -> None:
    assert gate("pr", runs(0, doubts=[doubt(name, "warning")]), budget("ttft p50 < 10s")).exit_code == Exit.UNTRUSTED


def test_no_steady_state_is_fatal() -> None:
    unsteady = runs(0, steady=Steady(0, reason="TTFT p50 went from 1 ms to 2 ms"))
    assert gate("pr", unsteady, budget("ttft p50 < 10s")).exit_code == Exit.UNTRUSTED


@pytest.mark.parametrize("name", ["residual", "span_coverage"])
def test_doubts_about_layers_are_fatal_where_a_rule_is_about_a_layer(name: str) -> None:
    doubtful = runs(0, doubts=[doubt(name, "warning")])
    assert gate("pr", doubtful, budget("ttft p50 < 10s")).word == "pass"
    assert gate("pr", doubtful, budget("ttft p50 < 10s", "gateway p50 < 10s")).word == "invalid"


def test_simulations_with_one_seed_are_no_replications() -> None:
    same = runs(0, count=1, meta={"is_simulated": True, "run_id": "a"}) + runs(0, count=1, meta={"is_simulated": True, "run_id": "b"})
    assert gate("pr", same, budget("ttft p50 < 10s")).word == "invalid"
    live = runs(0, count=1, meta={"run_id": "a"}) + runs(0, count=1, meta={"run_id": "b"})
    assert [one.level for one in gate("pr", live, budget("ttft p50 < 10s")).doubts] == ["warning"]


def test_a_run_is_taken_once() -> None:
    with pytest.raises(UsageError, match="hold the same run"):
        gate("pr", [*runs(0), *runs(0)], budget("ttft p50 < 10s"))


def test_nothing_to_gate() -> None:
    with pytest.raises(UsageError, match="got none"):
        gate("pr", [], budget("ttft p50 < 10s"))


def test_a_regression_needs_a_baseline() -> None:
    with pytest.raises(UsageError, match="--baseline FILE"):
        gate("pr", runs(0), budget(END_TO_END))
