"""The gate on rows with known truth: what it catches, and what it lets through."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_replications import replication

from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.arms import arm_of
from latprof.analysis.verdicts.replications import Replication
from latprof.analysis.verdicts.steady import Steady
from latprof.errors import Exit, UsageError
from latprof.gates.baseline import Baseline
from latprof.gates.budget import Budget, read_budget
from latprof.gates.gate import gate
from latprof.report.gate.values import Gated


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


@pytest.mark.parametrize("layer", ["gateway.safety", "gateway", "*"])
def test_a_run_without_spans_is_open_about_every_layer(layer: str) -> None:
    blind = [
        replication(seed, {"client.build": np.ones(1_000), "net+server": one.values_ns["ttft"] / 1e6}) for seed, one in enumerate(runs(100))
    ]
    gated = gate("pr", blind, budget({**PER_LAYER, "layer": layer}), baseline(runs(0)))
    assert set(outcomes(gated).values()) == {"inconclusive"}
    assert gated.exit_code == Exit.INCONCLUSIVE
    one_blind = gate("pr", [*runs(100, count=4), blind[0]], budget({**PER_LAYER, "layer": "gateway.safety"}), baseline(runs(0)))
    assert one_blind.word == "inconclusive"
    assert "runs/0 does not tell of gateway.safety" in one_blind.verdicts[0].why


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


def with_ceilings(of: list[Replication], share: float) -> Baseline:
    """A baseline whose ceilings at p50 and p95 are ``share`` of its own figures."""
    arm = arm_of("b", of)
    return Baseline(Path("b"), arm, {key: share * arm.figure(key).value for key in arm.metric_keys() if key.p in (0.5, 0.95)})


def test_the_ceilings_of_a_baseline_hold_without_a_regression_rule() -> None:
    rules = budget("ttft p50 < 10s")
    assert gate("pr", runs(100), rules, with_ceilings(runs(0), 1.5)).word == "pass"
    assert gate("pr", runs(100), rules, with_ceilings(runs(0), 0.5)).word == "fail"


def test_a_ceiling_is_as_grave_as_the_rule_that_brings_it() -> None:
    gated = gate("pr", runs(100), budget({**END_TO_END, "level": "warn"}), with_ceilings(runs(0), 0.5))
    levels = {verdict.claim.name.split(" <")[0]: verdict.claim.level for verdict in gated.verdicts}
    assert (levels["ttft p50"], levels["ttft p95"]) == ("warn", "error")


def test_a_ceiling_of_a_percentile_that_one_run_cannot_tell_holds_nobody_up() -> None:
    gated = gate("pr", runs(100, count=1), budget("ttft p50 < 10s"), with_ceilings(runs(0), 1.5))
    assert outcomes(gated) | {"at": gated.word} == {"ttft": "inconclusive", "at": "pass"}


def test_a_ceiling_of_another_load_is_open_and_not_broken() -> None:
    elsewhere = with_ceilings(runs(0, meta={"host": {"cpu_model": "another"}}), 0.5)
    gated = gate("pr", runs(100), budget("ttft p50 < 10s"), elsewhere)
    assert gated.word == "inconclusive"
    assert all("cpu_model" in verdict.why for verdict in gated.verdicts if "ceiling" in verdict.claim.name)


def test_a_rule_for_each_layer_of_runs_that_tell_none_is_open() -> None:
    gated = gate("pr", runs(100), budget({**PER_LAYER, "metric": "e2el"}), baseline(runs(0)))
    assert [verdict.outcome for verdict in gated.verdicts] == ["inconclusive"]
    assert "tell layers of e2el" in gated.verdicts[0].why
    assert gated.exit_code == Exit.INCONCLUSIVE


def test_a_rule_that_no_layer_is_large_enough_for_is_open() -> None:
    gated = gate("pr", runs(100), budget({**PER_LAYER, "min_abs": "100s"}), baseline(runs(0)))
    assert [(verdict.outcome, verdict.why) for verdict in gated.verdicts] == [
        ("inconclusive", "no layer of ttft is as large as min_abs; lower it")
    ]


def test_a_gate_that_judged_nothing_does_not_pass() -> None:
    assert gate("pr", runs(0), Budget()).exit_code == Exit.INCONCLUSIVE


def test_a_layer_without_time_in_either_arm_is_no_assertion() -> None:
    def idle(first: int) -> list[Replication]:
        return [replication(seed, {"gateway.auth": np.zeros(1_000), "prefill": np.full(1_000, 400.0)}) for seed in range(first, first + 5)]

    rule = {"kind": "regression", "at": "p50", "tolerance": "5%"}
    gated = gate("pr", idle(100), budget({**rule, "layer": "*"}), baseline(idle(0)))
    assert (outcomes(gated), gated.word) == ({"prefill": "pass"}, "pass")
    assert gate("pr", idle(100), budget({**rule, "layer": "gateway.auth"}), baseline(idle(0))).word == "pass"


def test_equal_runs_keep_a_tolerance_of_nothing() -> None:
    rule = {**END_TO_END, "tolerance": "0%", "min_abs": "0ms"}
    assert gate("pr", runs(0), budget(rule), baseline(runs(0))).word == "pass"
    assert gate("pr", runs(0, gateway_ms=21), budget(rule), baseline(runs(0))).word == "fail"


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


def test_every_claim_knows_its_percentile() -> None:
    rules = budget("ttft p99.9 < 10s", "ttft p50 < 10s", "errors < 1%", {**END_TO_END, "at": "p99.9"}, PER_LAYER)
    gated = gate("pr", runs(100, count=1), rules, with_ceilings(runs(0), 1.5))
    given = {one.claim.name: (one.claim.p and round(one.claim.p, 6), one.is_given) for one in gated.verdicts}
    assert given["ttft p99.9 < 10s"] == (0.999, False)
    assert given["ttft p50 < 10s"] == (0.5, True)
    assert given["errors < 1%"] == (None, True)
    assert next(told for name, told in given.items() if name.startswith("ttft p99.9 vs baseline")) == (0.999, False)
    assert next(told for name, told in given.items() if name.startswith("gateway.safety p50")) == (0.5, True)
    assert next(told for name, told in given.items() if name.startswith("ttft p95 < ceiling")) == (0.95, True)
    why = {verdict.claim.name: verdict.why for verdict in gated.verdicts}
    assert "too few of 1000 requests lie beyond the percentile" in why["ttft p99.9 < 10s"]
    assert "too few" not in why["ttft p50 < 10s"]
