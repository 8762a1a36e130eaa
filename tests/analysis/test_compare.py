"""Two arms of made-up runs: what is found, what is left alone, and what is named as moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_arms import META, NAMES, made_arm, made_columns, made_layers, made_replication

from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.arms import Arm, Key, arm_of
from latprof.analysis.verdicts.compare import Tolerance, compare
from latprof.analysis.verdicts.replications import Replication, Selector
from latprof.errors import UsageError
from latprof.units import NS_PER_MS

A = range(1, 6)
B = range(201, 206)
MS = NS_PER_MS


def words(comparison: object, layer: str | None = None) -> dict[str, str]:
    changes = comparison.of_layer(layer) if layer else comparison.end_to_end  # type: ignore[attr-defined]
    return {str(change.key): change.verdict for change in changes}


def test_fifteen_ms_in_the_gateway_are_lost_in_the_whole_and_plain_in_the_layer() -> None:
    found = compare(made_arm(A), made_arm(B, plant_ms={"gateway.auth": 15.0}))
    assert set(words(found).values()) == {"same"}
    assert set(words(found, "gateway.auth").values()) == {"worse"}
    for layer in ("gateway.safety", "router", "prefill"):
        assert set(words(found, layer).values()) <= {"same", "unknown"}
    (at_p50,) = [one for one in found.of_layer("gateway.auth") if one.key.p == 0.5]
    assert at_p50.value == pytest.approx(15 * MS, abs=1 * MS)
    assert at_p50.estimate.low < 15 * MS < at_p50.estimate.high
    assert at_p50.rank_p == pytest.approx(2 / 252)  # five against five: the least there is
    whole = next(one for one in found.end_to_end if str(one.key) == "ttft p50")
    assert whole.detectable > 15 * MS > at_p50.detectable
    assert found.moved == ()


def test_better_is_the_other_way_round_and_a_tolerance_covers_it() -> None:
    a, b = made_arm(A, plant_ms={"gateway.auth": 15.0}), made_arm(B)
    assert set(words(compare(a, b), "gateway.auth").values()) == {"better"}
    assert set(words(compare(a, b, tolerance=Tolerance(least_ns=20 * MS)), "gateway.auth").values()) == {"same"}
    assert set(words(compare(a, b, tolerance=Tolerance(share=0.9)), "gateway.auth").values()) == {"same"}
    # Both have to be exceeded: the larger counts.
    assert set(words(compare(a, b, tolerance=Tolerance(share=0.05, least_ns=1 * MS)), "gateway.auth").values()) == {"better"}


def test_time_that_only_moved_is_named_as_moved() -> None:
    found = compare(made_arm(A, plant_ms={"gateway.auth": 12.0}), made_arm(B, plant_ms={"router": 12.0}))
    assert {(one.lost, one.gained) for one in found.moved} == {("gateway.auth", "router")}
    for one in found.moved:
        assert one.moved_ns == pytest.approx(12 * MS, abs=1 * MS)
        low, high = one.together.interval()
        assert low <= 0 <= high


def test_a_layer_that_lost_less_than_another_gained_did_not_only_move() -> None:
    found = compare(made_arm(A, plant_ms={"gateway.auth": 12.0}), made_arm(B, plant_ms={"router": 30.0}))
    assert set(words(found, "router").values()) == {"worse"}
    assert found.moved == ()


def test_the_same_seeds_are_pairs_and_cancel_what_the_schedule_did() -> None:
    moved = {"prefill": 8.0}
    pairs, strangers = compare(made_arm(A), made_arm(A, plant_ms=moved)), compare(made_arm(A), made_arm(B, plant_ms=moved))
    assert (pairs.is_paired, strangers.is_paired) == (True, False)
    assert set(words(pairs).values()) >= {"worse"}
    assert words(strangers)["ttft p50"] == "same"
    shift = pairs.end_to_end[0].shift
    assert shift is not None
    assert shift.value == pytest.approx(8 * MS, rel=1e-6)
    assert shift.error < 1_000  # ns


def test_the_same_seeds_of_another_load_are_no_pairs() -> None:
    faster = made_arm(A)
    faster = replace(faster, conditions=replace(faster.conditions, asked={**faster.conditions.asked, "load.rate_per_s": 60.0}))
    found = compare(made_arm(A), faster)
    assert found.apart.asked
    assert not found.is_paired


def test_one_run_each_says_something_of_the_middle_only() -> None:
    found = compare(made_arm([1]), made_arm([201], plant_ms={"prefill": 200.0}))
    assert words(found)["ttft p50"] == "worse"
    tail = next(one for one in found.end_to_end if str(one.key) == "ttft p99")
    assert (tail.verdict, tail.shift) == ("unknown", None)
    assert "p99 needs 3 replications, got 1" in tail.why


def test_a_layer_only_one_arm_has_is_all_new_or_all_gone() -> None:
    found = compare(made_arm(A), made_arm(B, plant_ms={"lb": 9.0}))
    assert set(words(found, "lb").values()) == {"worse"}
    assert found.of_layer("lb")[0].a.value == 0.0
    assert set(words(compare(made_arm(A, plant_ms={"lb": 9.0}), made_arm(B)), "lb").values()) == {"better"}


def test_a_layer_merged_with_its_neighbour_in_one_arm_is_not_taken_for_gone() -> None:
    def merged(seed: int) -> object:
        columns = made_columns(seed, 400)
        columns["router+prefill"] = columns.pop("router") + columns.pop("prefill")
        return replace(made_replication(seed), layers={"ttft": made_layers(columns)})

    found = compare(made_arm(A), arm_of("merged", [merged(seed) for seed in B]))  # type: ignore[misc]
    for layer in ("router", "prefill", "router+prefill"):
        assert set(words(found, layer).values()) == {"unknown"}, layer
    assert set(words(found, "gateway.auth").values()) <= {"same", "unknown"}


def test_a_layer_of_an_arm_without_spans_is_unknown_and_not_gone() -> None:
    def blind(seed: int) -> object:
        columns = made_columns(seed, 400)
        lateness = columns["prefill"] * 0.01
        return replace(
            made_replication(seed), layers={"ttft": made_layers({"client.lateness": lateness, "net+server": sum(columns.values())})}
        )

    found = compare(made_arm(A), arm_of("blind", [blind(seed) for seed in B]))  # type: ignore[misc]
    for layer in (*NAMES, "net+server"):
        assert set(words(found, layer).values()) == {"unknown"}, layer
    assert "B: no request tells of gateway.auth" in found.of_layer("gateway.auth")[0].why
    assert "A: it tells apart what net+server is made of" in found.of_layer("net+server")[0].why
    assert set(words(found, "client.lateness").values()) == {"worse"}  # what the client sees by itself is new


def test_a_request_that_lost_its_spans_hides_nothing() -> None:
    def nearly_told(seed: int) -> object:
        columns = {name: column for name, column in made_columns(seed, 400).items() if name != "router"}
        return replace(made_replication(seed), layers={"ttft": made_layers({**columns, "net+server": np.full(400, 0.1)})})

    found = compare(made_arm(A), arm_of("told", [nearly_told(seed) for seed in B]))  # type: ignore[misc]
    assert set(words(found, "router").values()) == {"better"}
    assert found.of_layer("net+server") == ()


def test_failures_are_compared_as_well() -> None:
    failing = [replace(made_replication(seed), failed=np.arange(400) % 10 == 0) for seed in B]
    found = compare(made_arm(A), arm_of("failing", failing))
    errors = next(one for one in found.end_to_end if one.key == Key(Selector("errors"), None))
    assert (errors.verdict, errors.value) == ("worse", 0.1)
    none = next(one for one in compare(made_arm(A), made_arm(B)).end_to_end if one.key == Key(Selector("errors"), None))
    assert none.verdict == "same"
    assert none.detectable > 0.002  # no failure among 2 000 requests does not mean that there are none


def test_more_goodput_is_better() -> None:
    def good(seeds: range, every: int) -> list[object]:
        return [replace(made_replication(seed), good=np.arange(400) % every != 0) for seed in seeds]

    found = compare(arm_of("a", good(A, 4)), arm_of("b", good(B, 20)))  # type: ignore[arg-type]
    assert next(one for one in found.end_to_end if one.key.selector.metric == "goodput").verdict == "better"


def test_a_layer_too_small_to_matter_costs_the_others_nothing() -> None:
    found = compare(made_arm(A, plant_ms={"net.tls": 0.01}), made_arm(B, plant_ms={"net.tls": 0.02}))
    assert found.of_layer("net.tls") == ()


def test_arms_must_repeat_one_experiment() -> None:
    other = {**META["config"], "load": {**META["config"]["load"], "rate_per_s": 60.0}}
    mixed = [made_replication(1), made_replication(2, config=other)]
    with pytest.raises(UsageError, match=r"load\.rate_per_s 50\.0 -> 60\.0"):
        arm_of("mixed", mixed)
    elsewhere = made_replication(2, host={**META["host"], "cpu_model": "Another"})
    with pytest.raises(UsageError, match=r"cpu_model A processor -> Another; name the runs of one configuration on one machine"):
        arm_of("mixed", [made_replication(1), elsewhere])
    with pytest.raises(UsageError, match="a live run -> virtual time"):
        arm_of("mixed", [made_replication(1), made_replication(2, is_simulated=True)])
    with pytest.raises(UsageError, match="at least one run"):
        arm_of("none", [])


def test_what_the_arms_differ_in_is_told_and_seeds_are_not() -> None:
    config = {"load": {"rate_per_s": 60.0, "num_requests": 400, "seed": 7}, "stub": {"seed": 9, "plant": {"router": "5000000ns"}}}
    host = {**META["host"], "cpus": 4}
    found = compare(made_arm(A), made_arm(B, config=config, host=host)).apart
    assert found.asked == ("load.rate_per_s 50.0 -> 60.0",)
    assert found.system == ("stub.plant.router none -> 5ms",)
    assert found.place == ("cpus 2 -> 4",)
    virtual = compare(made_arm(A), made_arm(B, host=host, is_simulated=True)).apart
    assert virtual.place[0] == "a live run -> virtual time"


def test_an_arm_takes_every_run_once() -> None:
    with pytest.raises(UsageError, match="runs/1 hold the same run; name every run once"):
        made_arm([1, 2, 1])
    copied = replace(made_replication(3, run_id="a"), folder=Path("runs/copy"))
    with pytest.raises(UsageError, match="runs/3 and runs/copy hold the same run"):
        arm_of("copied", [made_replication(3, run_id="a"), copied])


@pytest.mark.parametrize(("is_simulated", "level", "valid"), [(True, "fatal", False), (False, "warning", True)])
def test_runs_of_one_seed_are_no_replications(is_simulated: bool, level: str, valid: bool) -> None:
    runs = [replace(made_replication(1, is_simulated=is_simulated), folder=Path(name)) for name in ("a", "b")]
    arm = arm_of("same", runs)
    assert [(doubt.id, doubt.level) for doubt in arm.doubts] == [("same_seed", level)]
    assert arm.valid == valid


@pytest.mark.parametrize("name", ["starved", "generator_cpu"])
def test_a_generator_without_its_core_makes_no_arm(name: str) -> None:
    doubted = replace(made_replication(3), doubts=(Doubt(name, "warning", "it waited", "free a core"),))
    assert not arm_of("doubted", [made_replication(1), doubted]).valid


@pytest.mark.parametrize("name", ["residual", "span_coverage", "unknown_spans", "spans_lost"])
def test_layers_in_doubt_are_shown_and_not_judged(name: str) -> None:
    def doubted(seed: int) -> Replication:
        return replace(made_replication(seed, plant_ms={"gateway.auth": 15.0}), doubts=(Doubt(name, "warning", "few spans", "look"),))

    found = compare(made_arm(A), arm_of("doubted", [doubted(seed) for seed in B]))
    assert found.valid
    assert set(words(found).values()) == {"same"}
    assert set(words(found, "gateway.auth").values()) == {"unknown"}
    at_p50 = found.of_layer("gateway.auth")[0]
    assert at_p50.why == "B: few spans (in 5 of 5 runs; this is one of them)"
    assert at_p50.value == pytest.approx(15 * MS, abs=1 * MS)


def test_a_fatal_doubt_of_one_run_is_one_of_the_arm() -> None:
    doubted = replace(made_replication(3), doubts=(Doubt("lateness", "fatal", "late", "slow down"),))
    arm = arm_of("doubted", [made_replication(1), made_replication(2), doubted])
    assert not arm.valid
    assert not compare(made_arm(A), arm).valid
    assert compare(made_arm(A), made_arm(B)).valid


@pytest.mark.parametrize(("of_a", "of_b", "is_told"), [(True, True, True), (False, False, True), (True, False, False)])
def test_times_per_token_and_per_chunk_are_not_compared(of_a: bool, of_b: bool, is_told: bool) -> None:
    def arm(seeds: range, tpot_ms: float, has_usage: bool) -> Arm:
        counted = () if has_usage else (Doubt("token_counts", "warning", "counted by chunks", "send usage"),)
        draws = np.random.default_rng(seeds.start)
        tpots_ns = [(draws.normal(tpot_ms, 0.1, 400) * MS).astype(np.int64) for _ in seeds]
        runs = [(made_replication(seed), tpot_ns) for seed, tpot_ns in zip(seeds, tpots_ns, strict=True)]
        return arm_of("runs", [replace(one, values_ns={**one.values_ns, "tpot": tpot_ns}, doubts=counted) for one, tpot_ns in runs])

    found = compare(arm(A, 10.0, of_a), arm(B, 40.0, of_b))
    tpot = [one for one in found.end_to_end if one.key.selector.metric == "tpot"]
    assert {one.verdict for one in tpot if one.key.p == 0.5} == {"worse" if is_told else "unknown"}
    assert any("one per chunk" in one.why for one in tpot) != is_told
    assert all(one.shift is not None for one in found.end_to_end if str(one.key) == "ttft p50")
