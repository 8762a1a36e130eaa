"""``latprof compare`` and ``latprof baseline`` as a user types them, on simulated runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from latprof.cli import main


class Ended(NamedTuple):
    code: int
    out: str
    err: str


Latprof = Callable[..., Ended]
LOAD = "load: {rate_per_s: 20, num_requests: 120}\n"


def configure(folder: Path) -> None:
    """Two configurations, of which the second has 15 ms more in the gateway."""
    (folder / "a.yaml").write_text(LOAD)
    (folder / "b.yaml").write_text(f"{LOAD}stub: {{plant: {{gateway.auth: 15ms}}}}\n")


@pytest.fixture
def latprof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Latprof:
    """A command in this process, in a folder of its own with the two configurations."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    configure(tmp_path)

    def of(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["latprof", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Ended(int(ended.value.code or 0), out, err)

    return of


class Compared(NamedTuple):
    done: subprocess.CompletedProcess[str]
    folder: Path


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Both configurations compared in virtual time, once for all that look at it: runs in ``c/a`` and ``c/b``, summary in ``c.json``."""
    folder = tmp_path_factory.mktemp("compared")
    configure(folder)
    words = "compare --simulate a.yaml b.yaml --pairs 4 --out c --json c.json -q"
    command = [sys.executable, "-m", "latprof", *words.split()]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120"})
    return Compared(done, folder)


def test_two_configurations_in_virtual_time(compared: Compared) -> None:
    done = compared.done
    assert (done.returncode, done.stderr) == (0, "the runs are in c; latprof compare c/a c/b prints this again\n")
    assert done.stdout.startswith("B is worse in ttft p50 (+15.00 ms")
    assert "in layer gateway.auth." in " ".join(done.stdout.split())
    assert "They differ in the system under test: stub.plant.gateway.auth none -> 15ms" in done.stdout
    told = json.loads((compared.folder / "c.json").read_text())
    assert told["schema"] == "latprof.comparison/1"
    assert told["paired"]
    worse = {one["layer"] for one in told["layers"]["ttft"] if one["verdict"] == "worse"}
    assert worse == {"gateway.auth"}
    change = next(one for one in told["end_to_end"] if (one["metric"], one["at"]) == ("ttft", "p50"))
    assert change["change_ms"] == pytest.approx(15.0, abs=1e-6)
    assert change["low_ms"] <= 15.0 + 1e-6
    assert change["high_ms"] >= 15.0 - 1e-6


def test_the_runs_print_the_same_again_and_a_tolerance_covers_the_change(compared: Compared, latprof: Latprof, tmp_path: Path) -> None:
    (tmp_path / "c").symlink_to(compared.folder / "c")
    again = latprof("compare", "c/a", "c/b")
    assert (again.code, again.out) == (0, compared.done.stdout)
    minded = latprof("compare", "c/a", "c/b", "--min-abs", "20ms")
    assert minded.out.startswith("No difference found.")
    assert "a change of up to 20.00 ms being tolerated" in " ".join(minded.out.split())


def test_a_baseline_from_saving_to_comparing(compared: Compared, latprof: Latprof, tmp_path: Path) -> None:
    (tmp_path / "c").symlink_to(compared.folder / "c")
    saved = latprof("baseline", "save", "c/a", "--to", "base.json")
    assert (saved.code, saved.err) == (0, "")
    assert "the baseline of 4 runs, seeds 1, 2, 3, 4" in saved.out
    shown = latprof("baseline", "show", "base.json")
    assert shown.code == 0
    assert "open loop, poisson 20/s, in virtual time" in shown.out
    assert "gateway.auth" in shown.out
    same = latprof("compare", "base.json", "c/a")
    assert same.code == 0
    assert same.out.startswith("No difference found. ttft p50 would have shown any change.")
    assert latprof("compare", "base.json", "c/b").out.startswith("B is worse")


def test_a_baseline_of_another_load_is_no_baseline(compared: Compared, latprof: Latprof) -> None:
    latprof("baseline", "save", str(compared.folder / "c" / "a"), "--to", "base.json")
    latprof("simulate", "a.yaml", "--out", "other", "--request-rate", "30")
    other = latprof("compare", "base.json", "other")
    assert other.code == 3
    assert other.out.startswith("INCONCLUSIVE: the arms were not asked the same")
    assert "load.rate_per_s 20.0 -> 30.0" in " ".join(other.out.split())


def test_single_runs_say_what_is_missing(compared: Compared, latprof: Latprof) -> None:
    one, two = (str(compared.folder / "c" / "a" / name) for name in ("01", "02"))
    done = latprof("compare", one, two)
    assert done.code == 3
    assert done.out.startswith("INCONCLUSIVE: A: one run of 120 requests")
    said = " ".join(done.out.split())
    assert "too short for 20 time batches" in said
    assert "p99 needs 3 replications, got 1" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.yaml", "b.yaml"], "to measure it now add --interleave"),
        (["http://127.0.0.1:9", "runs"], "to measure it now add --interleave"),
        (["nowhere", "elsewhere"], "nowhere: does not exist"),
        (["x", "x"], "are the same"),
        (["a", "b", "--metric", "itl"], "--metric must be one of ttft, e2el, task, got 'itl'"),
        (["a", "b", "--tolerance", "much"], "--tolerance must be a share such as 5%"),
        (["a", "b", "--min-abs", "5"], "--min-abs must carry a unit"),
        (["a", "b", "--set", "load.seed=3"], "--config, --set and --out are for runs that are still to be made"),
        (["a.yaml", "b.yaml", "--simulate", "--interleave"], "drop one of the two"),
        (["a.yaml", "b.yaml", "--simulate", "--pairs", "5"], "--pairs must be an even number from 2 up"),
        (["a.yaml", "b.yaml", "--simulate", "--config", "a.yaml"], "--config is the load for two URLs"),
        (["a.yaml", "none.yaml", "--simulate"], "none.yaml: cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(latprof: Latprof, tmp_path: Path, arguments: list[str], said: str) -> None:
    before = set(tmp_path.rglob("*"))
    done = latprof("compare", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert set(tmp_path.rglob("*")) == before


def test_what_differs_among_the_runs_of_an_arm_is_named(latprof: Latprof) -> None:
    for name, config in (("1", "a.yaml"), ("2", "b.yaml")):
        latprof("simulate", config, "--out", f"mixed/{name}", "--seed", name, "--num-prompts", "20")
    done = latprof("baseline", "save", "mixed", "--to", "base.json")
    assert done.code == 2
    assert "replications repeat one experiment" in done.err
    assert "stub.plant.gateway.auth" in done.err
