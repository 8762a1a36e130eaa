"""Spans of other traces: kept where their trace tells of an answer, held back until then, let go in the end where it was not the run's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from otlp_requests import PREFIX, export_request, post, trace_id

from latprof.spans.others import Others, ids_told, spellings
from latprof.spans.receiver import Receiver
from latprof.spans.reception import ReceiverStats, is_complete
from latprof.spans.span import Span
from latprof.spans.store import OTHERS_PARQUET, OTHERS_STREAM, STREAM, compact_others, load, load_others
from latprof.units import MISSING_NS, NS_PER_S

THEIRS = "a" * 32
ALSO_THEIRS = "b" * 32


def span(trace: str, name: str, **attributes: str) -> Span:
    return Span(trace, name, "", name, 1, 1, 2, {key.replace("__", "."): value for key, value in attributes.items()})


def telling(trace: str, name: str, answer: str) -> Span:
    return span(trace, name, gen_ai__response__id=answer)


def names(spans: list[Span]) -> list[str]:
    return [one.name for one in spans]


def test_what_was_held_back_comes_with_what_tells() -> None:
    others = Others()
    assert others.take([span(THEIRS, "early"), span(ALSO_THEIRS, "never")]) == []
    assert names(others.take([span(THEIRS, "early too"), telling(THEIRS, "tells", "resp_1")])) == ["early", "early too", "tells"]
    assert names(others.take([span(THEIRS, "late")])) == ["late"]
    assert others.take([span(ALSO_THEIRS, "still not")]) == []


def test_of_traces_that_never_tell_the_oldest_go_first() -> None:
    others = Others(most_held=4)
    for number in range(8):
        others.take([span(f"{number // 2:032x}", f"span {number}")])
    assert others.take([telling(f"{1:032x}", "too late", "resp_1")])[0].name == "too late"
    assert names(others.take([telling(f"{3:032x}", "tells", "resp_3")])) == ["span 6", "span 7", "tells"]
    assert names(others.take([telling(f"{2:032x}", "tells", "resp_2")])) == ["span 4", "span 5", "tells"]


def test_awaited_answers_are_counted_down_whichever_comes_first() -> None:
    others = Others()
    others.take([telling(THEIRS, "tells", "resp_1")])
    others.expect(["resp_1", "resp_2", "cmpl-abc"])
    assert others.missing == 2
    others.take([telling(THEIRS, "tells", "cmpl-abc-0")])  # the first prompt of a completion
    others.take([telling(ALSO_THEIRS, "tells", "resp_2")])
    assert others.missing == 0


def test_what_is_kept_holds_no_credentials() -> None:
    (held, tells) = (span(THEIRS, "held", http__request__header__authorization="Bearer abc"), telling(THEIRS, "tells", "resp_1"))
    others = Others()
    others.take([held])
    assert [one.attributes for one in others.take([tells])] == [{}, {"gen_ai.response.id": "resp_1"}]


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"gen_ai.response.id": "resp_1"}, [("gen_ai.response.id", "resp_1")]),
        ({"gen_ai.request.id": "chatcmpl-9", "gen_ai.response.id": ""}, [("gen_ai.request.id", "chatcmpl-9")]),
        ({"gen_ai.response.id": 5, "rid": True}, []),
        ({"rid": "1"}, []),  # a counter is no id
        ({"gen_ai.response.id": "x" * 400}, [("gen_ai.response.id", "x" * 300)]),  # as the client keeps it
        ({"gen_ai.response.model": "resp_1"}, []),
    ],
)
def test_ids_are_read_from_the_attributes_that_hold_them(attributes: dict[str, str], told: list[tuple[str, str]]) -> None:
    assert list(ids_told(attributes)) == told


def test_spellings() -> None:
    assert spellings("cmpl-12ab-0") == ("cmpl-12ab-0", "cmpl-12ab")
    assert spellings("chatcmpl-12ab") == ("chatcmpl-12ab",)
    assert spellings("resp-1") == ("resp-1",)  # what is left would be no id


# --- the receiver, and the folder ------------------------------------------------------------------------------------------------------------


def test_the_receiver_keeps_those_that_tell_beside_the_runs_own(tmp_path: Path) -> None:
    with Receiver.start(tmp_path, PREFIX, write_every_s=0.02) as receiver:
        post(receiver, export_request((trace_id(1), 1)).SerializeToString())
        post(receiver, export_request((THEIRS, 2), (ALSO_THEIRS, 3)).SerializeToString())
        assert receiver.stats().told_spans == 0
        assert [path.name for path in tmp_path.glob("*.arrows")] == [STREAM]
        post(receiver, export_request((THEIRS, 4), attributes={"gen_ai.response.id": "resp_1"}).SerializeToString())
        stats = receiver.stats()
    assert (stats.spans, stats.other_spans, stats.told_spans, stats.traces) == (1, 3, 2, 1)
    assert load(tmp_path).trace_ids == (trace_id(1),)
    assert load_others(tmp_path)["trace_id"].to_pylist() == [THEIRS, THEIRS]


def test_only_the_traces_that_are_asked_for_stay_in_the_folder(tmp_path: Path) -> None:
    with Receiver.start(tmp_path, PREFIX) as receiver:
        told = {"gen_ai.response.id": "resp_1"}
        post(receiver, export_request((THEIRS, 1), (ALSO_THEIRS, 2), attributes=told).SerializeToString())
    compact_others(tmp_path, {THEIRS})
    assert not (tmp_path / OTHERS_STREAM).exists()
    assert pq.read_table(tmp_path / OTHERS_PARQUET)["trace_id"].to_pylist() == [THEIRS]
    assert load_others(tmp_path).num_rows == 1


def test_a_folder_in_which_nobody_elses_spans_are_needed_does_not_keep_them(tmp_path: Path) -> None:
    compact_others(tmp_path, {THEIRS})  # nothing came
    with Receiver.start(tmp_path, PREFIX) as receiver:
        post(receiver, export_request((THEIRS, 1), attributes={"gen_ai.response.id": "resp_1"}).SerializeToString())
    compact_others(tmp_path, set())
    assert not (tmp_path / OTHERS_STREAM).exists()
    assert not (tmp_path / OTHERS_PARQUET).exists()
    assert load_others(tmp_path).num_rows == 0


async def test_answers_that_others_tell_of_are_waited_for(tmp_path: Path) -> None:
    with Receiver.start(tmp_path, PREFIX) as receiver:
        post(receiver, export_request((THEIRS, 1), attributes={"gen_ai.response.id": "resp_1"}).SerializeToString())
        missing = await receiver.wait_complete([trace_id(1)], NS_PER_S // 2, expect_spans=False, answers=["resp_1", "resp_2"])
        assert not missing.complete
        assert missing.stats.missing_answers == 1
        assert missing.waited_ns >= NS_PER_S // 2
        post(receiver, export_request((ALSO_THEIRS, 1), attributes={"gen_ai.response.id": "resp_2"}).SerializeToString())
        await asyncio.sleep(0.4)  # the line goes quiet
        complete = await receiver.wait_complete([trace_id(1)], NS_PER_S // 2, expect_spans=False, answers=["resp_1", "resp_2"])
    assert complete.complete
    assert complete.waited_ns < NS_PER_S // 2


@pytest.mark.parametrize(
    ("change", "complete"),
    [({}, True), ({"missing_answers": 1}, False), ({"first_told_unix_ns": 95}, False), ({"told_spans": 0}, False)],
)
def test_when_others_have_told_everything(change: dict[str, int], complete: bool) -> None:
    second = NS_PER_S
    told = {"first_told_unix_ns": 10, "last_told_unix_ns": 98} | change
    stats = ReceiverStats(
        told_spans=change.get("told_spans", 5),
        missing_answers=change.get("missing_answers", 0),
        first_told_unix_ns=told["first_told_unix_ns"] * second,
        last_told_unix_ns=told["last_told_unix_ns"] * second,
        first_received_unix_ns=MISSING_NS,
    )
    assert is_complete(stats, 100 * second, 6 * second, ()) is complete
