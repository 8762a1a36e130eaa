"""What ``latprof gate``, ``latprof run --budget`` and ``latprof budget`` do: runs into replications, replications through a gate, the result to whoever reads it."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import orjson

from latprof.analysis.verdicts.differences import ALPHA
from latprof.analysis.verdicts.replications import FEW, Replication
from latprof.analysis.verdicts.sequential import alpha_of_look
from latprof.commands.output import check_writable, json_bytes
from latprof.commands.report import write_html
from latprof.config import Config
from latprof.errors import ConfigError, Exit, UsageError, unreadable
from latprof.gates.arms import runs_at
from latprof.gates.baseline import Baseline, load
from latprof.gates.budget import Budget, load_budget
from latprof.gates.gate import gate
from latprof.opening import replication_of
from latprof.pipeline import run
from latprof.report.gate.exports import benchmark_json, gate_json, otava_csv
from latprof.report.gate.junit import junit
from latprof.report.gate.markdown import markdown
from latprof.report.gate.terminal import render
from latprof.report.gate.values import Gated, Inconclusive

# Whose commit this is, where a CI says so.
_COMMITS: Final = ("GITHUB_SHA", "CI_COMMIT_SHA")
_STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a gate was asked for beside the runs. ``ci`` is a folder for the files that a CI reads; ``early_stop``: end when the verdict is clear."""

    budget: Path
    baseline: Path | None = None
    inconclusive: Inconclusive = "exit-3"
    json_file: Path | None = None
    junit_file: Path | None = None
    ci: Path | None = None
    replications: int = 1
    early_stop: bool = False


def gate_and_print(paths: Sequence[Path], asked: Asked) -> Exit:
    """``latprof gate RUN...``: run folders, or folders of them."""
    budget, baseline = _read(asked)
    folders = [folder for path in paths for folder in runs_at(path)]
    replications = [replication_of(folder, budget.objectives_ms) for folder in folders]
    title = str(paths[0]) if len(paths) == 1 else f"{len(folders)} runs"
    return _tell(gate(title, replications, budget, baseline, inconclusive=asked.inconclusive), asked)


def run_and_gate(config: Config, asked: Asked, *, quiet: bool, live: bool = False, html: bool = True) -> Exit:
    """``latprof run --budget``: replications on the live stack, one after the other, then the gate; ``html``: each with its page."""
    budget, baseline = _read(asked)
    if asked.replications > 1 and config.out is None:
        config = config.model_copy(update={"out": Path("runs") / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-gate"})

    def measure(one: Config) -> tuple[Path, Exit]:
        outcome = run(one, quiet=quiet, live=live)
        if html:
            write_html(outcome.opened, budget=budget, quiet=quiet)
        return outcome.folder, outcome.exit_code

    return _replicate(config, asked, budget, baseline, measure, title=str(config.out or config.target.url or "the stack in a box"))


def simulate_and_gate(config: Config, asked: Asked) -> Exit:
    """``latprof gate --simulate CONFIG``: the same in virtual time, where the same seeds give the same verdict to the last digit."""
    from latprof.pipeline.simulated import simulate_into_folder

    budget, baseline = _read(asked)

    def play(one: Config) -> tuple[Path, Exit]:
        return simulate_into_folder(one), Exit.DONE

    with tempfile.TemporaryDirectory(prefix="latprof-gate-") as scratch:
        kept = config if config.out is not None else config.model_copy(update={"out": Path(scratch)})
        title = "simulated" if config.out is None else str(config.out)
        return _replicate(kept, asked, budget, baseline, play, title=title, is_scratch=config.out is None)


def _replicate(
    config: Config,
    asked: Asked,
    budget: Budget,
    baseline: Baseline | None,
    measure: Callable[[Config], tuple[Path, Exit]],
    *,
    title: str,
    is_scratch: bool = False,
) -> Exit:
    """Repeat until all replications are there or, if asked, the verdict is clear; nothing is gained by going on after a run that cannot be trusted."""
    replications: list[Replication] = []
    gated: Gated | None = None
    for number in range(asked.replications):
        one = _with_seed(config, number) if asked.replications > 1 or is_scratch else config
        folder, code = measure(one)
        if code == Exit.INTERRUPTED:
            return code
        replications.append(replication_of(folder, budget.objectives_ms))
        is_look = len(replications) == asked.replications or (asked.early_stop and len(replications) >= FEW)
        alpha = alpha_of_look(len(replications), asked.replications) if is_look and asked.early_stop else ALPHA
        gated = gate(title, replications, budget, baseline, inconclusive=asked.inconclusive, alpha=alpha)
        _say(
            f"replication {number + 1} of {asked.replications}: seed {one.load.seed}, {'valid' if gated.word != 'invalid' else 'not valid'}"
        )
        if gated.word == "invalid" or (is_look and gated.word in {"pass", "fail"}):
            break
    if gated is None:
        raise UsageError("--replications must be at least 1, got 0")
    if is_scratch:
        gated = replace(gated, runs=tuple(replace(one, folder=Path(one.folder).name) for one in gated.runs))
    return _tell(gated, asked)


def _with_seed(config: Config, number: int) -> Config:
    """The ``number``-th replication: seeds of its own for the schedule and for what the stack in a box draws, a folder of its own."""
    load_ = config.load.model_copy(update={"seed": config.load.seed + number})
    stub = config.stub.model_copy(update={"seed": config.stub.seed + number})
    out = config.out / f"r{number + 1:02d}" if config.out is not None else None
    return config.model_copy(update={"load": load_, "stub": stub, "out": out})


def _read(asked: Asked) -> tuple[Budget, Baseline | None]:
    """Both are read, and what is written is tried, before anything is measured."""
    budget = load_budget(asked.budget)
    baseline = load(asked.baseline) if asked.baseline is not None else None
    if budget.regressions and baseline is None:
        raise UsageError(
            f"{asked.budget} has rules of kind regression, which need a baseline, got none; name one with --baseline FILE"
            " (latprof baseline save writes it)"
        )
    if asked.replications < 1:
        raise UsageError(f"--replications must be at least 1, got {asked.replications}")
    places = (("--json", asked.json_file), ("--junit", asked.junit_file), ("--ci", asked.ci and asked.ci / "gate.json"))
    for flag, path in places:
        if path is not None and str(path) != "-":
            _try(path, flag)
    return budget, baseline


def _try(path: Path, flag: str) -> None:
    """Whether ``path`` can be written, folders and all; what is made for that goes again."""
    made: list[Path] = []
    try:
        made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        check_writable(path, flag)
    except OSError as error:
        raise UsageError(f"{flag} {path}: cannot be written ({error.strerror}); name a place that can be") from None
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


# --- out ----------------------------------------------------------------------------------------------------------------------------------


def _tell(gated: Gated, asked: Asked) -> Exit:
    """Print the result and write the files; the exit code."""
    gated = replace(gated, when_unix_ns=time.time_ns(), commit=next((os.environ[name] for name in _COMMITS if os.environ.get(name)), ""))
    on_stdout = str(asked.json_file) == "-"
    with suppress(BrokenPipeError, SystemExit):  # the reader of our output may leave; that is no verdict
        if on_stdout:
            sys.stdout.buffer.write(json_bytes(gate_json(gated)))
            sys.stdout.flush()
        render(gated, sys.stderr if on_stdout else sys.stdout)
    _append_summary(gated)
    problems = [problem for path, content in _files(gated, asked, on_stdout=on_stdout) if (problem := _write(path, content))]
    if asked.ci is not None and (problem := _add_otava(gated, asked.ci / "otava.csv")):
        problems.append(problem)
    if problems and gated.exit_code == Exit.DONE:
        raise UsageError("\n".join(problems))
    for problem in problems:  # a file that is missing must not hide that the gate did not pass
        _say(f"latprof: {problem}")
    return gated.exit_code


def _files(gated: Gated, asked: Asked, *, on_stdout: bool) -> Iterator[tuple[Path, bytes]]:
    """What is written anew, by path."""
    if asked.json_file is not None and not on_stdout:
        yield asked.json_file, json_bytes(gate_json(gated))
    if asked.junit_file is not None:
        yield asked.junit_file, junit(gated)
    if asked.ci is not None:
        yield asked.ci / "gate.json", json_bytes(gate_json(gated))
        yield asked.ci / "junit.xml", junit(gated)
        yield asked.ci / "summary.md", markdown(gated).encode()
        yield asked.ci / "benchmark.json", orjson.dumps(benchmark_json(gated), option=orjson.OPT_INDENT_2)


def _add_otava(gated: Gated, path: Path) -> str:
    """The row for Otava, below those that are there; what hindered it."""
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        return _write(path, otava_csv(gated, before).encode())
    except ConfigError as error:
        return f"{path}: {error}"
    except (OSError, UnicodeDecodeError) as error:
        return f"{path}: cannot be read ({unreadable(error)}); remove it, or name another folder with --ci"


def _write(path: Path, content: bytes) -> str:
    """What hindered it; empty where nothing did."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        return f"{path}: cannot be written ({error.strerror}); name a file in a folder that can be"
    return ""


def _append_summary(gated: Gated) -> None:
    """To the step summary of GitHub Actions, where this runs in one. That it cannot be written must not turn a verdict."""
    path = os.environ.get(_STEP_SUMMARY)
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(markdown(gated) + "\n")
    except OSError as error:
        _say(f"latprof: {_STEP_SUMMARY} {path}: cannot be written ({error.strerror})")
