"""Pages of every kind, of runs that need no stack; and what a page says, read as a browser's parser would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import numpy as np
from hostile_words import HOSTILE, hostile_run, spoiled
from made_courses import MadeCourses
from made_run import META, MS, made_injection, made_layers, made_run, spread

from harness.queue_runs import replication
from latprof.analysis.sweeps.operational import Loop
from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.arms import Arm, arm_of
from latprof.analysis.verdicts.compare import Comparison, compare
from latprof.config import load_config
from latprof.layers.call import first_token_layers
from latprof.layers.table import Layers
from latprof.observations.graph import load_steps
from latprof.pages.html import shown_of
from latprof.pipeline import simulate
from latprof.report.page import comparison, run, sweep
from latprof.report.page.made import Made
from latprof.report.page.run import Shown
from latprof.report.summary import summary
from latprof.report.sweep.summary import summary as sweep_summary
from latprof.report.sweep.values import CALL, Axis, Point, SweepReport, SweptRun
from latprof.report.sweep.values import build as build_sweep
from latprof.report.values import build

AGENTS: Final[dict[str, Any]] = {"prompt_tokens": 300, "calls": 4, "tools": 2, "tool_time": "200ms", "output_tokens": 20, "tool_tokens": 64}
KINDS: Final = ("run", "sweep", "comparison", "agent", "partial", "failures")
"""Every kind of page there is."""


# --- what pages are made of ---------------------------------------------------------------------------------------------------------------


def made_shown(n: int = 1_200, *, hostile: bool = False, **others: Any) -> Shown:
    """What the page of the made run is made of; ``others`` replace fields of it."""
    observed, layers, spans = hostile_run(n) if hostile else made_run(n, planned={"measured": n + 2})
    courses = MadeCourses(observed, layers)
    report = build(observed, layers, spans, call=courses.call, injection=made_injection())
    if hostile:
        report = replace(spoiled(replace(report, injection=None)), injection=replace(made_injection(), before=" ".join(HOSTILE)))
    shown = Shown(
        report=report,
        run=observed,
        layers={"ttft": layers, "e2el": courses.call},
        steps=load_steps(Path("nowhere")),
        courses=courses,
        repeat="latprof run config.yaml",
        config="# latprof run\nload:\n  rate_per_s: 50\n",
        limits_ms={"ttft": {"p50": 60.0, "p99": 130.0}},
    )
    return replace(shown, **others)


def failed_shown() -> Shown:
    """A run of failures alone."""
    observed, _, spans = made_run(20)
    failed = observed.requests.select(~observed.requests.success)
    observed = replace(observed, requests=failed, chunks=observed.chunks.select(np.zeros(len(observed.chunks), np.bool_)))
    nothing = made_layers(0)
    return made_shown(20, run=observed, report=build(observed, nothing, spans), layers={"ttft": nothing})


def partial_shown() -> Shown:
    """A run that was killed."""
    observed, layers, spans = made_run(300)
    observed = replace(observed, partial=True, partial_reason="it was killed, or is still going")
    return made_shown(300, run=observed, report=build(observed, layers, spans))


def played_shown(folder: Path, **sections: Any) -> Shown:
    """A run in virtual time, as `latprof report` opens it."""
    load = {"rate_per_s": 20, "num_requests": 60, "warmup_requests": 6}
    return shown_of(simulate(load_config(None, {"out": folder, "load": load, **sections})).opened)


def made_sweep(axis: str = "decode", values: tuple[float, ...] = (1, 2, 4, 8), replications: int = 3, **others: Any) -> SweepReport:
    """A sweep of a layer's speed-up, or of the rate, that nobody ran; ``others`` replace fields of its runs."""
    runs = [tuple(replace(_swept(axis, value, number), **others) for number in range(replications)) for value in values]
    points = [Point({axis: value}, made) for value, made in zip(values, runs, strict=True)]
    axes = [Axis(axis, "rate" if axis == "rate" else "speedup", values)]
    return build_sweep(points, axes, is_simulated=True, folder=Path("runs/sweep"))


def _swept(axis: str, value: float, number: int, n: int = 600) -> SweptRun:
    mean_ms = {"gateway.safety": 15.0, "prefill": 100.0, "decode": 800.0}
    if axis in mean_ms:
        mean_ms[axis] /= value
    draws = [0.7 + 0.6 * spread(n, (3 + 10 * number + at) ** 0.5) for at in range(len(mean_ms))]
    total_ns = np.rint(np.column_stack([draw * mean * MS for draw, mean in zip(draws, mean_ms.values(), strict=True)])).astype(np.int64)
    call = Layers(
        CALL,
        tuple(mean_ms),
        np.arange(n),
        total_ns,
        np.zeros_like(total_ns),
        total_ns,
        np.ones_like(total_ns, np.bool_),
        (("simulated",),) * len(mean_ms),
        (),
    )
    return SweptRun(
        number=number,
        folder=Path(f"runs/sweep/{number}"),
        arrival_model=f"open loop, poisson {value if axis == 'rate' else 10:g}/s",
        completed_per_s=10.0,
        asked_per_s=10.0,
        good=590 - 20 * int(value),
        recorded=600,
        tables={"ttft": first_token_layers(call), CALL: call},
        servers={"gateway.safety": 4, "prefill": 4, "decode": 64},
        loop=Loop("open"),
    )


@cache
def _arm(first: int, added_ms: float) -> Arm:
    made = [replication((seed,), 0.5, 600, {"gateway.auth": added_ms}) for seed in range(first, first + 5)]
    return arm_of(f"runs/{first}", [replace(one, meta={**one.meta, "seed": first + at}) for at, one in enumerate(made)])


@cache
def made_comparison() -> Comparison:
    """B takes 15 ms longer in one layer."""
    return compare(_arm(1, 0.0), _arm(100, 15.0))


def samples() -> comparison.Samples:
    """The requests of both sides, as a comparison draws them."""
    ns = made_layers(600).total_ns.sum(axis=1)
    return {"A": [{"ttft": ns, "e2el": 2 * ns}], "B": [{"ttft": ns + 15 * MS, "e2el": 2 * ns + 15 * MS}]}


def made(rate: int = 50) -> Made:
    """What a run of that rate was made from."""
    return Made(f"# latprof run\nload:\n  rate_per_s: {rate}\n  num_requests: 600\n", META["host"])


# --- pages --------------------------------------------------------------------------------------------------------------------------------


def html_of(kind: str, folder: Path) -> str:
    """The page of that kind; ``folder`` is where a run may go."""
    if kind == "sweep":
        return sweep.page(made_sweep(), "latprof sweep config.yaml", made())
    if kind == "comparison":
        return comparison.page(made_comparison(), (), samples(), "latprof compare a b", {"A": made(), "B": made(60)})
    return run.page(shown_of_kind(kind, folder))


def shown_of_kind(kind: str, folder: Path) -> Shown:
    """What the page of a kind of run is made of."""
    if kind == "agent":
        return played_shown(folder / "agent", workload=AGENTS)
    return {"run": made_shown, "partial": partial_shown, "failures": failed_shown}[kind]()


@cache
def hostile_pages() -> dict[str, str]:
    """Pages of which a stranger wrote every word that strangers can write."""
    told = made_comparison()
    doubts = (Doubt("lateness", "warning", HOSTILE[8], HOSTILE[9]),)
    arms = [replace(arm, name=f"{arm.name} {' '.join(HOSTILE)}", doubts=doubts) for arm in (told.a, told.b)]
    everything = " ".join(HOSTILE)
    report = made_sweep(arrival_model=everything)
    of_strangers = Made(f"target:\n  model: {everything}\n", {"cpu_model": everything, "python": everything, "latprof": everything})
    return {
        "run": run.page(made_shown(60, hostile=True, repeat=everything, config=everything)),
        "comparison": comparison.page(
            replace(told, a=arms[0], b=arms[1]), HOSTILE, samples(), everything, {"A": made(), "B": of_strangers}
        ),
        "sweep": sweep.page(replace(report, folder=Path(everything.replace("\0", ""))), everything, of_strangers),
    }


def expected_summary(kind: str, folder: Path) -> Any:
    """What `--json` writes of the same, read again."""
    import orjson

    from latprof.report.comparison.summary import summary as comparison_summary

    told: Any = (
        sweep_summary(made_sweep())
        if kind == "sweep"
        else comparison_summary(made_comparison(), ())
        if kind == "comparison"
        else summary(shown_of_kind(kind, folder).report)
    )
    return orjson.loads(orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS))


# --- reading them -------------------------------------------------------------------------------------------------------------------------

_ALONE = {"meta", "link", "input", "br", "img", "hr"}


@dataclass(slots=True)
class Element:
    """One element: its attributes, its text with that of its children, what it stands in."""

    tag: str
    attributes: dict[str, str]
    inside: list[Element] = field(default_factory=list)
    text: str = ""

    def of_class(self, name: str) -> bool:
        """Whether it has that class."""
        return name in self.attributes.get("class", "").split()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Element] = []
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, list(self._open))
        self.found.append(element)
        if tag not in _ALONE:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1].tag in {"script", "style"}:  # no part of what is read
            self._open[-1].text += data
            return
        for element in self._open:
            element.text += data


@cache
def elements(html: str) -> list[Element]:
    """Every element of a page, in order."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.found


def embedded(html: str, name: str) -> Any:
    """What a page carries as JSON under that id."""
    (element,) = [one for one in elements(html) if one.tag == "script" and one.attributes.get("id") == name]
    return json.loads(element.text)


def numbers_in(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict | list):
        for held in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(held)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)
