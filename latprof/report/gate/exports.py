"""A gate for other programs: JSON of everything, github-action-benchmark's list, and a row for Apache Otava's CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from latprof.analysis.verdicts.assertions import Verdict
from latprof.errors import ConfigError
from latprof.report import presets
from latprof.report.gate import words
from latprof.report.gate.values import Gated
from latprof.report.inert import harmless, plain
from latprof.units import NS_PER_S, ms

SCHEMA: Final = "latprof.gate/1"
"""Additions keep the number."""


def gate_json(gated: Gated) -> dict[str, Any]:
    """Everything, as plain values: times in ms, shares as fractions; null where a figure is not known.

    The time of day is left out: the same runs give the same document.
    """
    return {
        "schema": SCHEMA,
        "title": gated.title,
        "verdict": gated.word,
        "exit_code": int(gated.exit_code),
        "level": 1 - gated.alpha,
        "assertions": [_assertion(verdict) for verdict in gated.verdicts],
        "moved": [words.moved(one) for one in gated.moved],
        "latency_budget": gated.spending.as_json() if gated.spending is not None else None,
        "doubts": [{"id": doubt.id, "level": doubt.level, "text": doubt.text, "remedy": doubt.remedy} for doubt in gated.doubts],
        "notes": list(gated.notes),
        "presets": list(presets.lines(gated.presets)),
        "runs": [
            {"folder": run.folder, "seed": run.seed, "requests": run.requests, "failed": run.failed, "steady_state": run.cut}
            for run in gated.runs
        ],
    }


def _assertion(verdict: Verdict) -> dict[str, Any]:
    claim = verdict.claim

    def plainly(value: float) -> float | None:
        return None if math.isnan(value) else value if claim.is_share else ms(value)

    return {
        "name": claim.name,
        "level": claim.level,
        "outcome": verdict.outcome,
        "unit": "share" if claim.is_share else "ms",
        "observed": plainly(verdict.value if verdict.is_given else math.nan),
        "low": plainly(verdict.low),
        "high": plainly(verdict.high),
        "bound": plainly(claim.bound),
        "bound_is": "upper" if claim.is_upper else "lower",
        "is_change": claim.is_change,
        "slack": plainly(verdict.slack if verdict.is_given else math.nan),
        "mde": plainly(verdict.detectable),
        "requests": claim.estimate.n,
        "replications": claim.estimate.replications,
        "why": verdict.why,
    }


def benchmark_json(gated: Gated) -> list[dict[str, Any]]:
    """What github-action-benchmark reads as ``customSmallerIsBetter``: one entry per figure; where more is better, what is missing of all.

    None of runs that cannot be trusted: they are no part of a history.
    """
    if gated.word == "invalid":
        return []
    gated = harmless(gated)
    entries = []
    for verdict in gated.verdicts:
        claim = verdict.claim
        if not verdict.is_given or claim.is_change:
            continue
        figure = verdict.value if claim.is_upper or not claim.is_share else 1 - verdict.value
        half = (verdict.high - verdict.low) / 2
        entry: dict[str, Any] = {
            "name": _subject(verdict) if claim.is_upper or not claim.is_share else f"missed {_subject(verdict)}",
            "unit": "%" if claim.is_share else "ms",
            "value": _shown(figure, verdict),
            "extra": f"{verdict.outcome}; {words.sentence(verdict, gated.level)}",
        }
        if not math.isnan(half):
            entry["range"] = f"± {_shown(half, verdict):g}"
        entries.append(entry)
    return entries


def _subject(verdict: Verdict) -> str:
    """What was held against the bound, without it: the name of a series must not change with the bound."""
    return verdict.claim.name.rpartition(" < ")[0] or verdict.claim.name.rpartition(" > ")[0]


def _shown(value: float, verdict: Verdict) -> float:
    return round(100 * value if verdict.claim.is_share else ms(value), 4)


def otava_csv(gated: Gated, before: str = "") -> str:
    """``before`` with one more row: time, commit, verdict, then a column per figure; columns that are new are empty in the older rows.

    The figures of runs that cannot be trusted, and percentiles of too few requests, are left empty.

    Apache Otava (Hunter) reads it with ``type: csv``, ``time_column: time``; the columns are its metrics, ``direction: -1``.

    Raises:
        ConfigError: ``before`` is not such a file.
    """
    header, rows = _rows_of(before)
    at = datetime.fromtimestamp(gated.when_unix_ns // NS_PER_S, UTC)
    row = {"time": f"{at:%Y-%m-%d %H:%M:%S +0000}", "commit": _cell(gated.commit), "verdict": gated.word}
    for verdict in gated.verdicts:
        if not math.isnan(verdict.value) and not verdict.claim.is_change:
            is_told = verdict.is_given and gated.word != "invalid"
            row[_column(verdict)] = f"{_shown(verdict.value, verdict):.4f}" if is_told else ""
    columns = list(dict.fromkeys([*header, *row]))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*rows, row])
    return out.getvalue()


def _rows_of(before: str) -> tuple[Sequence[str], list[Mapping[str, str]]]:
    """Columns and rows of an earlier file, each row as long as the columns are."""
    reader = csv.DictReader(io.StringIO(before))
    rows: list[Mapping[str, str]] = []
    try:
        if before.strip() and (reader.fieldnames or [""])[0] != "time":
            raise ConfigError("is not a CSV that latprof gate wrote (its first column must be time); name another file")
        for row in reader:
            if None in row or None in row.values():
                raise ConfigError(f"line {reader.line_num} has not as many cells as the first has columns; mend or remove it")
            rows.append(row)
    except csv.Error as error:
        raise ConfigError(f"line {reader.line_num} is no CSV ({error}); mend or remove the file") from None
    return reader.fieldnames or (), rows


def _column(verdict: Verdict) -> str:
    unit = "percent" if verdict.claim.is_share else "ms"
    return "_".join([*_cell(_subject(verdict)).replace(".", "_").replace("+", "_").replace("@", "_").split(), unit])


def _cell(text: str) -> str:
    """Spreadsheets run what begins with one of these."""
    cleaned = plain(text)
    return f"'{cleaned}" if cleaned[:1] in {"=", "+", "-", "@"} else cleaned
