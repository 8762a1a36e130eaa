"""The flags of ``latprof run``: what is said of the configuration, and what is to be made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latprof.cli.flags import (
    BaselineFile,
    BudgetFile,
    Ci,
    Concurrency,
    ConfigFile,
    EarlyStop,
    FindGoodput,
    Goodput,
    Html,
    Isl,
    JsonFile,
    Junit,
    MaxConcurrency,
    NoLive,
    NumPrompts,
    Osl,
    Out,
    Preset,
    Quiet,
    Rate,
    Replications,
    Set,
    TakenFor,
    TimeScale,
    TraceFile,
    TraceWindow,
    Warmup,
)
from latprof.cli.gate import taken_for
from latprof.cli.said import (
    Said,
    assignments,
    flags_named,
    goodput_said,
    headers_said,
    injected_said,
    json_object,
    length_said,
    load_said,
    nested,
    workload_said,
)
from latprof.errors import Exit, UsageError

if TYPE_CHECKING:
    from latprof.config import Config


def run(
    config: ConfigFile = None,
    *,
    url: Annotated[
        str | None, typer.Option("--url", "--base-url", help="an OpenAI-compatible endpoint, with or without /v1; none: the stub")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="model name to ask for")] = None,
    dialect: Annotated[
        str | None, typer.Option("--dialect", metavar="NAME", help="API spoken, e.g. openai-chat (default), openai-responses-ws")
    ] = None,
    api_key_env: Annotated[str | None, typer.Option(metavar="NAME", help="environment variable that holds the bearer token")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME: VALUE", help="extra request header; repeatable")
    ] = None,
    extra_body: Annotated[str | None, typer.Option(metavar="JSON", help="keys laid over the request body")] = None,
    connection: Annotated[
        str | None, typer.Option(metavar="reuse|fresh|session", help="who may use a connection again: any request, none, its session")
    ] = None,
    unix_socket: Annotated[Path | None, typer.Option(metavar="PATH", help="connect to this socket instead of the URL's host")] = None,
    proxy: Annotated[str | None, typer.Option(metavar="URL", help="an HTTP proxy, asked to CONNECT")] = None,
    cacert: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM certificates to trust instead of the system's")] = None,
    cert: Annotated[Path | None, typer.Option(metavar="FILE", help="client certificate (PEM)")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="its key, where it is not in the same file")] = None,
    request_rate: Rate = None,
    arrival: Annotated[str | None, typer.Option(metavar="poisson|constant|gamma", help="law of the gaps between requests")] = None,
    burstiness: Annotated[float | None, typer.Option(help="gamma shape of the gaps: 1 is Poisson, below 1 burstier")] = None,
    concurrency: Concurrency = None,
    max_concurrency: MaxConcurrency = None,
    num_prompts: NumPrompts = None,
    duration: Annotated[str | None, typer.Option(metavar="60s", help="measured time; with --num-prompts whichever ends first")] = None,
    max_requests: Annotated[int | None, typer.Option(help="never send more than this many, warm-up included")] = None,
    warmup: Warmup = None,
    isl: Isl = None,
    osl: Osl = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="tokenizer.json", help="for prompts of exact length; the bundled one by default")
    ] = None,
    trace: TraceFile = None,
    trace_window: TraceWindow = None,
    time_scale: TimeScale = None,
    preset: Preset = None,
    seed: Annotated[int | None, typer.Option(help="same seed, same schedule and prompts")] = None,
    workers: Annotated[str | None, typer.Option(metavar="N|auto", help="processes that send; 1 by default")] = None,
    goodput: Goodput = None,
    timeout: Annotated[str | None, typer.Option(metavar="120s", help="per request")] = None,
    out: Out = None,
    json_file: JsonFile = None,
    otlp_host: Annotated[str | None, typer.Option(help="address the span receiver binds to")] = None,
    otlp_grpc_port: Annotated[int | None, typer.Option(help="0 takes a free one")] = None,
    otlp_http_port: Annotated[int | None, typer.Option(help="0 takes a free one")] = None,
    hops: Annotated[str | None, typer.Option(metavar="haproxy,envoy,litellm", help="hop order from the client inwards")] = None,
    inject_delay: Annotated[
        str | None, typer.Option(metavar="gateway=0,5,20,50ms", help="causal check: delay requests at random; docs/causal.md")
    ] = None,
    inject_listen: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="the delays inside your stack: point the gateway's upstream here")
    ] = None,
    inject_upstream: Annotated[
        str | None, typer.Option(metavar="http://HOST:PORT", help="and say where it pointed before: requests go on from here to there")
    ] = None,
    html: Html = True,
    dry_run: Annotated[bool, typer.Option(help="print the plan, send nothing")] = False,
    sweep_: Annotated[
        str | None, typer.Option("--sweep", metavar="rate=5,10,20", help="or concurrency=...: a run at each; docs/sweeps.md")
    ] = None,
    find_goodput: FindGoodput = None,
    budget: BudgetFile = None,
    baseline: BaselineFile = None,
    replications: Replications = None,
    early_stop: EarlyStop = False,
    inconclusive: TakenFor = None,
    junit: Junit = None,
    ci: Ci = None,
    no_live: NoLive = False,
    quiet: Quiet = False,
    set_: Set = None,
) -> None:
    """Drive load, take the spans in, and print the TTFT budget by layer."""
    from latprof.config import load_config

    said = (
        Said("target.url", "--url", url),
        Said("target.model", "--model", model),
        Said("target.dialect", "--dialect", dialect),
        Said("target.api_key_env", "--api-key-env", api_key_env),
        Said("target.headers", "--header", headers_said(header)),
        Said("target.extra_body", "--extra-body", json_object("--extra-body", extra_body)),
        Said("target.timeout", "--timeout", timeout),
        Said("target.connection", "--connection", connection),
        Said("target.unix_socket", "--unix-socket", unix_socket),
        Said("target.proxy", "--proxy", proxy),
        Said("target.ca_file", "--cacert", cacert),
        Said("target.client_cert", "--cert", cert),
        Said("target.client_key", "--key", key),
        *load_said(request_rate, concurrency, max_concurrency),
        Said("load.arrival", "--arrival", arrival),
        Said("load.burstiness", "--burstiness", burstiness),
        *length_said(num_prompts, duration, warmup),
        Said("load.max_requests", "--max-requests", max_requests),
        Said("load.seed", "--seed", seed),
        Said("load.workers", "--workers", workers),
        *workload_said(isl, osl, trace, trace_window, time_scale, preset),
        Said("workload.tokenizer", "--tokenizer", tokenizer),
        Said("spans.otlp_host", "--otlp-host", otlp_host),
        Said("spans.grpc_port", "--otlp-grpc-port", otlp_grpc_port),
        Said("spans.http_port", "--otlp-http-port", otlp_http_port),
        Said("spans.hops", "--hops", hops.split(",") if hops else None),
        Said("goodput", "--goodput", goodput_said(goodput)),
        Said("out", "--out", out),
        *injected_said(inject_delay, inject_listen, inject_upstream),
        *assignments(set_),
    )
    wanted = _Wanted(
        sweep=sweep_,
        find_goodput=find_goodput,
        budget=budget,
        baseline=baseline,
        replications=replications,
        early_stop=early_stop,
        inconclusive=inconclusive,
        junit=junit,
        ci=ci,
        json_file=json_file,
        dry_run=dry_run,
        live=not no_live,
        quiet=quiet,
        html=html,
    )
    with flags_named(said):
        raise typer.Exit(_made(load_config(config, nested(said)), wanted))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be made of the configuration: one run, or with ``sweep`` one at each of several loads, or with ``budget`` those that a gate judges."""

    sweep: str | None
    find_goodput: float | None
    budget: Path | None
    baseline: Path | None
    replications: int | None
    early_stop: bool
    inconclusive: str | None
    junit: Path | None
    ci: Path | None
    json_file: Path | None
    dry_run: bool
    live: bool
    quiet: bool
    html: bool

    @property
    def of_a_gate(self) -> list[str]:
        """The flags among those given that only a gate has."""
        given = {
            "--budget": self.budget is not None,
            "--baseline": self.baseline is not None,
            "--early-stop": self.early_stop,
            "--inconclusive": self.inconclusive is not None,
            "--junit": self.junit is not None,
            "--ci": self.ci is not None,
        }
        return [flag for flag, is_given in given.items() if is_given]


def _made(settings: Config, wanted: _Wanted) -> Exit:
    if wanted.sweep is not None:
        return _swept(settings, wanted.sweep, wanted)
    if wanted.find_goodput is not None:
        raise UsageError("--find-goodput searches a load; say which and where with --sweep rate=5:200 or --sweep concurrency=1:64")
    if wanted.budget is not None and not wanted.dry_run:
        return _gated(settings, wanted.budget, wanted)
    return _one(settings, wanted)


def _swept(settings: Config, sweep: str, wanted: _Wanted) -> Exit:
    from latprof.commands.sweep import sweep_loads_and_print

    refused = [*(["--dry-run"] if wanted.dry_run else []), *wanted.of_a_gate]
    return sweep_loads_and_print(
        settings,
        sweep,
        wanted.find_goodput,
        wanted.replications,
        json_file=wanted.json_file,
        refused=refused,
        quiet=wanted.quiet,
        html=wanted.html,
    )


def _gated(settings: Config, budget: Path, wanted: _Wanted) -> Exit:
    from latprof.commands.gate import Asked, run_and_gate

    asked = Asked(
        budget,
        wanted.baseline,
        taken_for(wanted.inconclusive),
        wanted.json_file,
        wanted.junit,
        wanted.ci,
        1 if wanted.replications is None else wanted.replications,
        wanted.early_stop,
    )
    return run_and_gate(settings, asked, quiet=wanted.quiet, live=wanted.live, html=wanted.html)


def _one(settings: Config, wanted: _Wanted) -> Exit:
    from latprof.commands.run import run_and_print

    if wanted.budget is None:
        for flag in [*wanted.of_a_gate, *([] if wanted.replications is None else ["--replications"])]:
            raise UsageError(f"{flag} is for a gate; say what is promised with --budget FILE (latprof budget init RUN writes a first one)")
    return run_and_print(
        settings, json_file=wanted.json_file, dry_run=wanted.dry_run, quiet=wanted.quiet, live=wanted.live, html=wanted.html
    )
