"""The doctor's report, for a person or for a program."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from latprof.doctor.host import Limits
from latprof.doctor.measure import Floor
from latprof.doctor.verdict import Finding, is_fit

SCHEMA = "latprof.doctor/1"
"""Additions keep the number."""


def lines(found: tuple[Finding, ...]) -> Iterator[str]:
    """As printed: the verdict first, then a line each."""
    worst = [finding for finding in found if finding.level in {"warning", "fatal"}]
    if not is_fit(found):
        yield "NOT FIT: figures taken on this machine are not to be trusted"
    else:
        yield f"FIT, with {len(worst)} warning{'' if len(worst) == 1 else 's'}" if worst else "FIT"
    for finding in found:
        yield f"  {finding.level or 'ok':8} {finding.name:11} {finding.text}"
        if finding.remedy:
            yield f"  {'':8} {'':11} -> {finding.remedy}"


def as_json(found: tuple[Finding, ...], floor: Floor, limits: Limits) -> dict[str, Any]:
    """Everything measured, times in ns, and the lines."""
    health = {name: value for name, value in dataclasses.asdict(floor.health).items() if name != "stalls"}
    return {
        "schema": SCHEMA,
        "fit": is_fit(found),
        "findings": [dataclasses.asdict(finding) | {"level": finding.level or "ok"} for finding in found],
        "measured": dataclasses.asdict(floor) | {"health": health | {"stalls": len(floor.health.stalls)}},
        "machine": dataclasses.asdict(limits),
    }
