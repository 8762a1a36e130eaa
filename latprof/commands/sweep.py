"""What ``latprof sweep`` does: read the axes, make the runs, print and write what came of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latprof.commands.output import check_writable, print_with_json, tell_figures, tell_page
from latprof.config import Config
from latprof.errors import Exit, UsageError
from latprof.report.inert import plain
from latprof.units import NS_PER_MS

if TYPE_CHECKING:
    from latprof.analysis.sweeps.highest import Searched
    from latprof.report.sweep.values import Axis, SweepReport
    from latprof.sweep.runs import RunAll

_REFINE_SIMULATED = 2
_KEPT = "; the runs themselves are there"


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags of ``latprof sweep``, as they were given."""

    speedups: Sequence[str] = ()
    varied: Sequence[str] = ()
    rate: str | None = None
    concurrency: str | None = None
    together: bool = False
    simulate: bool = False
    replications: int = 1
    refine: int | None = None
    leverage: bool = False
    worthwhile_ms: float = 30.0
    find_goodput: float | None = None
    allow_unstable: bool = False
    load_flag: str = ""  # how the rate or the concurrency was asked for, where not by its own name


def sweep_and_print(
    config: Config, asked: Asked, *, json_file: Path | None, quiet: bool, run_all: RunAll | None = None, html: bool = True
) -> Exit:
    """``latprof sweep``; ``run_all`` makes the runs in place of the stack."""
    check_writable(json_file)
    if asked.replications < 1:
        raise UsageError(f"--replications must be at least 1, got {asked.replications}")
    if asked.leverage and not asked.simulate:
        raise UsageError("--leverage runs every point again with layers a little slower and faster; it needs --simulate")
    made = run_all or _run_all(config, asked, quiet=quiet)
    if asked.find_goodput is not None:
        return _find(config, asked, asked.find_goodput, made, json_file=json_file, quiet=quiet, html=html)
    return _sweep(config, asked, made, json_file=json_file, quiet=quiet, html=html)


def sweep_loads_and_print(
    config: Config,
    text: str,
    find_goodput: float | None,
    replications: int | None,
    *,
    json_file: Path | None,
    refused: Sequence[str],
    quiet: bool,
    html: bool = True,
) -> Exit:
    """``latprof run --sweep rate=...``: the same with the flags of a run, but for those that are about one load: they are ``refused``."""
    from latprof.sweep.axes import swept_load

    name, values = swept_load(text)
    for flag in refused:
        raise UsageError(_of_one_load(flag, name))
    load: dict[str, Any] = {name: values}
    asked = Asked(**load, replications=1 if replications is None else replications, find_goodput=find_goodput, load_flag="--sweep")
    return sweep_and_print(config, asked, json_file=json_file, quiet=quiet, html=html)


def _of_one_load(flag: str, name: str) -> str:
    """Why ``flag`` cannot stand beside ``--sweep``, and what does instead."""
    if flag == "--dry-run":
        return "--dry-run plans one run, --sweep makes many; drop one of the two"
    if flag == "--early-stop":
        instead = f"measure one load with it: latprof run --{name} N --replications 5 --budget FILE --early-stop"
    else:
        instead = f"sweep without it, then judge the runs of one load: latprof gate SWEEP/{name}=N,r* --budget FILE"
    return f"{flag} belongs to a gate, which judges one load, and --sweep makes runs at many; {instead}"


def report_sweep_and_print(folder: Path, *, json_file: Path | None, html: Path | None = None, figures: Path | None = None) -> Exit:
    """``latprof report`` of the folder of a sweep."""
    from latprof.pages.figures import write_sweep_figures
    from latprof.sweep.searching import read

    report = read(folder)
    _print(report, json_file)
    if html is not None:
        _write_html(report, folder, html)
    if figures is not None:
        tell_figures(write_sweep_figures(report, figures), figures)
    return _exit_code(report)


def _run_all(config: Config, asked: Asked, *, quiet: bool) -> RunAll:
    from latprof.sweep.runs import live, simulated
    from latprof.sweep.sweeping import foretold

    if asked.simulate:
        if not config.uses_stub:
            raise UsageError(f"--simulate simulates the stack in a box, not {config.every_target[0].url}; drop one of the two")
        return partial(simulated, allow_unstable=asked.allow_unstable)
    made = partial(live, seed=config.load.seed)
    return made if quiet else foretold(made, _teller(quiet))


def _sweep(config: Config, asked: Asked, run_all: RunAll, *, json_file: Path | None, quiet: bool, html: bool) -> Exit:
    from latprof.observations.folder import create
    from latprof.pages.again import CONFIG, config_text
    from latprof.sweep.asked import Sweep
    from latprof.sweep.axes import check, settings
    from latprof.sweep.sweeping import sweep

    axes = _axes(asked)
    settings(axes, is_zipped=asked.together)
    check(config, axes, is_zipped=asked.together)
    plan = Sweep(
        config,
        axes,
        is_zipped=asked.together,
        is_simulated=asked.simulate,
        replications=asked.replications,
        refine=asked.refine if asked.refine is not None else _REFINE_SIMULATED if asked.simulate else 0,
        finds_leverage=asked.leverage,
        worthwhile_ns=asked.worthwhile_ms * NS_PER_MS,
        flags=tuple(_flags(asked)),
    )
    folder = create(config.out)
    report = sweep(plan, folder, run_all, _teller(quiet))
    (folder / CONFIG).write_text(config_text(config, "sweep"), encoding="utf-8")
    _print(report, json_file)
    if html:
        _write_html(report, folder, None, quiet=quiet)
    return _exit_code(report)


def _flags(asked: Asked) -> Iterator[str]:
    """The flags that make the sweep again, with those of its load in the configuration."""
    for flag, texts in (("--speedup", asked.speedups), ("--vary", asked.varied)):
        yield from (f"{flag}={text}" for text in texts)
    for flag, value in (("--rate", asked.rate), ("--concurrency", asked.concurrency), ("--refine", asked.refine)):
        if value is not None:
            yield f"{flag}={value}"
    switches = ("together", "simulate", "leverage", "allow_unstable")
    yield from (f"--{name.replace('_', '-')}" for name in switches if getattr(asked, name))
    if asked.find_goodput is not None:
        yield f"--find-goodput={asked.find_goodput:g}"
    if asked.replications > 1:
        yield f"--replications={asked.replications}"
    yield f"--worthwhile={asked.worthwhile_ms:g}"


def _write_html(report: SweepReport, folder: Path, file: Path | None, *, quiet: bool = False) -> None:
    from latprof.pages.html import write_sweep_page

    tell_page(write_sweep_page(report, folder, file), quiet=quiet)


def _axes(asked: Asked) -> tuple[Axis, ...]:
    from latprof.sweep.axes import key_axis, load_axis, speedup_axis

    loads = ((name, text) for name, text in (("rate", asked.rate), ("concurrency", asked.concurrency)) if text is not None)
    return (
        *(speedup_axis(text) for text in asked.speedups),
        *(key_axis(text) for text in asked.varied),
        *(load_axis(name, text, asked.load_flag or f"--{name}") for name, text in loads),
    )


def _teller(quiet: bool) -> Any:
    return (lambda _: None) if quiet else (lambda text: sys.stderr.write(f"{text}\n"))


def _exit_code(report: SweepReport) -> Exit:
    if report.interrupted:
        return Exit.INTERRUPTED
    if report.searched is not None:
        return Exit.DONE if report.searched.is_sound else Exit.UNTRUSTED
    is_sound = report.valid and not any(doubt.level == "fatal" for doubt in report.doubts)
    return Exit.DONE if is_sound else Exit.UNTRUSTED


def _print(report: SweepReport, json_file: Path | None) -> None:
    from latprof.report.sweep.summary import summary
    from latprof.report.sweep.terminal import render

    if report.searched is not None:
        _print_found(report, report.searched, json_file)
        return
    print_with_json(lambda beside: render(report, stderr=beside), summary(report), json_file, _KEPT)


# --- the highest load that meets a goodput ------------------------------------------------------------------------------------------------


def _find(config: Config, asked: Asked, goal: float, run_all: RunAll, *, json_file: Path | None, quiet: bool, html: bool) -> Exit:
    from latprof.analysis.sweeps.highest import Search
    from latprof.observations.folder import create
    from latprof.pages.again import CONFIG, config_text
    from latprof.sweep.asked import Sweep
    from latprof.sweep.axes import check, load_axis, span
    from latprof.sweep.searching import search

    name, text = _searched(asked, goal)
    flag = asked.load_flag or f"--{name}"
    low, high = span(text, flag)
    ends = ",".join(f"{end:g}" for end in (low, high) if end is not None)
    check(config, (load_axis(name, ends, flag),))
    config = _with_objectives(config)
    wanted = Search(name, low, high, goal, {str(metric): limit_ms for metric, limit_ms in config.goodput.items()}, asked.replications)
    plan = Sweep(config, (), is_simulated=asked.simulate, replications=asked.replications, flags=tuple(_flags(asked)))
    folder = create(config.out)
    report = search(wanted, plan, folder, run_all, _teller(quiet))
    (folder / CONFIG).write_text(config_text(config, "sweep"), encoding="utf-8")
    _print(report, json_file)
    if html:
        _write_html(report, folder, None, quiet=quiet)
    return _exit_code(report)


def _print_found(report: SweepReport, searched: Searched, json_file: Path | None) -> None:
    from latprof.report.presets import footnotes
    from latprof.report.sweep.highest import as_json, sentences

    asked, folder = searched.asked, report.folder or Path()

    def render(beside: bool) -> None:
        out = sys.stderr if beside else sys.stdout
        for line in (*sentences(searched.found, asked.axis, asked.goal, asked.objectives_ms), *footnotes(report.presets)):
            out.write(f"{line}\n")
        out.write(f"written  {plain(str(folder))}  (latprof report {plain(str(folder))} prints this again)\n")

    summary = as_json(searched.found, asked.axis, asked.goal, asked.objectives_ms, folder, report.presets)
    print_with_json(render, summary, json_file, _KEPT)


def _searched(asked: Asked, goal: float) -> tuple[str, str]:
    if not 0 < goal <= 1:
        raise UsageError(f"--find-goodput wants a share of the requests such as 0.99, got {goal:g}")
    if asked.speedups or asked.varied:
        raise UsageError("--find-goodput searches one load; give what else is to change with --set, e.g. --set stub.speedup.decode=8")
    for flag, is_given in (("--together", asked.together), ("--refine", asked.refine is not None), ("--leverage", asked.leverage)):
        if is_given:
            raise UsageError(f"{flag} belongs to a sweep of given points, and --find-goodput searches one load; drop one of the two")
    loads = [(name, text) for name, text in (("rate", asked.rate), ("concurrency", asked.concurrency)) if text is not None]
    if len(loads) != 1:
        raise UsageError("--find-goodput wants exactly one of --rate LOW:HIGH and --concurrency LOW:HIGH, such as --rate 5:200")
    return loads[0]


def _with_objectives(config: Config) -> Config:
    from latprof.pipeline.goodput import judged

    config = judged(config)
    if not config.goodput:
        raise UsageError("--find-goodput needs objectives; give --goodput 'ttft:200 tpot:50', or goodput in the configuration")
    return config
