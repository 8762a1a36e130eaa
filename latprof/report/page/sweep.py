"""The page of a sweep: contributions over log k with their crossings, load curves, and the three bottlenecks at every point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from latprof.analysis.sweeps.crossings import NEVER
from latprof.analysis.sweeps.highest import Searched
from latprof.analysis.sweeps.operational import is_at
from latprof.analysis.sweeps.pooled import PooledValue
from latprof.layers.vocabulary import path_order
from latprof.report import presets
from latprof.report.colours import colour_of
from latprof.report.page import made as page_made
from latprof.report.page.document import document
from latprof.report.page.made import Made
from latprof.report.rounding import finite
from latprof.report.sweep.along import sentences_along
from latprof.report.sweep.highest import answer
from latprof.report.sweep.lines import OTHERS, Along, Crossing, Line, lines
from latprof.report.sweep.summary import summary
from latprof.report.sweep.values import METRICS, Axis, PointReport, SweepReport
from latprof.units import ms

_MOST_CROSSINGS = 4
_MOST_NAMED = 6
DOTTED = "Dotted: where others are as large as what gets faster{faster}, area against area, each measured from its own lower edge."


def page(report: SweepReport, repeat: str, made: Made | None = None) -> str:
    """The page as HTML; ``repeat`` is the command that does it again, empty where nobody knows it; ``made`` is of the first point."""
    told = summary(report)
    drawn = pictures(report)
    text, mood = _verdict(report)
    answered = [] if report.searched is None else _answer(report.searched)
    if answered:
        text, mood = answered[0], "good" if report.searched is not None and report.searched.found.met is not None else "bad"
    asked = [point for point in report.points if _is_asked(report, point.point.setting)]
    bounds = list(_bounds(asked))
    return document(
        "sweep.html.j2",
        {
            "title": "latprof sweep",
            "subtitle": "; ".join(f"{axis.name} = {', '.join(f'{value:g}' for value in axis.values)}" for axis in report.axes),
            "summary": told,
            "pictures": drawn,
            "verdict": {"text": text, "mood": mood, "more": answered[1:]},
            "sweeps": [(name, _titled(one)) for name, one in drawn["sweep"].items()],
            "crossing_words": DOTTED.format(faster=" (together, where that is several)"),
            "missing": _missing(report),
            "missing_load": _missing_load(report),
            "loads": [(name, one["title"]) for name, one in drawn["load"].items()],
            "lines": [_sentences(report, line) for line in lines(report)],
            "shown": [(metric, METRICS[metric], [column.label for column in columns]) for metric, columns in report.columns.items()],
            "asked": [point for point in told["points"] if _is_asked(report, point["setting"])],
            "bounds": bounds,
            "is_closed": any(one["population"] is not None for one in bounds),
            "notes": list(presets.footnotes(report.presets)),
            "made": page_made.told(made or Made()),
            "repeat": repeat,
            "folder": "" if report.folder is None else str(report.folder),
        },
    )


def pictures(report: SweepReport) -> dict[str, Any]:
    """Every picture of a sweep by name, and there by what is chosen."""
    found = {
        f"{index}.{one.metric}.{one.column.label}": _along(line, one) for index, line in enumerate(lines(report)) for one in line.along
    }
    # The call first: it is what the whole sweep is about, and TTFT is a part of it.
    order = sorted(found, key=lambda name: (found[name]["metric"] != "e2el", list(found).index(name)))
    return {"sweep": {name: found[name] for name in order}, "load": dict(_loads(report))}


def _answer(searched: Searched) -> list[str]:
    """The answer of a search, its first sentence first."""
    asked = searched.asked
    return list(answer(searched.found, asked.axis, asked.goal, asked.objectives_ms))


def _bounds(points: Sequence[PointReport]) -> Iterator[dict[str, Any]]:
    """What throughput cannot exceed, per s: every point's own, beside what it came to; None where a bound does not apply."""
    for point in points:
        if point.bounds is not None:
            yield {
                "at": point.point.name,
                "completed": finite(point.bounds.completed_per_s),
                "capacity": finite(point.bounds.capacity_per_s),
                "by": point.bounds.by,
                "population": finite(point.bounds.population_per_s),
            }


def _is_asked(report: SweepReport, setting: Mapping[str, float]) -> bool:
    """Runs between the points that were asked for only make crossings finer."""
    return all(setting[axis.name] in axis.values for axis in report.axes)


def _verdict(report: SweepReport) -> tuple[str, str]:
    counting, points = sum(point.counts for point in report.points), len(report.points)
    if not report.valid:
        return "NOT VALID: no point of the sweep counts", "bad"
    told = f"{counting} of {points} points count, not {uncounted(report)}" if counting < points else f"all {points} points count"
    return f"VALID: {told}", "good" if counting == points and not report.doubts else "warn"


def _sentences(report: SweepReport, line: Line) -> dict[str, Any]:
    fixed = ", ".join(f"{name}={value:g}" for name, value in line.fixed.items())
    return {
        "title": f"As {line.axis} gets faster{f', at {fixed}' if fixed else ''}",
        "load": "; ".join(dict.fromkeys(point.arrival_model for point in line.points)),
        "told": [text.strip() for one in line.along for text in sentences_along(report, line, one)],
    }


def _titled(one: Mapping[str, Any]) -> str:
    return f"{one['name']} {one['label']}{one['fixed']}"


def _along(line: Line, one: Along) -> dict[str, Any]:
    answers = [point.answers[one.metric] for point in line.points]
    names = sorted({name for answer in answers for name in answer.names}, key=path_order)
    by_name = [dict(zip(answer.names, answer.contributions[one.column.label].total_ns.tolist(), strict=True)) for answer in answers]
    values = [answer.values[one.column.label] for answer in answers]
    fixed = ", ".join(f"{name}={value:g}" for name, value in line.fixed.items())
    return {
        "axis": line.axis,
        "fixed": f" at {fixed}" if fixed else "",
        "metric": one.metric,
        "name": METRICS[one.metric],
        "label": one.column.label,
        "ks": list(line.ks),
        "layers": [
            {"layer": name, "colour": colour_of(name), "total_ms": [ms(told.get(name, 0.0)) for told in by_name]}
            for name in names
            if any(told.get(name) for told in by_name)
        ],
        **_bounded(values),
        "naive_ms": [finite(ms(value)) for value in one.naive_ns],
        "faster": [name for name in names if is_at(name, line.axis) and any(told.get(name) for told in by_name)],
        "crossings": [
            {
                "layer": found.layer,
                "told": _crossed(found.layer, names),
                "k": found.at.k,
                "low": finite(found.at.low),
                "high": finite(found.at.high),
            }
            for found in _marked(one)
            if line.ks[0] < found.at.k < NEVER
        ],
    }


def crossing_words(drawn: Mapping[str, Any]) -> str:
    """What the dotted lines of `pictures`' sweep compare."""
    faster = " + ".join(drawn["faster"])
    return DOTTED.format(faster=f" ({faster} together)" if len(drawn["faster"]) > 1 else "")


def uncounted(report: SweepReport) -> str:
    """The points that count for nothing, by their settings; empty where all do."""
    return _named([point for point in report.points if not point.counts])


def _named(points: Sequence[PointReport]) -> str:
    named = [point.point.name for point in points]
    return "; ".join([*named[:_MOST_NAMED], *([f"{len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else [])])


def _missing(report: SweepReport) -> str:
    """Of points that are not in the pictures; empty where all count."""
    return f" Without {names}: no run there counts." if (names := uncounted(report)) else ""


def _missing_load(report: SweepReport) -> str:
    """The same of the load, where doubtful points are drawn."""
    absent = _named([point for point in report.points if not point.answers])
    doubtful = _named([point for point in report.points if point.answers and not point.counts])
    return (f" Without {absent}: there is no run." if absent else "") + (f" Drawn, but does not count: {doubtful}." if doubtful else "")


def _crossed(name: str, layers: Sequence[str]) -> str:
    """A crossing's name in the picture: what is a sum of several areas says so."""
    return name if name in layers or name == OTHERS else f"{name}, all its layers together,"


def _marked(one: Along) -> list[Crossing]:
    """Crossings worth a line in the picture: that of all others together, and of the single layers the first few."""
    reached = [found for found in one.crossings if found.at.k != NEVER]
    return [one.others, *sorted(reached, key=lambda found: found.at.k)[:_MOST_CROSSINGS]]


def _loads(report: SweepReport) -> Iterator[tuple[str, dict[str, Any]]]:
    """Latency along every axis that is no speed-up, the others fixed."""
    for axis in report.axes:
        if axis.kind == "speedup" or len(axis.values) < 2 or report.is_zipped:
            continue
        groups: dict[tuple[tuple[str, float], ...], list[PointReport]] = {}
        for point in report.points:
            rest = tuple((name, value) for name, value in point.point.setting.items() if name != axis.name)
            groups.setdefault(rest, []).append(point)
        for rest, group in groups.items():
            told = sorted((point for point in group if point.answers), key=lambda point: point.point.setting[axis.name])
            if len(told) > 1:
                fixed = ", ".join(f"{name}={value:g}" for name, value in rest)
                yield f"{axis.name}|{fixed}", _load(report, axis, told, fixed)


def _load(report: SweepReport, axis: Axis, points: Sequence[PointReport], fixed: str) -> dict[str, Any]:
    units = {"rate": "requests/s intended", "concurrency": "places: sessions, or single requests, always on"}
    return {
        "title": f"{axis.name}{f' at {fixed}' if fixed else ''}",
        "name": units.get(axis.kind, axis.name),
        "xs": [point.point.setting[axis.name] for point in points],
        "lines": [
            {
                "name": f"{METRICS[metric]} {column.label}",
                "is_tail": column.p > 0.5,
                **_bounded([point.answers[metric].values[column.label] for point in points]),
            }
            for metric, columns in report.columns.items()
            for column in columns
        ],
        "good_share": [finite(point.good_share) for point in points],
        "completed_per_s": [finite(point.completed.value) for point in points],
    }


def _bounded(values: Sequence[PooledValue]) -> dict[str, list[float | None]]:
    return {
        "value_ms": [finite(ms(one.value)) for one in values],
        "low_ms": [finite(ms(one.value - one.half)) for one in values],
        "high_ms": [finite(ms(one.value + one.half)) for one in values],
    }
