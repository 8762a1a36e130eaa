"""The tables of presets as the documentation shows them."""

from __future__ import annotations

from latprof.stub.presets import Kind, Number, presets

_MARKS = {"read": "", "secondary": "*", "unchecked": "**"}


def table(kind: Kind) -> str:
    """A Markdown table: a row per preset, a column per quantity, ``value (low-high) unit``, ``*`` for secondary, ``**`` for unchecked sources."""
    quantities = list(dict.fromkeys(quantity for one in presets(kind).values() for quantity in one.numbers))
    rows = [["preset", *(quantity.replace("_", " ") for quantity in quantities)], ["---"] * (len(quantities) + 1)]
    rows += [[f"`{one.name}`", *(_cell(one.numbers.get(quantity)) for quantity in quantities)] for one in presets(kind).values()]
    return "\n".join(f"| {' | '.join(row)} |" if row[0] != "---" else f"|{'|'.join(row)}|" for row in rows)


def _cell(number: Number | None) -> str:
    if number is None:
        return "-"
    span = "" if number.low == number.high else f" ({number.low:g}-{number.high:g})"
    unit = "" if number.unit == "count" else f" {number.unit}"
    return f"{number.value:g}{span}{unit}{_MARKS[number.tag]}"
