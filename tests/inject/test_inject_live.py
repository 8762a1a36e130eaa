"""The hop in a run: in front of the stack and inside it, in the budget and in the report."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latprof.config import Stage, load_config
from latprof.errors import ConfigError
from latprof.observations.injected import load_injected
from latprof.opening import Opened, open_run
from latprof.pipeline import keep_stub_up_during, run, simulate
from latprof.report.summary import summary

pytestmark = pytest.mark.live

# A delay far above what a busy machine adds to anything.
DELAYS = ["0ms", "150ms"]


def ran(folder: Path, requests: int = 24, **overrides: Any) -> Opened:
    config = {
        "load": {"rate_per_s": 12, "num_requests": requests, "warmup": "0s", "seed": 5},
        "workload": {"prompt_tokens": 16, "output_tokens": 2},
        "out": folder / "run",
        **overrides,
    }
    return open_run(run(load_config(None, config)).folder)


_SLOW = pytest.mark.slow


@pytest.mark.parametrize("before", ["gateway", "router", pytest.param("prefill", marks=_SLOW), pytest.param("decode", marks=_SLOW)])
def test_the_delay_is_a_row_of_the_budget_wherever_it_is_put(before: Stage, tmp_path: Path) -> None:
    opened = ran(tmp_path, inject={"before": before, "delays": DELAYS, "per": "request", "block": "10s"})
    ttft, requests = opened.tables.ttft, opened.observed.requests
    assert (ttft.total_ns.sum(axis=1) == (requests.first_token_ns - requests.intended_ns)[ttft.rows]).all()
    injected = load_injected(opened.observed.folder)
    assert injected is not None
    at = {trace: row for row, trace in enumerate(injected.trace_id)}
    row = [at[trace] for trace in requests.trace_id[ttft.rows]]
    took = (injected.forwarded_ns - injected.received_ns)[row]
    own = ttft.total_ns[:, ttft.names.index("injected")]
    # The hop's own record; what else of the hop is on the path comes on top. A client that is held up in its write counts that as upload.
    upload = ttft.total_ns[:, ttft.names.index("net.upload")]
    assert (own + upload >= took - 2_000).all()
    assert set(injected.delay_ns.tolist()) == {0, 150_000_000}
    assert ttft.coverage()[ttft.names.index("injected")] == 1
    assert not any("inject" in name for name in ttft.names if name != "injected")
    # The stack's own layers are found as without the hop.
    assert {"gateway.safety", "router", "prefill", "kv.transfer", "decode.first", "net.response"} <= set(ttft.names)
    assert ("proxy.hold+net.response" in ttft.names) == (before in {"router", "decode"})
    told = opened.report.injection
    assert told is not None
    assert (told.before, told.requests, told.missed, told.not_as_drawn) == (before, 24, 0, 0)
    assert summary(opened.report)["injection"]["slopes"]["ttft"]["per_block"] is None
    delayed = np.array(
        [opened.observed.requests.trace_id.tolist().index(trace) for trace in injected.trace_id if trace in set(requests.trace_id)]
    )
    assert len(delayed) == 24


def test_a_url_is_reached_through_the_hop(tmp_path: Path) -> None:
    with keep_stub_up_during() as url:
        opened = ran(
            tmp_path, target={"url": url}, inject={"delays": DELAYS, "block": "10s"}, spans={"grpc_port": 0, "http_port": 0, "grace": "0s"}
        )
    assert opened.report.counts.ok == 24
    assert url.removeprefix("http://") in opened.report.url  # the endpoint's own address, not the hop's
    assert opened.report.injection is not None
    assert opened.report.injection.missed == 0
    assert "injected" in opened.tables.ttft.names  # nobody else told of a layer


def test_places_that_are_held_make_a_queue_of_their_own(tmp_path: Path) -> None:
    stub = {"gateway": {"max_in_flight": 1, "safety": "30ms"}}
    opened = ran(tmp_path, stub=stub, load={"rate_per_s": 1000, "num_requests": 8, "warmup": "0s", "seed": 5})
    ttft = opened.tables.ttft
    queue = ttft.names.index("gateway.queue")
    assert (ttft.wait_ns[:, queue] == ttft.total_ns[:, queue]).all()
    # One at a time: the last waits for all the others' whole answers, each of more than 30 ms.
    assert ttft.total_ns[:, queue].max() > 6 * 30_000_000
    assert np.median(ttft.total_ns[:, ttft.names.index("gateway.safety")]) < 60_000_000


def test_sessions_of_several_turns_have_a_task(tmp_path: Path) -> None:
    workload = {"prompt_tokens": 16, "output_tokens": 2, "calls": 2, "tools": 2, "tool_time": "120ms", "tool_tokens": 8}
    opened = ran(tmp_path, requests=6, workload=workload)
    task, told = opened.layers["task"], opened.report.tasks
    assert told is not None
    assert told.complete == 6
    assert told.incomplete == {}
    assert (told.turns, told.steps) == (2, 4)
    assert (task.total_ns[:, task.names.index("tool")] == 120_000_000).all()  # two side by side: one of them counts
    assert told.hidden_ns["tool"] == pytest.approx(120_000_000)
    requests = opened.observed.requests
    first = requests.intended_ns[task.rows]
    ends = [requests.end_ns[requests.session == session].max() for session in requests.session[task.rows]]
    assert (task.total_ns.sum(axis=1) == np.array(ends) - first).all()


def test_a_simulation_has_no_hop(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="inject must be left out of a simulation"):
        simulate(load_config(None, {"inject": {}, "out": tmp_path / "run"}))
    with pytest.raises(ConfigError, match=r"stub\.gateway\.max_in_flight cannot be simulated"):
        simulate(load_config(None, {"stub": {"gateway": {"max_in_flight": 4}}, "out": tmp_path / "run"}))
    assert not (tmp_path / "run").exists()


async def test_no_process_is_left(tmp_path: Path) -> None:
    await asyncio.to_thread(ran, tmp_path, 4, inject={"delays": DELAYS, "block": "10s"})
    listed = await asyncio.create_subprocess_exec("ps", "-eo", "args", stdout=asyncio.subprocess.PIPE)
    out, _ = await listed.communicate()
    assert str(tmp_path).encode() not in out
