"""What ``latprof compare`` does: read or make two arms, and hold one against the other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latprof.commands.output import check_writable, print_with_json, tell_page
from latprof.config import Config, load_config
from latprof.errors import Exit, RunFailedError, UsageError

if TYPE_CHECKING:
    from latprof.analysis.verdicts.arms import Arm
    from latprof.analysis.verdicts.compare import Comparison, Tolerance
    from latprof.pipeline import Outcome
    from latprof.pipeline.interleave import Block

_METRICS = ("ttft", "e2el", "task")


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags of ``latprof compare``, as they were given. ``overrides`` are laid over the configuration of both sides."""

    metric: str = "ttft"
    tolerance: str = "0%"
    min_abs: str = "0ms"
    interleave: bool = False
    simulate: bool = False
    config: Path | None = None
    pairs: int = 6
    out: Path | None = None
    overrides: Mapping[str, Any] | None = None


def compare_and_print(a: str, b: str, asked: Asked, *, json_file: Path | None, html: Path | None = None, quiet: bool) -> Exit:
    """``latprof compare``; ``html``: where its page goes, into the folder of runs made now where there is one."""
    from latprof.analysis.verdicts.compare import compare

    check_writable(json_file)
    check_writable(html, "--html")
    if asked.metric not in _METRICS:
        raise UsageError(f"--metric must be one of {', '.join(_METRICS)}, got {asked.metric!r}; layers add up to these")
    tolerance = _tolerance(asked)
    is_whole = True
    if asked.interleave or asked.simulate:
        arms, out, is_whole = _measured(a, b, asked, quiet=quiet)
        paths, html = (out / "a", out / "b"), html or out / "report.html"
    else:
        arms, paths = _read(a, b, asked), (Path(a), Path(b))
    told = compare(*arms, asked.metric, tolerance)
    refused = _refused(a, b, told)
    _print(told, refused, json_file)
    if html is not None:
        _write_html(told, refused, paths, html, quiet=quiet)
    if not is_whole:
        return Exit.INTERRUPTED
    if not told.valid:
        return Exit.UNTRUSTED
    return Exit.INCONCLUSIVE if refused or not told.says_something else Exit.DONE


def _tolerance(asked: Asked) -> Tolerance:
    from latprof.analysis.verdicts.compare import Tolerance
    from latprof.gates.words import duration, share

    return Tolerance(share("--tolerance", asked.tolerance), duration("--min-abs", asked.min_abs))


def _refused(a: str, b: str, told: Comparison) -> tuple[str, ...]:
    """A baseline is for the same load on the same machine; two runs that someone names may differ in what they like, and it is told."""
    from latprof.gates.baseline import mismatches

    return tuple(mismatches(told.a, told.b)) if Path(a).is_file() or Path(b).is_file() else ()


# --- arms that are there already ----------------------------------------------------------------------------------------------------------


def _read(a: str, b: str, asked: Asked) -> tuple[Arm, Arm]:
    from latprof.gates.arms import read_arm

    for text in (a, b):
        if _is_url(text) or Path(text).suffix in {".yaml", ".yml"}:
            raise UsageError(f"{text}: is not a run folder; to measure it now add --interleave (a stack in a box also takes --simulate)")
    if asked.config is not None or asked.overrides or asked.out is not None:
        raise UsageError("--config, --set and --out are for runs that are still to be made, with --interleave or --simulate; drop them")
    if Path(a).resolve() == Path(b).resolve():
        raise UsageError(f"{a} and {b} are the same; name two arms")
    return read_arm(Path(a)), read_arm(Path(b))


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


# --- arms that are measured now -----------------------------------------------------------------------------------------------------------


def _measured(a: str, b: str, asked: Asked, *, quiet: bool) -> tuple[tuple[Arm, Arm], Path, bool]:
    from latprof.gates.arms import arm_of_runs
    from latprof.observations.folder import create, discard
    from latprof.pipeline.interleave import blocks, measure

    if asked.interleave and asked.simulate:
        raise UsageError("--interleave measures and --simulate plays in virtual time; drop one of the two")
    configs = [_config_of(text, asked) for text in (a, b)]
    list(blocks(configs[0], configs[1], asked.pairs, Path()))  # a wrong number of pairs leaves no folder
    out = create(asked.out)
    try:
        found = measure(blocks(configs[0], configs[1], asked.pairs, out), _runner(asked, quiet=quiet), _teller(asked.pairs, quiet=quiet))
    except BaseException:
        if not any(out.glob("*/*/run.json")):
            discard(out)
        raise
    if not found.a:
        raise RunFailedError(
            f"it was ended before both sides of one pair were measured, so there is nothing to compare; {out} holds what there is"
        )
    sys.stderr.write(f"the runs are in {out}; latprof compare {out / 'a'} {out / 'b'} prints this again\n")
    return (arm_of_runs(found.a), arm_of_runs(found.b)), out, found.is_whole


def _config_of(text: str, asked: Asked) -> Config:
    overrides = dict(asked.overrides or {})
    if _is_url(text):
        return load_config(asked.config, {**overrides, "target": {**overrides.get("target", {}), "url": text}})
    if asked.config is not None:
        raise UsageError(
            f"--config is the load for two URLs, and {text} is not a URL; give two URLs, or two configurations without --config"
        )
    return load_config(text, overrides)


def _runner(asked: Asked, *, quiet: bool) -> Callable[[Config], Outcome]:
    if asked.simulate:
        from latprof.pipeline import simulate

        return simulate
    from latprof.pipeline import run

    return lambda config: run(config, quiet=quiet)


def _teller(pairs: int, *, quiet: bool) -> Callable[[Block], None]:
    number = 0

    def tell(block: Block) -> None:
        nonlocal number
        number += 1
        if not quiet:
            sys.stderr.write(
                f"run {number} of {2 * pairs}: side {block.side.upper()}, pair {block.pair + 1}, seed {block.config.load.seed}\n"
            )

    return tell


# --- output -------------------------------------------------------------------------------------------------------------------------------


def _write_html(told: Comparison, refused: Sequence[str], arms: tuple[Path, Path], file: Path, *, quiet: bool) -> None:
    from latprof.pages.html import write_comparison_page

    tell_page(write_comparison_page(told, refused, arms, file), quiet=quiet)


def _print(told: Comparison, refused: Sequence[str], json_file: Path | None) -> None:
    from latprof.report.comparison.summary import summary
    from latprof.report.comparison.terminal import render

    print_with_json(lambda beside: render(told, refused, stderr=beside), summary(told, refused), json_file)
