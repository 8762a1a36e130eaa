"""``latprof budget diff`` on files that another program wrote, or a hand changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from latprof.commands.budget import diff_and_print
from latprof.errors import ConfigError, Exit


def written(to: Path, **row: Any) -> Path:
    told = {"promised_ms": 5.0, "spent_ms": 4.0, "left_ms": 1.0, **row}
    to.write_text(json.dumps({"metric": "ttft", "at": "p95", "layers": {"gateway": told}, "total": {**told, "spent_ms": None}}))
    return to


@pytest.mark.parametrize("key", ["promised_ms", "spent_ms", "left_ms"])
@pytest.mark.parametrize("value", ["1", True, [1], {"ms": 1}])
def test_a_figure_that_is_no_number_is_told(tmp_path: Path, key: str, value: object) -> None:
    good, bad = written(tmp_path / "a.json"), written(tmp_path / "b.json", **{key: value})
    for before, after in ((good, bad), (bad, good)):
        with pytest.raises(ConfigError, match=r"b\.json: wanted the file that latprof budget show --json"):
            diff_and_print(before, after)


def test_figures_that_are_not_known_are_dashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert diff_and_print(written(tmp_path / "a.json"), written(tmp_path / "b.json", spent_ms=7, left_ms=-2)) == Exit.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].endswith("+3.00  OVER")
    assert lines[-1].split()[0] == "total"
    assert lines[-1].count(" - ") == 3  # spent before and after, and the change
