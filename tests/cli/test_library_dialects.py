"""Whole runs in every dialect against the stack in a box: the same stages, the same words, each turn in a trace of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latprof.clock import WallAnchor
from latprof.config import Config
from latprof.layers.build import build_layers
from latprof.observations.columns import Requests, known
from latprof.observations.folder import Run, load
from latprof.opening import report_of
from latprof.pipeline import run
from latprof.spans import store
from latprof.units import MISSING_NS

pytestmark = pytest.mark.live

TURNS = 20
FAST: dict[str, dict[str, Any]] = {
    "gateway": {"safety": "1ms"},
    "prefill": {"t0": "2ms", "per_token_ns": 1000.0, "cache_block_tokens": 16},
    "decode": {"t1": "1ms", "per_sequence_ns": 0},
}


def drive(folder: Path, workload: dict[str, Any], **more: Any) -> Run:
    ports = {"grpc_port": 0, "http_port": 0}
    load_ = {"concurrency": 2, "num_requests": 2, "warmup": "0s", "workers": 1}
    config = {"workload": workload, "load": load_, "stub": FAST, "spans": ports, "out": folder} | more
    run(Config.model_validate(config))
    return load(folder)


def agent(folder: Path, dialect: str, **target: Any) -> Requests:
    """Two conversations of twenty turns that continue real answers; rows by session, then turn."""
    workload = {"prompt_tokens": 64, "reply_tokens": 16, "output_tokens": 4, "turns": TURNS, "answers": "real"}
    requests = drive(folder, workload, target={"dialect": dialect, **target}).requests
    assert requests.success.all(), set(requests.error_text)
    return requests.select(np.lexsort((requests.turn, requests.session)))


@pytest.fixture(scope="module")
def over_http(tmp_path_factory: pytest.TempPathFactory) -> Requests:
    return agent(tmp_path_factory.mktemp("http") / "run", "openai-responses")


@pytest.fixture(scope="module", params=[1, 4], ids=["a connection each", "one for all"])
def over_socket(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Requests, Path, int]:
    folder = tmp_path_factory.mktemp("socket") / "run"
    return agent(folder, "openai-responses-ws", ws_streams=request.param), folder, request.param


def test_a_socket_that_remembers_makes_the_same_prompts_as_whole_conversations(
    over_http: Requests, over_socket: tuple[Requests, Path, int]
) -> None:
    requests, _, _ = over_socket
    assert len(requests) == len(over_http) == 2 * TURNS
    assert (requests.prompt_tokens == over_http.prompt_tokens).all()
    for each in (over_http, requests):
        growth = np.diff(each.prompt_tokens.reshape(2, TURNS))
        assert (growth == 20).all()  # four tokens of answer, sixteen of reply
        # All of the turn before but its last block, and the token that is always computed.
        before = each.prompt_tokens.reshape(2, TURNS)[:, :-1]
        assert (each.cached_tokens.reshape(2, TURNS)[:, 1:] >= before // 16 * 16 - 16).all()


def test_connecting_is_paid_once(over_socket: tuple[Requests, Path, int]) -> None:
    requests, _, streams = over_socket
    connected = known(requests.connect_start_ns)
    assert connected.sum() == (2 if streams == 1 else 1)
    assert not connected[requests.turn > 0].any()
    assert not known(requests.headers_ns).any()
    assert len(set(requests.response_id)) == 2 * TURNS


def test_every_turn_has_a_trace_of_its_own_through_all_stages(over_socket: tuple[Requests, Path, int]) -> None:
    _, folder, _ = over_socket
    observed, spans = load(folder), store.load(folder)
    assert len(set(observed.requests.trace_id)) == 2 * TURNS
    layers = build_layers(observed.requests, spans, WallAnchor(**observed.meta["anchor"]), ()).ttft
    assert len(layers.rows) == 2 * TURNS
    told = dict(zip(layers.names, layers.present.T, strict=True))
    for name in ("gateway.auth", "gateway.safety", "gateway.tokenize", "router", "prefill", "decode.first"):
        assert told[name].all(), name
    ttft_ns = observed.requests.first_token_ns - observed.requests.intended_ns
    assert (layers.total_ns.sum(axis=1) == ttft_ns[layers.rows]).all()


def test_a_connection_whose_time_is_over_is_opened_anew(tmp_path: Path) -> None:
    gateway = {"gateway": {**FAST["gateway"], "ws_limit": "150ms"}}
    workload = {"prompt_tokens": 32, "output_tokens": 4, "turns": TURNS, "answers": "real"}
    observed = drive(tmp_path / "run", workload, target={"dialect": "openai-responses-ws"}, stub=FAST | gateway)
    requests = observed.requests
    assert requests.success.all(), set(requests.error_text)
    assert known(requests.connect_start_ns[requests.turn > 0]).any()
    assert observed.meta["stale_retries"] == sum(phase["stale_retries"] for phase in observed.meta["phases"]) > 0


@pytest.mark.parametrize("dialect", ["openai-chat", "openai-completions", "anthropic-messages"])
def test_a_conversation_in_the_other_dialects(tmp_path: Path, dialect: str) -> None:
    workload = {"prompt_tokens": 64, "reply_tokens": 16, "output_tokens": 4, "turns": 3, "answers": "real"}
    requests = drive(tmp_path / "run", workload, target={"dialect": dialect}).requests
    assert requests.success.all(), set(requests.error_text)
    assert (requests.tokens_source == "usage").all()
    assert (requests.cached_tokens[requests.turn > 0] >= 48).all()
    assert (requests.output_tokens == 4).all()
    assert MISSING_NS not in requests.prompt_tokens


def test_several_targets_share_the_sessions(tmp_path: Path) -> None:
    targets = [
        {"name": "large", "model": "large", "weight": 3},
        {"name": "small", "model": "small", "dialect": "anthropic-messages"},
        {"name": "socket", "dialect": "openai-responses-ws"},
    ]
    load_ = {"concurrency": 4, "num_requests": 40, "warmup": "0s", "workers": 2}
    observed = drive(tmp_path / "run", {"prompt_tokens": 16, "output_tokens": 2}, targets=targets, load=load_)
    requests = observed.requests
    assert requests.success.all(), set(requests.error_text)
    counts = {name: int((requests.target == name).sum()) for name in ("large", "small", "socket")}
    assert sum(counts.values()) == len(requests) == 40
    assert min(counts.values()) > 0
    assert counts["large"] > 15
    told = {one.name: one for one in report_of(tmp_path / "run").targets}
    assert {name: one.counts.ok for name, one in told.items()} == counts
    assert [(one.model, one.dialect, one.asked_share) for one in told.values()] == [
        ("large", "openai-chat", 0.6),
        ("small", "anthropic-messages", 0.2),
        ("stub", "openai-responses-ws", 0.2),
    ]
    assert all(one.url.endswith(path) for one, path in zip(told.values(), ("/chat/completions", "/messages", "/responses"), strict=True))
