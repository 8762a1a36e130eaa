"""``latprof whatif``: a change predicted from a recorded run, from its folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latprof.commands.output import print_with_json
from latprof.errors import Exit, UsageError

if TYPE_CHECKING:
    from latprof.analysis.whatif.answer import Answer
    from latprof.analysis.whatif.record import Record


@dataclass(frozen=True, slots=True)
class Question:
    """What the command line asks, in its words."""

    speedup: Sequence[str] = ()
    layer: Sequence[str] = ()
    servers: Sequence[str] = ()
    arrivals: str | None = None
    places: int | None = None
    shapley: bool = False


def record_in(folder: Path) -> Record:
    """The record of a run folder, live or simulated, complete or partial.

    Raises:
        UsageError: it is not a run folder, or nothing in it can be replayed.
    """
    from latprof.analysis.whatif.record import record_of
    from latprof.observations.folder import load
    from latprof.observations.graph import load_steps
    from latprof.opening import spans_of, tables_of

    observed = load(folder)
    return record_of(observed, tables_of(observed, spans_of(observed)).e2el, load_steps(folder))


def answer_of(folder: Path, question: Question) -> Answer:
    """What the run in ``folder`` would have been under ``question``.

    Raises:
        UsageError: the question cannot be meant, or not of this run.
        InconclusiveError: the replay without change does not reproduce the run.
    """
    from latprof.analysis.whatif.changes import read_changes
    from latprof.analysis.whatif.prediction import what_if
    from latprof.analysis.whatif.record import ARRIVALS, asked_load

    changes = read_changes(question.speedup, question.layer, question.servers)
    arrivals = next((one for one in ARRIVALS if one == question.arrivals), None)
    if question.arrivals is not None and arrivals is None:
        raise UsageError(f"--arrivals must be one of {', '.join(ARRIVALS)}, got {question.arrivals!r}")
    record = record_in(folder)
    load = asked_load(record, arrivals, question.places)
    return what_if(record, changes, load, with_shapley=question.shapley)


def answer_and_print(folder: Path, question: Question, *, json_file: Path | None) -> Exit:
    """``latprof whatif``."""
    from latprof.report.whatif.summary import summary
    from latprof.report.whatif.terminal import render

    answer = answer_of(folder, question)
    otherwise = "; name a file in a folder that can be, or - for standard output"
    print_with_json(lambda beside: render(answer, stderr=beside), summary(answer), json_file, otherwise)
    return Exit.DONE
