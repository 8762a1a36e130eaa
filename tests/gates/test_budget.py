"""Budget files: what they may say, and what is said to those who say something else."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from latprof.analysis.verdicts.replications import Selector
from latprof.errors import ConfigError
from latprof.gates.budget import Budget, load_budget, read_budget


def read(text: str) -> Budget:
    return read_budget(yaml.safe_load(text))


def wrong(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        read(text)
    return str(error.value)


FULL = """
goodput: {ttft: 200ms, tpot: 50ms}
aggregate: median
budgets:
  - {metric: ttft, at: p95, max: 600ms}
  - {layer: gateway, at: p95, kind: contribution, max: 50ms, level: warn}
  - {layer: prefill, metric: e2el, at: mean, max: 1.5s, aggregate: pessimistic}
  - {metric: goodput, min: 95%}
  - {metric: errors, max: 0.01, level: off}
  - {layer: "*", kind: regression, vs: baseline, at: p50, tolerance: 5%, min_abs: 10ms}
  - ttft p50 < 300ms
thresholds:
  tpot: ["p(95)<50ms", "avg<20ms"]
  goodput: "rate>0.9"
"""


def test_a_file_with_everything() -> None:
    budget = read(FULL)
    assert [limit.name for limit in budget.every_limit] == [
        "ttft p95 < 600ms",
        "gateway p95 < 50ms",
        "prefill in e2el mean < 1.5s",
        "goodput > 95%",
        "ttft p50 < 300ms",
        "tpot p95 < 50ms",
        "tpot mean < 20ms",
        "goodput > 90%",
    ]
    first, gateway, prefill, goodput, *_ = budget.every_limit
    assert (first.selector, first.p, first.bound, first.is_upper, first.aggregate) == (Selector("ttft"), 0.95, 600e6, True, "median")
    assert (gateway.selector, gateway.level) == (Selector("ttft", "gateway"), "warn")
    assert (prefill.selector, prefill.p, prefill.aggregate) == (Selector("e2el", "prefill"), None, "pessimistic")
    assert (goodput.bound, goodput.is_upper) == (0.95, False)
    (regression,) = budget.regressions
    assert (regression.selector.layer, regression.tolerance, regression.min_abs_ns) == ("*", 0.05, 10_000_000)
    assert budget.objectives_ms == {"ttft": 200.0, "tpot": 50.0}
    assert budget.names_layers


@pytest.mark.parametrize(
    "text", ["ttft p95 < 600ms", "ttft: p(95)<600ms", "ttft p95<=600ms", "ttft p(95) < 0.6s", "  ttft  p95<600ms ", "ttft p95 < 600000us"]
)
def test_ways_to_say_the_same(text: str) -> None:
    assert (
        read_budget({"budgets": [text]}).every_limit
        == read_budget({"budgets": [{"metric": "ttft", "at": "p95", "max": "600ms"}]}).every_limit
    )


@pytest.mark.parametrize(
    ("text", "p"),
    [("ttft med<1s", 0.5), ("ttft avg<1s", None), ("ttft p99.9<1s", 0.999), ("ttft median<1s", 0.5), ("ttft p(99.9)<1s", 0.999)],
)
def test_statistics(text: str, p: float | None) -> None:
    assert read_budget({"budgets": [text]}).every_limit[0].p == (None if p is None else pytest.approx(p))


def test_layers_in_expressions() -> None:
    rules = ["gateway.auth p95 < 5ms", "gateway in e2el p95 < 50ms", "engine.api+engine.queue p50 < 9ms", "unattributed@gateway p50 < 5ms"]
    found = [limit.selector for limit in read_budget({"budgets": rules}).every_limit]
    assert found == [
        Selector("ttft", "gateway.auth"),
        Selector("e2el", "gateway"),
        Selector("ttft", "engine.api+engine.queue"),
        Selector("ttft", "unattributed@gateway"),
    ]


def test_a_latency_budget_implies_its_limits() -> None:
    budget = read("latency_budget: {metric: ttft, at: p95, total: 600ms, layers: {gateway: 50ms, prefill: 300ms}}")
    assert [limit.name for limit in budget.every_limit] == ["ttft p95 < 600ms", "gateway p95 < 50ms", "prefill p95 < 300ms"]
    assert budget.latency is not None
    assert budget.latency.unpromised_ns == 250_000_000


@pytest.mark.parametrize("order", [("warn", "error"), ("error", "warn")])
def test_what_is_said_as_a_warning_and_as_an_error_is_an_error(order: tuple[str, str]) -> None:
    first, second = order
    budget = read(
        f"budgets: [{{metric: ttft, at: p95, max: 100ms, level: {first}}}]\nlatency_budget: {{at: p95, total: 100ms, level: {second}}}"
    )
    assert [(limit.name, limit.level) for limit in budget.every_limit] == [("ttft p95 < 100ms", "error")]


def test_bounds_that_only_read_the_same_are_two() -> None:
    budget = read("budgets: [{metric: ttft, at: p95, max: 100000002ns, level: warn}, {metric: ttft, at: p95, max: 100000001ns}]")
    assert [(limit.bound, limit.level) for limit in budget.every_limit] == [(100_000_002, "warn"), (100_000_001, "error")]


def test_the_limits_of_a_latency_budget_are_aggregated_as_the_others() -> None:
    budget = read("aggregate: median\nlatency_budget: {at: p95, total: 600ms, layers: {gateway: 50ms}}")
    assert [limit.aggregate for limit in budget.every_limit] == ["median", "median"]


@pytest.mark.parametrize(("written", "bound"), [("1%", 0.01), ("100%", 1.0), (0.5, 0.5), (0, 0.0), ("0.01", 0.01)])
def test_shares(written: object, bound: float) -> None:
    assert read_budget({"budgets": [{"metric": "errors", "max": written}]}).every_limit[0].bound == pytest.approx(bound)


# --- what cannot be meant -----------------------------------------------------------------------------------------------------------------


def rule(**keys: Any) -> str:
    return yaml.safe_dump({"budgets": [keys]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (rule(layer="gatway", at="p95", max="5ms"), "budgets[0].layer: there is no layer or metric 'gatway'; did you mean gateway?"),
        (rule(layer="gateway.saftey", at="p95", max="5ms"), "did you mean gateway.safety?"),
        (rule(metric="tftt", at="p95", max="5ms"), "budgets[0].metric: there is no metric 'tftt'; did you mean ttft?"),
        (rule(metric="zzz", at="p95", max="5ms"), "known: ttft, "),
        ("budgets: [gatway p95 < 5ms]", "budgets[0]: there is no layer or metric 'gatway'; did you mean gateway?"),
        ("thresholds: {tttft: ['p(95)<5ms']}", "thresholds.tttft[0]: there is no layer or metric 'tttft'; did you mean ttft?"),
        (rule(metric="ttft", at="p95", max=600), "budgets[0].max must carry a unit such as 600ms or 1.5s, got 600"),
        ("budgets: [ttft p95 < 600]", "budgets[0] must carry a unit such as 600ms or 1.5s, got '600'"),
        (rule(metric="ttft", at="p95", max="600 parsecs"), "budgets[0].max must be a duration"),
        (rule(kind="regression", metric="ttft", at="p50", min_abs=10), "budgets[0].min_abs must carry a unit"),
        (rule(metric="goodput", min=95), "budgets[0].min must be a share such as 5% (or 0.05), got 95"),
        (rule(metric="goodput", at="p95", min="95%"), "goodput is a share and has no percentiles"),
        ("budgets: [errors < 1]", "budgets[0] must say which 1 is meant: write 1% or 100%, got '1'"),
        (rule(metric="errors", max=1), "budgets[0].max must say which 1 is meant: write 1% or 100%, got 1"),
        (rule(metric="goodput", min=1.0), "write 1% or 100%, got 1.0"),
        (rule(kind="regression", metric="ttft", at="p50", tolerance=1), "budgets[0].tolerance must say which 1 is meant"),
        ("budgets: [ttft p0.95 < 600ms]", "p0.95 is nearly the least of all; for a quantile of 0.95 write p95"),
        (
            rule(metric="ttft", at="p(0.999)", max="5ms"),
            "budgets[0].at: p0.999 is nearly the least of all; for a quantile of 0.999 write p99.9",
        ),
        ("budgets: [errors p95 < 1%]", "errors is a share and has no p95; write 'errors < 1%'"),
        (rule(metric="ttft", at="p100", max="5ms"), "budgets[0].at: no sample has a p100"),
        (rule(metric="ttft", at="p0", max="5ms"), "no sample has a p0"),
        (rule(metric="ttft", at=95, max="5ms"), "budgets[0].at must be a percentile such as p95, or mean, got 95"),
        (rule(metric="ttft", max="5ms"), "budgets[0].at is missing; say which percentile such as p95, or mean"),
        ("budgets: [ttft < 5ms]", "say which percentile of ttft, such as 'ttft p95 < 5ms'"),
        ("budgets: [ttft max < 5ms]", "budgets[0] must be a percentile such as p95, or mean, got 'max'"),
        ("budgets: [ttft p95 == 5ms]", "budgets[0] must be a condition such as 'ttft p95 < 600ms'"),
        ("budgets: [nonsense]", "budgets[0] must be a condition such as"),
        (rule(metric="ttft", at="p95"), "budgets[0] needs exactly one of max and min, got none"),
        (rule(metric="ttft", at="p95", max="5ms", min="1ms"), "got max and min"),
        (rule(metric="ttft", at="p95", maxx="5ms"), "budgets[0].maxx is not a known key; did you mean max?"),
        (rule(metric="ttft", at="p95", max="5ms", level="fatal"), "budgets[0].level must be one of error, warn, off, got 'fatal'"),
        (rule(kind="contribution", metric="ttft", at="p95", max="5ms"), "kind contribution needs a layer"),
        (rule(layer="*", at="p95", max="5ms"), '"*" is for kind: regression'),
        (rule(layer="gateway", metric="tpot", at="p95", max="5ms"), "layers add up to ttft, e2el, task, got tpot"),
        (rule(kind="regression", metric="errors", tolerance="5%"), "a regression is of a time such as ttft, got errors"),
        (rule(kind="regression", metric="ttft", at="p50", vs="yesterday"), "budgets[0].vs must be one of baseline, got 'yesterday'"),
        ("budgets: {metric: ttft}", "budgets must be a list, got a dict; begin each line with a dash"),
        ("budgets: []", "budgets must hold at least one rule that is not off"),
        ("budgets: [{metric: ttft, at: p95, max: 5ms, level: off}]", "at least one rule that is not off"),
        ("budget: []", "budget is not a known key; did you mean budgets?"),
        ("[]", "the file must be a mapping with keys such as budgets, got a list"),
        ("", "the file must be a mapping with keys such as budgets, got nothing"),
        ("thresholds: {ttft: [{threshold: p95}]}", "thresholds.ttft[0] must be a condition such as p(95)<600ms"),
        ("latency_budget: {total: 600ms, layers: {gateway: 50}}", "latency_budget.layers.gateway must carry a unit"),
        ("latency_budget: {layers: {gateway: 50ms}}", "latency_budget needs total, got none"),
        ("latency_budget: {total: 60ms, layers: {gateway: 50ms, prefill: 30ms}}", "the layers are promised 80ms, and the total is 60ms"),
        ("latency_budget: {total: 1s, layers: {gateway: 50ms, gateway.auth: 3ms}}", "gateway.auth is part of gateway"),
        ("latency_budget: {total: 1s, layers: {gatway: 50ms}}", "did you mean gateway?"),
        ("goodput: {ttft: 200}\nbudgets: [goodput > 95%]", "goodput.ttft must carry a unit"),
        ("aggregate: best\nbudgets: [ttft p95 < 5ms]", "aggregate must be one of pooled, median, optimistic, pessimistic, got 'best'"),
    ],
)
def test_what_cannot_be_meant_is_named_with_its_place(text: str, said: str) -> None:
    assert said in wrong(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="latprof budget init RUN"):
        load_budget(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("budgets: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_budget(tmp_path / "bad.yaml")
    (tmp_path / "wrong.yaml").write_text("budgets: [ttft p95 < 600]")
    with pytest.raises(ConfigError, match=r"wrong\.yaml: budgets\[0\] must carry a unit"):
        load_budget(tmp_path / "wrong.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("budgets: [ttft p50 < 1ms]\nbudgets: [errors < 1%]\n", "budgets stands twice in one mapping, in lines 1 and 2"),
        ('thresholds:\n  ttft: "p(50)<1ms"\n  ttft: "p(95)<9s"\n', "ttft stands twice in one mapping, in lines 2 and 3"),
    ],
)
def test_a_key_that_stands_twice_is_refused_for_one_of_them_would_be_dropped(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "twice.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"twice\.yaml: {said}"):
        load_budget(tmp_path / "twice.yaml")


def test_what_a_merge_key_brings_may_be_said_again(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("budgets:\n  - &a {metric: ttft, at: p95, max: 5ms}\n  - {<<: *a, max: 9ms}\n  - {<<: *a, at: p50}\n")
    assert [one.name for one in load_budget(tmp_path / "b.yaml").every_limit] == ["ttft p95 < 5ms", "ttft p95 < 9ms", "ttft p50 < 5ms"]
