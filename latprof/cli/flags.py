"""Flags that several commands have; what only one of them has stands in its own file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="configuration; none is the quickstart on the stack in a box")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress line")]
NoLive = Annotated[bool, typer.Option("--no-live", help="plain lines on a terminal, too, instead of the live view")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="any configuration key, e.g. stub.gateway.auth=5ms; repeatable")
]
Html = Annotated[bool, typer.Option("--html/--no-html", help="an HTML report, report.html in the folder")]
Goodput = Annotated[str | None, typer.Option(metavar="'ttft:200 tpot:50'", help="objectives in ms")]
Isl = Annotated[int | None, typer.Option("--isl", help="prompt tokens")]
Osl = Annotated[int | None, typer.Option("--osl", help="output tokens")]
TraceWindow = Annotated[str | None, typer.Option(metavar="10m", help="only the trace's first part")]
TimeScale = Annotated[float | None, typer.Option(help="replay this many times faster")]
Preset = Annotated[str | None, typer.Option(metavar="chat|code|agent", help="a workload fitted to a published trace")]
NumPrompts = Annotated[int | None, typer.Option("--num-prompts", "--num-requests", help="measured requests")]
Concurrency = Annotated[int | None, typer.Option(help="closed loop: this many requests always in flight")]
Warmup = Annotated[str | None, typer.Option(metavar="N|10s", help="unmeasured requests, or seconds, first")]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="run folder; runs/<time> by default")]
Rate = Annotated[str | None, typer.Option("--request-rate", "--rate", metavar="R", help="open loop, requests per second; or inf")]
TraceFile = Annotated[Path | None, typer.Option(metavar="FILE", help="replay a trace: Mooncake, Azure, OTel, ... (docs/workloads.md)")]
MaxConcurrency = Annotated[int | None, typer.Option(help="open loop: at most this many in flight; the wait for a place is counted")]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the summary here; - for standard output")]
FindGoodput = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="search the highest load at which this share of the requests meets --goodput, e.g. 0.99"),
]

# --- of a gate ----------------------------------------------------------------------------------------------------------------------------

BudgetFile = Annotated[Path | None, typer.Option("--budget", metavar="FILE", help="what is promised; docs/ci.md")]
BaselineFile = Annotated[Path | None, typer.Option("--baseline", metavar="FILE", help="what regressions are measured against")]
Replications = Annotated[
    int | None, typer.Option("--replications", "-R", help="independent runs, each with seeds of its own; 5 is a good number")
]
EarlyStop = Annotated[bool, typer.Option("--early-stop", help="end as soon as the verdict is clear; the looks share the 5 %")]
TakenFor = Annotated[
    str | None,
    typer.Option("--inconclusive", metavar="pass|warn|fail", help="what an inconclusive gate is taken for; exit code 3 by default"),
]
Ci = Annotated[
    Path | None, typer.Option("--ci", metavar="DIR", help="write junit.xml, summary.md, gate.json, benchmark.json, otava.csv here")
]
Junit = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="write JUnit XML here")]
