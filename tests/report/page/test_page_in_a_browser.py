"""The page in a browser: quiet, offline, at work under pointer and keyboard, at any width, in either look, and on paper."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_pages import KINDS, embedded, hostile_pages, html_of
from opened import Seen, check_fits, picture_of, tooltip_of, walked

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# A4 within margins of 1 cm, at 96 pixels an inch.
PAPER_PX = 718


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    pages = {kind: html_of(kind, folder) for kind in KINDS} | {f"hostile {kind}": page for kind, page in hostile_pages().items()}
    for kind, page in pages.items():
        (folder / f"{kind}.html").write_text(page, encoding="utf-8")
    return {kind: folder / f"{kind}.html" for kind in pages}


# --- quiet and offline --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, "hostile run", "hostile sweep", "hostile comparison"])
def test_a_page_is_quiet_and_fits_its_window(seen: Seen, files: dict[str, Path], kind: str) -> None:
    seen.open(files[kind])
    check_fits(seen.page, 1280)
    # Every picture that can be chosen, narrow and dark.
    seen.page.emulate_media(color_scheme="dark")
    seen.page.set_viewport_size({"width": 420, "height": 900})
    seen.page.wait_for_function(
        "() => [...document.querySelectorAll('.chart svg')].every(one => one.getBoundingClientRect().right <= innerWidth)"
    )
    seen.page.evaluate("document.querySelectorAll('input[type=radio], input[type=checkbox]').forEach(one => one.click())")
    check_fits(seen.page, 420)
    assert seen.said == seen.others == seen.dialogs == []


POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@pytest.mark.parametrize("is_forbidden", [False, True])
def test_a_message_and_a_request_would_be_noticed_and_the_page_forbids_itself_the_latter(
    seen: Seen, files: dict[str, Path], tmp_path: Path, is_forbidden: bool
) -> None:
    told = files["run"].read_text(encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(1.0)
        away = f"http://127.0.0.1:{listening.getsockname()[1]}/x.png"
        loud = told.replace("<main", f"<script>console.error('loud'); alert('loud'); fetch('{away}')</script><img src='{away}'><main", 1)
        (tmp_path / "loud.html").write_text(loud if is_forbidden else POLICY.sub("", loud), encoding="utf-8")
        seen.page.goto((tmp_path / "loud.html").as_uri(), wait_until="commit")
        seen.page.wait_for_selector("html[data-drawn=yes]")
        if is_forbidden:
            with pytest.raises(TimeoutError):
                listening.accept()
        else:
            listening.accept()[0].close()
    assert "error: loud" in seen.said
    assert away in seen.others
    assert seen.dialogs == ["loud"]
    assert any("Content Security Policy" in said for said in seen.said) == is_forbidden


@pytest.mark.parametrize("kind", ["run", "sweep", "comparison"])
def test_words_of_strangers_stay_words(seen: Seen, files: dict[str, Path], kind: str) -> None:
    seen.open(files[f"hostile {kind}"])
    page = seen.page
    scripts = page.locator("script").count()
    for at in range(page.locator(".chart").count()):
        chart = page.locator(".chart").nth(at)
        chart.focus()
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        assert chart.locator("script, img, a, [onmouseover]").count() == 0
    assert page.locator("script").count() == scripts == 5
    assert page.locator("main img, main [onerror], main [onmouseover], main a").count() == 0
    assert seen.said == seen.others == seen.dialogs == []


# --- at work ------------------------------------------------------------------------------------------------------------------------------


def test_what_is_chosen_is_drawn(seen: Seen, files: dict[str, Path]) -> None:
    seen.open(files["run"])
    page = seen.page
    for picture, choice in (("budget", "call"), ("waterfall", "p99"), ("tails", "call")):
        before = picture_of(page, picture)
        page.locator(f"figure[data-picture={picture}] label", has_text=choice).click()
        after = picture_of(page, picture)
        assert after != before, picture
    before = picture_of(page, "budget")
    page.get_by_label("as shares").check()
    assert ">100<" in picture_of(page, "budget") != before
    page.get_by_label("as shares").uncheck()
    assert picture_of(page, "budget").count("<path") == before.count("<path")


def test_the_look_can_be_chosen_and_follows_the_system(seen: Seen, files: dict[str, Path]) -> None:
    seen.open(files["run"])
    page = seen.page

    def paper() -> int:
        colour = str(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    light = paper()
    ink = picture_of(page, "budget")
    page.select_option("#look", "dark")
    dark = paper()
    assert light > 600
    assert dark < 200
    assert picture_of(page, "budget") != ink
    page.select_option("#look", "auto")
    assert paper() == light
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("html[data-look=dark]")
    assert paper() == dark
    page.select_option("#look", "light")
    assert paper() == light


def test_pointing_at_a_bar_tells_its_figures(seen: Seen, files: dict[str, Path]) -> None:
    seen.open(files["run"])
    page = seen.page
    chart = page.locator("figure[data-picture=budget] .chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    tooltip = tooltip_of(page, "budget")
    tooltip.get_by_text("prefill").wait_for(state="visible")
    told = embedded(files["run"].read_text(encoding="utf-8"), "pictures")["pictures"]["budget"]["ttft"]
    prefill = next(layer for layer in told["layers"] if layer["layer"] == "prefill")
    assert any(f"{value:.1f} ms" in tooltip.inner_text() for value in prefill["total_ms"])


def test_the_keyboard_does_what_a_pointer_does(seen: Seen, files: dict[str, Path]) -> None:
    seen.open(files["run"])
    page = seen.page
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.closest('figure')?.dataset.picture + ' ' + document.activeElement.className")
        if name.endswith(" chart"):
            if name.split()[0] in reached:  # once around the page
                break
            reached.append(name.split()[0])
            page.keyboard.press("ArrowRight")
            tooltip = tooltip_of(page, reached[-1])
            tooltip.wait_for(state="visible")
            first = tooltip.inner_text()
            assert first
            page.keyboard.press("ArrowRight")
            page.keyboard.press("ArrowRight")
            assert tooltip.inner_text() != first
            page.keyboard.press("Escape")
            page.wait_for_function(
                "one => getComputedStyle(one).visibility === 'hidden' || getComputedStyle(one).opacity === '0' || one.style.display === 'none'",
                arg=tooltip.element_handle(),
            )
    assert reached == ["budget", "tail", "waterfall", "tails", "heat"]
    # Everything that is reached has a name that can be read out.
    for chart in page.locator(".chart").all():
        assert chart.get_attribute("role") == "img"
        assert chart.get_attribute("aria-label")


def test_the_keyboard_reaches_what_no_first_series_holds(seen: Seen, files: dict[str, Path]) -> None:
    seen.open(files["failures"])
    drawn = embedded(files["failures"].read_text(encoding="utf-8"), "pictures")["pictures"]["heat"]
    told = walked(seen.page, "heat")
    assert [said for said in told if said.endswith(" failed")] == [f"{count} failed" for count in drawn["failed"] if count]


def test_without_scripts_the_numbers_are_there(browser: Browser, files: dict[str, Path]) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(files["run"].as_uri())
    assert "Without scripts there are no pictures" in (page.locator("noscript").text_content() or "")
    assert page.locator("#layers td").count() > 20
    page.close()


# --- on paper -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [{"viewport": {"width": PAPER_PX, "height": 1000}, "color_scheme": "dark"}], indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_paper_is_light_and_cuts_no_table(seen: Seen, files: dict[str, Path], kind: str) -> None:
    seen.open(files[kind])
    page = seen.page
    assert page.evaluate("document.documentElement.dataset.look") == "dark"
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.dataset.look") == "light"
    assert page.evaluate("[...document.querySelectorAll('details')].every(one => one.open)")
    assert page.locator("fieldset:visible, #look:visible").count() == 0
    wide = page.evaluate(
        "[...document.querySelectorAll('table, pre, svg')].filter(one => one.getBoundingClientRect().right > innerWidth + 1)"
        ".map(one => (one.closest('section') || one).id + ' ' + one.getBoundingClientRect().right)"
    )
    assert wide == []
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen", color_scheme="dark")
    assert page.evaluate("document.documentElement.dataset.look") == "dark"
    assert seen.said == seen.others == []


def test_a_pdf_can_be_made(seen: Seen, files: dict[str, Path]) -> None:
    seen.open(files["run"])
    pdf = seen.page.pdf(format="A4", print_background=True)
    assert pdf.startswith(b"%PDF")
    assert 1 < len(re.findall(rb"/Type\s*/Page\b", pdf)) < 12
