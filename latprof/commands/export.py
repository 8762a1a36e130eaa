"""A run for other tools: a trace to look at, stacks for a flame graph, spans and metrics for a collector."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from latprof.commands.output import check_writable
from latprof.errors import UsageError
from latprof.opening import courses_of
from latprof.units import NS_PER_S

if TYPE_CHECKING:
    from latprof.observations.folder import Run
    from latprof.opening import Opened
    from latprof.report.elsewhere.otlp_out import Collector

STDOUT = Path("-")
_HEX_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Exports:
    """What `latprof report` is asked to write beside the report; ``-`` is standard output."""

    perfetto: Path | None = None
    folded: Path | None = None
    at: str | None = None
    otlp: str | None = None
    otlp_headers: tuple[str, ...] = ()
    genai_metrics: bool = False

    @property
    def files(self) -> dict[str, Path]:
        """Flag -> file."""
        found = {"--perfetto": self.perfetto, "--folded": self.folded}
        return {flag: file for flag, file in found.items() if file is not None}

    @property
    def on_stdout(self) -> bool:
        """Whether one of them goes where the report would."""
        return STDOUT in self.files.values()

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.files) or self.otlp is not None


def check(exports: Exports, json_file: Path | None) -> None:
    """Find out before the run is read what cannot be done.

    Raises:
        UsageError: a file that cannot be written, flags that need another, a collector's address or header that cannot be used.
    """
    if exports.at is not None and exports.folded is None:
        raise UsageError("--at says which percentile --folded shows; give --folded FILE as well, or leave it out")
    if exports.otlp is None and (exports.otlp_headers or exports.genai_metrics):
        flag = "--otlp-header" if exports.otlp_headers else "--genai-metrics"
        raise UsageError(f"{flag} says what goes to a collector; give --otlp URL as well, or leave it out")
    if sum(file == STDOUT for file in (json_file, *exports.files.values())) > 1:
        raise UsageError("only one of --json, --perfetto and --folded can be - (standard output)")
    for flag, file in exports.files.items():
        check_writable(file, flag)
    _collector(exports)


def export(opened: Opened, exports: Exports) -> None:
    """Write what is asked for, and say on standard error what was written.

    Raises:
        UsageError: the run has nothing of the kind, a file cannot be written, or the collector does not take it.
    """
    if exports.perfetto is not None:
        _perfetto(opened, exports.perfetto)
    if exports.folded is not None:
        _folded(opened, exports.folded, exports.at or _highest(opened))
    if (collector := _collector(exports)) is not None:
        asyncio.run(_otlp(opened, collector, genai_metrics=exports.genai_metrics))


def _perfetto(opened: Opened, file: Path) -> None:
    from latprof.report.elsewhere import perfetto

    shown = perfetto.choose(opened.observed, opened.tables.ttft)
    with _writing(file, "--perfetto") as stream:
        perfetto.write(stream, opened.observed, shown, partial(courses_of, opened))
    _say(f"trace: {_named(file)} ({shown.sentence}); open it at https://ui.perfetto.dev")


def _highest(opened: Opened) -> str:
    """The highest percentile the report shows; the mean where the sample allows none."""
    columns = opened.report.budget.columns if opened.report.budget is not None else ()
    return next((column.label for column in reversed(columns) if column.kind == "percentile"), "mean")


def _folded(opened: Opened, file: Path, at: str) -> None:
    from latprof.report.elsewhere import folded

    ttft = opened.tables.ttft
    label, column = folded.column_at(ttft, opened.observed.requests.intended_ns[ttft.rows], at)
    with _writing(file, "--folded") as stream:
        stream.writelines(f"{line}\n".encode() for line in folded.lines(ttft, column, label))
    _say(f"folded stacks: {_named(file)} (TTFT at {label}, in ns)")


async def _otlp(opened: Opened, collector: Collector, *, genai_metrics: bool) -> None:
    from latprof.report.elsewhere.genai import client_spans
    from latprof.report.elsewhere.genai_metrics import encode_metrics
    from latprof.report.elsewhere.otlp_out import send_metrics, send_spans

    run = opened.observed
    rows = _rows_with_traces(run)
    delivered = await send_spans(collector, client_spans(run, rows, partial(courses_of, opened)))
    _say(f"spans: {delivered.sent} of {len(rows)} requests sent to {collector.base}")
    _report_dropped("spans", delivered.rejected, delivered.said)
    if genai_metrics:
        told = await send_metrics(collector, encode_metrics(run))
        _say(f"GenAI client metrics of the measured requests sent to {collector.base}")
        _report_dropped("data points", told.rejected, told.said)


def _rows_with_traces(run: Run) -> list[int]:
    """Every request that went under a trace id, warm-up included: its server's spans are at the collector as well."""
    # An anchor at the beginning of 1970 is none: nothing of such a run happened in the world.
    if run.meta["anchor"]["unix_ns"] < NS_PER_S:
        raise UsageError(f"--otlp: {run.folder} is of virtual time, which no collector can place; --perfetto and --folded can show it")
    rows = [row for row, trace_id in enumerate(run.requests.trace_id) if len(trace_id) == _HEX_DIGITS]
    if not rows:
        raise UsageError(f"--otlp: {run.folder} has no request with a trace id, so no spans; latprof report without it says why")
    return rows


def _report_dropped(what: str, rejected: int, said: str) -> None:
    """A collector may take a batch and drop a part of it.

    Raises:
        UsageError: it did.
    """
    if rejected:
        raise UsageError(
            f"--otlp: the collector dropped {rejected} {what} of those it took ({said or 'it does not say why'}); see its own log"
        )
    if said:
        _say(f"the collector says: {said}")


def _collector(exports: Exports) -> Collector | None:
    if exports.otlp is None:
        return None
    from latprof.report.elsewhere.otlp_out import read_collector

    return read_collector(exports.otlp, exports.otlp_headers, os.environ)


@contextlib.contextmanager
def _writing(file: Path, flag: str) -> Iterator[BinaryIO]:
    """The file, or standard output; a reader there may leave early."""
    if file == STDOUT:
        with contextlib.suppress(BrokenPipeError):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    try:
        with file.open("wb") as stream:
            yield stream
    except OSError as error:
        raise UsageError(f"{flag} {file}: cannot be written ({error.strerror}); name a file in a folder that can be") from None


def _named(file: Path) -> str:
    return "on standard output" if file == STDOUT else str(file)


def _say(text: str) -> None:
    from latprof.report.inert import plain

    sys.stderr.write(f"{plain(text)}\n")
