"""A run over WebSockets whose trace context the server does not get: spans are found by the answers' ids, and tell the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latprof.clock import WallAnchor
from latprof.config import Config
from latprof.layers.build import build_layers
from latprof.opening import Opened, open_run
from latprof.pipeline import run
from latprof.report.summary import summary
from latprof.spans.store import OTHERS_PARQUET, Spans, load_others

pytestmark = pytest.mark.live

SESSIONS, TURNS = 4, 10
STUB: dict[str, Any] = {
    "gateway": {"safety": "8ms", "auth": "3ms"},
    "router": {"route": "2ms"},
    "prefill": {"t0": "20ms", "per_token_ns": 0.0},
    "decode": {"t1": "2ms", "per_sequence_ns": 0},
}
PLANTED_MS = {"gateway.safety": 8, "gateway.auth": 3, "router": 2, "prefill": 20}


def agents(folder: Path, **target: Any) -> Opened:
    config = {
        "workload": {"prompt_tokens": 32, "reply_tokens": 8, "output_tokens": 8, "turns": TURNS, "think": "5ms", "answers": "real"},
        "load": {"concurrency": 2, "num_requests": SESSIONS, "warmup": "0s", "workers": 1},
        "target": {"dialect": "openai-responses-ws", **target},
        "stub": STUB,
        "spans": {"grpc_port": 0, "http_port": 0, "grace": "2s"},
        "out": folder,
    }
    return run(Config.model_validate(config)).opened


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return agents(tmp_path_factory.mktemp("told") / "run")


@pytest.fixture(scope="module")
def untold(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return agents(tmp_path_factory.mktemp("untold") / "run", ws_traceparent=False)


def column_ms(opened: Opened, name: str) -> np.ndarray:
    ttft = opened.tables.ttft
    return np.asarray(ttft.total_ns[:, ttft.names.index(name)] / 1e6)


def test_every_turn_has_its_layers_and_they_say_how_they_were_found(told: Opened, untold: Opened) -> None:
    facts = untold.report.facts
    assert untold.observed.requests.success.all(), set(untold.observed.requests.error_text)
    assert (facts.joined_by_answer, facts.span_coverage, facts.join_refused) == (SESSIONS * TURNS, 1, {})
    assert facts.other_spans < len(untold.spans) / SESSIONS  # those of the request before the load
    ttft = untold.tables.ttft
    assert ttft.hops == told.tables.ttft.hops
    by_layer = dict(zip(ttft.names, ttft.sources, strict=True))
    for name in PLANTED_MS:
        assert by_layer[name] == ("span~id",), name
        assert ttft.coverage()[ttft.names.index(name)] == 1
    assert {doubt.id: doubt.level for doubt in untold.report.doubts}["joined_by_answer"] == "note"
    assert summary(untold.report)["counts"]["joined_by_answer"] == SESSIONS * TURNS
    # The same run with the context handed on needs none of this.
    assert told.report.facts.joined_by_answer == 0
    assert not (told.observed.folder / OTHERS_PARQUET).exists()
    assert "joined_by_answer" not in {doubt.id for doubt in told.report.doubts}


def test_layers_are_those_that_the_gateway_itself_would_join(untold: Opened) -> None:
    """An answer's id holds the id of the gateway's span: the same spans by another way, to the nanosecond."""
    requests, others = untold.observed.requests, load_others(untold.observed.folder)
    trace_of = dict(zip(others["span_id"].to_pylist(), others["trace_id"].to_pylist(), strict=True))
    own_of = {trace_of[answer.removeprefix("resp_")]: own for answer, own in zip(requests.response_id, requests.trace_id, strict=True)}
    named = [own_of[trace] for trace in others["trace_id"].to_pylist()]
    renamed = others.set_column(others.schema.get_field_index("trace_id"), "trace_id", pa.array(named, pa.string()))
    wanted = build_layers(requests, Spans(renamed), WallAnchor(**untold.observed.meta["anchor"]))
    for found, asked in ((untold.tables.ttft, wanted.ttft), (untold.tables.e2el, wanted.e2el)):
        assert found.names == asked.names
        assert (found.total_ns == asked.total_ns).all()
        assert (found.wait_ns == asked.wait_ns).all()
        assert found.clocks == asked.clocks


@pytest.mark.parametrize("name", PLANTED_MS)
def test_layers_agree_with_those_of_a_run_with_the_context_handed_on(told: Opened, untold: Opened, name: str) -> None:
    with_context, without = column_ms(told, name), column_ms(untold, name)
    assert len(with_context) == len(without) == SESSIONS * TURNS
    # Where the machine had a core free: others use it as well, and these are two runs.
    calm_with, calm_without = np.quantile(with_context, 0.1), np.quantile(without, 0.1)
    assert abs(calm_with - calm_without) < 0.5 + 0.1 * PLANTED_MS[name]
    assert abs(calm_without - PLANTED_MS[name]) < 0.5 + 0.1 * PLANTED_MS[name]


def test_the_folder_keeps_what_tells_of_the_run_and_nothing_else(untold: Opened) -> None:
    others = load_others(untold.observed.folder)
    assert (untold.observed.folder / OTHERS_PARQUET).exists()
    # The turn before the load went to a trace of its own, too.
    assert len(set(others["trace_id"].to_pylist())) == SESSIONS * TURNS
    assert open_run(untold.observed.folder).report.facts == untold.report.facts


def test_ids_that_are_mixed_up_give_no_layers_and_are_said(untold: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for path in untold.observed.folder.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    others = pq.read_table(folder / OTHERS_PARQUET)
    attributes = [orjson.loads(text) for text in others["attributes"].to_pylist()]
    telling = [one for one in attributes if "gen_ai.response.id" in one]
    answers = [one["gen_ai.response.id"] for one in telling]
    random.Random(1).shuffle(answers)
    for one, answer in zip(telling, answers, strict=True):
        one["gen_ai.response.id"] = answer
    texts = pa.array([orjson.dumps(one).decode() for one in attributes], pa.large_string())
    pq.write_table(others.set_column(others.schema.get_field_index("attributes"), "attributes", texts), folder / OTHERS_PARQUET)
    mixed = open_run(folder)
    assert sum(mixed.report.facts.join_refused.values()) > 0.7 * SESSIONS * TURNS
    assert mixed.report.facts.span_coverage < 0.3
    assert {"join_refused": "warning", "span_coverage": "warning"}.items() <= {d.id: d.level for d in mixed.report.doubts}.items()
    ttft = mixed.tables.ttft
    assert all(ttft.coverage()[ttft.names.index(name)] < 0.3 for name in PLANTED_MS if name in ttft.names)
