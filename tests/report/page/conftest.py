"""A browser for the pages; without playwright or chromium the tests that ask for it are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from opened import Seen

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser, and is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # No sandbox: tests may run as root in a container, and open nothing but files of their own.
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def seen(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Seen]:
    """A new page; parametrize it with what `new_page` takes."""
    page = browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | getattr(request, "param", {})))
    page.set_default_timeout(10_000)
    yield Seen(page)
    page.close()
