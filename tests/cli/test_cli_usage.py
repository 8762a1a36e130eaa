"""What cannot be meant is said in one message before anything is sent: exit code 2, the path or flag, no traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import FREE_PORTS, LATPROF, contents, latprof

from latprof.cli import main

HEAVY = {"numpy", "pyarrow", "aiohttp", "grpc", "tokenizers", "opentelemetry", "uvloop", "yaml"}

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The message of a command that must end with 2 and leave nothing behind, in this process: each one of its own takes half a second."""
    monkeypatch.chdir(tmp_path)

    def of(*arguments: str | Path) -> str:
        before = contents(tmp_path)
        monkeypatch.setattr(sys, "argv", ["latprof", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capsys.readouterr()
        assert (exit_.value.code, out) == (2, ""), err
        assert "Traceback" not in err
        assert contents(tmp_path) == before
        return err

    return of


async def refused_command(tmp_path: Path, *arguments: str | Path) -> str:
    """The same of a process of its own."""
    before = contents(tmp_path)
    ended = await latprof(*arguments, tmp_path=tmp_path)
    assert (ended.code, ended.out) == (2, ""), ended.said
    assert contents(tmp_path) == before
    return ended.err


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--request-rate", "-1"], "load.rate_per_s (--request-rate): must be greater than 0, got '-1'"),
        (["--request-rate", "fast"], "load.rate_per_s (--request-rate): must be a valid number"),
        (["--duration", "10 parsecs"], "load.duration (--duration): must be a duration such as 250ms, 10s or 2m, got '10 parsecs'"),
        (["--warmup", "soon"], "load.warmup (--warmup): must be a duration"),
        (["--inject-delay", "gateway"], "--inject-delay wants STAGE=DELAYS such as gateway=0,5,20,50ms, got 'gateway'"),
        (["--inject-delay", "engine=0,5ms"], "inject.before (--inject-delay): must be 'gateway', 'router', 'prefill' or 'decode'"),
        (["--inject-delay", "gateway=0,5"], "inject.delays (--inject-delay): must be durations with a unit such as 0,5,20,50ms"),
        (
            ["--inject-delay", "router=0,5ms", "--url", "http://a"],
            "inject.before (--inject-delay): router is a stage of the stack in a box",
        ),
        (
            ["--url", "http://a", "--inject-delay", "engine=0,5ms", "--inject-listen", "9100"],
            "inject.listen (--inject-listen) needs inject.upstream, got none",
        ),
        (
            ["--url", "http://a", "--inject-delay", "engine=0,5ms", "--inject-listen", "engine", "--inject-upstream", "http://b"],
            "inject.listen (--inject-listen): must be a port from 1 to 65535, or host:port, such as 9100 or 127.0.0.1:9100, got 'engine'",
        ),
        (
            ["--request-rate", "5", "--concurrency", "3"],
            "load.concurrency (--concurrency) makes a closed loop and load.rate_per_s (--request",
        ),
        (["--isl", "many"], "Invalid value for '--isl'"),
        (["--time-scale", "10"], "workload.time_scale (--time-scale) means nothing without workload.trace"),
        (["--goodput", "200"], "--goodput wants objectives in ms such as 'ttft:200 tpot:50', got '200'"),
        (["--goodput", "ttfx:200"], "goodput.ttfx (--goodput): must be 'ttft', 'tpot', 'itl' or 'e2el', got 'ttfx'"),
        (["--goodput", "ttft:soon"], "goodput.ttft (--goodput): must be a valid number"),
        (["--set", "load.rate=5"], "load.rate (--set) is not a known key; did you mean load.rate_per_s?"),
        (["--set", "load.rate_per_s"], "--set wants KEY=VALUE such as stub.gateway.auth=5ms, got 'load.rate_per_s' and no value"),
        (["--set", "load.duration={"], "--set load.duration: wants a YAML value"),
        (["--set", "load=5", "--set", "load.seed=1"], "--set load.seed: load was given a value of its own, 5; drop one"),
        (["--set", "stub.speedup.gateway.auth=0"], "stub.speedup.gateway.auth (--set): must be greater than 0, got 0"),
        (["--extra-body", "{temperature: 0}"], "--extra-body wants a JSON object such as '{\"temperature\": 0}', got what is not JSON"),
        (["--extra-body", "[1]"], "--extra-body wants a JSON object such as '{\"temperature\": 0}', got a list"),
        (["--otlp-grpc-port", "70000"], "spans.grpc_port (--otlp-grpc-port): must be less than or equal to 65535, got 70000"),
        (
            ["--url", "localhost:8000"],
            "--url must be such as http://127.0.0.1:8000 or https://host/v1, got 'localhost:8000'; did you mean http",
        ),
        (["--url", "http://[::1"], "--url must be such as"),
        (["--json", "no/such/folder/summary.json"], "--json no/such/folder/summary.json: cannot be written (No such file or directory)"),
        (["--out", "/proc/run"], "/proc/run: cannot be made a run folder"),
        (["--trace", "absent.csv"], "workload.trace (--trace) absent.csv: cannot be read"),
        (["--tokenizer", "absent.json"], "absent.json"),
        (["absent.yaml"], "absent.yaml: cannot be read"),
        (["--frobnicate"], "No such option: --frobnicate"),
    ],
    ids=lambda value: "-" if isinstance(value, str) else " ".join(value),
)
def test_a_flag_that_cannot_be_used_is_named(refused: Refused, flags: list[str], wanted: str) -> None:
    message = refused("run", *flags)
    assert wanted in " ".join(message.split())


async def test_a_mistake_in_a_file_names_the_file_and_one_in_a_flag_does_not(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("load: {rate: 5, num_requests: lots}\ntarget: {tiemout: 3s}\n")
    message = await refused_command(tmp_path, "run", file, "--isl", "-3")
    assert message.splitlines() == [
        f"latprof: {file}: target.tiemout is not a known key; did you mean target.timeout?",
        f"{file}: load.num_requests: must be a valid integer, unable to parse string as an integer, got 'lots'",
        f"{file}: load.rate is not a known key; did you mean load.rate_per_s?",
        "workload.prompt_tokens.mean (--isl): must be greater than 0, got -3",
    ]


def test_a_trace_that_cannot_be_read_is_named_with_its_line(refused: Refused, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,48,10\n2023-11-16 18:17:04.0,12,some\n")
    message = refused("run", "--trace", trace)
    assert f"workload.trace (--trace) {trace}:3: GeneratedTokens must be a whole number of tokens, got 'some'" in message


def test_a_run_is_never_overwritten(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("the only copy")
    message = refused("run", "--out", "run")
    assert "run: is not empty (there is thesis.tex), and a run is never overwritten; name a new folder with --out" in message
    assert (tmp_path / "run" / "thesis.tex").read_text() == "the only copy"


@pytest.mark.parametrize(
    "flags",
    [
        ["--header", "Authorization Bearer hidden-8c1f"],
        ["--header", "hidden-8c1f"],
        ["--header", "Authorization Bearer hidden-8c1f=="],
        ["--extra-body", "{'api_key': 'hidden-8c1f'}"],
        ["--extra-body", '"hidden-8c1f"'],
        ["--api-key-env", "hidden-8c1f"],
        ["--set", "target.headers.X-Api-Key={a: hidden-8c1f}"],
        ["--url", "http://hidden-8c1f@127.0.0.1:9"],
        ["--url", "ftp://127.0.0.1:9/?key=hidden-8c1f"],
    ],
    ids=" ".join,
)
def test_what_may_hold_a_key_is_not_repeated(refused: Refused, flags: list[str]) -> None:
    url = [] if "--url" in flags else ["--url", "http://127.0.0.1:9"]
    message = refused("run", *url, *FREE_PORTS, *flags)
    assert "hidden" not in message
    assert any(name in message for name in (flags[0], "target.headers")), message


def test_a_key_variable_that_is_not_set_is_named(refused: Refused) -> None:
    message = refused("run", "--url", "http://127.0.0.1:9", *FREE_PORTS, "--api-key-env", "LATPROF_NO_SUCH_KEY")
    assert "--api-key-env names LATPROF_NO_SUCH_KEY, which is not set or empty; export LATPROF_NO_SUCH_KEY=..." in message


async def test_no_connection_is_possible(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can take it meanwhile
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        message = await refused_command(tmp_path, "run", "--url", url, *FREE_PORTS)
    assert f"{url}/v1/chat/completions cannot be reached" in message
    assert "Connection refused; check --url, and that the server is up" in message


async def test_a_name_that_does_not_resolve(tmp_path: Path) -> None:
    message = await refused_command(tmp_path, "run", "--url", "http://nosuch.invalid/v1", *FREE_PORTS)
    plan, *error = message.splitlines()
    assert plan.startswith("plan for http://nosuch.invalid/v1: ")
    assert len(error) == 1
    assert "cannot be reached: the name nosuch.invalid cannot be resolved" in error[0]


async def test_a_taken_port_for_spans_that_was_asked_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        message = await refused_command(
            tmp_path, "run", "--url", "http://127.0.0.1:9", "--otlp-http-port", str(port), "--otlp-grpc-port", "0"
        )
    assert f"--otlp-http-port {port}: 127.0.0.1:{port} is in use by another process" in message


async def test_a_taken_port_for_the_stack_in_a_box(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        message = await refused_command(tmp_path, "stub", "up", "--port", str(port))
    assert f"port {port} for the stub's gateway cannot be used (Address already in use); give another with --port, or 0" in message


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--port", "70000"], "Invalid value for '--port'"),
        (["--port", "0", "--truth", "/proc/truth"], "/proc/truth: cannot be made a folder for truth files"),
    ],
    ids=["port", "truth"],
)
def test_the_stack_in_a_box_cannot_be_brought_up_so(refused: Refused, flags: list[str], wanted: str) -> None:
    assert wanted in refused("stub", "up", *flags)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (None, "does not exist; wanted a run folder"),
        ("folder", "has no run.json; wanted a run folder"),
        ("file", "is not a folder; wanted a run folder"),
        ("damaged", "is damaged"),
        ("newer", "schema is latprof.run/9, this latprof reads up to"),
    ],
)
def test_a_report_wants_a_run_folder(refused: Refused, tmp_path: Path, made: str | None, wanted: str) -> None:
    run = tmp_path / "run"
    if made == "file":
        run.write_text("")
    elif made is not None:
        run.mkdir()
    if made in {"damaged", "newer"}:
        (run / "run.json").write_text('{"status":' if made == "damaged" else '{"status": "complete", "schema": "latprof.run/9"}')
    message = refused("report", "run")
    assert message.startswith("latprof: run")
    assert wanted in message


def test_help_is_quick() -> None:
    """0.3 s on an idle machine; here the best of three on one that may be busy."""
    took_s = []
    for _ in range(3):
        began = time.monotonic()
        shown = subprocess.run([LATPROF, "--help"], capture_output=True, text=True, check=True).stdout
        took_s.append(time.monotonic() - began)
    assert all(command in shown for command in ("run", "report", "stub"))
    assert min(took_s) < 1.5


@pytest.mark.parametrize(
    ("arguments", "brought_by_typer"),
    [(["--help"], set()), (["run", "--help"], {"pydantic"}), (["stub", "up", "--help"], {"pydantic"})],
    ids=str,
)
def test_help_imports_nothing_heavy(arguments: list[str], brought_by_typer: set[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "latprof", *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in told.splitlines()}
    assert "typer" in imported
    assert imported.isdisjoint(HEAVY | {"pydantic"} - brought_by_typer)
