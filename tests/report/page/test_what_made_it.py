"""Pages say what they were made from: configuration, versions, host; and the page of a sweep what its throughput cannot exceed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_pages import Element, elements, embedded, html_of, made, made_comparison, made_sweep, samples

from latprof.analysis.sweeps.operational import Loop
from latprof.analysis.verdicts.compare import compare
from latprof.config import load_config
from latprof.gates.arms import read_arm
from latprof.gates.baseline import save
from latprof.pages.html import write_comparison_page, write_sweep_page
from latprof.pipeline.simulated import simulate_into_folder
from latprof.report.host import host, versions
from latprof.report.page import comparison, sweep
from latprof.report.page.document import in_words
from latprof.report.page.made import Made, told
from latprof.report.sweep.values import Axis, Point, build
from latprof.sweep.runs import understood

HOST = {
    "cpu_model": "A processor",
    "cpus": 2,
    "kernel": "6.1",
    "python": "CPython 3.11.7",
    "latprof": "0.1.0",
    "libraries": {"numpy": "2.1.0"},
}


def _rows(page: str, section: str) -> dict[str, list[str]]:
    """First cell -> the others, of every table row there."""
    found: dict[str, list[str]] = {}
    for cell in (one for one in elements(page) if one.tag == "td" and _is_in(one, section)):
        row = next(outer for outer in reversed(cell.inside) if outer.tag == "tr")
        cells = [one.text for one in elements(page) if one.tag == "td" and row in one.inside]
        found[cells[0]] = cells[1:]
    return found


def _is_in(element: Element, section: str) -> bool:
    return any(outer.attributes.get("id") == section for outer in element.inside)


def _folded(page: str) -> list[str]:
    return [one.text for one in elements(page) if one.tag == "pre" and any(outer.tag == "details" for outer in one.inside)]


def _marked(page: str) -> list[str]:
    return [one.text for one in elements(page) if one.tag == "mark"]


# --- words --------------------------------------------------------------------------------------------------------------------------------


def test_host_and_versions_leave_out_what_is_not_known() -> None:
    assert host(HOST) == "A processor, 2 cores, 6.1, CPython 3.11.7, latprof 0.1.0"
    assert versions(HOST) == "latprof 0.1.0, CPython 3.11.7, numpy 2.1.0"
    assert host({"platform": "linux", "machine": "aarch64", "cpu_model": None, "cpus": 1}) == "linux aarch64, 1 core"
    assert host({}) == versions({}) == ""


def test_lines_that_the_other_has_not_are_told_apart() -> None:
    a, b = Made("load:\n  rate_per_s: 50\n  seed: 1\n"), Made("load:\n  rate_per_s: 60\n  seed: 1\nout: x\n")
    assert told(a, b)["config"] == [("load:", False), ("  rate_per_s: 50", True), ("  seed: 1", False)]
    assert told(b, a)["config"] == [("load:", False), ("  rate_per_s: 60", True), ("  seed: 1", False), ("out: x", True)]
    assert not any(differs for _, differs in told(a)["config"])


# --- pages --------------------------------------------------------------------------------------------------------------------------------


def test_a_run_names_the_versions_of_what_measured_it(tmp_path: Path) -> None:
    rows = _rows(html_of("run", tmp_path), "run")
    assert rows["host"] == ["A processor, 2 cores, 6.1, CPython 3.11.7, latprof 0.1.0"]
    assert rows["versions"] == ["latprof 0.1.0, CPython 3.11.7, numpy 2.1.0"]


def test_a_sweep_shows_what_its_first_point_was_made_from(tmp_path: Path) -> None:
    page = html_of("sweep", tmp_path)
    rows = _rows(page, "run")
    assert rows == {"host": [host(HOST)], "versions": [versions(HOST)]}
    assert [text.strip() for text in _folded(page)] == [made().config.strip()]
    assert not _marked(page)
    assert _folded(sweep.page(made_sweep(), "")) == []


def test_a_comparison_shows_both_sides_and_marks_what_differs(tmp_path: Path) -> None:
    page = html_of("comparison", tmp_path)
    rows = _rows(page, "run")
    assert {name for name in rows if "host" in name or "versions" in name} == {"A host", "B host", "A versions", "B versions"}
    assert [text.strip() for text in _folded(page)] == [made().config.strip(), made(60).config.strip()]
    assert [text.strip() for text in _marked(page)] == ["rate_per_s: 50", "rate_per_s: 60"]
    assert not _folded(comparison.page(made_comparison(), (), samples(), ""))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs in virtual time, at 20 and 30 requests/s."""
    folder = tmp_path_factory.mktemp("runs")
    loads = [{"rate_per_s": rate, "num_requests": 80, "warmup_requests": 6} for rate in (20, 30)]
    return [simulate_into_folder(load_config(None, {"out": folder / f"r{at}", "load": load})) for at, load in enumerate(loads)]


def test_pages_of_folders_read_it_there(runs: list[Path], tmp_path: Path) -> None:
    swept = build(
        [Point({"rate": rate}, (understood(run),)) for rate, run in zip((20, 30), runs, strict=True)], [Axis("rate", "rate", (20, 30))]
    )
    (tmp_path / "sweep.json").write_text('{"schema": "latprof.sweep/1"}')
    page = write_sweep_page(swept, tmp_path).read_text()
    assert "rate_per_s: 20" in _folded(page)[0]
    assert "numpy" in _rows(page, "run")["versions"][0]
    page = write_comparison_page(
        compare(read_arm(runs[0]), read_arm(runs[1])), (), (runs[0], runs[1]), tmp_path / "compare.html"
    ).read_text()
    assert [text.strip() for text in _marked(page)] == ["rate_per_s: 20.0", "rate_per_s: 30.0"]


def test_the_distributions_of_a_comparison_are_of_the_requests_of_its_figures(runs: list[Path], tmp_path: Path) -> None:
    told = compare(read_arm(runs[0]), read_arm(runs[1]))
    (run,) = told.a.runs
    late = replace(run, values_ns={metric: values[15:] for metric, values in run.values_ns.items()})
    page = write_comparison_page(replace(told, a=replace(told.a, runs=(late,))), (), (runs[0], runs[1]), tmp_path / "c.html").read_text()
    drawn = embedded(page, "pictures")["pictures"]["tails"]
    counted = [run.requests - 15, told.b.runs[0].requests]
    assert {metric: [arm["n"] for arm in one["arms"]] for metric, one in drawn.items()} == {"ttft": counted, "e2el": counted}


def test_beside_a_baseline_stands_what_one_keeps_of_both(runs: list[Path], tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    save(read_arm(runs[0]), baseline)
    page = write_comparison_page(compare(read_arm(baseline), read_arm(runs[1])), (), (baseline, runs[1]), tmp_path / "c.html").read_text()
    assert [text.splitlines()[-1] for text in _marked(page)] == ["load.rate_per_s: 20.0", "load.rate_per_s: 30.0"]
    assert "latprof" in _rows(page, "run")["A versions"][0]


# --- bounds -------------------------------------------------------------------------------------------------------------------------------


def test_the_page_of_a_sweep_has_the_bounds_of_every_point(tmp_path: Path) -> None:
    rows = {name: cells for name, cells in _rows(html_of("sweep", tmp_path), "stations").items() if name.startswith("decode=")}
    found = {point.point.name: point.bounds for point in made_sweep().points}
    # Four prefills of some 100 ms are the narrowest beside four gateways of 15 ms and 64 places to decode.
    assert rows == {name: ["10.00", in_words(one.capacity_per_s), "prefill"] for name, one in found.items() if one is not None}
    assert len(rows) == 4


def test_in_a_closed_loop_the_bound_of_its_places_stands_beside(tmp_path: Path) -> None:
    report = made_sweep(loop=Loop("closed", 12.0, 285e6))
    cells = _rows(sweep.page(report, ""), "stations")["decode=1"]
    bounds = report.points[0].bounds
    assert bounds is not None
    assert cells[3:] == [in_words(bounds.population_per_s)]
    assert 9 < bounds.population_per_s < 12
    assert "N / (D + Z)" in sweep.page(report, "")
    assert "N / (D + Z)" not in html_of("sweep", tmp_path)
