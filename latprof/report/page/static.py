"""Figures without a browser, for papers and pull requests: the pictures of `assets/figures.js` as SVG and PNG, each with its title and what it is."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib import resources
from importlib.util import find_spec
from typing import Any, Final

import orjson

from latprof.errors import UsageError
from latprof.report.inert import harmless
from latprof.report.page.document import HEAT, asset

WIDTH: Final = 960
"""Of every figure, in pixels; a PNG has twice as many."""
_SCALE = 2
_FAMILY = "Arimo, Arial, Helvetica, 'Liberation Sans', sans-serif"
_EDGE = 16
_TITLE_PX, _STAMP_PX, _CAPTION_PX = 18, 14, 12.5
_HEAD, _TITLE_LINE, _LINE, _FOOT = 48, 22, 17, 12
_MOST_LINES = 8
_ROOT = re.compile(r"\A<svg [^>]*>")
# What is for hovering only: nobody points at paper.
_MARKS = re.compile(r"""<style ?><!\[CDATA\[.*?]]>\s*</style>| (?:ecmeta_\w+|class|pointer-events)="[^"]*\"""", re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A picture that stands alone. ``data`` of that ``kind`` as `figures.js` takes them, ``state`` what is chosen of them; ``name`` without ending.

    What is not valid, or was simulated, says so beside the title: a figure travels without its report.
    """

    name: str
    kind: str
    data: Mapping[str, Any]
    title: str
    caption: str
    is_valid: bool = True
    is_simulated: bool = False
    state: Mapping[str, Any] = field(default_factory=dict)


def check_installed() -> None:
    """What draws without a browser comes as an extra.

    Raises:
        UsageError: it is not there.
    """
    for module, package in (("py_mini_racer", "mini-racer"), ("resvg_py", "resvg-py")):
        if find_spec(module) is None:
            raise UsageError(
                f"--figures: {package} is not installed, which draws them; pip install 'latprof[figures]' (--html needs no more)"
            )


def drawn(figures: Sequence[Figure]) -> Iterator[tuple[Figure, str]]:
    """Every figure as SVG; see `check_installed`."""
    from py_mini_racer import MiniRacer

    with MiniRacer() as engine:
        for script in ("echarts.min.js", "figures.js", "static.js"):
            engine.eval(asset(script))
        engine.eval(f"STATIC.start({asset('Arimo-widths.json')})")
        for figure in figures:
            told = harmless({"kind": figure.kind, "data": figure.data, "look": _look(), "state": figure.state})
            found = orjson.loads(str(engine.call("STATIC.draw", orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS).decode())))
            yield figure, _framed(harmless(figure), found["svg"], found["height"])


def png_of(svg: str) -> bytes:
    """A figure as PNG. The machine's own fonts are not looked at, so that it is the same everywhere."""
    from resvg_py import svg_to_bytes

    assets = resources.files("latprof.report.page") / "assets"
    with contextlib.ExitStack() as stack:
        fonts = [str(stack.enter_context(resources.as_file(assets / name))) for name in ("Arimo-Regular.ttf", "Arimo-Bold.ttf")]
        return bytes(svg_to_bytes(svg_string=svg, zoom=_SCALE, skip_system_fonts=True, font_files=fonts))


def wrapped(text: str, px: float, room: float, weight: str = "normal") -> list[str]:
    """``text`` in lines no wider than ``room`` pixels, in the font of the figures; a word that is wider is broken, and of very many lines the rest is left out."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, px, weight) <= room:
            lines[-1] = longer
            continue
        lines.append("")
        for character in word:
            if text_width(lines[-1] + character, px, weight) > room:
                lines.append("")
            lines[-1] += character
    lines = [line for line in lines if line] or [""]
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], "…"]


def text_width(text: str, px: float, weight: str = "normal") -> float:
    """How wide a text of that size is, in pixels."""
    em: int = _widths()["em"]
    known: Mapping[str, int] = _widths()[weight]
    return sum(known.get(character, em) for character in text) * px / em


@cache
def _widths() -> dict[str, Any]:
    told: dict[str, Any] = orjson.loads(asset("Arimo-widths.json"))
    return told


@cache
def _look() -> dict[str, Any]:
    """What `figures.js` calls the look: the light colours of the page."""
    light = asset("page.css").split("}", 1)[0]
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", light))
    return named | {"font": _FAMILY, "heat": HEAT["light"], "width": WIDTH, "still": True}


def _framed(figure: Figure, picture: str, height: float) -> str:
    """The picture between its title and its caption."""
    look = _look()
    room = WIDTH - 2 * _EDGE
    stamps = [("NOT VALID", look["bad"])] * (not figure.is_valid) + [("simulated", look["muted"])] * figure.is_simulated
    stamp_width = max((text_width(text, _STAMP_PX, "bold") + _EDGE for text, _ in stamps), default=0.0)
    titles = wrapped(figure.title, _TITLE_PX, room - stamp_width, "bold")
    lines = wrapped(figure.caption, _CAPTION_PX, room)
    head = _HEAD + _TITLE_LINE * (max(len(titles), len(stamps)) - 1)
    top = head + height + _LINE
    total = round(top + _LINE * (len(lines) - 1) + _FOOT)
    inner = f'<svg x="0" y="{head}" width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}">'
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return "\n".join(
        [
            f'<svg {names} width="{WIDTH}" height="{total}" viewBox="0 0 {WIDTH} {total}" role="img" font-family="{_FAMILY}">',
            f"<title>{escape(' '.join([*(text for text, _ in stamps), figure.title]))}</title>",
            f"<desc>{escape(figure.caption)}</desc>",
            f'<rect width="{WIDTH}" height="{total}" fill="{look["paper"]}"/>',
            *(_text(line, _EDGE, 30 + _TITLE_LINE * at, _TITLE_PX, look["ink"], "bold") for at, line in enumerate(titles)),
            *(_text(text, WIDTH - _EDGE, 30 + _TITLE_LINE * at, _STAMP_PX, ink, "bold", "end") for at, (text, ink) in enumerate(stamps)),
            _ROOT.sub(inner, _MARKS.sub("", picture), count=1),
            *(_text(line, _EDGE, top + _LINE * at, _CAPTION_PX, look["muted"]) for at, line in enumerate(lines)),
            "</svg>\n",
        ]
    )


def _text(text: str, x: float, y: float, px: float, colour: str, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{px:g}" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'
    )
