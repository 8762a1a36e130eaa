"""``latprof workload``: what workloads are, and in latprof's own form."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import ROOT

from latprof import config
from latprof.cli import main
from latprof.config import load_config
from latprof.workload.formats import READERS
from latprof.workload.readers.native import read_native

SHARED = ROOT.parent / "shared" / "data" / "mooncake-conversation.jsonl"
REQUESTS = [
    {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [1, 2]},
    {"timestamp": 2000, "input_length": 1100, "output_length": 15, "hash_ids": [1, 3, 4]},
]

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """``latprof workload`` in this process: (exit code, what it printed, what it said beside that)."""
    monkeypatch.chdir(tmp_path)

    def of(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["latprof", "workload", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(exit_.value.code or 0), out, err

    return of


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "mooncake.jsonl"
    file.write_text("\n".join(map(json.dumps, REQUESTS)))
    return file


def figures(command: Command, *arguments: str | Path) -> dict[str, Any]:
    code, out, err = command("inspect", *arguments, "--json", "-")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_inspect_a_trace(command: Command, trace: Path) -> None:
    code, out, err = command("inspect", trace)
    assert (code, err) == (0, "")
    first, head, prompts, *_ = out.splitlines()
    assert first == f"{trace}: 2 sessions, 2 requests, 0 tools"
    assert head.split() == ["mean", "CV", "p50", "p90", "p99", "max", "n"]
    assert prompts.split() == ["prompt", "tokens", "1,050", "0.05", "1,050", "1,090", "1,099", "1,100", "2"]
    assert "cached      24.4% of the prompt tokens" in out
    assert "arrivals    0.5 sessions/s over 2 s" in out


@pytest.mark.skipif(not SHARED.exists(), reason=f"the published trace is not at {SHARED}")
def test_inspect_the_published_trace(command: Command) -> None:
    found = figures(command, SHARED)
    assert (found["sessions"], found["requests"]) == (12_031, 12_031)
    assert found["cached_share"] == pytest.approx(0.37, abs=0.01)
    assert found["rate_per_s"] == pytest.approx(3.4, rel=0.01)


def test_inspect_a_configuration(command: Command, tmp_path: Path, trace: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("workload: {prompt_tokens: 100, turns: 3, output_tokens: 10}\n")
    found = figures(command, file, "--sessions", "7")
    assert (found["sessions"], found["requests"], found["prompt_tokens"]["mean"], found["rate_per_s"]) == (7, 21, 210, None)
    file.write_text(f"workload: {{trace: {trace.name}, time_scale: 2}}\n")
    assert figures(command, file)["lasts_s"] == 1


def test_inspect_a_preset_and_write_the_figures(command: Command, tmp_path: Path) -> None:
    code, out, _ = command("inspect", "--preset", "agent", "--sessions", "20", "--json", tmp_path / "figures.json")
    assert code == 0
    assert out.startswith("preset agent: 20 sessions, ")
    assert "arrivals    the workload does not say when; the load section does" in out
    assert json.loads((tmp_path / "figures.json").read_text())["sessions"] == 20


def test_a_converted_trace_is_the_same_workload(command: Command, trace: Path, tmp_path: Path) -> None:
    native = tmp_path / "native.jsonl"
    code, out, err = command("convert", trace, native, "--to", "native")
    assert (code, out, err) == (0, "", f"2 sessions of {trace} written to {native}\n")
    assert figures(command, native) == figures(command, trace)
    assert command("convert", trace, native, "--time-scale", "4", "--trace-window", "1s")[0] == 0
    assert figures(command, native)["sessions"] == 1


def test_what_is_generated_is_the_workload_that_would_be_run(command: Command, tmp_path: Path) -> None:
    made = tmp_path / "made.jsonl"
    code, out, err = command("generate", "--preset", "agent", "--sessions", "30", "--rate", "2", "--out", made, "--seed", "5")
    assert (code, out, err) == (0, "", f"30 sessions written to {made}\n")
    mine, drawn = figures(command, made), figures(command, "--preset", "agent", "--sessions", "30", "--seed", "5")
    told = {key for key in mine if key not in {"lasts_s", "rate_per_s", "gap_cv"}}
    assert {key: mine[key] for key in told} == {key: drawn[key] for key in told}
    assert mine["lasts_s"] == pytest.approx(15, rel=0.5)
    again = command("generate", "--preset", "agent", "--sessions", "30", "--rate", "2", "--out", "-", "--seed", "5")[1]
    assert again == made.read_text()
    assert command("generate", "--preset", "agent", "--sessions", "30", "--rate", "2", "--out", "-", "--seed", "6")[1] != again


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect", "absent.jsonl"], "workload.trace absent.jsonl: cannot be read"),
        (["inspect", "--preset", "poet"], "workload.preset (--preset): must be 'chat', 'code' or 'agent', got 'poet'"),
        (["inspect", "mooncake.jsonl", "--from", "poetry"], "workload.trace_format (--from): must be 'auto', 'azure'"),
        (["inspect", "mooncake.jsonl", "--from", "azure"], "mooncake.jsonl:1: wanted the header TIMESTAMP,ContextTokens,GeneratedTokens"),
        (["convert", "mooncake.jsonl", "out.csv", "--to", "azure"], "--to must be native, got 'azure'"),
        (["convert", "mooncake.jsonl", "no/such/folder/out"], "no/such/folder/out: cannot be written (No such file or directory)"),
        (["generate", "mooncake.jsonl", "--out", "x"], "mooncake.jsonl: workload.trace is a trace already"),
        (["inspect", "mooncake.jsonl", "--preset", "chat"], "workload.preset and workload.trace exclude each other"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_used_is_named(command: Command, trace: Path, arguments: list[str], said: str) -> None:
    assert trace.exists()
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert said in " ".join(err.split())


# --- the document -------------------------------------------------------------------------------------------------------------------------

DOCUMENT = (ROOT / "docs" / "workloads.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_commands_of_the_document_run_one_after_the_other(command: Command) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("latprof workload ")]
    assert len(lines) >= 4
    for line in lines:
        code, _, err = command(*shlex.split(line)[2:])
        assert code == 0, f"{line}: {err}"


def test_the_configurations_of_the_document_are_valid(tmp_path: Path) -> None:
    assert len(blocks("yaml")) == 3
    for number, block in enumerate(blocks("yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        load_config(file)


def test_the_native_session_of_the_document_is_one(tmp_path: Path) -> None:
    (block,) = blocks("json")
    file = tmp_path / "native.jsonl"
    file.write_text(block.replace("\n", " "))
    (session,) = read_native(file).sessions
    assert len(session.steps) == 5


def test_every_key_and_format_is_in_the_document() -> None:
    for name in (*READERS, *config.Workload.model_json_schema()["properties"]):
        assert f"`{name}`" in DOCUMENT or f"{name}:" in DOCUMENT, name
