"""What ``latprof workload`` does: tell what a workload is, turn traces into latprof's own form, write synthetic ones."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from latprof.commands.output import json_bytes
from latprof.config import Config, Workload, load_config
from latprof.errors import Exit, UsageError
from latprof.schedule.arrivals import ARRIVALS, arrival_rng
from latprof.workload.load import Outlines, load_outlines
from latprof.workload.outline import Outline
from latprof.workload.readers.native import native_lines

if TYPE_CHECKING:
    from latprof.workload.figures import Figures, Moments

_CONFIGS = {".yaml", ".yml"}


def inspect_and_print(what: Path | None, settings: Workload, *, sessions: int, seed: int, json_file: Path | None) -> Exit:
    """``latprof workload inspect``: the figures of a trace, or of a configuration's workload (its first ``sessions``, where it is synthetic)."""
    from latprof.workload.figures import figures
    from latprof.workload.prompts import load_prompts

    settings, seed = _settings(what, settings, seed)
    outlines = load_outlines(settings, seed)
    if outlines.trace is None:
        told: Sequence[Outline] = [outlines.outline(number) for number in range(sessions)]
    else:
        told = outlines.trace.sessions
    is_timed = outlines.trace is not None and outlines.trace.is_timed
    # Only recorded texts are counted; a trace of lengths needs no tokenizer.
    count_tokens = load_prompts(settings.tokenizer).count_tokens if _has_text(told) else len
    found = figures(told, count_tokens, is_timed=is_timed)
    title = str(what) if what is not None else f"preset {settings.preset}" if settings.preset else "a synthetic workload"
    if str(json_file) == "-":
        _write("-", [json_bytes(asdict(found))])
        return Exit.DONE
    if json_file is not None:
        _write(json_file, [json_bytes(asdict(found))])
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(_table(title, found))
    return Exit.DONE


def convert(source: Path, to: Path, settings: Workload) -> Exit:
    """``latprof workload convert``: any trace as a native one; its times are scaled, its texts kept."""
    outlines = load_outlines(settings.model_copy(update={"trace": source}), seed=1)
    trace = outlines.trace
    assert trace is not None, "a file was named"  # noqa: S101 - for the type checker
    _write(to, native_lines(trace.sessions, is_timed=trace.is_timed))
    sys.stderr.write(f"{len(trace.sessions):,} sessions of {source} written to {to}\n")
    return Exit.DONE


def generate(what: Path | None, settings: Workload, *, sessions: int, rate_per_s: float, seed: int, to: Path) -> Exit:
    """``latprof workload generate``: the first ``sessions`` of a synthetic workload as a native trace, with Poisson starts."""
    settings, seed = _settings(what, settings, seed)
    outlines = load_outlines(settings, seed)
    if outlines.trace is not None:
        raise UsageError(f"{what}: workload.trace is a trace already; turn it into a native one with latprof workload convert")
    offsets_ns = ARRIVALS["poisson"](rate_per_s, arrival_rng(seed, "generate"), count=sessions)
    _write(to, native_lines(_started(outlines, offsets_ns.tolist())))
    sys.stderr.write(f"{sessions:,} sessions written to {to}\n")
    return Exit.DONE


def _started(outlines: Outlines, offsets_ns: Sequence[int]) -> Iterable[Outline]:
    return (outlines.outline(i)._replace(offset_ns=offset_ns, name=str(i)) for i, offset_ns in enumerate(offsets_ns))


def _settings(what: Path | None, settings: Workload, seed: int) -> tuple[Workload, int]:
    """A configuration's workload with ``settings`` laid over it; any other file is a trace."""
    if what is None:
        return settings, seed
    said = {key: getattr(settings, key) for key in settings.model_fields_set}
    if what.suffix in _CONFIGS:
        config: Config = load_config(what)
        return config.workload.model_copy(update=said), config.load.seed
    return settings.model_copy(update={"trace": what}), seed


def _has_text(sessions: Iterable[Outline]) -> bool:
    return any(isinstance(text, str) for session in sessions for turn in session.turns for text in (turn.prompt, turn.system, turn.answer))


def _write(to: Path | str, lines: Iterable[bytes]) -> None:
    """Lines to a file, or to standard output (``-``)."""
    if str(to) == "-":
        with contextlib.suppress(BrokenPipeError):
            for line in lines:
                sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        return
    try:
        with Path(to).open("wb") as opened:
            opened.writelines(lines)
    except OSError as error:
        raise UsageError(f"{to}: cannot be written ({error.strerror}); name a file in a folder that can be") from None


# --- the table ----------------------------------------------------------------------------------------------------------------------------


def _table(title: str, found: Figures) -> str:
    head = f"{'':<18}{'mean':>11}{'CV':>7}{'p50':>11}{'p90':>11}{'p99':>11}{'max':>11}{'n':>9}"
    rows: list[tuple[str, Moments | None]] = [
        ("prompt tokens", found.prompt_tokens),
        ("  new in a turn", found.message_tokens),
        ("output tokens", found.output_tokens),
        ("turns a session", found.turns_per_session),
        ("think time, s", found.think_s),
        ("tools, s", found.tool_s),
    ]
    lines = [
        f"{title}: {found.sessions:,} sessions, {found.requests:,} requests, {found.tools:,} tools",
        head,
        *(_row(name, moments) for name, moments in rows if moments is not None),
        f"cached      {found.cached_share:.1%} of the prompt tokens are in an infinite prefix cache (answers not counted in)",
        f"graph       {found.begun_share:.1%} of the requests begin a conversation, {found.branching_share:.1%} of the sessions branch",
        f"arrivals    {_arrivals(found)}",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, moments: Moments) -> str:
    cells = "".join(f"{_short(value):>11}" for value in moments.percentiles)
    return f"{name:<18}{_short(moments.mean):>11}{moments.cv:>7.2f}{cells}{moments.count:>9}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: RUF100


def _arrivals(found: Figures) -> str:
    if found.lasts_s is None:
        return "the workload does not say when; the load section does"
    if found.rate_per_s is None:
        return "all at once"
    spread = "" if found.gap_cv is None else f", CV of the gaps {found.gap_cv:.2f}"
    return f"{found.rate_per_s:.3g} sessions/s over {found.lasts_s:,.0f} s{spread}"
