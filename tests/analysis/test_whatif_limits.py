"""What nobody can mean is refused, and what is taken away is never more than there is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_record import Simulated, closed_world, open_world, recorded, write_run
from made_record import record_in as made_record_in

from latprof.analysis.whatif.changes import read_changes
from latprof.analysis.whatif.prediction import what_if
from latprof.analysis.whatif.record import Record
from latprof.commands.whatif import record_in
from latprof.config import load_config
from latprof.errors import Exit, InconclusiveError, UsageError
from latprof.observations.columns import Requests
from latprof.pipeline.simulated import simulate_into_folder
from latprof.report.whatif.summary import summary
from latprof.report.whatif.terminal import render


@pytest.mark.parametrize(
    ("flag", "text", "said"),
    [
        ("speedup", "decode=1e-300", "from 1e-06 to 1e[+]06"),
        ("speedup", "decode=1e7", "from 1e-06 to 1e[+]06"),
        ("speedup", "decode=nan", "from 1e-06 to 1e[+]06"),
        ("layer", "gateway.safety=+99999999999999999999%", "from -100% to [+]100000000%"),
        ("layer", "gateway.safety=+100000001%", "from -100% to [+]100000000%"),
        ("layer", "gateway.safety=+86401s", "at most a day, 86400s"),
        ("layer", "gateway.safety=-86401s", "at most a day, 86400s"),
        ("layer", f"gateway.safety={'9' * 400}s", "at most a day, 86400s"),
        ("servers", "prefill=999999999999999999999", "from 1 up to 1073741824"),
        ("servers", f"prefill={'9' * 5000}", "from 1 up to 1073741824"),
    ],
)
def test_changes_beyond_all_measure_are_refused(flag: str, text: str, said: str) -> None:
    given: dict[str, tuple[str, ...]] = {"speedup": (), "layer": (), "servers": (), flag: (text,)}
    with pytest.raises(UsageError, match=f"--{flag} .*{said}") as refused:
        read_changes(**given)
    assert refused.value.exit_code == Exit.USAGE


@pytest.mark.parametrize("slower", [("prefill=1e-5", "prefill=1e-5"), ("decode=1e-5", "decode=1e-5")])
def test_changes_that_multiply_beyond_all_measure_are_refused(tmp_path: Path, slower: tuple[str, ...]) -> None:
    record = recorded(tmp_path, open_world(200))
    with pytest.raises(UsageError, match="change it less"):
        what_if(record, read_changes(slower, (), ()))


def test_a_replay_beyond_the_end_of_time_is_refused(tmp_path: Path) -> None:
    record = recorded(tmp_path, open_world(4000))
    with pytest.raises(UsageError, match="hundred years"):
        what_if(record, read_changes((), ("prefill=86400s", "prefill=+2900%"), ()))


def test_the_largest_changes_are_still_made(tmp_path: Path) -> None:
    record = recorded(tmp_path, open_world(200))
    answer = what_if(record, read_changes(("decode=1e-6",), ("gateway.safety=+100000000%",), ("prefill=1073741824",)))
    assert all(one.predicted_ns > one.now_ns for one in answer.predictions)


def simulated(tmp_path: Path, name: str, **stub: object) -> Record:
    """Six prefills a second of 330 ms each for 2 or 4 workers, in virtual time."""
    given = {
        "workload": {"prompt_tokens": 1500, "output_tokens": 20},
        "load": {"rate_per_s": 6, "num_requests": 400, "warmup_requests": 0},
        "stub": stub,
        "spans": {"hops": []},
        "out": tmp_path / name,
    }
    return record_in(simulate_into_folder(load_config(None, given)))


def test_replicas_behind_a_balancer_are_warned_of_and_named(tmp_path: Path) -> None:
    shared = simulated(tmp_path, "shared", prefill={"workers": 1, "replicas": 4, "cache_blocks": 0}, router={"policy": "round_robin"})
    assert shared.replicas == {"prefill": 4}
    answer = what_if(shared, read_changes(("decode=2",), (), ()))
    doubt = next(doubt for doubt in answer.doubts if doubt.id == "pooled_replicas")
    assert doubt.level == "warning"
    assert "4 replicas of prefill behind a balancer" in doubt.text
    with pytest.raises(InconclusiveError, match="4 replicas of prefill share requests out by a balancer"):
        what_if(replace(shared, stations={**shared.stations, "prefill": 1}), read_changes(("decode=2",), (), ()))
    sole = simulated(tmp_path, "sole", prefill={"workers": 4, "cache_blocks": 0})
    assert sole.replicas == {}
    assert "pooled_replicas" not in {doubt.id for doubt in what_if(sole, read_changes(("decode=2",), (), ())).doubts}


def test_attempts_that_a_retry_made_good_are_missed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", Simulated(open_world(300)))
    requests = Requests.from_arrow(pq.read_table(folder / "requests.parquet"))
    # The first attempt at every tenth turn failed; its success is the second.
    tenth = requests.select(np.arange(0, 300, 10))
    failed = replace(tenth, request=tenth.request + 1_000, error_class=np.array(["server"] * 30, object))
    second = replace(requests, attempt=np.where(np.arange(300) % 10 == 0, 1, 0))
    pq.write_table(pa.concat_tables([second.to_arrow(), failed.to_arrow()]), folder / "requests.parquet")
    answer = what_if(made_record_in(folder), read_changes(("decode=2",), (), ()))
    (doubt,) = (one for one in answer.doubts if one.id == "left_out")
    assert "30 of 330 requests failed" in doubt.text


def test_the_naive_line_takes_away_no_more_than_there_is(tmp_path: Path) -> None:
    record = recorded(tmp_path, closed_world(300))
    answer = what_if(record, read_changes((), ("decode=-9999s",), ()))
    for one in answer.predictions:
        assert one.naive_ns is None or one.naive_ns > 0
    # What is left is the way to decode and back, its waits included.
    ttft = answer.prediction("ttft", 0.5)
    assert ttft.naive_ns is not None
    assert ttft.naive_ns < ttft.now_ns


# --- what is printed ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("requests", "given"), [(999, False), (1000, True)])
def test_a_p99_of_too_few_requests_is_not_printed(tmp_path: Path, requests: int, given: bool) -> None:
    answer = what_if(recorded(tmp_path, open_world(requests)), read_changes(("decode=2", "prefill=2"), (), ()), with_shapley=True)
    printed = io.StringIO()
    render(answer, printed)
    rows = {" ".join(line.split()[:2]): line.split()[2:] for line in printed.getvalue().splitlines() if line}
    assert "-" not in rows["call p50"]
    assert (set(rows["call p99"]) == {"-"}) != given
    assert ("p99 predicted" in printed.getvalue()) == given
    assert ("at p99 (" in printed.getvalue()) == given
    assert ("p99 is not given: it needs 1000 requests, and there are 999" in " ".join(printed.getvalue().split())) != given
    told = summary(answer)
    (row,) = (one for one in told["predictions"] if (one["metric"], one["p"]) == ("e2el", 0.99))  # type: ignore[attr-defined]
    assert all((value is not None) == given for name, value in row.items() if name not in {"metric", "p"})
    assert all((one["p99"]["now_ms"] is not None) == given for one in told["layers"])  # type: ignore[attr-defined]
    assert all((one["saved_ms"]["e2el_p99"] is not None) == given for one in told["shapley"])  # type: ignore[attr-defined]


def test_servers_that_were_asked_for_are_said_to_be(tmp_path: Path) -> None:
    record = recorded(tmp_path, open_world(300))
    answer = what_if(record, read_changes((), (), ("decode=48", "prefill=3")))
    assert {name: answer.use_predicted[name].source for name in ("prefill", "decode")} == {"prefill": "asked", "decode": "asked"}
    assert {name: answer.use_now[name].source for name in ("prefill", "decode")} == {"prefill": "run.json", "decode": "run.json"}
