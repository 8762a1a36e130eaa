"""What cannot be exported is told before the run is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from latprof.commands.export import STDOUT, Exports
from latprof.commands.report import report_and_print
from latprof.errors import UsageError

NOWHERE = Path("no such folder")


@pytest.mark.parametrize(
    ("exports", "told"),
    [
        (Exports(at="p50"), "--at says which percentile --folded shows; give --folded FILE"),
        (Exports(genai_metrics=True), "--genai-metrics says what goes to a collector; give --otlp URL"),
        (Exports(otlp_headers=("a=B",)), "--otlp-header says what goes to a collector; give --otlp URL"),
        (Exports(otlp="host:4318"), "--otlp must be a collector's OTLP/HTTP address"),
        (Exports(otlp="http://host", otlp_headers=("a=LATPROF_TEST_ABSENT",)), "names LATPROF_TEST_ABSENT, which is not set"),
        (Exports(perfetto=NOWHERE / "out.json"), "--perfetto no such folder/out.json: cannot be written"),
        (Exports(folded=NOWHERE / "out.txt"), "--folded no such folder/out.txt: cannot be written"),
        (Exports(perfetto=STDOUT, folded=STDOUT), "only one of --json, --perfetto and --folded can be -"),
    ],
)
def test_flags_that_cannot_be_meant(exports: Exports, told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=told):
        report_and_print(tmp_path / "there is no run", json_file=None, exports=exports)


def test_one_of_the_files_may_be_standard_output_already_taken_by_the_summary(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only one of"):
        report_and_print(tmp_path, json_file=STDOUT, exports=Exports(folded=STDOUT))


def test_checking_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run"):
        report_and_print(tmp_path / "there is no run", json_file=None, exports=Exports(perfetto=tmp_path / "out.json"))
    assert list(tmp_path.iterdir()) == []
