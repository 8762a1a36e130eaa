"""A gate as Markdown, for the step summary of a CI job: a headline, the assertions, the latency budget, what it rests on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from latprof.analysis.verdicts.assertions import Verdict
from latprof.report import presets
from latprof.report.gate import words
from latprof.report.gate.values import Gated
from latprof.report.inert import harmless

MOST_BYTES: Final = 60_000
"""GitHub takes 1 MiB of a step and shows less; nobody reads more than this."""

_MARKS: Final = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}
_HEADS: Final = {"pass": "✅", "fail": "❌", "inconclusive": "❔", "invalid": "⛔"}
# Everything that Markdown, GitHub's additions to it (links, mentions, issues), or HTML could read as more than itself.
_ACTIVE: Final = re.compile(r"[\\`*_{}\[\]()<>#+!|~&@:/$\"'=-]|(?<=\bwww)\.|(?<=\d)\.(?= )")


def markdown(gated: Gated) -> str:
    """The document, below `MOST_BYTES` in UTF-8: rows are left out, the unbroken ones first, until it fits."""
    gated = harmless(gated)
    verdicts = words.ordered(gated)
    shown = len(verdicts)
    while len((text := _document(gated, verdicts[:shown], len(verdicts) - shown)).encode()) > MOST_BYTES and shown:
        shown = shown * 3 // 4
    return text if len(text.encode()) <= MOST_BYTES else f"{text.encode()[: MOST_BYTES - 100].decode(errors='ignore')}\n\n(cut off)\n"


def escaped(text: str) -> str:
    """``text`` so that it shows as itself, in one cell of a table."""
    return _ACTIVE.sub(lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


def _document(gated: Gated, verdicts: Sequence[Verdict], left_out: int) -> str:
    parts = [f"## {_HEADS[gated.word]} latprof: {escaped(words.head(gated))}", *_doubts(gated, "fatal"), _table(gated, verdicts)]
    if left_out:
        parts.append(f"{left_out} more assertions are not shown; all of them are in the JUnit file.")
    parts += [f"🔀 {escaped(words.moved(one))}" for one in gated.moved]
    parts += [*_budget(gated), *_doubts(gated, "warning"), *(f"> {escaped(note)}" for note in gated.notes)]
    parts += [*(f"<sub>{escaped(line)}</sub>" for line in presets.footnotes(gated.presets)), _runs(gated)]
    return "\n\n".join(parts) + "\n"


def _table(gated: Gated, verdicts: Sequence[Verdict]) -> str:
    rows = [f"| | assertion | observed | {gated.level} interval | slack | MDE |", "|---|---|--:|--:|--:|--:|"]
    columns: Sequence[Callable[[Verdict], str]] = (words.observed, words.interval, words.slack, words.detectable)
    for verdict in verdicts:
        is_warning = verdict.claim.level == "warn"
        mark = "⚠️" if is_warning and verdict.outcome == "fail" else _MARKS[verdict.outcome]
        mark = "" if gated.word == "invalid" else mark
        name = (
            escaped(verdict.claim.name)
            + (" (warning)" if is_warning else "")
            + (f"<br><sub>{escaped(verdict.why)}</sub>" if verdict.why else "")
        )
        rows.append(f"| {mark} | {name} | {' | '.join(escaped(column(verdict)) for column in columns)} |")
    return "\n".join(rows)


def _budget(gated: Gated) -> Iterator[str]:
    if gated.spending is None:
        return
    yield f"### Latency budget: {escaped(gated.spending.metric)} at {gated.spending.at}"
    rows = [f"| {' | '.join(map(escaped, cells))} |" for cells in words.promised(gated)]
    yield "\n".join(["| layer | promised, ms | spent, ms | left |", "|---|--:|--:|--:|", *rows])
    if gated.spending.note:
        yield f"> {escaped(gated.spending.note)}"


def _doubts(gated: Gated, level: str) -> Iterator[str]:
    for doubt in gated.doubts:
        if doubt.level == level:
            yield f"> **{level}** {escaped(doubt.text)}<br>{escaped(doubt.remedy)}"


def _runs(gated: Gated) -> str:
    rows = [f"| {escaped(run.folder)} | {run.seed} | {run.requests} | {run.failed} | {escaped(run.cut)} |" for run in gated.runs]
    body = "\n".join(["| run | seed | requests | failed | steady state |", "|---|--:|--:|--:|---|", *rows[:50]])
    return f"<details><summary>{len(gated.runs)} replications</summary>\n\n{body}\n\n</details>"
