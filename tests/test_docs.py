"""What the documents say is run, not trusted."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from latprof.layers.vocabulary import LAYERS
from latprof.pipeline import keep_stub_up_during

ROOT = Path(__file__).parent.parent
# What a busy machine can make of four requests.
OF_THE_MACHINE = {"lateness", "generator_cpu", "stub_bound", "offered_load", "offered_gaps", "loop_lag", "starved", "stolen"}
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHORT = ["--num-prompts", "4", "--warmup", "0", "-q", "--otlp-grpc-port", "0", "--otlp-http-port", "0", "--set", "spans.grace=0s"]


def commands(start: str) -> list[str]:
    """Every command in a fenced block of the documents that begins with ``start``."""
    blocks = [block for document in DOCUMENTS for block in re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL)]
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return sorted({line for line in lines if line.startswith(start)})


@pytest.fixture(scope="module")
def stub_url() -> Iterator[str]:
    with keep_stub_up_during() as url:
        yield url


def latprof(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "latprof", *arguments], cwd=folder, capture_output=True, text=True, timeout=90, check=False
    )


@pytest.mark.live
@pytest.mark.parametrize("command", commands("latprof run"))
def test_run_commands_run(command: str, stub_url: str, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    arguments = [re.sub(r"^http://127.0.0.1:8000", stub_url, word) for word in shlex.split(command)[1:]]
    if "--json" not in arguments:
        arguments += ["--json", "summary.json"]
    done = latprof([*arguments, *SHORT], tmp_path)
    assert "TTFT budget" in done.stdout, done.stderr
    summary = json.loads((tmp_path / arguments[arguments.index("--json") + 1]).read_text())
    fatal = {doubt["id"] for doubt in summary["doubts"] if doubt["level"] == "fatal"}
    assert fatal <= OF_THE_MACHINE, done.stdout
    assert done.returncode == (4 if fatal else 0), done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    again = latprof(["report", str(run)], tmp_path)
    assert again.returncode == done.returncode
    assert "TTFT budget" in again.stdout


@pytest.mark.parametrize("command", [line for line in commands("latprof sweep") if "--simulate" in line])
def test_simulated_sweeps_run(command: str, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    short = ["--num-prompts", "30", "--warmup", "0", "--replications", "1", "-q"]
    fewer = [] if "--find-goodput" in command else ["--refine", "0"]
    done = latprof([*shlex.split(command)[1:], *short, *fewer], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "replication of every point" in done.stdout or "highest " in done.stdout


def test_other_commands_exist() -> None:
    for verb in sorted({shlex.split(command)[1] for command in commands("latprof ")}):
        assert latprof([verb, "--help"], ROOT).returncode == 0, verb


def test_modules_that_are_named_exist() -> None:
    named = commands("python -m harness.")
    assert len(named) >= 5
    for command in named:
        path = ROOT.joinpath(*command.split()[2].split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), command


def test_links_between_documents_hold() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_files_named_in_the_readme_exist() -> None:
    for name in re.findall(r"`((?:latprof|harness|configs|docs|tests)/[\w./]*)`", (ROOT / "README.md").read_text()):
        assert (ROOT / name).exists(), name


def test_every_layer_is_defined_in_the_document() -> None:
    text = (ROOT / "docs" / "layers.md").read_text()
    for layer, meaning in LAYERS.items():
        assert f"| `{layer}` | {meaning} |" in text


def test_the_readme_shows_a_real_output() -> None:
    shown = (ROOT / "README.md").read_text()
    assert re.search(r"^TTFT +\d+\.\d+ ", shown, re.MULTILINE)
    assert "the stack in a box" in shown
