"""Which presets a configuration uses, with the ranges a report must print."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from latprof.config import Engine, Stub
from latprof.stub.presets import Kind, Preset, preset

_CALIBRATED: Final = {"compute_efficiency": (0.3, 0.6), "bandwidth_efficiency": (0.5, 0.8)}


def presets_used(stub: Stub) -> list[dict[str, Any]]:
    """One entry per number that was taken from a preset, or that stands in for a calibration: plain values, for ``run.json``.

    Keys: ``key`` (of the configuration), ``preset``, ``title``, ``quantity``, ``value``, ``low``, ``high``, ``unit``, ``source``, ``read``
    (ISO date, or null), ``tag`` ("read", "secondary", "unchecked" or "calibration").

    Raises:
        ConfigError: a preset is not known.
    """
    return list(_used(stub.engine))


_WHERE = {
    "read": "read {read} at {source}",
    "secondary": "secondary, read {read}: {source}",
    "unchecked": "not read at its source: {source}",
    "calibration": "{source}",
}


def range_line(entry: dict[str, Any]) -> str:
    """One entry as a line: ``H100 bandwidth 3.35 TB/s [3.35-3.35], read 2026-11-21 at ...``."""
    told = f"{entry['preset']} {entry['quantity']} {entry['value']:g} {entry['unit']} [{entry['low']:g}-{entry['high']:g}]"
    where = _WHERE[entry["tag"]]
    return f"{told}, {where.format(**entry)}"


def _used(engine: Engine) -> Iterator[dict[str, Any]]:
    if engine.hardware is not None and engine.model is not None:
        yield from _numbers("hardware", engine.hardware, "stub.engine.hardware", ("memory", "bandwidth", engine.precision))
        yield from _numbers("models", engine.model, "stub.engine.model", None)
        for name, (low, high) in _CALIBRATED.items():
            yield {
                "key": f"stub.engine.{name}",
                "preset": "stub.engine",
                "title": "calibration",
                "quantity": name,
                "value": getattr(engine, name),
                "low": low,
                "high": high,
                "unit": "of peak",
                "source": "to be calibrated on the stack in question; the range is the usual one",
                "read": None,
                "tag": "calibration",
            }
    if engine.link is not None:
        yield from _numbers("links", engine.link, "stub.engine.link", None)
    if engine.decode_rate is not None:
        yield from _numbers("rates", engine.decode_rate, "stub.engine.decode_rate", None)


def _numbers(kind: Kind, name: str, key: str, wanted: tuple[str, ...] | None) -> Iterator[dict[str, Any]]:
    found: Preset = preset(kind, name, key)
    for quantity, number in found.numbers.items():
        if wanted is None or quantity in wanted:
            yield {
                "key": key,
                "preset": found.name,
                "title": found.title,
                "quantity": quantity,
                "value": number.value,
                "low": number.low,
                "high": number.high,
                "unit": number.unit,
                "source": number.source,
                "read": None if number.read is None else number.read.isoformat(),
                "tag": number.tag,
            }
