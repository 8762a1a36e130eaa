"""The command line. Everything heavy is imported inside the command that needs it: ``latprof --help`` answers in under 0.3 s."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from latprof.errors import Exit, LatprofError, UsageError

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

ConfigFile = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="configuration; none is the quickstart on the stack in a box")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress line")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="any configuration key, e.g. stub.gateway.auth=5ms; repeatable")
]


@app.command()
def run(
    config: ConfigFile = None,
    *,
    url: Annotated[
        str | None, typer.Option("--url", "--base-url", help="an OpenAI-compatible endpoint, with or without /v1; none: the stub")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="model name to ask for")] = None,
    api_key_env: Annotated[str | None, typer.Option(metavar="NAME", help="environment variable that holds the bearer token")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME: VALUE", help="extra request header; repeatable")
    ] = None,
    extra_body: Annotated[str | None, typer.Option(metavar="JSON", help="keys laid over the request body")] = None,
    request_rate: Annotated[
        str | None, typer.Option("--request-rate", "--rate", metavar="R", help="open loop, requests per second; or inf")
    ] = None,
    arrival: Annotated[str | None, typer.Option(metavar="poisson|constant|gamma", help="law of the gaps between requests")] = None,
    burstiness: Annotated[float | None, typer.Option(help="gamma shape of the gaps: 1 is Poisson, below 1 burstier")] = None,
    concurrency: Annotated[int | None, typer.Option(help="closed loop: this many requests always in flight")] = None,
    max_concurrency: Annotated[
        int | None, typer.Option(help="open loop: at most this many in flight; the wait for a place is counted")
    ] = None,
    num_prompts: Annotated[int | None, typer.Option("--num-prompts", "--num-requests", help="measured requests")] = None,
    duration: Annotated[str | None, typer.Option(metavar="60s", help="measured time; with --num-prompts whichever ends first")] = None,
    max_requests: Annotated[int | None, typer.Option(help="never send more than this many, warm-up included")] = None,
    warmup: Annotated[str | None, typer.Option(metavar="N|10s", help="unmeasured requests, or seconds, first")] = None,
    isl: Annotated[int | None, typer.Option("--isl", help="prompt tokens")] = None,
    osl: Annotated[int | None, typer.Option("--osl", help="output tokens")] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="tokenizer.json", help="for prompts of exact length; the bundled one by default")
    ] = None,
    trace: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="replay an Azure LLM trace")] = None,
    trace_window: Annotated[str | None, typer.Option(metavar="10m", help="only the trace's first part")] = None,
    time_scale: Annotated[float | None, typer.Option(help="replay this many times faster")] = None,
    seed: Annotated[int | None, typer.Option(help="same seed, same schedule and prompts")] = None,
    goodput: Annotated[str | None, typer.Option(metavar="'ttft:200 tpot:50'", help="objectives in ms")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="120s", help="per request")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="run folder; runs/<time> by default")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the summary here; - for standard output")] = None,
    otlp_host: Annotated[str | None, typer.Option(help="address the span receiver binds to")] = None,
    otlp_grpc_port: Annotated[int | None, typer.Option(help="0 takes a free one")] = None,
    otlp_http_port: Annotated[int | None, typer.Option(help="0 takes a free one")] = None,
    hops: Annotated[str | None, typer.Option(metavar="envoy,litellm,vllm", help="hop order from the client inwards")] = None,
    dry_run: Annotated[bool, typer.Option(help="print the plan, send nothing")] = False,
    quiet: Quiet = False,
    set_: Set = None,
) -> None:
    """Drive load, take the spans in, and print the TTFT budget by layer."""
    from latprof.config import load_config
    from latprof.pipeline import run_and_print

    target = {
        "url": url,
        "model": model,
        "api_key_env": api_key_env,
        "headers": _headers(header),
        "extra_body": _json_object("--extra-body", extra_body),
        "timeout": timeout,
    }
    load = {
        "rate_per_s": request_rate,
        "arrival": arrival,
        "burstiness": burstiness,
        "concurrency": concurrency,
        "max_concurrency": max_concurrency,
        "num_requests": num_prompts,
        "duration": duration,
        "max_requests": max_requests,
        **_warmup(warmup),
        "seed": seed,
    }
    workload = {
        "prompt_tokens": isl,
        "output_tokens": osl,
        "tokenizer": tokenizer,
        "trace": trace,
        "trace_window": trace_window,
        "time_scale": time_scale,
    }
    spans = {
        "otlp_host": otlp_host,
        "grpc_port": otlp_grpc_port,
        "http_port": otlp_http_port,
        "hops": tuple(hops.split(",")) if hops else None,
    }
    flags = {"target": target, "load": load, "workload": workload, "spans": spans, "goodput": _goodput(goodput), "out": out}
    settings = load_config(config, _nested(_given(flags), set_))
    raise typer.Exit(run_and_print(settings, json_file=json_file, dry_run=dry_run, quiet=quiet))


@app.command()
def report(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")],
    *,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the summary here; - for standard output")] = None,
) -> None:
    """Print a run's report again, from its folder alone."""
    from latprof.pipeline import report_and_print

    raise typer.Exit(report_and_print(run_folder, json_file=json_file))


@stub_app.command("up")
def stub_up(
    config: ConfigFile = None,
    *,
    port: Annotated[int, typer.Option(help="the gateway's port; 0 takes a free one")] = 8000,
    otlp: Annotated[str | None, typer.Option(metavar="URL", help="OTLP/HTTP endpoint for spans, e.g. http://127.0.0.1:4318")] = None,
    truth: Annotated[Path | None, typer.Option(metavar="DIR", help="write what every stage really did")] = None,
    set_: Set = None,
) -> None:
    """Keep the stack in a box running for other tools, until Ctrl-C."""
    from latprof.config import load_config
    from latprof.pipeline import keep_stub_up

    settings = load_config(config, _nested({}, set_))
    raise typer.Exit(keep_stub_up(settings, port=port, otlp_http_endpoint=otlp, truth=truth))


def main() -> None:
    """The console script: errors become one message and an exit code."""
    try:
        app()
    except LatprofError as error:
        sys.stderr.write(f"latprof: {error}\n")
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


# --- from flags to configuration ----------------------------------------------------------------------------------------------------------


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """Only what was said: flags left out never override the file."""
    said: dict[str, Any] = {}
    for key, value in flags.items():
        kept = _given(value) if isinstance(value, dict) and key in _SECTIONS else value
        if kept is not None and kept != {}:
            said[key] = kept
    return said


_SECTIONS = frozenset({"target", "load", "workload", "spans"})


def _nested(said: dict[str, Any], assignments: list[str] | None) -> dict[str, Any]:
    import yaml

    for assignment in assignments or ():
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise UsageError(f"--set wants KEY=VALUE such as stub.gateway.auth=5ms, got {assignment!r}")
        node = said
        *parents, leaf = path.split(".") if not path.startswith("stub.plant.") else _plant_path(path)
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = yaml.safe_load(text)
    return said


def _plant_path(path: str) -> list[str]:
    """Layer names hold dots of their own: stub.plant.gateway.auth is one key below stub.plant."""
    return ["stub", "plant", path.removeprefix("stub.plant.")]


def _headers(lines: list[str] | None) -> dict[str, str] | None:
    if not lines:
        return None
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            name, colon, value = line.partition("=")
        if not colon or not name.strip():
            raise UsageError(f"--header wants 'Name: value', got {name.strip()!r} without a value")
        headers[name.strip()] = value.strip()
    return headers


def _json_object(flag: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{flag} wants a JSON object such as '{{\"temperature\": 0}}', got {text!r} ({error})") from None
    if not isinstance(value, dict):
        raise UsageError(f"{flag} wants a JSON object such as '{{\"temperature\": 0}}', got {text!r}")
    return value


def _warmup(text: str | None) -> dict[str, Any]:
    """A bare number is requests, as peers have it; with a unit it is time."""
    if text is None:
        return {}
    return {"warmup_requests": int(text), "warmup": "0s"} if text.isdigit() else {"warmup": text}


def _goodput(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    objectives = {}
    for item in text.replace(",", " ").split():
        name, colon, value = item.partition(":")
        if not colon:
            raise UsageError(f"--goodput wants 'ttft:200 tpot:50' (ms), got {item!r}")
        objectives[name] = value.removesuffix("ms")
    return objectives
