"""The call's layers: the TTFT's, then decode and stream; and layers that a folder keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_build import ANCHOR, MS, made, skewed

from latprof.client.stamps import Attempt
from latprof.errors import ConfigError
from latprof.layers.build import build_layers
from latprof.layers.call import emitted_ns, first_token_layers
from latprof.layers.evidence import Hop, Leg, Piece
from latprof.layers.stored import FILE, LayersWriter, has_layers, load_layers
from latprof.layers.table import Layers, Tables
from latprof.layers.tree import HopNode, LegNode
from latprof.observations.columns import Requests
from latprof.spans.store import Spans
from latprof.units import MISSING_NS


def tables(rows: list[Attempt], spans: list) -> Tables:  # type: ignore[type-arg]
    return build_layers(Requests.from_attempts(rows), Spans.of(spans), ANCHOR)


def column(layers: Layers, name: str) -> np.ndarray:
    return layers.total_ns[:, layers.names.index(name)]


def test_the_call_is_the_first_token_then_decode_and_stream_to_the_nanosecond() -> None:
    rows, spans = made()
    told = tables(rows, spans)
    call = told.e2el
    assert call.metric == "e2el"
    assert call.names == (*told.ttft.names, "decode", "stream")
    assert (call.total_ns.sum(axis=1) == [row.last_token_ns - row.intended_ns for row in rows]).all()
    assert (call.total_ns >= 0).all()
    # The engine's span ends 36 ms after the gateway's call of it began to end: what is left of the call is the stream's.
    engine_ends = {s.trace_id: s.end_unix_ns for s in spans if s.resource["host.name"] == "decode" and s.name == "decode"}
    for index, row in enumerate(rows):
        decode_ns = engine_ends[row.trace_id] - ANCHOR.to_unix(row.first_token_ns)
        assert column(call, "decode")[index] == decode_ns > 0
        assert column(call, "stream")[index] == row.last_token_ns - row.first_token_ns - decode_ns > 0
    assert (call.service_ns[:, call.names.index("decode")] == column(call, "decode")).all()
    assert not call.service_ns[:, call.names.index("stream")].any()


def test_a_skewed_engine_clock_moves_neither() -> None:
    rows, spans = made()
    straight, skew = tables(rows, spans).e2el, tables(rows, skewed(spans, "decode", 250 * MS)).e2el
    bound_ns = max(
        clock.high_ns - clock.low_ns for clock in build_layers(Requests.from_attempts(rows), Spans.of(spans), ANCHOR).ttft.clocks
    )
    assert (abs(column(skew, "decode") - column(straight, "decode")) <= bound_ns).all()


def test_without_an_engine_that_tells_the_rest_is_one_layer() -> None:
    rows, spans = made()
    call = tables(rows, [s for s in spans if s.resource["host.name"] != "decode"]).e2el
    assert call.names[-1] == "decode+stream"
    assert (column(call, "decode+stream") == [row.last_token_ns - row.first_token_ns for row in rows]).all()
    assert not call.wait_ns[:, -1].any()
    assert not call.service_ns[:, -1].any()


def test_without_the_spans_of_the_decode_stage_its_prefill_stage_does_not_stand_for_it() -> None:
    rows, spans = made()
    resource = {"service.name": "latprof-stub-prefill", "host.name": "prefill"}
    lost = [
        replace(s, resource=resource) if s.resource["host.name"] == "decode" else s
        for s in spans
        if s.attributes.get("latprof.layer") != "decode.first"
    ]
    call = tables(rows, lost).e2el
    assert column(call, "prefill").all()
    assert call.names[-1] == "decode+stream"
    assert "stream" not in call.names
    assert (column(call, "decode+stream") == [row.last_token_ns - row.first_token_ns for row in rows]).all()


@pytest.mark.parametrize(
    ("hop", "layers", "emits"),
    [
        ("prefill", ("engine.queue", "prefill"), False),
        ("prefill", (), False),
        ("prefill", ("prefill", "decode.first"), True),  # both, where they share replicas
        ("decode", (), True),
        ("llamacpp", ("prefill",), True),  # one server for both, which tells of its prefill
        ("someone's", ("prefill",), False),
        ("someone's", ("prefill", "decode.first"), True),
        ("someone's", ("engine.api",), True),
        ("router", ("router",), False),
    ],
)
def test_a_hop_that_decodes_says_when_the_last_token_went(hop: str, layers: tuple[str, ...], emits: bool) -> None:
    node = HopNode(Hop(hop, "a clock", 0, 9 * MS), [Piece(hop, "a clock", layer, 0, MS) for layer in layers])
    client = HopNode(Hop("client", "client", 0, 10 * MS), legs=[LegNode(Leg("client", "client", 0, 10 * MS), [node])])
    assert emitted_ns(client) == (9 * MS if emits else MISSING_NS)


def test_an_engine_done_before_its_first_token_arrived_leaves_the_rest_to_the_stream() -> None:
    rows, spans = made(5)
    late = []
    for row in rows:
        row.first_token_ns += 60 * MS
        row.last_token_ns = row.end_ns = row.first_token_ns + 10 * MS
        late.append(row)
    call = tables(late, spans).e2el
    assert not column(call, "decode").any()
    assert (column(call, "stream") == 10 * MS).all()


def test_a_request_without_a_last_token_has_no_call() -> None:
    rows, spans = made(4)
    rows[1].last_token_ns = MISSING_NS
    told = tables(rows, spans)
    assert list(told.ttft.rows) == [0, 1, 2, 3]
    assert list(told.e2el.rows) == [0, 2, 3]


def stored(folder: Path, rows: list[Attempt]) -> dict[str, list[int]]:
    values = {
        "prefill:wait": [index * 100 for index in range(len(rows))],
        "prefill:service": [7] * len(rows),
        "net.request:unsplit": [3] * len(rows),
        "decode:wait": [0] * len(rows),
        "decode:service": [11] * len(rows),
        "stream:wait": [0] * len(rows),
        "stream:service": [0] * len(rows),
    }
    with LayersWriter(folder, ("net.request", "prefill", "decode", "stream"), ("gateway",), unsplit=("net.request",)) as writer:
        assert writer.columns[:2] == ("request", "net.request:unsplit")
        for half in (slice(2, None), slice(0, 2)):  # in any order, in batches
            writer.write({"request": [row.request for row in rows[half]], **{name: column[half] for name, column in values.items()}})
    return values


def test_kept_layers_come_back_row_by_row(tmp_path: Path) -> None:
    rows, _ = made(5)
    assert not has_layers(tmp_path)
    values = stored(tmp_path, rows)
    assert has_layers(tmp_path)
    call = load_layers(tmp_path, Requests.from_attempts(rows), "e2el")
    assert list(column(call, "prefill")) == [wait + 7 for wait in values["prefill:wait"]]
    assert list(call.wait_ns[:, 1]) == values["prefill:wait"]
    assert (column(call, "net.request") == 3).all()
    assert call.hops == ("gateway",)
    assert set(call.sources) == {("simulated",)}
    ttft = load_layers(tmp_path, Requests.from_attempts(rows))
    assert ttft.names == ("net.request", "prefill")
    assert ttft.metric == "ttft"
    assert (ttft.total_ns == first_token_layers(call).total_ns).all()


def test_kept_layers_of_failures_and_warmup_are_left_out(tmp_path: Path) -> None:
    rows, _ = made(5)
    stored(tmp_path, rows)
    rows[0].phase = "warmup"
    rows[2] = replace(rows[2], error_class="timeout")
    assert list(load_layers(tmp_path, Requests.from_attempts(rows)).rows) == [1, 3, 4]


def test_a_damaged_or_foreign_file_is_said(tmp_path: Path) -> None:
    rows, _ = made(5)
    stored(tmp_path, rows[:3])
    with pytest.raises(ConfigError, match="no layers of some requests"):
        load_layers(tmp_path, Requests.from_attempts(rows))
    (tmp_path / FILE).write_bytes(b"PAR1 and no more")
    with pytest.raises(ConfigError, match="is damaged"):
        load_layers(tmp_path, Requests.from_attempts(rows))
