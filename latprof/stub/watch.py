"""Reads the stages' own figures over HTTP, so that a run can tell whether the stub, and not what it plays, was the limit."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Mapping

from latprof.config import Stage
from latprof.units import NS_PER_S

_SAMPLE = re.compile(r"^latprof_stub_(?P<name>[a-z_]+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
_WANTED = {
    ("process_cpu_seconds_total", ""): "cpu_ns",
    ("timer_error_seconds", 'quantile="0.5"'): "timer_error_p50_ns",
    ("timer_error_seconds", 'quantile="0.99"'): "timer_error_p99_ns",
}


async def figures(urls: Mapping[Stage, str]) -> dict[str, dict[str, int]]:
    """Per stage its CPU time so far and how far its planned instants were missed, in ns; a stage that does not answer is left out."""
    pages = await asyncio.gather(*(asyncio.to_thread(_page, url) for url in urls.values()))
    return {stage: _read(page) for stage, page in zip(urls, pages, strict=True) if page}


def _page(url: str) -> str:
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=2) as answer:  # noqa: S310 - our own loopback server
            return str(answer.read().decode())
    except OSError:
        return ""


def _read(page: str) -> dict[str, int]:
    found = {}
    for sample in _SAMPLE.finditer(page):
        labels = ",".join(label for label in sample["labels"].split(",") if not label.startswith("stage="))
        wanted = _WANTED.get((sample["name"], labels))
        if wanted is not None:
            found[wanted] = round(float(sample["value"]) * NS_PER_S)
    return found
