"""Fuzz the client's parsers: any bytes, cut anywhere, say the same and never crash.

    python -m harness.fuzz ensure            # installs the fuzzer (atheris) into .cache/fuzz, beside the environment
    python -m harness.fuzz --seconds 60      # all parsers, and the controls
    python -m harness.fuzz --only sse,http
    python -m harness.fuzz --only sse --input FILE      # one input again, without the fuzzer: what a finding says to do

Each parser is run in a process of its own, for its share of the time. A parser that was made wrong on purpose must be found out, or the search
is worth nothing. Exit 0: nothing was found; 1: a finding, or a control that was not caught; 2: the fuzzer is not to be had.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.fuzz.parsers import CONTROLS, PARSERS
from harness.fuzz.seeds import WORDS, seeds
from harness.verdict import Figure, control, end, show

ROOT: Final = Path(__file__).parents[2]
HOME: Final = ROOT / ".cache" / "fuzz"
VERSION: Final = "atheris==3.0.0"

_CONTROL_S = 60
_LONGEST_INPUT = 4096
_SLOWEST_INPUT_S = 10
_RUNS = re.compile(r"Done (\d+) runs|^#(\d+)", re.MULTILINE)
_NOT_HERE = """atheris is not here: python -m harness.fuzz ensure installs {version} into {home}.
There are wheels for Linux on x86-64; elsewhere the tests of tests/harness/test_fuzz_parsers.py and tests/client still
cut streams anywhere, without looking at the code they reach."""


@dataclass(frozen=True, slots=True)
class Searched:
    """How a search ended: after how many inputs, and what it found (empty: nothing)."""

    runs: int
    found: str


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    asked = _parser().parse_args(arguments)
    if asked.command == "ensure":
        ensure()
        return
    names = asked.only.split(",")
    if unknown := set(names) - PARSERS.keys():
        _leave(f"--only must name parsers of {', '.join(PARSERS)}, got {', '.join(sorted(unknown))}")
    if asked.input is not None:
        _again(names, asked.input)
        return
    if not has_atheris():
        _leave(_NOT_HERE.format(version=VERSION, home=HOME))
    each_s = max(1, round(asked.seconds / len(names)))
    searched = {name: search(name, each_s) for name in names}
    figures = [
        Figure(f"{name}: findings in {one.runs} inputs", 1.0 if one.found else 0.0, high=0, unit="") for name, one in searched.items()
    ]
    passed = show(
        "any bytes, cut anywhere, say the same", f"{each_s} s for each parser; {VERSION}; nothing is drawn twice alike, so no seed", figures
    )
    for one in searched.values():
        if one.found:
            print(one.found)
    caught = [
        control(name, [Figure(f"the search, after {one.runs} inputs", 1.0 if one.found else 0.0, high=0, unit="")])
        for name in CONTROLS
        for one in [search(name, _CONTROL_S)]
    ]
    end(passed=passed and all(caught))


def ensure() -> None:
    """Install the fuzzer where only this command looks for it.

    Raises:
        SystemExit: there is no wheel for this machine.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--only-binary",
        ":all:",
        "--no-deps",
        "--upgrade",
        "--target",
        str(HOME),
        VERSION,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        _leave(
            f"{VERSION} could not be installed into {HOME}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'pip failed'}"
        )


def has_atheris() -> bool:
    """Whether the fuzzer can be imported, from where `ensure` put it or from the environment."""
    return (HOME / "atheris").is_dir() or importlib.util.find_spec("atheris") is not None


def search(name: str, seconds: int) -> Searched:
    """Fuzz one parser (or control) in a process of its own; what it found is kept in ``.cache/fuzz/findings``, unless it was to be found."""
    findings = HOME / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus, scratch = Path(folder) / "corpus", Path(folder) / "found"
        corpus.mkdir()
        scratch.mkdir()
        for number, seed in enumerate(seeds(name.partition(",")[0])):
            (corpus / f"{number:04d}").write_bytes(seed)
        words = Path(folder) / "words"
        words.write_text("".join('"{}"\n'.format("".join(f"\\x{byte:02x}" for byte in word)) for word in WORDS))
        kept = scratch if name in CONTROLS else findings
        limits = [
            f"-max_total_time={seconds}",
            f"-max_len={_LONGEST_INPUT}",
            f"-timeout={_SLOWEST_INPUT_S}",
            f"-artifact_prefix={kept}/{name}-",
            f"-dict={words}",
        ]
        command = [sys.executable, "-m", "harness.fuzz.inside", name, *limits, str(corpus)]
        path = os.pathsep.join(filter(None, [str(HOME), str(ROOT), os.environ.get("PYTHONPATH", "")]))
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace", cwd=ROOT, env={**os.environ, "PYTHONPATH": path}
        )
    told = done.stdout + done.stderr
    if done.returncode and "Test unit written" not in told:
        _leave(f"the fuzzer did not work: {_in_short(told)}")
    runs = max((int(first or second) for first, second in _RUNS.findall(told)), default=0)
    return Searched(runs, "" if done.returncode == 0 else _in_short(told))


def _in_short(told: str) -> str:
    """What the fuzzer said of a finding: the exception and where the input is."""
    lines = told.splitlines()
    wanted = [
        line[:600]
        for line in lines
        if "Error" in line or "Exception" in line or line.startswith(("whole:", "cut:", "in crumbs:", "a read per chunk:", "plainly:"))
    ]
    where = [line for line in lines if "Test unit written" in line]
    return "\n".join([*(wanted or lines[-6:])[:8], *where])


def _again(names: list[str], path: Path) -> None:
    for name in names:
        PARSERS[name](path.read_bytes())
        print(f"{name}: {path} is read in one way")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", nargs="?", choices=("run", "ensure"), default="run")
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="for all parsers together; each control has up to 60 s of its own, and ends when it is caught",
    )
    parser.add_argument("--only", default=",".join(PARSERS), help="parsers, separated by commas")
    parser.add_argument("--input", type=Path, help="read this one input again")
    return parser


def _leave(message: str) -> None:
    print(message, file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
