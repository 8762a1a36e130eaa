"""Pages of real runs, sweeps and comparisons in a browser: whole, quiet, with the figures of their summaries, and at work under the keyboard."""

from __future__ import annotations

from typing import Any

import pytest
import real_pages
from made_pages import embedded
from opened import Seen, check_fits, picture_of, tooltip_of, walked
from real_pages import LIVE, SIMULATED, Made

_RUN = ["verdict", "budget", "tail", "examples", "distribution", "time", "layers", "run"]
_SWEEP = ["bottlenecks", "layers", "stations", "run"]
SECTIONS = {
    **dict.fromkeys(("run", *LIVE), _RUN),
    "agent": [*_RUN[:6], "task", *_RUN[6:]],
    "speed-ups": ["verdict", "sweep", *_SWEEP],
    "load curve": ["verdict", "load", *_SWEEP],
    "comparison": ["verdict", "budget", "changes", "distribution", "layers", "run"],
}
KINDS = [*SIMULATED, *(pytest.param(kind, marks=pytest.mark.live) for kind in LIVE)]


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    return real_pages.simulated(tmp_path_factory.mktemp("simulated"))


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    return real_pages.live(tmp_path_factory.mktemp("live"))


@pytest.fixture
def made(request: pytest.FixtureRequest, kind: str) -> Made:
    found: dict[str, Made] = request.getfixturevalue("live" if kind in LIVE else "simulated")
    return found[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_page_is_whole_quiet_and_fits(seen: Seen, made: Made, kind: str) -> None:
    seen.open(made.page)
    page = seen.page
    assert page.eval_on_selector_all("main section", "all => all.map(one => one.id)") == SECTIONS[kind]
    assert page.locator("figure").count() >= (kind != "failures")
    check_fits(page, 1280)
    page.set_viewport_size({"width": 420, "height": 900})
    page.wait_for_function(
        "() => [...document.querySelectorAll('.chart svg')].every(one => one.getBoundingClientRect().right <= innerWidth)"
    )
    page.evaluate("document.querySelectorAll('input[type=radio], input[type=checkbox]').forEach(one => one.click())")
    check_fits(page, 420)
    assert seen.said == seen.others == seen.dialogs == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_page_says_what_its_summary_says(seen: Seen, made: Made, kind: str) -> None:
    assert embedded(made.page.read_text(encoding="utf-8"), "summary") == made.summary
    seen.open(made.page)
    shown = _rows(seen)
    wanted = list(_wanted(kind, made.summary))
    assert bool(wanted) == (kind != "failures")
    for where, first, values in wanted:
        found = [row for at, name, row in shown if (at, name) == (where, first) and row[: len(values)] == values]
        assert found, (where, first, values, [row for at, name, row in shown if (at, name) == (where, first)])
    for text, value in _figures(seen):
        unit = 10.0 ** -len(text.partition(".")[2])
        assert abs(float(text.replace(",", "")) - value) <= 1.01 * unit, (text, value)


def _rows(seen: Seen) -> list[tuple[str, str, list[float]]]:
    """Section, first cell and exact figures of every row of a table that has any."""
    rows = seen.page.eval_on_selector_all(
        "section tbody tr",
        "all => all.map(one => [one.closest('section').id, one.cells[0].innerText.trim(),"
        " [...one.querySelectorAll('[data-ms]')].map(cell => Number(cell.dataset.ms))])",
    )
    return [(at, name, values) for at, name, values in rows if values]


def _figures(seen: Seen) -> list[tuple[str, float]]:
    found = seen.page.eval_on_selector_all("td[data-ms], td [data-ms]", "all => all.map(one => [one.textContent.trim(), one.dataset.ms])")
    return [(text, float(value)) for text, value in found if "e" not in text]


def _wanted(kind: str, told: Any) -> list[tuple[str, str, list[float]]]:
    """Some rows that the page must have, by the summary: section, first cell, first figures."""
    if kind in {"speed-ups", "load curve"}:
        points = [(point["setting"], point["metrics"]["ttft"]["p50"]["value_ms"]) for point in told["points"]]
        return [("bottlenecks", ", ".join(f"{axis}={value:g}" for axis, value in at.items()), [value]) for at, value in points]
    if kind == "comparison":
        lines = [one for one in told["layers"]["ttft"] if one["layer"] in {"prefill", "gateway.auth"} and one["a_ms"] is not None]
        return [("layers", one["layer"], [one["a_ms"], one["b_ms"], one["change_ms"]]) for one in lines]
    lines = [one for one in told["layers"].get("ttft", ()) if one["layer"] in {"prefill", "gateway.auth", "gateway.safety"}]
    return [("layers", one["layer"], [value for key in ("p50", "p90") if (value := one[f"{key}_ms"]) is not None]) for one in lines]


# --- under the keyboard -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["agent"])
def test_every_step_of_a_task_is_reached(seen: Seen, made: Made) -> None:
    seen.open(made.page)
    steps = embedded(made.page.read_text(encoding="utf-8"), "pictures")["pictures"]["gantt"]["steps"]
    told = walked(seen.page, "gantt")
    assert [said.partition(":")[0] for said in told] == [step["name"] for step in steps]
    seen.page.keyboard.press("ArrowLeft")
    assert tooltip_of(seen.page, "gantt").inner_text() == told[-2]


@pytest.mark.parametrize("kind", ["load curve"])
def test_every_load_is_reached_and_told_with_all_its_lines(seen: Seen, made: Made) -> None:
    seen.open(made.page)
    (drawn,) = embedded(made.page.read_text(encoding="utf-8"), "pictures")["pictures"]["load"].values()
    told = walked(seen.page, "load")
    assert len(told) == len(drawn["xs"]) == 2
    for said in told:
        assert "good" in said
        assert all(line["name"] in said for line in drawn["lines"])


@pytest.mark.parametrize("kind", ["speed-ups"])
def test_choices_of_a_sweep_are_made_without_a_pointer(seen: Seen, made: Made) -> None:
    seen.open(made.page)
    assert len(walked(seen.page, "sweep")) == 3
    for choice in ("input[type=checkbox]", "input[type=radio]:not(:checked)"):
        before = picture_of(seen.page, "sweep")
        seen.page.locator(f"figure[data-picture=sweep] {choice}").first.focus()
        seen.page.keyboard.press("Space")
        assert picture_of(seen.page, "sweep") != before
