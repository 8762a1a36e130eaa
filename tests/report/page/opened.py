"""A page in a browser, and what can be asked of any: was it quiet, does it fit, what does it draw, what does it tell when pointed at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page


@dataclass
class Seen:
    """An open page, and whatever came of it that nobody asked for."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked_for: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked_for.append(request.url))
        self.page.on("dialog", self._dismiss)

    def _dismiss(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def open(self, file: Path) -> None:
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-drawn=yes]")

    @property
    def others(self) -> list[str]:
        """Requests beside the page itself; what is in the page (data:) was not asked for."""
        return [url for url in self.asked_for[1:] if not url.startswith("data:")]


def check_fits(page: Page, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = page.evaluate(
        "[...document.querySelectorAll('figure .chart')].map(one => { const box = one.querySelector('svg').getBoundingClientRect();"
        " return {right: box.right, height: box.height, shapes: one.querySelectorAll('svg path, svg rect').length}; })"
    )
    assert len(drawn) == page.locator("figure").count()
    for chart in drawn:
        assert chart["right"] <= width
        assert chart["height"] >= 100
        assert chart["shapes"] > 2


def picture_of(page: Page, picture: str) -> str:
    return str(page.locator(f"figure[data-picture={picture}] .chart svg").evaluate("one => one.outerHTML"))


def tooltip_of(page: Page, picture: str) -> Any:
    return page.locator(f"figure[data-picture={picture}] .chart > div:last-child")


TWO_FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def walked(page: Page, picture: str) -> list[str]:
    """What is told at every stop of the arrow keys, from the first to the last."""
    tooltip, chart = tooltip_of(page, picture), page.locator(f"figure[data-picture={picture}] .chart")
    chart.focus()
    told: list[str] = []
    for _ in range(200):
        page.keyboard.press("ArrowRight")
        tooltip.wait_for(state="visible")
        page.evaluate(TWO_FRAMES)  # what is told is in its place
        told.append(tooltip.inner_text())
        stop, _, stops = (chart.get_attribute("data-stop") or "").partition(" of ")
        if stop == stops:
            break
    return told
