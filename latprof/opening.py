"""A run folder read and understood: the way back from what was written to a report.

    raw observations, spans -> layers -> report

Nothing but the folder is asked: a run reports on itself through here too, so that ``latprof report`` shows the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latprof.clock import WallAnchor
from latprof.errors import Exit

if TYPE_CHECKING:
    from latprof.analysis.verdicts.replications import Replication
    from latprof.layers.course import Course
    from latprof.layers.table import Layers, Tables
    from latprof.observations.folder import Run
    from latprof.report.values import Report
    from latprof.spans.store import Spans


@dataclass(frozen=True, eq=False)
class Opened:
    """A run folder as it was read: its report, the raw observations, the spans as received, and the layers found in them.

    ``layers`` are the tables by metric, the task's among them where there are sessions of several steps.
    """

    report: Report
    observed: Run
    spans: Spans
    tables: Tables
    layers: Mapping[str, Layers]


def open_run(folder: Path | str) -> Opened:
    """Read a run folder, complete or partial, and understand it.

    Raises:
        ConfigError: it is not a run folder, or one of a newer schema.
    """
    from latprof.analysis.causal.injection import injection_of
    from latprof.analysis.task import task_layers
    from latprof.layers.injected import place_in, with_injected
    from latprof.observations.folder import load
    from latprof.observations.graph import load_steps
    from latprof.report.values import build

    folder = Path(folder)
    observed = load(folder)
    received = spans_of(observed)
    spans = with_injected(received, observed)
    tables = tables_of(observed, spans)
    tasks = task_layers(tables.e2el, observed.requests, load_steps(folder))
    layers = {table.metric: table for table in (tables.ttft, tables.e2el, *([tasks.layers] if tasks.have_several_steps else []))}
    report = build(observed, tables.ttft, received, tables.e2el, tasks, injection_of(observed, place_in(observed, spans)))
    return Opened(report, observed, spans, tables, layers)


def report_of(folder: Path) -> Report:
    """The report of a run folder, complete or partial, from the folder alone.

    Raises:
        ConfigError: it is not a run folder, or one of a newer schema.
    """
    return open_run(folder).report


def replication_of(folder: Path, objectives_ms: Mapping[str, float] | None = None) -> Replication:
    """A run folder as one replication of an experiment; ``objectives_ms`` say what goodput is, by default those of its configuration.

    Raises:
        ConfigError: it is not a run folder, or one of a newer schema.
    """
    from latprof.analysis.verdicts.reduction import replication

    opened = open_run(folder)
    return replication(opened.observed, opened.layers, opened.report.doubts, objectives_ms)


def courses_of(opened: Opened, rows: Iterable[int]) -> Iterator[Course]:
    """What those rows of the run's requests went through, one by one: where it really was, as far as anything tells."""
    from latprof.layers.course import laid_out, placed
    from latprof.layers.stored import has_layers

    observed = opened.observed
    if has_layers(observed.folder):
        return laid_out(opened.tables.e2el, observed.requests, rows)
    anchor = WallAnchor(**observed.meta["anchor"])
    hops = hops_of(observed, opened.spans)
    return placed(opened.tables, observed.requests, opened.spans, anchor, rows, hops)


def tables_of(observed: Run, spans: Spans) -> Tables:
    """The layers of a run: as its folder keeps them, where they are known beforehand, else as its spans tell."""
    from latprof.layers.build import build_layers
    from latprof.layers.stored import has_layers, load_layers
    from latprof.layers.table import Tables

    if has_layers(observed.folder):
        return Tables(*(load_layers(observed.folder, observed.requests, metric) for metric in ("ttft", "e2el")))
    anchor = WallAnchor(**observed.meta["anchor"])
    return build_layers(observed.requests, spans, anchor, hops_of(observed, spans))


def hops_of(observed: Run, spans: Spans) -> tuple[str, ...]:
    """The hops of a run from the client inwards, as its configuration says; an injecting hop among them where its delays show that it stands."""
    from latprof.layers.injected import place_in

    place = place_in(observed, spans)
    return tuple(observed.meta["config"]["spans"]["hops"]) if place is None else place.order


def spans_of(observed: Run) -> Spans:
    """The spans of a run as received; those under traces of the server's own beside them, where the id of an answer says whose they are."""
    from latprof.layers.joining import joined
    from latprof.spans import store

    received, others = store.load(observed.folder), store.load_others(observed.folder)
    return joined(observed.requests, received, others, WallAnchor(**observed.meta["anchor"])) if others.num_rows else received


def layers_of(observed: Run, spans: Spans, metric: str) -> Layers:
    """The layers of a run for ``ttft`` or ``e2el``; see `tables_of`."""
    layers: Layers = getattr(tables_of(observed, spans), metric)
    return layers


def exit_code_of(report: Report) -> Exit:
    """The exit code a report calls for."""
    if report.interrupted:
        return Exit.INTERRUPTED
    return Exit.DONE if report.valid else Exit.UNTRUSTED
