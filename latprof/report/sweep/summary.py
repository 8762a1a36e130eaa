"""A sweep as JSON: schema ``latprof.sweep_summary/1``. Times in ms, rates per second, shares as fractions; null where a figure is not known.

A crossing that was not reached has ``k`` null and ``reached`` false; the end of an interval beyond what was swept is null with ``beyond`` true.
"""

from __future__ import annotations

import math
from typing import Any

from latprof.analysis.sweeps.bottlenecks import Leader
from latprof.analysis.sweeps.crossings import NEVER, attained
from latprof.analysis.sweeps.pooled import PooledValue
from latprof.report import presets
from latprof.report.rounding import finite
from latprof.report.sweep.lines import Along, Figure, Line, lines
from latprof.report.sweep.values import Answer, PointReport, SweepReport
from latprof.units import ms

SCHEMA = "latprof.sweep_summary/1"
"""Additions keep the number."""


def summary(report: SweepReport) -> dict[str, Any]:
    """``report`` as plain values for JSON; nothing is rounded."""
    return {
        "schema": SCHEMA,
        "folder": None if report.folder is None else str(report.folder),
        "axes": [{"name": axis.name, "kind": axis.kind, "values": list(axis.values)} for axis in report.axes],
        "together": report.is_zipped,
        "simulated": report.is_simulated,
        "replications": report.replications,
        "interrupted": report.interrupted,
        "doubts": [{"id": doubt.id, "level": doubt.level, "text": doubt.text, "remedy": doubt.remedy} for doubt in report.doubts],
        "points": [_point(point) for point in report.points],
        "lines": [_line(line) for line in lines(report)],
        "presets": list(presets.lines(report.presets)),
    }


def _point(point: PointReport) -> dict[str, Any]:
    found = point.bounds
    return {
        "setting": dict(point.point.setting),
        "arrival_model": point.arrival_model,
        "runs": [
            {"folder": str(run.folder), "seed": run.seed, "used": run.is_used, "failure": run.failure or None} for run in point.point.runs
        ],
        "completed_per_s": _estimate(point.completed, 1.0),
        "goodput_share": finite(point.good_share),
        "metrics": {metric: _answer(answer) for metric, answer in point.answers.items()},
        "stations": [
            {
                "station": station.name,
                "servers": station.servers,
                "demand_ms": finite(ms(station.demand_ns)),
                "utilisation": finite(station.utilisation),
                "exact": station.is_exact,
            }
            for station in point.stations
        ],
        "bounds": None
        if found is None
        else {
            "capacity_per_s": finite(found.capacity_per_s),
            "by": found.by or None,
            "population_per_s": finite(found.population_per_s),
            "broken": list(found.broken),
        },
        "leverage": "runs" if point.leverage_is_measured else "first order",
    }


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        label: {
            **_estimate(answer.values[label], 1e6, "_ms"),
            "layers": [
                {"layer": name, "contribution_ms": float(ms(total)), "wait_ms": float(ms(wait)), "service_ms": float(ms(service))}
                for name, total, wait, service in zip(answer.names, told.total_ns, told.wait_ns, told.service_ns, strict=True)
            ],
            "bottlenecks": {
                "budget": _leader(answer.bottlenecks[label].budget, "contribution_ms", 1e6),
                "capacity": _leader(answer.bottlenecks[label].capacity, "utilisation"),
                "leverage": _leader(answer.bottlenecks[label].leverage, "elasticity"),
            },
        }
        for label, told in answer.contributions.items()
    }


def _leader(leader: Leader | None, figure: str, unit: float = 1.0) -> dict[str, Any] | None:
    return None if leader is None else {"layers": list(leader.names), "tie": len(leader.names) > 1, figure: leader.value / unit}


def _line(line: Line) -> dict[str, Any]:
    return {
        "axis": line.axis,
        "fixed": dict(line.fixed),
        "k": list(line.ks),
        "attained": [attained(k, line.ks[0]) for k in line.ks],
        "along": [_along(one) for one in line.along],
    }


def _along(one: Along) -> dict[str, Any]:
    return {
        "metric": one.metric,
        "at": one.column.label,
        "crossings": [{"layer": found.layer, **_figure(found.at), "holds": found.holds} for found in (*one.crossings, one.others)],
        "diminishing": _figure(one.diminishing),
        "naive_ms": [finite(ms(value)) for value in one.naive_ns],
        "naive_gap": [finite(gap) for gap in one.gap],
    }


def _figure(found: Figure) -> dict[str, Any]:
    return {
        "reached": None if math.isnan(found.k) else found.k != NEVER,
        "k": finite(found.k),
        "low": finite(found.low),
        "high": finite(found.high),
        "beyond": found.high == NEVER,
    }


def _estimate(told: PooledValue, unit: float, suffix: str = "") -> dict[str, Any]:
    return {f"value{suffix}": finite(told.value / unit), f"half{suffix}": finite(told.half / unit)}
