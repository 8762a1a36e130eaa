"""Pictures that can be read: axes with figures on them at any range, panels that stand one under the other, thin layers, and captions that are so."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from made_pages import made_shown, made_sweep
from made_run import made_run

from latprof.report.page import budget, sweep
from latprof.report.page.figures import of_run, of_sweep
from latprof.report.page.run import page, pictures
from latprof.report.page.static import Figure, drawn
from latprof.report.values import Budget, Column, LayerRow, build

_MS: Final = 1e6
_SVG: Final = "{http://www.w3.org/2000/svg}"


def _svgs(kind: str, *data: dict[str, Any]) -> list[ET.Element]:
    figures = [Figure(f"{kind}-{at}", kind, one, "A title", "A caption.") for at, one in enumerate(data)]
    return [ET.fromstring(svg) for _, svg in drawn(figures)]  # noqa: S314  # our own


# --- axes ---------------------------------------------------------------------------------------------------------------------------------


def _curve(low: float, high: float) -> dict[str, Any]:
    share = np.linspace(1, 0, 20, endpoint=False)
    arm = {
        "name": "run",
        "n": 1_000,
        "value_ms": np.geomspace(low, high, 20).tolist(),
        "share": share.tolist(),
        "low": [None] * 20,
        "high": [None] * 20,
    }
    return {"ttft": {"name": "TTFT", "arms": [arm]}}


def _cells(low: float, high: float, late_ms: float = 0.3, failed: int = 0) -> dict[str, Any]:
    edges = np.geomspace(low, high, 29).tolist()
    return {
        "edges_s": [0.0, 1.0, 2.0, 3.0, 4.0],
        "edges_ms": edges,
        "cells": [[0, 0, 3], [1, 14, 5], [3, 27, 1]],
        "late_ms": [0.0, late_ms, None, late_ms / 3],
        "failed": [0, failed, 0, 0],
        "warmup_end_s": None,
    }


_LOWS: Final = (0.0031, 0.97, 3.1, 9.4, 121.0, 205.0, 999.0, 34_567.0)
_RATIOS: Final = (1.0101, 1.05, 1.097, 1.15, 1.195, 1.3, 1.7, 2.4, 3.1, 6.0, 14.0, 29.0, 40.0, 500.0, 2_500.0, 1e6)
_RANGES: Final = [(low, low * ratio) for low in _LOWS for ratio in _RATIOS]


def _numerals(svg: ET.Element, anchor: str) -> list[float]:
    """The figures beside an axis: those under a horizontal one are centred, those beside an upright one end at it."""
    texts = [(one.get("text-anchor", "start"), "".join(one.itertext())) for one in svg.iter(f"{_SVG}text")]
    return [float(text) for at, text in texts if at == anchor and re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", text)]


def test_a_logarithmic_axis_has_three_figures_at_least_at_any_range() -> None:
    for (low, high), svg in zip(_RANGES, _svgs("tails", *(_curve(*one) for one in _RANGES)), strict=True):
        found = _numerals(svg, "middle")
        assert 3 <= len(found) <= 16, (low, high, found)
        assert all(0.999 * low <= value <= 1.001 * high for value in found), (low, high, found)
    for (low, high), svg in zip(_RANGES, _svgs("heat", *(_cells(*one) for one in _RANGES)), strict=True):
        found = [value for value in _numerals(svg, "end") if low <= value <= high]
        assert len(found) >= 3, (low, high, found)


def _panels(svg: ET.Element) -> tuple[float, float]:
    """Where the upper and the lower panel begin: the leftmost line that goes straight up in each."""
    paths = [re.fullmatch(r"M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)", one.get("d", "")) for one in svg.iter(f"{_SVG}path")]
    upright = [[float(part) for part in found.groups()] for found in paths if found is not None and found[1] == found[3]]
    lines = [(x, (from_y + to_y) / 2) for x, from_y, _, to_y in upright if abs(from_y - to_y) > 40]
    return min(x for x, y in lines if y < 270), min(x for x, y in lines if y > 270)


@pytest.mark.parametrize("late_ms", [0.0, 0.00012, 0.3, 12_345.6])
def test_both_panels_of_the_heat_map_begin_at_the_same_place(late_ms: float) -> None:
    for low, svg in zip(_LOWS, _svgs("heat", *(_cells(low, 1.4 * low, late_ms, 3) for low in _LOWS)), strict=True):
        upper, lower = _panels(svg)
        assert upper == lower, low


# --- bars ---------------------------------------------------------------------------------------------------------------------------------


def _budget(first_ms: tuple[float, ...], last_ms: tuple[float, ...], labels: tuple[str, str] = ("p50", "p99")) -> Budget:
    names = ("gateway.queue", "gateway.safety", "prefill", "decode.first")[: len(first_ms)]
    by_label = dict(zip((*labels, "mean"), (first_ms, last_ms, first_ms), strict=True))
    columns = {label: Column(label, "percentile", 0.5, sum(values) * _MS) for label, values in by_label.items()}
    rows = tuple(
        LayerRow(name, {label: values[at] * _MS for label, values in by_label.items()}, dict.fromkeys(by_label, 0.0), {}, 0.1, "made", 1.0)
        for at, name in enumerate(names)
    )
    return Budget("ttft", 500, tuple(columns[label] for label in labels), columns["mean"], rows)


def test_no_line_covers_a_thin_layer() -> None:
    layers_ms = (0.4, 100.0, 0.3, 0.5)
    (svg,) = _svgs("budget", budget.stacked(_budget(layers_ms, layers_ms)))
    paper = "#ffffff"
    by_colour = {one["colour"]: one["total_ms"][0] for one in budget.stacked(_budget(layers_ms, layers_ms))["layers"]}
    bars = [one for one in svg.iter(f"{_SVG}path") if one.get("fill") in by_colour and "A" not in one.get("d", "")]
    seen = 0
    for one in bars:
        xs = [float(x) for x in re.findall(r"[ML]([\d.]+) ", one.get("d", ""))]
        if by_colour[str(one.get("fill"))] < 1 and max(xs) - min(xs) < 6:
            seen += 1
            assert one.get("stroke", "none") in {"none", "transparent"} or float(one.get("stroke-width", "1")) == 0, ET.tostring(one)
    assert seen >= 6
    assert any(one.get("stroke") == paper for one in bars)


def test_a_promise_without_a_column_is_told() -> None:
    told = budget.stacked(_budget((1.0, 20.0), (2.0, 90.0)), {"p50": 60.0, "p90": 80.0, "mean": 40.0})
    assert told["limits_ms"] == {"p50": 60.0}
    assert told["unplaced_ms"] == {"p90": 80.0, "mean": 40.0}
    words = budget.promises("TTFT", told)
    assert "The tick is the budget of the TTFT" in words
    assert "without a column to draw it at: p90 ≤ 80 ms and mean ≤ 40 ms" in words
    assert "tick" not in budget.promises("TTFT", budget.stacked(_budget((1.0,), (2.0,)), {"p90": 80.0}))
    assert budget.promises("TTFT", budget.stacked(_budget((1.0,), (2.0,)))) == ""
    shown = made_shown(300, limits_ms={"ttft": {"p90": 80.0}})
    assert "p90 ≤ 80 ms" in page(shown)
    assert "p90 ≤ 80 ms" in next(of_run(shown)).caption


# --- the tail -----------------------------------------------------------------------------------------------------------------------------


def test_a_difference_of_nearly_nothing_has_no_shares() -> None:
    near = _budget((50.0, 50.0), (60.0, 40.01))
    told = budget.tail(near)
    assert told is not None
    assert [layer["share"] for layer in told["layers"]] == [None, None]
    assert "differ by less than 1% of p50" in budget.tail_words(near, told)
    (svg,) = _svgs("tail", told)
    assert "%" not in "".join(svg.itertext())
    far = budget.tail(_budget((50.0, 50.0), (60.0, 60.0)))
    assert far is not None
    assert [layer["share"] for layer in far["layers"]] == [0.5, 0.5]


def test_what_has_nothing_to_show_is_not_drawn() -> None:
    same = _budget((50.0, 50.0), (50.0, 50.0))
    assert budget.tail(same) is None
    assert "are the same" in budget.tail_words(same, None)
    observed, layers, spans = made_run(1)
    one = made_shown(1, run=observed, report=build(observed, layers, spans), layers={"ttft": layers})
    assert pictures(one)["tail"] is None
    assert pictures(one)["tails"] == {}
    alone = replace(observed, requests=observed.requests.select(observed.requests.success))
    assert len(alone.requests) == 1
    assert pictures(replace(one, run=alone))["heat"] is None
    told = page(one)
    assert "One time is no distribution" in told
    assert not {figure.kind for figure in of_run(one)} & {"tail", "tails"}
    heads = re.findall(r"<th>([^<]*), ms</th>", told)
    assert len(heads) == len(set(heads)), heads


# --- sweeps -------------------------------------------------------------------------------------------------------------------------------


def test_crossings_say_what_they_compare() -> None:
    told = sweep.pictures(made_sweep())["sweep"]
    call = next(one for one in told.values() if one["metric"] == "e2el")
    both = {**call, "faster": ["decode.first", "decode"]}
    assert "(decode.first + decode together)" in sweep.crossing_words(both)
    assert call["faster"] == ["decode"]
    assert "together" not in sweep.crossing_words(call)
    areas = {layer["layer"] for layer in call["layers"]}
    for one in call["crossings"]:
        assert one["told"] == one["layer"] if one["layer"] in areas else "together" in one["told"]
    made = [{"layer": "gateway", "told": "gateway, all its layers together,", "k": 3.0, "low": None, "high": None}]
    (svg,) = _svgs("sweep", {**both, "crossings": made})
    words = ["".join(one.itertext()) for one in svg.iter(f"{_SVG}text")]
    assert "gateway, all its layers together, at 3" in words
    assert "decode (decode.first + decode): times faster" in words


def test_a_point_that_does_not_count_is_named() -> None:
    report = made_sweep("rate", (5, 10, 20, 2000))
    failed = replace(report.points[-1].point.runs[0], failure="it fell over", arrival_model="")
    point = replace(report.points[-1], answers={}, point=replace(report.points[-1].point, runs=(failed,)))
    report = replace(report, points=(*report.points[:-1], point))
    (load,) = of_sweep(report)
    assert "unknown" not in load.caption
    assert "only 3 of them count, not rate=2000" in load.caption
    told = sweep.page(report, "")
    assert "Without rate=2000: there is no run." in told.replace("&#39;", "'")
    assert load.data["xs"] == [5, 10, 20]
