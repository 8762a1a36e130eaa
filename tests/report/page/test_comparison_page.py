"""The page of a comparison draws no percentile that too few requests lie beyond, and no layer as 0 that a side does not tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_pages import elements

from harness.queue_runs import replication
from latprof.analysis.verdicts.arms import Arm, Key, arm_of
from latprof.analysis.verdicts.compare import Comparison, compare
from latprof.analysis.verdicts.replications import Selector
from latprof.report.page import comparison


def _arm(first: int, n: int, runs: int = 1, merged: str = "") -> Arm:
    """Runs of a queue at rest; of ``merged`` the layers are one column."""
    made = [replication((first + at,), 0.05, n) for at in range(runs)]
    made = [replace(one, meta={**one.meta, "seed": first + at}) for at, one in enumerate(made)]
    if not merged:
        return arm_of("a", made)
    names = merged.split("+")
    for one in made:
        table = one.layers["ttft"]
        mine = np.isin(table.names, names)
        columns = [table.total_ns[:, mine].sum(axis=1), *table.total_ns[:, ~mine].T]
        total_ns = np.stack(columns, axis=1)
        others = tuple(name for name in table.names if name not in names)
        told = replace(
            table,
            names=(merged, *others),
            total_ns=total_ns,
            wait_ns=np.zeros_like(total_ns),
            service_ns=total_ns,
            present=np.ones_like(total_ns, bool),
            sources=(("span",),) * len(columns),
        )
        one.layers["ttft"] = told  # type: ignore[index]
    return arm_of("b", made)


def _text(told: Comparison) -> str:
    page = comparison.page(told, (), {}, "latprof compare a b")
    return " ".join(one.text for one in elements(page) if one.tag in {"figcaption", "p"})


@pytest.mark.parametrize(
    ("n", "drawn", "refused"), [(1, [], ["p50", "p95", "p99"]), (30, ["p50"], ["p95", "p99"]), (300, ["p50", "p95"], ["p99"])]
)
def test_percentiles_of_too_few_requests_are_not_drawn(n: int, drawn: list[str], refused: list[str]) -> None:
    for told in (compare(_arm(1, n), _arm(2, 2_000)), compare(_arm(1, 2_000), _arm(2, n))):
        pictures = comparison.pictures(told, {})
        columns = [column["label"] for column in pictures["budget"]["columns"]] if pictures["budget"] else []
        assert columns == [f"{arm} {p}" for p in drawn for arm in "AB"]
        forests = {name.split()[-1] for name in pictures["forest"] if name.startswith("layers")}
        assert forests == set(drawn)
        rows = [row["name"] for row in pictures["forest"].get("end to end", {"rows": []})["rows"]]
        assert not any(row.endswith(f" {p}") for row in rows for p in refused)
        cells = [one.text for one in elements(comparison.page(told, (), {}, "latprof compare a b")) if one.tag == "tr"]
        assert sum(f"{p}---" in cell.replace(" ", "") for cell in cells for p in refused) == len(refused) * (len(told.layers) // 3 + 1)
        assert f"Not drawn for want of requests: {', '.join(refused)}." in _text(told)


def test_what_is_drawn_of_enough_requests_is_all() -> None:
    told = compare(_arm(1, 2_000, 3), _arm(10, 2_000, 3))
    assert "Not drawn for want" not in _text(told)
    budget = comparison.pictures(told, {})["budget"]
    assert [column["label"] for column in budget["columns"]] == ["A p50", "B p50", "A p95", "B p95", "A p99", "B p99"]


@pytest.mark.parametrize("runs", [1, 3])
def test_a_layer_that_one_side_does_not_tell_apart_is_not_drawn_as_nothing(runs: int) -> None:
    block = "gateway.auth+gateway.safety"
    told = compare(_arm(1, 2_000, runs), _arm(10, 2_000, runs, merged=block))
    drawn = comparison.pictures(told, {})["budget"]
    layers = {layer["layer"]: layer["total_ms"] for layer in drawn["layers"]}
    for at, column in enumerate(drawn["columns"]):
        arm = told.a if column["label"].startswith("A") else told.b
        own = {name for name, values in layers.items() if values[at]}
        assert own == ({"gateway.auth", "gateway.safety", "prefill"} if arm is told.a else {block, "prefill"})
        assert sum(values[at] for values in layers.values()) == pytest.approx(column["value_ms"])
        # A wait of the whole among the queue's 105 and the gateway's 15 ms, and not less for what is not told.
        assert column["value_ms"] > 60


def test_bars_are_as_long_as_the_percentile_also_where_the_runs_differ() -> None:
    slow = [replication((at,), 0.05, 600, scale=3.0 if at == 4 else 1.0) for at in range(5)]
    uneven = arm_of("uneven", [replace(one, meta={**one.meta, "seed": at}) for at, one in enumerate(slow)])
    for column in comparison.pictures(compare(uneven, _arm(10, 600, 5)), {})["budget"]["columns"]:
        if column["label"].startswith("A"):
            p = float(column["label"].removeprefix("A p")) / 100
            assert column["value_ms"] == pytest.approx(uneven.figure(Key(Selector("ttft"), p)).value / 1e6, rel=1e-9)


def test_what_some_runs_do_not_tell_is_a_part_of_its_own() -> None:
    told = compare(_arm(1, 2_000, 3), _arm(10, 2_000, 3))
    blind = {**told.b.layers, "ttft": (*told.b.layers["ttft"], "router")}  # nothing is known of it: NaN
    drawn = comparison._bar_ms(replace(told.b, layers=blind), "ttft", 0.5)
    assert "router" not in drawn
    assert drawn[comparison.UNTOLD] >= 0
    assert comparison._bar_ms(replace(told.b, layers={}), "ttft", 0.5).keys() == {comparison.UNTOLD}
