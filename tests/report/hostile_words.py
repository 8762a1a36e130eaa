"""What a server, a header or a name can hold that acts where it is shown; and a report and a run full of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from made_run import made_run

from latprof.layers.table import Layers
from latprof.observations.folder import Run
from latprof.spans.store import Spans

HOSTILE = (
    "\x1b[2J\x1b[31mred\x1b[0m",  # clears the screen, colours what follows
    "\x1b]0;title\x07\x1b]8;;http://evil.example\x07link\x1b]8;;\x07",  # sets the window's title, links
    "\x9b2J\x90q\x9c\x85",  # the same as single C1 controls
    "\r\x08\x7foverwritten\x00\x0b\x0c",
    "two\nlines\ttabbed\u2028separated\u2029",
    "\u202egnirts\u2066\u200f\u061c",  # turns the writing direction
    "zero\u200bwidth\ufeff\u2060\U000e0041",
    "half \ud83d a pair",
    "<script>alert(1)</script><img src=x onerror=alert(1)>&lt;",
    "'\" onmouseover=alert(1) x='",
    "]]></style></svg><!--",
    "[bold red]markup[/bold red] :smile: [link=http://evil.example]x[/link]",
    "![x](javascript:alert(1)) | `code` | **bold** | [x]: <y>",
    "a;b 42",
    "__proto__",
    "",
)
ALL = " ".join(HOSTILE)


OUR_OWN = {"id", "level", "label", "kind", "metric"}
"""Fields that hold words of latprof's own, which it looks up."""


def spoiled(value: Any) -> Any:
    """``value`` with hostile words after every text in it; keys of mappings stay, for they are looked up."""
    if isinstance(value, str):
        return f"{value}{ALL}"
    if isinstance(value, Path):
        return Path(f"{value}{ALL.replace(chr(0), '')}")
    if isinstance(value, Mapping):
        return {key: spoiled(held) for key, held in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(spoiled(held) for held in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return dataclasses.replace(value, **{name: held if name in OUR_OWN else spoiled(held) for name, held in fields.items()})
    return value


def hostile_run(n: int = 60, words: tuple[str, ...] = HOSTILE) -> tuple[Run, Layers, Spans]:
    """The made run under a hostile model, address, errors and hop names."""
    everything = " ".join(words)
    target = {"url": f"http://127.0.0.1:8000/{everything}", "model": f"model {everything}", "is_stub": False}
    run, layers, spans = made_run(
        n, target=target, arrival_model=f"open loop {everything}", host={"cpu_model": everything}, stub={"died": everything}
    )
    requests = run.requests
    columns = {name: np.array([everything] * len(requests), object) for name in ("error_text", "response_id", "body_timings")}
    columns["timing_headers"] = np.fromiter([((everything, everything),)] * len(requests), object, len(requests))
    columns["error_class"] = np.array([f"{name}{everything}" if name else "" for name in requests.error_class], object)
    run = dataclasses.replace(run, requests=dataclasses.replace(requests, **columns))
    names = tuple(f"unattributed@{word}{index}" for index, word in enumerate(words[: len(layers.names)]))
    sources = tuple((f"span{word}",) for word in words[: len(layers.names)])
    return run, dataclasses.replace(layers, names=names, sources=sources, hops=words[:2]), spans
