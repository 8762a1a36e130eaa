"""The real chain: HAProxy -> Envoy -> LiteLLM -> llama.cpp on loopback, driven by latprof, its TTFT split by layer.

    python -m harness.real_chain [--requests 60]

Shown: the budget; the share of requests with Envoy's and LiteLLM's spans (asked: 95 %); prefill told by llama.cpp's own timings (LiteLLM drops them
from streams, so a pass-through hop before llama.cpp reads them); the chain's own layers against the engine's. Then the buffering-hop detector: the
stub behind the same HAProxy, with and without `option http-no-delay`. Controls: the spans shuffled between traces; the detector on the clean path.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from harness import verdict
from harness.arms import Arm, arm, read
from harness.chain.stack import Chain, haproxy_front, real_chain
from harness.truth import shuffled
from harness.verdict import Figure
from latprof.analysis.validity.buffering import Buffering
from latprof.config import load_config
from latprof.layers.vocabulary import belongs_to
from latprof.opening import report_of
from latprof.pipeline import keep_stub_up_during, run
from latprof.report.terminal import render
from latprof.report.values import Report

SEED = 1
RATE_PER_S = 4.0
COVERAGE = 0.95
_KEY_VARIABLE = "LATPROF_CHAIN_KEY"
# What the engine does for the request; everything else on the way to the first token is the chain's.
ENGINE = ("prefill", "engine", "decode", "client")
# Answers that last 20 x 16 ms: a hop that holds them is seen.
LONG_ANSWER_TOKENS = 24


def free_port() -> int:
    """A port that was free a moment ago: the chain must know where spans go before latprof listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def drive(chain: Chain, otlp_grpc_port: int, requests: int, out: Path) -> tuple[Report, Arm]:
    """Drive the chain and read back what latprof made of it."""
    os.environ[_KEY_VARIABLE] = chain.api_key
    settings = load_config(
        None,
        {
            "target": {"url": chain.url, "model": chain.model, "api_key_env": _KEY_VARIABLE},
            "load": {"rate_per_s": RATE_PER_S, "num_requests": requests, "warmup_requests": 5, "seed": SEED},
            # The tiny model's tokenizer cuts text into far more tokens than ours, and 20 kB of prompt take it 18 s.
            "workload": {"prompt_tokens": 6, "output_tokens": 8},
            "spans": {"grpc_port": otlp_grpc_port, "http_port": 0, "grace": "12s"},
            "out": out,
        },
    )
    outcome = run(settings)
    return outcome.report, read("real chain", outcome.folder)


def layer_sum_ms(told: Arm, names: Sequence[str]) -> float:
    """Mean time of the layers under these prefixes."""
    columns = [index for index, layer in enumerate(told.layers.names) if any(belongs_to(layer, name) for name in names)]
    return float(told.layers.total_ns[:, columns].sum(axis=1).mean()) / 1e6


def figures(told: Arm) -> list[Figure]:
    """What is asked of the chain."""
    traces = [told.spans.for_trace(str(told.observed.requests.trace_id[row])) for row in told.layers.rows]
    services = {
        name: float(np.mean([any(span.resource.get("service.name") == name for span in spans) for spans in traces]))
        for name in ("envoy", "litellm", "llamacpp-passthrough")
    }
    prompt_ms = [
        float(str(next((s.attributes["llamacpp.prompt_ms"] for s in spans if "llamacpp.prompt_ms" in s.attributes), "nan")))
        for spans in traces
    ]
    has_prefill = "prefill" in told.layers.names
    prefill_ms = told.layers.total_ns[:, told.layers.names.index("prefill")] / 1e6 if has_prefill else np.full(len(traces), np.nan)
    ttft_ms = float(told.layers.total_ns.sum(axis=1).mean()) / 1e6
    return [
        *(Figure(f"share of requests with spans of {name}", share, low=COVERAGE, unit="") for name, share in services.items()),
        Figure(
            "prefill equals llama.cpp's prompt_ms", float(np.mean(np.abs(prefill_ms - np.array(prompt_ms)) < 0.01)), low=COVERAGE, unit=""
        ),
        Figure("the chain's own share of TTFT", (ttft_ms - layer_sum_ms(told, ENGINE)) / ttft_ms, low=0.5, unit=""),
        Figure("unattributed share of TTFT", told.unattributed_share(), high=0.15, unit=""),
        Figure("hops seen", float(len(told.layers.hops)), 4.0, 4.0, ""),
    ]


def buffered(*, http_no_delay: bool) -> Buffering | None:
    """The stub with long answers behind HAProxy: what the detector says."""
    otlp_http_port = free_port()
    with keep_stub_up_during(f"http://127.0.0.1:{otlp_http_port}") as stub_url:
        upstream = urlsplit(stub_url).port or 0
        with haproxy_front(upstream, http_no_delay=http_no_delay) as port:
            overrides = {
                "target": {"url": f"http://127.0.0.1:{port}"},
                "load": {"rate_per_s": 10, "num_requests": 60, "warmup_requests": 5, "seed": SEED},
                "workload": {"prompt_tokens": 64, "output_tokens": LONG_ANSWER_TOKENS},
                "spans": {"http_port": otlp_http_port, "grpc_port": 0},
            }
            with arm(f"no-delay {http_no_delay}", overrides) as told:
                return report_of(told.observed.folder).facts.buffering


def main(arguments: Sequence[str] | None = None) -> None:
    """Show it, and leave with 1 when a figure misses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=60)
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="latprof-chain-"))
    try:
        otlp_grpc_port = free_port()
        with real_chain(otlp_grpc_port=otlp_grpc_port) as chain:
            report, told = drive(chain, otlp_grpc_port, options.requests, folder / "run")
        render(report)
        head = f"n {options.requests} at {RATE_PER_S:g}/s, seed {SEED}; coverage asked {COVERAGE:.0%}"
        passed = verdict.show("the real chain", head, figures(told))
        wrong = read("shuffled", told.observed.folder, shuffled(told.spans))
        passed &= verdict.control("spans shuffled between traces", figures(wrong))
        held, clean = buffered(http_no_delay=False), buffered(http_no_delay=True)
        passed &= verdict.show(
            "the buffering hop",
            f"stub behind HAProxy, {LONG_ANSWER_TOKENS} tokens, n 60 per arm",
            [
                Figure(
                    f"without http-no-delay: {held.hop if held else 'nothing'} named",
                    float(held is not None and held.hop == "haproxy"),
                    1,
                    1,
                    "",
                ),
                Figure(f"with http-no-delay: {clean.hop if clean else 'nothing'} named", float(clean is None), 1, 1, ""),
            ],
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    verdict.end(passed=passed)


if __name__ == "__main__":
    main()
