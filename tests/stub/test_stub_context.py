from __future__ import annotations

import pytest

from latprof.stub.context import draw_key, new_span_id, read_context

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_callers_context_is_read_and_passed_on() -> None:
    context = read_context({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=x,latprof=12.3"})
    assert (context.trace_id, context.parent_id, context.sampled) == (TRACE, SPAN, True)
    assert context.onward("00f067aa0ba902b7") == {
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
        "tracestate": "vendor=x,latprof=12.3",
    }
    assert draw_key(9, context) == (9, 12, 3)


def test_unsampled_stays_unsampled() -> None:
    context = read_context({"traceparent": f"00-{TRACE}-{SPAN}-00"})
    assert not context.sampled
    assert context.onward(SPAN)["traceparent"].endswith("-00")


def test_a_later_version_may_have_more_fields() -> None:
    assert read_context({"traceparent": f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"}).trace_id == TRACE


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
    ],
)
def test_an_invalid_context_begins_a_new_sampled_trace(header: str) -> None:
    context = read_context({"traceparent": header, "tracestate": "latprof=1.1"})
    assert context.parent_id == ""
    assert context.sampled
    assert context.trace_id != TRACE
    assert len(context.trace_id) == 32
    assert context.tracestate == ""


@pytest.mark.parametrize("tracestate", ["", "other=1", "latprof=x.1", "latprof=1", "notlatprof=1.2"])
def test_without_a_session_the_trace_id_keys_the_draws(tracestate: str) -> None:
    one = draw_key(1, read_context({"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": tracestate}))
    again = draw_key(1, read_context({"traceparent": f"00-{TRACE}-{new_span_id()}-01"}))
    other = draw_key(1, read_context({}))
    assert one == again
    assert one != other
    assert one.session < 0
