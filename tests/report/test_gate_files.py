"""The files of a gate: tried before anything is measured, and never in the way of a verdict."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_gate import made_gate, seen

from latprof.analysis.verdicts.assertions import Claim
from latprof.commands import gate as commands_gate
from latprof.commands.gate import Asked, gate_and_print
from latprof.errors import Exit, UsageError
from latprof.report.gate.values import Gated


def told(gated: Gated, ci: Path, monkeypatch: pytest.MonkeyPatch) -> Exit:
    """The exit code of ``gated`` as a user of ``--ci`` gets it, without measuring anything."""
    (ci.parent / "b.yaml").write_text("budgets: [ttft p50 < 1s]")
    monkeypatch.setattr(commands_gate, "gate", lambda *_, **__: gated)
    monkeypatch.setattr(commands_gate, "replication_of", lambda *_: None)
    return gate_and_print([ci.parent], Asked(ci.parent / "b.yaml", ci=ci, json_file=ci.parent / "deep" / "gate.json"))


PASSED = made_gate(claims_=[Claim("ttft p95 < 600ms", seen(512), 600e6)])
BEFORE = {"ragged": "time,commit,verdict\n1,2,pass,4\n", "of others": "a,b\n1,2\n", "no text": "\udcff"}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_a_file_that_cannot_be_added_to_turns_no_failure_and_takes_no_other_file_along(
    tmp_path: Path, before: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary, ci = tmp_path / "summary", tmp_path / "ci"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    ci.mkdir()
    (ci / "otava.csv").write_bytes(before.encode(errors="surrogateescape"))
    assert told(made_gate(), ci, monkeypatch) == Exit.GATE_FAILED
    assert "otava.csv" in capsys.readouterr().err
    assert {path.name for path in ci.iterdir()} == {"gate.json", "junit.xml", "summary.md", "benchmark.json", "otava.csv"}
    assert (ci / "otava.csv").read_bytes() == before.encode(errors="surrogateescape")
    assert (tmp_path / "deep" / "gate.json").exists()
    assert "GATE FAILED" in summary.read_text()
    with pytest.raises(UsageError, match=r"otava\.csv"):
        told(PASSED, ci, monkeypatch)


@pytest.mark.parametrize("flag", ["ci", "junit_file", "json_file"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_gate, "replication_of", lambda *_: pytest.fail("measured first"))
    (tmp_path / "b.yaml").write_text("budgets: [ttft p50 < 1s]")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"--{flag.removesuffix('_file')} .*cannot be written"):
        gate_and_print([tmp_path], Asked(tmp_path / "b.yaml", **{flag: tmp_path / "file" / "deep" / "below"}))  # type: ignore[arg-type]


def test_trying_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: object) -> None:
        assert {path.name for path in tmp_path.iterdir()} == {"b.yaml"}
        raise UsageError("as far as this")

    monkeypatch.setattr(commands_gate, "replication_of", measured)
    (tmp_path / "b.yaml").write_text("budgets: [ttft p50 < 1s]")
    with pytest.raises(UsageError, match="as far as this"):
        gate_and_print([tmp_path], Asked(tmp_path / "b.yaml", ci=tmp_path / "deep" / "ci", junit_file=tmp_path / "other" / "junit.xml"))
