from __future__ import annotations

from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from latprof.analysis.contributions import columns
from latprof.layers.table import IntArray, Layers
from latprof.report.table import UNTOLD, broken, grid
from latprof.report.values import Budget, _budget

TABLES = st.tuples(st.integers(1, 120), st.integers(1, 8), st.sampled_from([10**4, 10**7, 10**9, 10**12])).flatmap(
    lambda shape: arrays(np.int64, shape[:2], elements=st.integers(0, shape[2]))
)


def budget(total_ns: IntArray, wait_ns: IntArray, service_ns: IntArray) -> Budget:
    width = total_ns.shape[1]
    names = tuple(f"layer{index}" for index in range(width))
    rows = np.arange(len(total_ns))
    layers = Layers("ttft", names, rows, total_ns, wait_ns, service_ns, total_ns > 0, (("span",),) * width, ())
    return _budget(layers, columns(layers))


@settings(max_examples=150, deadline=None)
@given(TABLES, st.integers(0, 4))
def test_every_column_adds_up_as_printed(total_ns: IntArray, part: int) -> None:
    wait_ns = total_ns * part // 4
    laid_out = grid(budget(total_ns, wait_ns, total_ns - wait_ns))
    for index, total in enumerate(laid_out.total.cells):
        assert sum((Decimal(line.cells[index]) for line in laid_out.lines), Decimal(0)) == Decimal(total)
    if not laid_out.hidden and Decimal(laid_out.total.cells[0]):  # of nothing there are no shares
        assert sum(int(line.share.removesuffix("%")) for line in laid_out.lines) == 100
    for line in laid_out.lines:
        if line.wait != UNTOLD:
            assert Decimal(line.wait) + Decimal(line.service) == Decimal(line.cells[0])


@settings(max_examples=60, deadline=None)
@given(TABLES)
def test_what_was_not_told_apart_is_a_dash_and_never_more_than_the_cell(total_ns: IntArray) -> None:
    wait_ns, service_ns = total_ns // 3, total_ns // 3
    wait_ns[:, 0] = service_ns[:, 0] = 0
    laid_out = grid(budget(total_ns, wait_ns, service_ns))
    for line in laid_out.lines:
        if line.layer == "layer0" and Decimal(line.cells[0]) > 0:
            assert (line.wait, line.service) == (UNTOLD, UNTOLD)
        elif line.wait != UNTOLD:
            assert Decimal(line.wait) + Decimal(line.service) <= Decimal(line.cells[0])


def test_bars_are_as_long_as_shares() -> None:
    total_ns = np.tile(np.array([[40, 20, 0]]) * 1_000_000, (30, 1))
    laid_out = grid(budget(total_ns, total_ns // 2, total_ns - total_ns // 2), bar_width=16)
    assert [(line.bar_wait, line.bar_rest) for line in laid_out.lines] == [(8, 8), (4, 4)]
    assert laid_out.hidden == ("layer2",)


def test_wide_names_break_after_a_plus() -> None:
    assert broken("prefill", 4) == "prefill"
    assert broken("engine.api+engine.tokenize+engine.queue", 28) == "engine.api+engine.tokenize+\n engine.queue"


def test_large_tables_print_fewer_decimals() -> None:
    def cell(value_ms: int) -> str:
        total_ns = np.full((30, 1), value_ms * 1_000_000)
        return grid(budget(total_ns, total_ns, total_ns * 0)).total.cells[0]

    assert [cell(value_ms) for value_ms in (999, 1_000, 100_000)] == ["999.00", "1000.0", "100000"]
