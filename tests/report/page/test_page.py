"""A page says what the summary says, in the order of its sections, and nothing that a stranger wrote in it acts."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hostile_words import HOSTILE
from made_pages import KINDS, Element, elements, embedded, expected_summary, hostile_pages, html_of, made_shown, numbers_in

from latprof.analysis.metrics import ttft_ns
from latprof.report.page import run
from latprof.report.page.document import asset, exact, in_words, share
from latprof.units import ms

_OF_A_RUN = ["verdict", "budget", "tail", "examples", "distribution", "time", "layers", "injection", "run"]
SECTIONS = {
    "run": _OF_A_RUN,
    "partial": [name for name in _OF_A_RUN if name != "injection"],
    "failures": [name for name in _OF_A_RUN if name != "injection"],
    "agent": ["verdict", "budget", "tail", "examples", "distribution", "time", "task", "layers", "run"],
    "sweep": ["verdict", "sweep", "bottlenecks", "layers", "stations", "run"],
    "comparison": ["verdict", "budget", "changes", "distribution", "layers", "run"],
}
_PICTURES = {"budget", "tail", "waterfall", "tails", "heat"}
PICTURES = {
    "run": _PICTURES,
    "partial": _PICTURES,
    "failures": {"heat"},
    "agent": _PICTURES | {"gantt"},
    "sweep": {"sweep"},
    "comparison": {"budget", "forest", "tails"},
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    return {kind: html_of(kind, folder) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_sections_are_all_there_and_in_order(pages: dict[str, str], kind: str) -> None:
    assert [one.attributes["id"] for one in elements(pages[kind]) if one.tag == "section"] == SECTIONS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_that_a_page_names_has_data_and_a_way_to_be_drawn(pages: dict[str, str], kind: str) -> None:
    data = embedded(pages[kind], "pictures")["pictures"]
    drawn = set(re.findall(r"\w+", asset("figures.js").split("const DRAWN = {")[1].split("}")[0]))
    figures = [one for one in elements(pages[kind]) if one.tag == "figure"]
    for figure in figures:
        assert data[figure.attributes["data-picture"]]
        assert figure.attributes["data-kind"] in drawn
    # Of the failures one had its first token: that is all there is to draw.
    assert {one.attributes["data-kind"] for one in figures} == PICTURES[kind]
    chosen = [one for one in elements(pages[kind]) if one.attributes.get("type") == "radio" and one.attributes["data-key"] == "of"]
    for radio in chosen:
        (figure,) = [one for one in radio.inside if one.tag == "figure"]
        assert radio.attributes["value"] in data[figure.attributes["data-picture"]]


# --- numbers ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_carries_the_summary(pages: dict[str, str], kind: str, tmp_path: Path) -> None:
    told, wanted = embedded(pages[kind], "summary"), expected_summary(kind, tmp_path)
    for one in (told, wanted):
        one.get("run", {}).pop("folder", None)  # the second agent run is another folder
    assert told == wanted


def _exact(page: str) -> list[Element]:
    found = [one for one in elements(page) if "data-ms" in one.attributes]
    # Single requests, and the times to the headers, are in no summary.
    return [
        one for one in found if not any(outer.attributes.get("id") == "examples" or "headers, ms" in _row(outer) for outer in one.inside)
    ]


def _row(element: Element) -> str:
    return element.text if element.tag == "tr" else ""


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_one_of_the_summary_and_its_words_round_it(pages: dict[str, str], kind: str) -> None:
    known = set(numbers_in(embedded(pages[kind], "summary")))
    found = _exact(pages[kind])
    assert bool(found) == (kind != "failures")
    for one in found:
        value = float(one.attributes["data-ms"])
        assert value in known, one
        assert _rounds(one.text, value), one


def _rounds(text: str, value: float) -> bool:
    """Whether ``text`` is ``value`` to its last digit; cells that add up as printed may be one off in it."""
    written = text.replace(",", "").strip()
    unit = 10.0 ** -len(written.partition(".")[2]) if "e" not in written else abs(value) * 0.01
    return abs(float(written) - value) <= 1.01 * unit


def test_a_wrong_figure_would_be_seen() -> None:
    assert _rounds("81.22", 81.2249)
    assert _rounds("1,031", 1030.6)
    assert not _rounds("81.22", 81.31)
    assert not _rounds("10.3", 103.0)


def test_layers_stand_under_their_own_name(pages: dict[str, str]) -> None:
    for kind in ("run", "agent"):
        told = embedded(pages[kind], "summary")["layers"]
        cells = [one for one in _exact(pages[kind]) if one.tag == "td" and any(outer.tag == "tr" for outer in one.inside)]
        seen: dict[tuple[str, str], list[float]] = {}
        for cell in cells:
            row = next((outer.attributes.get("data-layer") for outer in cell.inside if outer.tag == "tr"), None)
            metric = next((outer.attributes.get("data-metric") for outer in cell.inside if outer.tag == "table"), None)
            if row is not None and metric is not None:
                seen.setdefault((metric, row), []).append(float(cell.attributes["data-ms"]))
        assert seen
        for (metric, layer), values in seen.items():
            (line,) = [one for one in told[metric] if one["layer"] == layer]
            wanted = [line[f"{column}_ms"] for column in ("p50", "p90", "p99", "tail_mean", "mean") if line[f"{column}_ms"] is not None]
            assert values == wanted, (metric, layer)
        assert {metric for metric, _ in seen} == set(told)


def test_examples_are_requests_of_the_run() -> None:
    shown = made_shown()
    page = run.page(shown)
    rows = [one for one in elements(page) if "data-ms" in one.attributes and any(o.attributes.get("id") == "examples" for o in one.inside)]
    took = {float(ms(value)) for value in ttft_ns(shown.run.requests).tolist()}
    assert rows
    assert all(float(one.attributes["data-ms"]) in took for one in rows)


def test_drawn_bars_add_up(pages: dict[str, str]) -> None:
    for kind in ("run", "agent", "comparison"):
        told = embedded(pages[kind], "pictures")["pictures"]["budget"]
        for budget in [told] if kind == "comparison" else told.values():
            for at, column in enumerate(budget["columns"]):
                total = sum(layer["total_ms"][at] for layer in budget["layers"])
                assert total == pytest.approx(column["value_ms"], rel=1e-9)
                assert all(layer["wait_ms"][at] <= layer["total_ms"][at] + 1e-9 for layer in budget["layers"])


def test_how_figures_are_written() -> None:
    assert [in_words(value) for value in (None, float("nan"), 0, 0.0421, 1.234, 123.44, 1234.5)] == [
        "-",
        "-",
        "0",
        "0.0421",
        "1.23",
        "123.4",
        "1,234",
    ]
    assert in_words(2) == "2"  # a count
    assert in_words(12_345) == "12,345"
    assert share(0.9876) == "98.76 %"
    assert share(None) == "-"
    assert exact(0.1 + 0.2) == "0.30000000000000004"


# --- what a page says of a run that went wrong --------------------------------------------------------------------------------------------


def test_a_run_of_failures_says_so(pages: dict[str, str]) -> None:
    text = _visible(pages["failures"])
    assert "NOT VALID: do not use these figures for a decision" in text
    for said in ("No request succeeded, so there is nothing to break down.", "No request succeeded.", "2 failed", "timeout", "server"):
        assert said in text


def test_a_partial_run_says_so(pages: dict[str, str]) -> None:
    assert "The run is partial: it was killed, or is still going." in _visible(pages["partial"])
    assert "The run is partial" not in _visible(pages["run"])


def test_a_causal_check_is_a_table(pages: dict[str, str]) -> None:
    cells = [one.text for one in elements(pages["run"]) if one.tag in {"th", "td"} and _section(one) == "injection"]
    assert cells[:4] == ["ms per ms of delay", "per request", "per block", "queue feedback"]
    assert cells[4:8] == ["TTFT", "1.01 [0.96, 1.06]", "1.90 [1.50, 2.30]", "0.89 [0.48, 1.30]"]


def _section(element: Element) -> str:
    return next((outer.attributes.get("id", "") for outer in element.inside if outer.tag == "section"), "")


def test_a_simulated_run_says_so(pages: dict[str, str]) -> None:
    assert "nothing was measured" in _visible(pages["agent"])
    assert "nothing was measured" in _visible(pages["sweep"])
    assert "nothing was measured" not in _visible(pages["run"])


def _visible(page: str) -> str:
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", body)))


# --- one file, and not a large one --------------------------------------------------------------------------------------------------------


def test_ten_thousand_requests_are_less_than_two_megabytes() -> None:
    assert len(run.page(made_shown(10_000)).encode()) < 2_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_fetched(pages: dict[str, str], kind: str) -> None:
    for one in elements(pages[kind]):
        assert not {"src", "srcset", "action", "poster", "data", "background"} & set(one.attributes), one
        href = one.attributes.get("href", "#")
        assert href.startswith(("#", "data:,")), one
        assert one.tag not in {"iframe", "object", "embed", "base", "form", "img"}
    (policy,) = [one.attributes["content"] for one in elements(pages[kind]) if "http-equiv" in one.attributes]
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"@import|url\(", asset("page.css"))


# --- strangers ----------------------------------------------------------------------------------------------------------------------------


def _shape(page: str) -> set[tuple[str, tuple[str, ...]]]:
    return {(one.tag, tuple(sorted(one.attributes))) for one in elements(page)}


def test_words_of_strangers_make_no_element_and_no_attribute(pages: dict[str, str]) -> None:
    clean = set[tuple[str, tuple[str, ...]]]().union(*map(_shape, pages.values()))
    for kind, page in hostile_pages().items():
        assert _shape(page) <= clean, kind
        assert len([one for one in elements(page) if one.tag == "script"]) == 5
        text = _visible(page)
        assert "<script>alert(1)</script><img src=x onerror=alert(1)>&lt;" in text
        assert not any(character in text for character in "\x1b\x07\x00\u202e\u2028")


def test_words_of_strangers_end_no_script() -> None:
    for page in hostile_pages().values():
        for name in ("summary", "pictures"):
            (element,) = [one for one in elements(page) if one.attributes.get("id") == name]
            assert "<" not in element.text
            assert embedded(page, name)
    texts = _texts(embedded(hostile_pages()["run"], "summary"))
    assert any(HOSTILE[8] in text for text in texts)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [text for held in (value.values() if isinstance(value, dict) else value) for text in _texts(held)]
    return [value] if isinstance(value, str) else []
