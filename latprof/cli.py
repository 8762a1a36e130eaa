"""The command line. Everything heavy is imported inside the command that needs it: ``latprof --help`` answers in under 0.3 s."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from latprof.cli_gate import BaselineFile, BudgetFile, Ci, EarlyStop, Junit, Replications, TakenFor, budget_app, gate_command, taken_for
from latprof.cli_workload import workload_app
from latprof.errors import Exit, LatprofError, UsageError
from latprof.flags import (
    Concurrency,
    ConfigFile,
    Goodput,
    Html,
    Isl,
    JsonFile,
    MaxConcurrency,
    NoLive,
    NumPrompts,
    Osl,
    Out,
    Preset,
    Quiet,
    Rate,
    Said,
    Set,
    TimeScale,
    TraceFile,
    TraceWindow,
    Warmup,
    assignments,
    flags_named,
    goodput_said,
    headers_said,
    injected_said,
    json_object,
    load_said,
    nested,
    warmup_said,
)

app = typer.Typer(
    name="latprof",
    help="Where the time to first token goes, layer by layer: drive load at an LLM serving stack and print a latency budget that adds up.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich's help costs 0.1 s
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
stub_app = typer.Typer(help="The serving stack in a box.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(stub_app, name="stub")
app.add_typer(workload_app, name="workload")

baseline_app = typer.Typer(help="What a gate remembers of good runs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(baseline_app, name="baseline")
app.add_typer(budget_app, name="budget")

FindGoodput = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="search the highest load at which this share of the requests meets --goodput, e.g. 0.99"),
]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"latprof {version('latprof')}")
        raise typer.Exit


@app.callback()
def latprof(
    *, version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")] = False
) -> None:
    """Where the time to first token goes, layer by layer: drive load at an LLM serving stack, print a latency budget that adds up."""


@app.command(short_help="Drive load and print the TTFT budget by layer.")
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
    from latprof.commands.run import run_and_print
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
        Said("load.num_requests", "--num-prompts", num_prompts),
        Said("load.duration", "--duration", duration),
        Said("load.max_requests", "--max-requests", max_requests),
        *warmup_said(warmup),
        Said("load.seed", "--seed", seed),
        Said("load.workers", "--workers", workers),
        Said("workload.prompt_tokens", "--isl", isl),
        Said("workload.output_tokens", "--osl", osl),
        Said("workload.tokenizer", "--tokenizer", tokenizer),
        Said("workload.trace", "--trace", trace),
        Said("workload.trace_window", "--trace-window", trace_window),
        Said("workload.time_scale", "--time-scale", time_scale),
        Said("workload.preset", "--preset", preset),
        Said("spans.otlp_host", "--otlp-host", otlp_host),
        Said("spans.grpc_port", "--otlp-grpc-port", otlp_grpc_port),
        Said("spans.http_port", "--otlp-http-port", otlp_http_port),
        Said("spans.hops", "--hops", hops.split(",") if hops else None),
        Said("goodput", "--goodput", goodput_said(goodput)),
        Said("out", "--out", out),
        *injected_said(inject_delay, inject_listen, inject_upstream),
        *assignments(set_),
    )
    of_a_gate = {
        "--budget": budget is not None,
        "--baseline": baseline is not None,
        "--early-stop": early_stop,
        "--inconclusive": inconclusive is not None,
        "--junit": junit is not None,
        "--ci": ci is not None,
    }
    given = [flag for flag, is_given in of_a_gate.items() if is_given]
    with flags_named(said):
        settings = load_config(config, nested(said))
        if sweep_ is not None:
            from latprof.commands.sweep import sweep_loads_and_print

            refused = ["--dry-run", *given] if dry_run else given
            code = sweep_loads_and_print(
                settings, sweep_, find_goodput, replications, json_file=json_file, refused=refused, quiet=quiet, html=html
            )
            raise typer.Exit(code)
        if find_goodput is not None:
            raise UsageError("--find-goodput searches a load; say which and where with --sweep rate=5:200 or --sweep concurrency=1:64")
        if budget is not None and not dry_run:
            from latprof.commands.gate import Asked, run_and_gate

            runs = 1 if replications is None else replications
            asked = Asked(budget, baseline, taken_for(inconclusive), json_file, junit, ci, runs, early_stop)
            raise typer.Exit(run_and_gate(settings, asked, quiet=quiet, live=not no_live, html=html))
        for flag in given if replications is None else [*given, "--replications"]:
            if budget is None:
                raise UsageError(
                    f"{flag} is for a gate; say what is promised with --budget FILE (latprof budget init RUN writes a first one)"
                )
        raise typer.Exit(run_and_print(settings, json_file=json_file, dry_run=dry_run, quiet=quiet, live=not no_live, html=html))


@app.command(short_help="Run a grid of speed-ups, rates, sizes.")
def sweep(
    config: ConfigFile = None,
    *,
    speedup: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER=K,K,...", help="make a layer of the stack in a box faster, e.g. decode=1,2,4,8; repeatable"),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=V,V,...", help="any key that holds a number, e.g. stub.prefill.replicas=1,2,4; repeatable"),
    ] = None,
    rate: Annotated[str | None, typer.Option("--rate", "--request-rate", metavar="R,R,...", help="open loop at these rates")] = None,
    concurrency: Annotated[str | None, typer.Option(metavar="N,N,...", help="closed loop with so many requests in flight")] = None,
    together: Annotated[bool, typer.Option(help="move all axes at once instead of through their grid")] = False,
    simulate: Annotated[bool, typer.Option(help="in virtual time, side by side on all cores")] = False,
    replications: Annotated[
        int, typer.Option("--replications", "-R", help="independent runs of every point; 5 give intervals throughout")
    ] = 1,
    refine: Annotated[
        int | None, typer.Option(min=0, help="rounds of further runs where layers cross; 2 with --simulate, else none")
    ] = None,
    leverage: Annotated[bool, typer.Option(help="find the leverage by running again, 5 % off (--simulate)")] = False,
    worthwhile: Annotated[float, typer.Option(metavar="MS", help="what one more doubling must save", min=0)] = 30.0,
    allow_unstable: Annotated[bool, typer.Option(help="simulate points even where a layer is asked for more than it can do")] = False,
    find_goodput: FindGoodput = None,
    goodput: Goodput = None,
    num_prompts: Annotated[int | None, typer.Option("--num-prompts", "--num-requests", help="measured requests of each run")] = None,
    duration: Annotated[str | None, typer.Option(metavar="60s", help="measured time of each run")] = None,
    warmup: Warmup = None,
    seed: Annotated[int | None, typer.Option(help="of the first replication; the next one's is one more")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="folder of the sweep; runs/<time> by default")] = None,
    json_file: JsonFile = None,
    html: Html = True,
    quiet: Quiet = False,
    set_: Set = None,
) -> None:
    """Run a configuration along speed-ups of layers, rates or concurrencies, and print which layer is the bottleneck at each."""
    from latprof.commands.sweep import Asked, sweep_and_print
    from latprof.config import load_config

    said = (
        Said("load.num_requests", "--num-prompts", num_prompts),
        Said("load.duration", "--duration", duration),
        *warmup_said(warmup),
        Said("load.seed", "--seed", seed),
        Said("stub.seed", "--seed", seed),
        Said("goodput", "--goodput", goodput_said(goodput)),
        Said("out", "--out", out),
        *assignments(set_),
    )
    asked = Asked(
        speedups=tuple(speedup or ()),
        varied=tuple(vary or ()),
        rate=rate,
        concurrency=concurrency,
        together=together,
        simulate=simulate,
        replications=replications,
        refine=refine,
        leverage=leverage,
        worthwhile_ms=worthwhile,
        find_goodput=find_goodput,
        allow_unstable=allow_unstable,
    )
    with flags_named(said):
        settings = load_config(config, nested(said))
        raise typer.Exit(sweep_and_print(settings, asked, json_file=json_file, quiet=quiet, html=html))


@app.command(short_help="Play a configuration in virtual time.")
def simulate(
    config: ConfigFile = None,
    *,
    request_rate: Rate = None,
    concurrency: Concurrency = None,
    max_concurrency: MaxConcurrency = None,
    num_prompts: NumPrompts = None,
    duration: Annotated[str | None, typer.Option(metavar="60s", help="virtual time measured; it takes none of yours")] = None,
    warmup: Warmup = None,
    isl: Isl = None,
    osl: Osl = None,
    trace: TraceFile = None,
    trace_window: TraceWindow = None,
    time_scale: TimeScale = None,
    preset: Preset = None,
    seed: Annotated[int | None, typer.Option(help="of the schedule, the sessions and the stack: the same seed, the same bytes")] = None,
    goodput: Goodput = None,
    out: Out = None,
    json_file: JsonFile = None,
    html: Html = True,
    allow_unstable: Annotated[bool, typer.Option(help="play it even if a layer is asked for more than it can do")] = False,
    set_: Set = None,
) -> None:
    """Play a configuration in virtual time: the same run folder and report as `run`, of the stack in a box, without a clock."""
    from latprof.commands.simulate import simulate_and_print
    from latprof.config import load_config

    said = (
        *load_said(request_rate, concurrency, max_concurrency),
        Said("load.num_requests", "--num-prompts", num_prompts),
        Said("load.duration", "--duration", duration),
        *warmup_said(warmup),
        Said("load.seed", "--seed", seed),
        Said("stub.seed", "--seed", seed),
        Said("workload.prompt_tokens", "--isl", isl),
        Said("workload.output_tokens", "--osl", osl),
        Said("workload.trace", "--trace", trace),
        Said("workload.trace_window", "--trace-window", trace_window),
        Said("workload.time_scale", "--time-scale", time_scale),
        Said("workload.preset", "--preset", preset),
        Said("goodput", "--goodput", goodput_said(goodput)),
        Said("out", "--out", out),
        *assignments(set_),
    )
    with flags_named(said):
        settings = load_config(config, nested(said))
        raise typer.Exit(simulate_and_print(settings, json_file=json_file, allow_unstable=allow_unstable, html=html))


@app.command(short_help="Print a run again; write it for others.")
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")],
    *,
    json_file: JsonFile = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="the report as one HTML file that opens offline")] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="its figures as SVG and PNG, for papers and pull requests")] = None,
    budget: Annotated[Path | None, typer.Option(metavar="FILE", help="of --html and --figures: mark what this budget promises")] = None,
    perfetto: Annotated[Path | None, typer.Option(metavar="FILE", help="single requests as a trace, for ui.perfetto.dev")] = None,
    folded: Annotated[Path | None, typer.Option(metavar="FILE", help="the TTFT budget as stacks, for flame graphs")] = None,
    at: Annotated[str | None, typer.Option(metavar="p99", help="the percentile of --folded, or mean")] = None,
    otlp: Annotated[str | None, typer.Option(metavar="URL", help="send client spans with their layers to a collector (OTLP/HTTP)")] = None,
    otlp_header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VARIABLE", help="header for it, its value from the environment; repeatable")
    ] = None,
    genai_metrics: Annotated[bool, typer.Option("--genai-metrics", help="send the GenAI client metrics too")] = False,
) -> None:
    """Print a run's report again, from its folder alone; write it for other tools."""
    from latprof.commands.export import Exports
    from latprof.commands.run import report_and_print

    exports = Exports(perfetto, folded, at, otlp, tuple(otlp_header or ()), genai_metrics)
    raise typer.Exit(report_and_print(run_folder, json_file=json_file, html=html, figures=figures, budget_file=budget, exports=exports))


@app.command(short_help="Predict what a change would do to a run.")
def whatif(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")],
    *,
    speedup: Annotated[
        list[str] | None, typer.Option(metavar="LAYER=K", help="divide a layer's service, e.g. decode=8 or gateway=2; repeatable")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(metavar="LAYER=CHANGE", help="gateway.safety=-50%, router=+2ms, prefill=12ms (sets); repeatable")
    ] = None,
    servers: Annotated[list[str] | None, typer.Option(metavar="LAYER=N", help="servers of a station, e.g. prefill=4; repeatable")] = None,
    arrivals: Annotated[
        str | None, typer.Option(metavar="recorded|open|closed", help="how requests come in the prediction; as they came, by default")
    ] = None,
    places: Annotated[int | None, typer.Option(metavar="N", help="of a closed loop: so many sessions always on")] = None,
    shapley: Annotated[bool, typer.Option("--shapley", help="share the saving among 2 to 6 changes (2^n replays)")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the answer here; - for standard output")] = None,
) -> None:
    """Predict what a change would do to a recorded run: its requests replayed through its stations; docs/whatif.md."""
    from latprof.commands.whatif import Question, answer_and_print

    question = Question(tuple(speedup or ()), tuple(layer or ()), tuple(servers or ()), arrivals, places, shapley)
    raise typer.Exit(answer_and_print(run_folder, question, json_file=json_file))


@app.command(short_help="Hold run B against run A.")
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="a run folder, a folder of them, a baseline; to be measured: a URL or CONFIG.yaml")],
    b: Annotated[str, typer.Argument(metavar="B", help="the same, held against A")],
    *,
    metric: Annotated[str, typer.Option(metavar="ttft|e2el|task", help="whose layers are compared")] = "ttft",
    tolerance: Annotated[str, typer.Option(metavar="5%", help="a change up to this share of A is none")] = "0%",
    min_abs: Annotated[str, typer.Option(metavar="1ms", help="nor is one up to this time")] = "0ms",
    interleave: Annotated[bool, typer.Option(help="measure A and B now, in turns: two URLs, or two configurations of the stub")] = False,
    simulate: Annotated[bool, typer.Option(help="play two configurations now, in virtual time with the same seeds")] = False,
    config: Annotated[Path | None, typer.Option(metavar="CONFIG.yaml", help="the load for two URLs")] = None,
    pairs: Annotated[int, typer.Option(help="runs of each side, an even number")] = 6,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="where the runs go; runs/<time> by default")] = None,
    json_file: JsonFile = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="the comparison as one HTML file that opens offline")] = None,
    quiet: Quiet = False,
    set_: Set = None,
) -> None:
    """Hold B against A: what changed end to end and in each layer, how surely, and what a change would have had to be to be seen."""
    from latprof.commands.compare import Asked, compare_and_print

    said = tuple(assignments(set_))
    asked = Asked(metric, tolerance, min_abs, interleave, simulate, config, pairs, out, nested(said))
    with flags_named(said):
        raise typer.Exit(compare_and_print(a, b, asked, json_file=json_file, html=html, quiet=quiet))


app.command("gate", short_help="Hold runs against a budget; exit code 1 fails.")(gate_command)


@baseline_app.command("save")
def baseline_save(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders that repeat one experiment, or a folder of them")],
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="a JSON file, for git")],
    ceiling: Annotated[
        str | None, typer.Option(metavar="20%", help="set new ceilings so far above; those of a file that is there stay otherwise")
    ] = None,
) -> None:
    """Keep the figures of good runs, to hold later ones against them."""
    from latprof.commands.compare import save_baseline

    raise typer.Exit(save_baseline(runs, to, ceiling))


@baseline_app.command("show")
def baseline_show(file: Annotated[Path, typer.Argument(metavar="FILE", help="a baseline")]) -> None:
    """Print a baseline: its conditions, figures and ceilings."""
    from latprof.commands.compare import show_baseline

    raise typer.Exit(show_baseline(file))


@app.command(short_help="Measure what this machine can measure.")
def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="print everything measured as JSON")] = False) -> None:
    """Measure what this machine can measure: stamps, timers, requests and chunks per second, limits. About ten seconds."""
    from latprof.commands.run import diagnose_and_print

    raise typer.Exit(diagnose_and_print(as_json=as_json))


@stub_app.command("up")
def stub_up(
    config: ConfigFile = None,
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="the gateway's port; 0 takes a free one")] = 8000,
    otlp: Annotated[str | None, typer.Option(metavar="URL", help="OTLP/HTTP endpoint for spans, e.g. http://127.0.0.1:4318")] = None,
    truth: Annotated[Path | None, typer.Option(metavar="DIR", help="write what every stage really did")] = None,
    set_: Set = None,
) -> None:
    """Keep the stack in a box running for other tools, until Ctrl-C."""
    from latprof.commands.run import keep_stub_up
    from latprof.config import load_config

    said = tuple(assignments(set_))
    with flags_named(said):
        settings = load_config(config, nested(said))
        raise typer.Exit(keep_stub_up(settings, port=port, otlp_http_endpoint=otlp, truth=truth))


def main() -> None:
    """The console script: errors become one message and an exit code."""
    try:
        app()
    except LatprofError as error:
        from latprof.report.inert import plain

        said = plain(str(error), keep="\n")  # it may quote a server
        sys.stderr.write(f"latprof: {said}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        sys.exit(Exit.DONE)  # the reader of our output left
    except Exception:  # noqa: BLE001 - the last line of defence: a bug gets its own exit code
        import traceback

        sys.stderr.write(
            f"latprof: internal error; this is a bug in latprof, not in your stack. Please report it with these lines:\n{traceback.format_exc()}"
        )
        sys.exit(Exit.INTERNAL)
