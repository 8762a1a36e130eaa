"""From a template and its values to one HTML file with everything in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from latprof.report.colours import colour_of
from latprof.report.inert import harmless

_ASSETS: Final = resources.files("latprof.report.page") / "assets"
HEAT: Final = {
    "light": ["#eef3f8", "#b6d3ea", "#6aaed6", "#2a7ab8", "#0b3c6f"],
    "dark": ["#1c2a36", "#1f4b6e", "#2a7ab8", "#6aaed6", "#d6ebfa"],
}
"""From few to many: one hue, so that only lightness tells."""


def document(template: str, values: Mapping[str, Any]) -> str:
    """The page of that template. ``values`` hold ``title``, ``subtitle``, ``summary`` (as ``--json`` writes it), ``pictures``, and what the template wants.

    Whatever a stranger said is written out before it is laid out, and escaped where it stands.
    """
    from latprof import __version__

    told = harmless({**values, "drawn": {"pictures": values["pictures"], "heat": HEAT}})
    return (
        _environment()
        .get_template(template)
        .render(
            **told,
            version=__version__,
            css=asset("page.css"),
            library=asset("echarts.min.js"),
            figures=asset("figures.js"),
            script=asset("page.js"),
        )
    )


@cache
def asset(name: str) -> str:
    """A file of the page, as text."""
    return (_ASSETS / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("latprof.report.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"ms": in_words, "exact": exact, "embedded": embedded, "colour": colour_of, "share": share}
    return environment


def in_words(value: float | None) -> str:
    """A figure as a person reads it: three or four digits that mean something, of a count (an int) all."""
    if value is None or math.isnan(value):
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0:
        return "0"
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def share(value: float | None) -> str:
    """A share in per cent."""
    return "-" if value is None else f"{100 * value:.2f} %"


def exact(value: float | None) -> str:
    """A figure as the summary has it."""
    return orjson.dumps(value).decode()


def embedded(value: Any) -> Markup:
    """``value`` as JSON inside a script element: no text in it can end the element or open a comment."""
    text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # noqa: S704  # nothing is left of markup
