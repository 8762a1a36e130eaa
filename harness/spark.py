"""The fast-decode case: an agent at 65, 1 000 and 4 000 tokens/s, then the remedies one by one, each predicted from the first run and measured.

    python -m harness.spark [--tasks 2] [--only 65,1000,4000,...] [--markdown FILE] [--figures DIR]

Every step is a live run of ``configs/spark.yaml`` on the stack in a box. What is predicted for it comes from the run folder of the first one (65
tokens/s) and the changes stated here; nothing of a later run goes into it. The control predicts a step without its changes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import verdict
from harness.verdict import Figure
from latprof.analysis.quantiles import hd_quantile
from latprof.analysis.whatif.answer import Answer, Metric
from latprof.analysis.whatif.changes import read_changes
from latprof.analysis.whatif.prediction import what_if
from latprof.analysis.whatif.record import Record, record_of
from latprof.config import load_config
from latprof.layers.vocabulary import belongs_to
from latprof.observations.folder import load
from latprof.observations.graph import load_steps
from latprof.opening import layers_of
from latprof.pages.figures import check_figures, write_pictures
from latprof.pipeline import run
from latprof.report.colours import colour_of
from latprof.report.page.static import Figure as Picture
from latprof.spans import store
from latprof.units import NS_PER_MS

CONFIG = Path(__file__).parent.parent / "configs" / "spark.yaml"
# One stream of configs/spark.yaml: 15 ms + 0.19 ms.
BASE_TOKENS_PER_S = 1e9 / 15_190_000
TOLERANCE = 0.15
TRIES = 4
"""On a call, a first token and a task at p50: two tasks of 21 calls, so the draws of 42 safety checks are all there is."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what is laid over the step before it (nested like the file), and what the prediction is told of it."""

    name: str
    what: str
    over: Mapping[str, Any] = field(default_factory=dict)
    speedup: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    short: str = ""


def _decode(tokens_per_s: int) -> Step:
    times = tokens_per_s / BASE_TOKENS_PER_S
    return Step(
        str(tokens_per_s),
        f"decode at {tokens_per_s:,} tokens/s",
        {"stub": {"speedup": {"decode": times}}},
        (f"decode={times:.6g}",),
        short=f"{tokens_per_s:,} tokens/s",
    )


# What is new in a call after the first, of all that is sent: a tool's 2 560 tokens and the last answer's 527 of some 67 000.
NEW_SHARE = (2560 + 527) / 67_000
_NEW = f"-{100 * (1 - NEW_SHARE):.4g}%"
STEPS = (
    Step("65", "as it was: decode at 65 tokens/s", short="65 tokens/s"),
    _decode(1000),
    _decode(4000),
    Step(
        "cached",
        "rendered tokens and configuration kept between calls",
        {"stub": {"gateway": {"token_cache": 16, "render": "1ms", "auth": "500us", "ratelimit": "500us"}}},
        layers=(f"gateway.tokenize={_NEW}", "gateway.render=1ms", "gateway.auth=500us", "gateway.ratelimit=500us"),
        short="kept tokens",
    ),
    Step("hops", "one hop fewer before the engine", {"stub": {"router": {"route": "1ms"}}}, layers=("router=1ms",), short="one hop fewer"),
    Step(
        "safety",
        "a faster safety check",
        {"stub": {"gateway": {"safety": {"service": {"mean": "10ms", "dist": "lognormal", "cv": 0.3}}}}},
        layers=(f"gateway.safety=-{100 * (1 - 10 / 45):.4g}%",),
        short="safety check",
    ),
    Step(
        "websocket",
        "one WebSocket per task, only new input sent",
        {"target": {"dialect": "openai-responses-ws"}, "stub": {"gateway": {"validate": "300us"}}},
        layers=("gateway.validate=300us",),
        short="WebSocket",
    ),
)
SOCKET_ALONE = replace(
    STEPS[-1],
    name="websocket alone",
    what="4 000 tokens/s and the WebSocket, nothing else",
    short="WebSocket alone",
    layers=(*STEPS[-1].layers, f"gateway.tokenize={_NEW}"),
)
"""The connection keeps what it has tokenized, so it does the cache's work as well."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A step as it ran; times at p50 in ms."""

    step: Step
    values_ms: Mapping[Metric, float]
    groups_ms: Mapping[str, float]
    record: Record


def measure(step: Step, over: Mapping[str, Any], tasks: int) -> Measured:
    """Run a step; again, at most three times, while a fatal doubt says that the machine and not the stack made its times. The last one counts."""
    for number in range(TRIES):
        measured, is_valid = _measure_once(step, over, tasks)
        if is_valid:
            break
        print(f"  (try {number + 1} of {step.name})", flush=True)
    return measured


def _measure_once(step: Step, over: Mapping[str, Any], tasks: int) -> tuple[Measured, bool]:
    """Run a step; the folder is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="latprof-spark-"))
    try:
        outcome = run(load_config(CONFIG, {**_merged(over, {"load": {"num_requests": tasks}}), "out": str(folder / "run")}))
        for doubt in outcome.report.doubts:
            print(f"  ({doubt.level}: {doubt.text})", flush=True)
        observed = load(outcome.folder)
        call = layers_of(observed, store.load(outcome.folder), "e2el")
        record = record_of(observed, call, load_steps(outcome.folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Measured(step, _values_ms(record), _groups_ms(record), record), outcome.report.valid


def _values_ms(record: Record) -> dict[Metric, float]:
    from latprof.analysis.whatif.replays import recorded_tasks_ns

    after = [name for name in record.call.names if name in {"decode", "stream", "decode+stream"}]
    columns = [record.call.names.index(name) for name in after]
    e2el_ns = record.call.total_ns.sum(axis=1)
    ttft_ns = e2el_ns - record.call.total_ns[:, columns].sum(axis=1)
    told: dict[Metric, Any] = {"ttft": ttft_ns, "e2el": e2el_ns, "task": recorded_tasks_ns(record)}
    return {metric: hd_quantile(values, 0.5) / NS_PER_MS for metric, values in told.items()}


GROUPS = ("decode", "prefill", "gateway", "rest")
_ENGINE = ("prefill", "engine", "kv.transfer", "decode.first")


def _groups_ms(record: Record) -> dict[str, float]:
    """The mean call by parts of the stack."""
    sums = dict.fromkeys(GROUPS, 0.0)
    for column, name in enumerate(record.call.names):
        if name == "decode":
            group = "decode"
        elif any(belongs_to(name, one) for one in _ENGINE):
            group = "prefill"
        else:
            group = "gateway" if belongs_to(name, "gateway") else "rest"
        sums[group] += float(record.call.total_ns[:, column].mean()) / NS_PER_MS
    return sums


def predict(first: Measured, steps: Sequence[Step]) -> Answer:
    """The answer for all of ``steps`` together, from the first run alone."""
    speedups = [text for step in steps for text in step.speedup][-1:]
    layers = [text for step in steps for text in step.layers]
    return what_if(first.record, read_changes(speedups, layers, ()))


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged


def figures(measured: Measured, answer: Answer) -> list[Figure]:
    """Predicted over measured at p50."""
    found = []
    for metric, value_ms in measured.values_ms.items():
        predicted_ms = answer.prediction(metric, 0.5).predicted_ns / NS_PER_MS
        found.append(
            Figure(f"{metric}: {value_ms:.0f} ms, predicted {predicted_ms:.0f}", predicted_ms / value_ms - 1, -TOLERANCE, TOLERANCE, "")
        )
    return found


def markdown(rows: Sequence[tuple[Measured, Answer | None]]) -> str:
    """The table of docs/spark.md."""
    lines = [
        "| step | TTFT p50, ms | predicted | call p50, ms | predicted | task p50, s | predicted | decode | prefill | gateway | rest |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for measured, answer in rows:
        cells = []
        for metric, value_ms in measured.values_ms.items():
            scale, digits = (1000.0, 1) if metric == "task" else (1.0, 0)
            told = "" if answer is None else f"{answer.prediction(metric, 0.5).predicted_ns / NS_PER_MS / scale:,.{digits}f}"
            cells += [f"{value_ms / scale:,.{digits}f}", told]
        total_ms = sum(measured.groups_ms.values())
        shares = [f"{100 * value_ms / total_ms:.0f} %" for value_ms in measured.groups_ms.values()]
        lines.append(f"| {measured.step.what} | {' | '.join(cells)} | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


_COLOURS = {"decode": "decode", "prefill": "prefill", "gateway": "gateway.tokenize", "rest": "net.request"}


def pictures(rows: Sequence[Measured], tasks: int) -> list[Picture]:
    """What the mean call is made of: as shares at every step, and in ms where decoding is fast."""
    fast = [one for one in rows if one.step.name not in {"65", "1000"}]
    shown = [_picture("spark-shares", rows, tasks, "What the mean call of the agent is made of, in shares", is_share=True)]
    return shown + [_picture("spark-call", fast, tasks, "What the mean call of the agent is made of, in ms", is_share=False)] * bool(fast)


def _picture(name: str, rows: Sequence[Measured], tasks: int, title: str, *, is_share: bool) -> Picture:
    data = {
        "metric": "e2el",
        "columns": [{"label": one.step.short, "value_ms": sum(one.groups_ms.values())} for one in rows],
        "layers": [
            {
                "layer": group,
                "colour": colour_of(_COLOURS[group]),
                "total_ms": [one.groups_ms[group] for one in rows],
                "wait_ms": [0.0] * len(rows),
            }
            for group in GROUPS
        ],
        "limits_ms": {},
    }
    caption = (
        f"Means over the calls of {tasks} tasks, live on the stack in a box. Each step keeps the changes of those above it;"
        ' "WebSocket alone" is 4,000 tokens/s and the WebSocket, nothing else.'
    )
    return Picture(name, "budget", data, title, caption, state={"share": is_share})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every step and leave with 1 when a prediction misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--only", default="", help="steps by name, separated by commas; the first one always runs")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--figures", type=Path, help="write the pictures of what a call is made of into this folder")
    options = parser.parse_args(arguments)
    if options.figures is not None:
        check_figures(options.figures)
    wanted = set(options.only.split(",")) if options.only else {step.name for step in (*STEPS, SOCKET_ALONE)}
    seed = load_config(CONFIG).load.seed
    head = f"n {21 * options.tasks} calls in {options.tasks} tasks, seed {seed}, p50, tolerance {TOLERANCE:.0%}"
    first = measure(STEPS[0], {}, options.tasks)
    print(f"{STEPS[0].what}: " + ", ".join(f"{metric} {value:.0f} ms" for metric, value in first.values_ms.items()), flush=True)
    rows: list[tuple[Measured, Answer | None]] = [(first, None)]
    passed, wrong = True, list[Figure]()
    paths = [(STEPS[1 : index + 1]) for index in range(1, len(STEPS))] + [(STEPS[2], SOCKET_ALONE)]
    for path in paths:
        step = path[-1]
        if step.name not in wanted:
            continue
        over: Mapping[str, Any] = {}
        for one in path:
            over = _merged(over, one.over)
        measured = measure(step, over, options.tasks)
        answer = predict(first, path)
        rows.append((measured, answer))
        passed &= verdict.show(step.what, head, figures(measured, answer))
        wrong = wrong or figures(measured, predict(first, (_decode(100),)))
    passed &= verdict.control("predicted at 100 tokens/s instead", wrong)
    _show_shares(rows)
    if options.markdown is not None:
        options.markdown.write_text(markdown(rows), encoding="utf-8")
    if options.figures is not None:
        write_pictures(pictures([measured for measured, _ in rows], options.tasks), options.figures)
    verdict.end(passed=passed)


def _show_shares(rows: Sequence[tuple[Measured, Answer | None]]) -> None:
    print("\nwhat the mean call is made of, ms")
    print(f"  {'':44}" + "".join(f"{group:>10}" for group in GROUPS))
    for measured, _ in rows:
        print(f"  {measured.step.what:44.44}" + "".join(f"{measured.groups_ms[group]:10.1f}" for group in GROUPS))
    ttft = {measured.step.name: measured.values_ms["ttft"] for measured, _ in rows}
    task = {measured.step.name: measured.values_ms["task"] for measured, _ in rows}
    if {"4000", "safety"} <= ttft.keys():
        print(f"  TTFT from single-request work: {100 * (ttft['safety'] / ttft['4000'] - 1):+.0f} % (published: about -45 %)")
    if {"4000", "websocket alone"} <= task.keys():
        print(f"  task from the WebSocket alone: {100 * (task['websocket alone'] / task['4000'] - 1):+.0f} % (published: up to -40 %)")


if __name__ == "__main__":
    main()
