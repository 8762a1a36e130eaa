"""What runs were made from and with, as pages tell it: host, versions, configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from latprof.report.host import host, versions


@dataclass(frozen=True, slots=True)
class Made:
    """``config`` is a file that holds what differs from the defaults; ``host`` are the facts of `run.json`. Empty where nobody knows."""

    config: str = ""
    host: Mapping[str, Any] = field(default_factory=dict)


def told(made: Made, beside: Made | None = None) -> dict[str, Any]:
    """What the template shows: facts by name, and the lines of the configuration, each with whether it differs from the one ``beside`` it."""
    facts = {"host": host(made.host), "versions": versions(made.host)}
    lines = made.config.splitlines()
    return {
        "facts": [(name, text) for name, text in facts.items() if text],
        "config": list(zip(lines, _differing(lines, lines if beside is None else beside.config.splitlines()), strict=True)),
    }


def _differing(lines: list[str], others: list[str]) -> list[bool]:
    same = {
        block.a + offset
        for block in SequenceMatcher(a=lines, b=others, autojunk=False).get_matching_blocks()
        for offset in range(block.size)
    }
    return [at not in same for at in range(len(lines))]
