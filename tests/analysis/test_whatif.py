from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_record import MS, Simulated, World, closed_world, faster, open_world, record_in, recorded, write_run

from latprof.analysis.quantiles import hd_quantile
from latprof.analysis.whatif.answer import Answer
from latprof.analysis.whatif.changes import Change, read_changes
from latprof.analysis.whatif.model import model_of
from latprof.analysis.whatif.prediction import what_if
from latprof.analysis.whatif.record import Load, asked_load
from latprof.commands.whatif import Question, answer_of
from latprof.errors import Exit, InconclusiveError, UsageError
from latprof.observations.columns import Requests

NEAR = 1e-6


def sped_up(record_of: World, tmp_path: Path, *speedup: str) -> Answer:
    return what_if(recorded(tmp_path, record_of), read_changes(speedup, (), ()))


def assert_equals(answer: Answer, truth: Simulated, relative: float = NEAR) -> None:
    for metric, values in (("ttft", truth.ttft_ns[truth.order]), ("e2el", truth.e2el_ns[truth.order])):
        for p in (0.5, 0.99):
            assert answer.prediction(metric, p).predicted_ns == pytest.approx(hd_quantile(values, p), rel=relative), (metric, p)  # type: ignore[arg-type]


# --- the prediction equals brute force ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [2, 8])
def test_open_prediction_equals_brute_force_with_the_same_draws(tmp_path: Path, speed: int) -> None:
    world = open_world(slots=10)
    answer = sped_up(world, tmp_path, f"decode={speed}")
    assert_equals(answer, Simulated(faster(world, speed)))
    assert [one.off for one in answer.reproduced] == pytest.approx([0] * 4, abs=NEAR)


@pytest.mark.parametrize("speed", [2, 4, 8])
def test_closed_prediction_equals_brute_force_and_shows_the_wait_move_upstream(tmp_path: Path, speed: int) -> None:
    world = closed_world()
    answer = sped_up(world, tmp_path, f"decode={speed}")
    assert_equals(answer, Simulated(faster(world, speed)), 1e-4)
    ttft = answer.prediction("ttft", 0.5)
    assert ttft.predicted_ns > ttft.now_ns  # agents return sooner


def test_the_closed_loop_makes_prefill_what_throughput_ends_at(tmp_path: Path) -> None:
    answer = sped_up(closed_world(), tmp_path, "decode=16")
    now, then = answer.bottlenecks_now.capacity, answer.bottlenecks.capacity
    assert now is not None
    assert now.names[0] == "decode"
    assert then is not None
    assert then.names[0] == "prefill"
    assert then.value > 0.9
    assert answer.prediction("ttft", 0.5).predicted_ns > 2 * answer.prediction("ttft", 0.5).now_ns
    assert answer.per_s_predicted > 1.5 * answer.per_s_now


def test_other_layers_and_servers_equal_brute_force(tmp_path: Path) -> None:
    world = open_world()
    answer = what_if(
        recorded(tmp_path, world), read_changes((), ("gateway.safety=+5ms", "prefill=-50%"), ("prefill=3", "gateway.safety=4"))
    )
    other = replace(
        world, gateway_ns=world.gateway_ns + 5 * MS, prefill_ns=np.rint(world.prefill_ns * 0.5).astype(np.int64), prefill=3, gateway=4
    )
    assert_equals(answer, Simulated(other))


def test_an_open_replay_of_every_request_on_its_own_keeps_intended_starts(tmp_path: Path) -> None:
    record = recorded(tmp_path, closed_world(1000))
    answer = what_if(record, read_changes(("decode=4",), (), ()), Load("open"))
    assert answer.per_s_predicted == pytest.approx(answer.per_s_now)
    # Nobody comes sooner because answers are faster, so nothing moves upstream.
    assert answer.prediction("ttft", 0.5).predicted_ns <= answer.prediction("ttft", 0.5).now_ns * 1.001


def test_iterations_are_fitted_and_predicted(tmp_path: Path) -> None:
    world = open_world(2000, rate_per_s=12.0, t1_ns=30 * MS, per_sequence_ns=MS, slots=16, prefill=3)
    record = recorded(tmp_path, world)
    decode = model_of(record).decode[0]
    assert decode.kind == "iterations"
    assert decode.t1_ns == pytest.approx(30 * MS, rel=1e-3)
    assert decode.per_sequence_ns == pytest.approx(MS, rel=1e-2)
    for speed in (4, 8):
        answer = what_if(record, read_changes((f"decode={speed}",), (), ()))
        assert_equals(answer, Simulated(faster(world, speed)), 0.01)


# --- the naive line, in both directions ---------------------------------------------------------------------------------------------------


def test_at_one_open_station_the_naive_line_sees_too_little_gain(tmp_path: Path) -> None:
    n = 8_000
    rng = np.random.default_rng(7)
    arrivals_ns = np.cumsum(np.rint(rng.exponential(10 * MS / 0.8, n))).astype(np.int64)
    service_ns = np.maximum(1, np.rint(rng.exponential(10 * MS, n))).astype(np.int64)
    tiny = np.full(n, 2, np.int64)
    world = World(tiny, service_ns, tiny, tiny, gateway=64, prefill=1, arrivals_ns=arrivals_ns, request_ns=0, response_ns=0)
    answer = sped_up(world, tmp_path, "prefill=2")
    middle = answer.prediction("ttft", 0.5)
    assert middle.naive_ns is not None
    # Methods §1.2: at k=2 the mean falls to 0.83 services, the naive line to 4.40.
    assert middle.naive_gap > 0.8
    assert any(doubt.id == "naive" for doubt in answer.doubts)
    # M/M/1: E = 1/(1 - rho) at the new point, rho = 0.4.
    leverage = answer.bottlenecks.leverage
    assert leverage is not None
    assert leverage.names[0] == "prefill"
    assert leverage.value == pytest.approx(1 / 0.6, rel=0.15)


def test_in_a_closed_loop_the_naive_line_sees_too_much(tmp_path: Path) -> None:
    gaps = [sped_up(closed_world(), tmp_path / str(speed), f"decode={speed}").prediction("e2el", 0.5).naive_gap for speed in (4, 8, 16)]
    assert gaps[2] < gaps[1] < gaps[0] < 0
    assert gaps[2] < -0.3


# --- when it cannot answer ----------------------------------------------------------------------------------------------------------------


def test_a_record_that_cannot_be_replayed_is_refused_with_the_layer_named(tmp_path: Path) -> None:
    record = recorded(tmp_path, open_world(), stations={"gateway.safety": 2, "prefill": 16, "decode": 64})
    with pytest.raises(InconclusiveError, match=r"engine\.queue") as refused:
        what_if(record, read_changes(("decode=8",), (), ()))
    assert refused.value.exit_code == Exit.INCONCLUSIVE
    assert "TTFT p50 comes out as" in str(refused.value)
    assert "5 % allowed" in str(refused.value)


def test_servers_that_nobody_told_are_fitted(tmp_path: Path) -> None:
    world = open_world(gateway=1, rate_per_s=22)
    model = model_of(recorded(tmp_path, world, stations={"decode": 64}))
    assert (model.part("prefill").servers, model.part("gateway.safety").servers) == (2, 1)
    assert model.part("prefill").why.startswith("fitted")


def test_a_layer_that_never_queued_needs_no_servers(tmp_path: Path) -> None:
    model = model_of(recorded(tmp_path, open_world(1000, gateway=64), stations={}))
    assert (model.part("gateway.safety").kind, model.part("gateway.safety").why) == ("service", "no queue was seen")


def test_waits_that_no_queue_makes_are_held(tmp_path: Path) -> None:
    done = Simulated(open_world(1000, rate_per_s=2.0, gateway=64))
    rng = np.random.default_rng(3)
    waits_ns = np.rint(rng.exponential(40 * MS, done.world.n)).astype(np.int64)  # not from any queue: the load is low
    done.wait_ns[:, 1] += waits_ns
    done.first_ns += waits_ns
    done.last_ns += waits_ns
    record = record_in(write_run(tmp_path, done, stations={"prefill": 2, "decode": 64}))
    answer = what_if(record, read_changes(("decode=2",), (), ()))
    assert "no number of first-come servers" in answer.held["gateway.safety"]


@pytest.mark.parametrize(
    ("speedup", "layer", "servers", "said"),
    [
        (["prefil=2"], [], [], "did you mean prefill"),
        (["decode=0"], [], [], "a number above 0"),
        (["decode"], [], [], "wants LAYER=VALUE"),
        ([], ["prefill=12"], [], "wants -50%, .2ms"),
        ([], ["prefill=-120%"], [], "no more than -100%"),
        ([], ["engine.queue=-50%"], [], "nothing but waiting for prefill"),
        ([], ["decode.first=-50%"], [], "change decode"),
        ([], [], ["prefill=0"], "whole number from 1 up"),
        ([], [], ["net.request=2"], "no queue before it"),
        ([], [], [], "nothing is changed"),
    ],
)
def test_changes_that_cannot_be_meant(tmp_path: Path, speedup: list[str], layer: list[str], servers: list[str], said: str) -> None:
    record = recorded(tmp_path, open_world(200))
    with pytest.raises(UsageError, match=said):
        what_if(record, read_changes(speedup, layer, servers))


def test_prefixes_scale_their_children_and_nothing_else(tmp_path: Path) -> None:
    record = recorded(tmp_path, open_world(500))
    scaled = what_if(record, read_changes(("gateway=2",), (), ()))
    named = what_if(record, read_changes(("gateway.safety=2",), (), ()))
    assert [one.predicted_ns for one in scaled.predictions] == [one.predicted_ns for one in named.predictions]


def test_a_layer_known_only_as_a_whole_is_scaled_as_a_whole(tmp_path: Path) -> None:
    record = recorded(tmp_path, open_world(500))
    answer = what_if(record, read_changes((), ("net.request=-100%",), ()))
    assert answer.prediction("ttft", 0.5).predicted_ns == pytest.approx(answer.prediction("ttft", 0.5).now_ns - 2 * MS, abs=0.1 * MS)
    assert "net.request" in answer.held


def test_a_prefix_leaves_alone_what_its_children_share_with_others(tmp_path: Path) -> None:
    told = recorded(tmp_path, open_world(500))
    names = tuple("net.request+lb" if name == "net.request" else name for name in told.call.names)
    record = replace(told, call=replace(told.call, names=names))
    halved, of_one = (what_if(record, read_changes((), (f"{name}=-50%",), ())) for name in ("net", "net.response"))
    assert [one.predicted_ns for one in halved.predictions] == [one.predicted_ns for one in of_one.predictions]
    (doubt,) = (one for one in halved.doubts if one.id == "layer_untold")
    assert "some of it is in net.request+lb" in doubt.text
    with pytest.raises(UsageError, match=r"lb is not told apart in this run: its time is in net.request\+lb"):
        what_if(record, read_changes((), ("lb=-50%",), ()))


def test_a_change_of_a_layer_that_half_of_the_requests_tell_of_is_doubted(tmp_path: Path) -> None:
    told = recorded(tmp_path, open_world(500, rate_per_s=0.5))
    silent = (np.arange(len(told)) % 2 == 0)[:, None]
    hidden = silent & np.isin(told.call.names, ("engine.queue", "prefill"))
    block_ns = np.where(hidden, told.call.total_ns, 0).sum(axis=1)
    call = replace(
        told.call,
        names=(*told.call.names, "net+engine"),
        total_ns=np.column_stack([np.where(hidden, 0, told.call.total_ns), block_ns]),
        wait_ns=np.column_stack([np.where(hidden, 0, told.call.wait_ns), np.zeros_like(block_ns)]),
        service_ns=np.column_stack([np.where(hidden, 0, told.call.service_ns), np.zeros_like(block_ns)]),
        present=np.column_stack([told.call.present & ~(silent & ~np.isin(told.call.names, "gateway.safety")), silent]),
        sources=(*told.call.sources, ("client",)),
    )
    answer = what_if(replace(told, call=call), read_changes((), ("prefill=-50%",), ()))
    (doubt,) = (one for one in answer.doubts if one.id == "layer_untold")
    assert doubt.level == "warning"
    assert "50 % of the requests do not tell of it" in doubt.text
    whole = what_if(told, read_changes((), ("prefill=-50%",), ()))
    assert "layer_untold" not in {one.id for one in whole.doubts}
    saved = [one.prediction("ttft", 0.5).now_ns - one.prediction("ttft", 0.5).predicted_ns for one in (answer, whole)]
    assert saved[0] < 0.7 * saved[1]


# --- loads --------------------------------------------------------------------------------------------------------------------------------


def test_loads_that_cannot_be_meant(tmp_path: Path) -> None:
    record = recorded(tmp_path, open_world(200))
    with pytest.raises(UsageError, match="--places 3"):
        asked_load(record, "open", 3)
    assert asked_load(record, None, 3) == Load("closed", places=3)
    closed = asked_load(record, "closed", None)
    assert closed.places is not None
    assert closed.places >= 1
    with pytest.raises(UsageError, match="must be one of recorded, open, closed"):
        answer_of(tmp_path / "run", Question(arrivals="half"))


def test_several_phases_with_a_closed_one_are_refused(tmp_path: Path) -> None:
    phases = [{"name": "plateau", "rate_per_s": 5}, {"name": "places", "concurrency": 3}]
    with pytest.raises(UsageError, match="plateau, places"):
        recorded(tmp_path, open_world(200), config={"load": {"phases": phases}})


def test_turns_without_their_graph_are_replayed_as_a_chain(tmp_path: Path) -> None:
    world = closed_world(1000)
    folder = write_run(tmp_path, Simulated(world))
    with_graph = answer_of(folder, Question(speedup=("decode=4",)))
    (folder / "steps.parquet").unlink()
    without = answer_of(folder, Question(speedup=("decode=4",)))
    assert [one.predicted_ns for one in without.predictions if one.metric != "task"] == pytest.approx(
        [one.predicted_ns for one in with_graph.predictions if one.metric != "task"]
    )


def test_a_closed_loop_that_time_ended_goes_on_with_the_same_sessions(tmp_path: Path) -> None:
    done = Simulated(closed_world(2000))
    seconds = round((done.last_ns.max() - done.intended_ns.min()) / 1e9 * 0.9)
    until_ns = int(done.intended_ns.min()) + seconds * 10**9
    came = [job for job in done.order if done.intended_ns[job] < until_ns]
    done.order = came
    load = {"concurrency": 15, "duration": f"{seconds}s"}
    folder = write_run(tmp_path, done, config={"load": load, "spans": {"hops": []}}, planned={"measured": None})
    answer = answer_of(folder, Question(speedup=("decode=8",)))
    assert answer.per_s_predicted > 1.3 * answer.per_s_now


def test_reasoning_that_was_not_streamed_is_none_of_decodes_tokens(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", Simulated(open_world(n=30)))
    plain = record_in(folder)
    table = folder / "requests.parquet"
    rows = Requests.from_arrow(pq.read_table(table))
    thought = np.full(len(rows), 1_000)
    pq.write_table(replace(rows, reasoning_tokens=thought, output_tokens=rows.output_tokens + thought).to_arrow(), table)
    assert record_in(folder).tokens.tolist() == plain.tokens.tolist()


def test_no_request_at_all_is_said(tmp_path: Path) -> None:
    done = Simulated(open_world(10))
    done.order = []
    with pytest.raises(UsageError, match="nothing to replay"):
        answer_of(write_run(tmp_path, done), Question(speedup=("decode=8",)))


# --- several changes ----------------------------------------------------------------------------------------------------------------------


def test_shapley_values_sum_to_the_whole_saving(tmp_path: Path) -> None:
    record = recorded(tmp_path, closed_world(1000))
    answer = what_if(record, read_changes(("decode=8",), ("gateway.safety=-50%",), ("prefill=2",)), with_shapley=True)
    for metric, p in answer.worth[0].saved_ns:
        one = answer.prediction(metric, p)
        assert math.fsum(worth.saved_ns[metric, p] for worth in answer.worth) == pytest.approx(one.replayed_ns - one.predicted_ns)
    # More prefill servers are worth more beside faster decode than alone: the values are not the single savings.
    alone = what_if(record, [Change("prefill", "servers", 2, "")]).prediction("e2el", 0.5)
    assert answer.worth[2].saved_ns["e2el", 0.5] > 1.5 * (alone.replayed_ns - alone.predicted_ns)
    with pytest.raises(UsageError, match="2 to 6"):
        what_if(record, read_changes(("decode=8",), (), ()), with_shapley=True)


def test_layers_add_up_to_the_call(tmp_path: Path) -> None:
    answer = sped_up(open_world(1000), tmp_path, "decode=4")
    for p in (0.5, 0.99):
        one = answer.prediction("e2el", p)
        assert math.fsum(line.predicted_ns[p] for line in answer.layers) == pytest.approx(one.predicted_ns, rel=1e-9)
        assert math.fsum(line.now_ns[p] for line in answer.layers) == pytest.approx(one.now_ns, rel=1e-9)


def test_intervals_hold_the_median_and_shrink_with_the_record(tmp_path: Path) -> None:
    bounds = [sped_up(open_world(n, rate_per_s=10), tmp_path / str(n), "decode=4").prediction("e2el", 0.5) for n in (300, 3000)]
    widths = []
    for one in bounds:
        assert one.bounds_ns is not None
        assert one.bounds_ns[0] <= one.predicted_ns <= one.bounds_ns[1]
        widths.append(one.bounds_ns[1] - one.bounds_ns[0])
    assert widths[1] < 0.6 * widths[0]


# --- the folder alone ---------------------------------------------------------------------------------------------------------------------


def test_it_works_with_the_stub_unimportable(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", Simulated(closed_world(500)))
    code = (
        "import sys; sys.modules['latprof.stub'] = None\n"
        "from latprof.cli import app\n"
        f"app(['whatif', {str(folder)!r}, '--speedup', 'decode=8', '--json', '-'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["bottlenecks"]["predicted"]["capacity"]["layers"][0] == "prefill"
    assert "closed loop: 15 places" in told["replayed_load"]
    assert "WHAT IF  decode 8x faster" in done.stderr
