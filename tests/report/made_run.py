"""A run made by hand: 1 200 requests with known layers, as it would be loaded from its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.analysis.causal.injection import Effect, Injection
from latprof.analysis.causal.slopes import Slope
from latprof.analysis.task import Tasks
from latprof.client.stamps import Attempt
from latprof.layers.table import Layers
from latprof.observations.columns import Chunks, Requests
from latprof.observations.folder import Run
from latprof.report.values import Report, build
from latprof.schedule.delays import Delays
from latprof.spans.span import Span, SpanKind
from latprof.spans.store import Spans
from latprof.units import NS_PER_MS, NS_PER_S

MS = NS_PER_MS
NAMES = (
    "client.lateness",
    "net.request",
    "gateway.auth",
    "gateway.tokenize",
    "engine.api+engine.tokenize+engine.queue",
    "prefill",
    "net.response",
    "unattributed@gateway",
)
SOURCES = (("client",), ("span",), ("span",), ("span", "header"), ("span",), ("attribute",), ("span",), ("span",))

META: dict[str, Any] = {
    "run_id": "0123456789abcdef",
    "config": {"load": {"concurrency": None, "max_concurrency": None}, "goodput": {"ttft": 120.0, "tpot": 12.0}, "target": {"model": "m"}},
    "config_hash": "feedbeef",
    "seed": 7,
    "arrival_model": "open loop, constant 50/s",
    "planned": {"measured": 1_200},
    "target": {"url": "http://127.0.0.1:8000/v1/chat/completions", "is_stub": False},
    "preflight": {"include_usage": True},
    "phases": [{"name": "measured", "start_ns": 0, "end_ns": 24 * NS_PER_S, "health": {"loop_lag_p99_ns": 1_100_000, "cpu_share": 0.21}}],
    "host": {
        "cpu_model": "A processor",
        "cpus": 2,
        "kernel": "6.1",
        "python": "CPython 3.11.7",
        "latprof": "0.1.0",
        "libraries": {"numpy": "2.1.0"},
    },
    "anchor": {"monotonic_ns": 0, "unix_ns": 0, "bracket_ns": 0},
}


def spread(n: int, irrational: float) -> npt.NDArray[np.float64]:
    """``n`` evenly spread numbers in (0, 1), the same with every version of numpy, which a random generator does not promise."""
    return np.asarray((np.arange(1, n + 1) * irrational) % 1.0, np.float64)


def made_layers(n: int) -> Layers:
    """Layers in ns, of which the tokenizer's is half wait and those of the network are not told apart."""
    u = [spread(n, prime**0.5) for prime in (2, 3, 5, 7, 11, 13, 17, 19, 23)]
    columns = [
        -0.05 * np.log(1 - u[0]),
        0.2 + 0.4 * u[1],
        2.0 * (u[2] / (1 - u[2])) ** 0.2,
        5.0 * (u[3] / (1 - u[3])) ** 0.25 + np.where(u[8] < 0.02, 60.0, 0.0),
        -3.0 * np.log(1 - u[4]),
        36.0 * (u[5] / (1 - u[5])) ** 0.14,
        0.1 + 0.2 * u[6],
        -0.2 * np.log(1 - u[7]),
    ]
    total_ns = np.rint(np.stack(columns, axis=1) * MS).astype(np.int64)
    wait_ns = np.zeros_like(total_ns)
    wait_ns[:, 0] = total_ns[:, 0]
    wait_ns[:, 3] = total_ns[:, 3] // 2
    service_ns = total_ns - wait_ns
    service_ns[:, [1, 4, 6, 7]] = 0
    present = np.ones_like(total_ns, bool)
    present[: n // 300, 3] = False
    return Layers("ttft", NAMES, np.arange(n), total_ns, wait_ns, service_ns, present, SOURCES, ("gateway", "engine"))


def made_run(n: int = 1_200, **meta: Any) -> tuple[Run, Layers, Spans]:
    """``n`` successes at 50 a second with four tokens each, and two failures."""
    layers = made_layers(n)
    ttft_ns = layers.total_ns.sum(axis=1)
    attempts = [_attempt(index, int(ttft_ns[index]), int(layers.total_ns[index, 0])) for index in range(n)]
    if n:
        attempts += [_failed(n, "timeout"), _failed(n + 1, "server")]
    chunk_rows = [(row.request, row.first_token_ns + step * 10 * MS) for row in attempts[:n] for step in range(4)]
    requests, stamps_ns = (np.array(column, np.int64) for column in zip(*chunk_rows, strict=True)) if n else (np.zeros(0, np.int64),) * 2
    chunks = Chunks(requests, stamps_ns, np.full(len(requests), 180), np.ones(len(requests), np.int64))
    spans = Spans.of([Span(f"{row.request:032x}", f"{row.request:016x}", "", "s", SpanKind.SERVER, 0, 1) for row in attempts[:n]])
    return Run(Path("runs/made"), META | meta, Requests.from_attempts(attempts), chunks), layers, spans


def made_injection() -> Injection:
    """A delay that is waited for, and amplified where everybody has it."""
    own = Slope(1.01, 0.96, 1.06, 0.025, 20, 900)
    everybody, feedback = Slope(1.9, 1.5, 2.3, 0.2, 40, 1_800), Slope(0.89, 0.48, 1.3, 0.2, 20, 2_700)
    ttft = Effect("ttft", own, everybody, feedback, ((0.5, own), (0.9, own)))
    design = Delays((0, 5 * MS, 20 * MS, 50 * MS), 5 * NS_PER_S, "both", 7)
    return Injection("router", design, 1_800, 40, 2, 1, 0, 2.4 * MS, (ttft, Effect("e2el", own, None, None)))


def made_report(n: int = 1_200, *, tasks: Tasks | None = None, injection: Injection | None = None, **meta: Any) -> Report:
    return build(*made_run(n, **({"planned": {"measured": n + 2 if n else 1_200}} | meta)), tasks=tasks, injection=injection)


def made_targets(n: int = 1_200) -> Report:
    """Every seventh request went to a canary, a third target got none."""
    run, layers, spans = made_run(n, planned={"measured": n + 2})
    target = np.array(["canary" if row % 7 == 3 else "current" for row in range(len(run.requests))], object)
    told = [
        {"name": name, "url": f"https://{name}.example/v1/chat/completions", "model": "m", "dialect": "openai-chat", "weight": weight}
        for name, weight in (("current", 6.0), ("canary", 1.0), ("idle", 0.001))
    ]
    run = dataclasses.replace(run, meta=dict(run.meta) | {"targets": told}, requests=dataclasses.replace(run.requests, target=target))
    return build(run, layers, spans)


def made_tasks(n: int = 400) -> Tasks:
    """Sessions of three calls each, with a tool of 100 to 300 ms between them, another hidden behind it, and five that did not end."""
    of_calls = made_layers(3 * n).total_ns.reshape(n, 3, -1).sum(axis=1)
    tool_ns = np.rint((100 + 200 * spread(n, 29**0.5)) * MS).astype(np.int64)
    total_ns = np.column_stack([of_calls, tool_ns])
    hidden_ns = np.zeros_like(total_ns)
    hidden_ns[:, -1] = 40 * MS
    wait_ns = np.zeros_like(total_ns)
    layers = Layers(
        "task",
        (*NAMES, "tool"),
        np.arange(n) * 3,
        total_ns,
        wait_ns,
        total_ns,
        total_ns > 0,
        (*SOURCES, ("client",)),
        ("gateway", "engine"),
    )
    three = np.full(n, 3)
    return Tasks(
        layers, np.arange(n), np.arange(n) * 60 * MS, three, three, three + 4, hidden_ns, {"failed": 3, "cut": 2}, have_several_steps=True
    )


def _attempt(index: int, ttft_ns: int, late_ns: int) -> Attempt:
    at_ns = index * 20 * MS
    first_ns = at_ns + ttft_ns
    return Attempt(
        request=index,
        session=index,
        turn=0,
        attempt=0,
        phase="measured",
        trace_id=f"{index:032x}",
        span_id=f"{index:016x}",
        asked_prompt_tokens=16,
        asked_output_tokens=4,
        intended_ns=at_ns,
        ready_ns=at_ns + late_ns,
        start_ns=at_ns + late_ns,
        send_ns=at_ns + late_ns + 1_000,
        headers_ns=first_ns - 1_000_000,
        first_token_ns=first_ns,
        first_answer_ns=first_ns,
        last_token_ns=first_ns + 30 * MS,
        end_ns=first_ns + 31 * MS,
        token_chunks=4,
        output_tokens=4,
        tokens_source="usage",
        status=200,
    )


def _failed(index: int, error_class: str) -> Attempt:
    return dataclasses.replace(_attempt(index, 50 * MS, 0), error_class=error_class)
