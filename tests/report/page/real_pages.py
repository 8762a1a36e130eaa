"""Pages that the commands themselves made, as short as they can be, each with the summary that the same command wrote."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import yaml

from latprof.errors import ConfigError
from latprof.observations.folder import load
from latprof.opening import spans_of, tables_of

QUICKSTART = Path(__file__).parents[3] / "configs" / "quickstart.yaml"
_LOAD = {"rate_per_s": 20, "num_requests": 60, "warmup": "0s"}
_CONFIGS: Final[dict[str, dict[str, Any]]] = {
    "a": {"load": _LOAD, "stub": {"gateway": {"tokenize": "1ms"}}},
    "b": {"load": _LOAD, "stub": {"gateway": {"tokenize": "1ms", "auth": "9ms"}}},
    "agent": {
        "load": {"rate_per_s": 2, "num_requests": 60, "warmup": "0s"},
        "workload": {"prompt_tokens": 300, "calls": 3, "tools": 2, "tool_time": "200ms", "output_tokens": 12, "tool_tokens": 64},
    },
}
_SWEPT = f"sweep {QUICKSTART} --simulate --set stub.gateway.tokenize=1ms --num-prompts 60 --warmup 0 --refine 0 -q"
_SIMULATED: Final = {
    "run": f"simulate {QUICKSTART} --num-prompts 300",
    "agent": "simulate agent.yaml",
    "speed-ups": f"{_SWEPT} --speedup prefill=1,2,4 --replications 1",
    "load curve": f"{_SWEPT} --rate 20,60 --replications 2 --set goodput.ttft=80",
    "comparison": "compare --simulate a.yaml b.yaml --pairs 4 --html page.html -q",
}
SIMULATED: Final = tuple(_SIMULATED)
LIVE: Final = ("stub run", "partial", "failures")
_BRIEF = "--otlp-grpc-port 0 --otlp-http-port 0 --set spans.grace=1s --warmup 0 --isl 16 --osl 4 -q"
_PATIENCE_S = 60.0
_ENOUGH = 10


@dataclass(frozen=True)
class Made:
    """A page, and the summary beside it."""

    page: Path
    summary: Any


def simulated(folder: Path) -> dict[str, Made]:
    """Every page that takes no stack, made side by side in ``folder``."""
    for name, told in _CONFIGS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(told))
    going = {kind: _start(folder / kind, words, cwd=folder) for kind, words in _SIMULATED.items()}
    return {kind: _made(folder / kind, process) for kind, process in going.items()}


def live(folder: Path) -> dict[str, Made]:
    """A run of the stack in a box, one that was killed, and one in which everything failed."""
    with _failing() as url:
        going = {
            kind: _start(folder / kind, f"run {words} {_BRIEF}", cwd=folder)
            for kind, words in (
                ("stub run", "--request-rate 15 --duration 5s"),
                ("failures", f"--url {url} --num-prompts 5 --request-rate inf"),
            )
        }
        return {"partial": _killed(folder), **{kind: _made(folder / kind, process) for kind, process in going.items()}}


def _killed(folder: Path) -> Made:
    killed = _start(folder / "partial", f"run --request-rate 15 --duration {_PATIENCE_S:g}s {_BRIEF}", cwd=folder)
    _wait_for_layers(folder / "partial", killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=_PATIENCE_S)
    again = _command("report partial --html partial/report.html --json partial.json")
    subprocess.run(again, cwd=folder, capture_output=True, timeout=_PATIENCE_S, check=False)
    return Made(folder / "partial" / "report.html", json.loads((folder / "partial.json").read_text()))


def _command(words: str) -> list[str]:
    return [sys.executable, "-m", "latprof", *words.split(" ")]


def _start(out: Path, words: str, cwd: Path) -> subprocess.Popen[str]:
    command = [*_command(words), "--out", str(out), "--json", str(out.with_suffix(".json"))]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _made(out: Path, process: subprocess.Popen[str]) -> Made:
    _, said = process.communicate(timeout=_PATIENCE_S)
    page = out / "report.html"
    page = page if page.exists() else out.parent / "page.html"
    assert page.exists(), said
    return Made(page, json.loads(out.with_suffix(".json").read_text()))


def _wait_for_layers(run: Path, process: subprocess.Popen[str]) -> None:
    """Until requests with spans are on disk: what a kill leaves there, not before."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not _has_layers(run):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s, f"{run} has no request with spans"
        time.sleep(0.2)


def _has_layers(run: Path) -> bool:
    try:
        observed = load(run)
    except ConfigError:
        return False
    ttft = tables_of(observed, spans_of(observed)).ttft
    return len(ttft.rows) >= _ENOUGH and "prefill" in ttft.names


class _Failing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_error(500)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def _failing() -> Iterator[str]:
    """An endpoint of which every answer is an error."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            serving.join()
