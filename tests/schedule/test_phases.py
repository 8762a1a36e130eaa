"""Phases: rates that change, open and closed ones after each other, and what cannot be meant."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latprof.config import load_config
from latprof.errors import ConfigError
from latprof.schedule.arrivals import ARRIVALS, arrival_rng
from latprof.schedule.build import build_plan
from latprof.schedule.plan import WARMUP_SESSION_BASE, OnDemand, Phase, Plan, Planned
from latprof.schedule.rates import Shape, ramp, read_series, series, shaped, sine, steps
from latprof.schedule.size import plan_size
from latprof.schedule.words import arrival_model
from latprof.units import NS_PER_S
from latprof.workload.sessions import Turn, chain

SHORT = {"prompt_tokens": 4}
SHAPES: dict[str, tuple[Shape, Any]] = {
    "ramp up": (ramp(0, 80, 100), lambda t: 0.4 * t**2),
    "ramp down": (ramp(80, 20, 100), lambda t: 80 * t - 0.3 * t**2),
    "sine": (sine(40, 40, 50), lambda t: 40 * t + 40 * 50 / math.tau * (1 - math.cos(math.tau * t / 50))),
    "steps": (steps((10, 0, 70, 30), 100), lambda t: 10 * min(t, 25) + 70 * min(max(t - 50, 0), 25) + 30 * max(t - 75, 0)),
    "series": (series((5, 20, 60), (40, 0, 25)), lambda t: 40 * (min(max(t, 5), 20) - 5) + 25 * max(t - 60, 0)),
}


def plan(*phases: dict[str, Any], **load: Any) -> Plan:
    return build_plan(load_config(None, {"load": {"phases": list(phases), **load}, "workload": SHORT}))


def starts_ns(phase: Phase) -> list[int]:
    return [planned.offset_ns for planned in phase.planned if planned.offset_ns is not None]


# --- shapes -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_expects_the_integral_of_its_rate(name: str) -> None:
    shape, integral = SHAPES[name]
    at_s = np.linspace(0, 100, 401)
    assert shape.expected(at_s) == pytest.approx([integral(at) for at in at_s], abs=1e-9)


@pytest.mark.parametrize("name", SHAPES)
def test_constant_arrivals_come_when_the_integral_says_to_the_nanosecond(name: str) -> None:
    shape, integral = SHAPES[name]
    offsets_ns = shaped(shape, "constant", arrival_rng(1, "x"), duration_ns=100 * NS_PER_S)
    assert len(offsets_ns) == math.ceil(integral(100) - 1e-9)
    # At a rate near 0 an instant is not sharp; what has come by it is.
    assert [integral(at_ns / NS_PER_S) for at_ns in offsets_ns] == pytest.approx(list(range(len(offsets_ns))), abs=1e-6)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("arrival", ["poisson", "gamma"])
def test_random_arrivals_follow_the_shape(name: str, arrival: str) -> None:
    """In units of what is expected they are the plain process: its gaps, its variance."""
    shape, integral = SHAPES[name]
    pooled = [
        shape.expected(shaped(shape, arrival, arrival_rng(seed, "x"), duration_ns=100 * NS_PER_S, burstiness=0.5) / NS_PER_S)
        for seed in range(20)
    ]
    gaps = np.concatenate([np.diff(units, prepend=0) for units in pooled])
    assert gaps.mean() == pytest.approx(1, abs=0.06)
    assert gaps.std() / gaps.mean() == pytest.approx(1 if arrival == "poisson" else 2**0.5, abs=0.06)
    assert np.mean([len(units) for units in pooled]) == pytest.approx(integral(100), rel=0.06)


def test_a_flat_shape_is_the_plain_process() -> None:
    flat = shaped(ramp(50, 50, 60), "poisson", arrival_rng(3, "x"), duration_ns=60 * NS_PER_S)
    plain = ARRIVALS["poisson"](50, arrival_rng(3, "x"), duration_ns=60 * NS_PER_S)
    assert np.abs(flat - plain).max() <= 1


@given(
    st.lists(st.tuples(st.floats(0.01, 50), st.floats(0, 200)), min_size=1, max_size=6).filter(lambda ps: any(rate for _, rate in ps)),
    st.sampled_from(sorted(ARRIVALS)),
    st.integers(1, 60),
)
def test_any_series_gives_an_ascending_schedule_inside_its_phase(points: list[tuple[float, float]], arrival: str, seconds: int) -> None:
    shape = series(np.cumsum([at for at, _ in points]).tolist(), [rate for _, rate in points])
    offsets_ns = shaped(shape, arrival, arrival_rng(1, "x"), duration_ns=seconds * NS_PER_S)
    assert (np.diff(offsets_ns) >= 0).all()
    assert ((offsets_ns >= 0) & (offsets_ns < seconds * NS_PER_S)).all()
    some = shaped(shape, arrival, arrival_rng(1, "x"), duration_ns=seconds * NS_PER_S, count=5)
    assert some.tolist() == offsets_ns[:5].tolist()


# --- phases -------------------------------------------------------------------------------------------------------------------------------


def test_open_phases_follow_each_other_without_a_gap_and_name_their_rows() -> None:
    (measured,) = plan(
        {"name": "low", "duration": "2s", "rate_per_s": 10, "arrival": "constant"},
        {"name": "ramp", "duration": "10s", "ramp_per_s": [10, 30], "arrival": "constant"},
        {"name": "ten", "num_requests": 10, "rate_per_s": 40, "arrival": "constant"},
        {"name": "end", "num_requests": 1, "rate_per_s": 1, "arrival": "constant"},
    ).phases
    assert measured.name == "low, ramp, ten, end"
    assert Counter(planned.phase for planned in measured.planned) == {"low": 20, "ramp": 200, "ten": 10, "end": 1}
    assert [planned.session.session for planned in measured.planned] == list(range(231))
    assert measured.duration_ns is None, "its last session may take as long as it likes"
    at_ns = {part.name: (part.start_ns, part.length_ns) for part in measured.parts}
    assert at_ns["ramp"] == (2 * NS_PER_S, 10 * NS_PER_S)
    assert at_ns["ten"] == (12 * NS_PER_S, NS_PER_S // 4)
    assert at_ns["end"] == (12 * NS_PER_S + NS_PER_S // 4, NS_PER_S)
    assert starts_ns(measured)[-1] == 12 * NS_PER_S + NS_PER_S // 4
    assert starts_ns(measured) == sorted(starts_ns(measured))


def test_the_warmup_is_the_phase_of_that_name_and_has_numbers_of_its_own() -> None:
    warmup, measured = plan(
        {"name": "warmup", "duration": "1s", "rate_per_s": 20}, {"name": "all", "duration": "2s", "rate_per_s": 20}
    ).phases
    assert (warmup.is_measured, measured.is_measured) == (False, True)
    assert warmup.planned[0].session.session == WARMUP_SESSION_BASE
    assert measured.planned[0].session.session == 0


def test_closed_phases_stand_alone_and_no_session_comes_twice() -> None:
    phases = plan(
        {"name": "a", "num_requests": 5, "rate_per_s": 20},
        {"name": "4", "duration": "3s", "concurrency": 4},
        {"name": "8", "num_requests": 6, "concurrency": 8},
        {"name": "b", "num_requests": 5, "rate_per_s": 20, "max_concurrency": 2},
        {"name": "c", "num_requests": 5, "rate_per_s": 20},
    ).phases
    assert [(phase.name, phase.concurrency, phase.max_concurrency) for phase in phases] == [
        ("a", None, None), ("4", 4, None), ("8", 8, None), ("b", None, 2), ("c", None, None),
    ]  # fmt: skip
    assert isinstance(phases[1].planned, OnDemand)
    last = [phases[0].planned[-1], phases[1].planned[100_000], phases[2].planned[-1], phases[3].planned[-1]]
    first = [phases[1].planned[0], phases[2].planned[0], phases[3].planned[0], phases[4].planned[0]]
    assert all(before.session.session < after.session.session for before, after in zip(last, first, strict=True))


def test_the_same_seed_gives_the_same_schedule_and_phases_share_no_numbers() -> None:
    phases = ({"name": "a", "duration": "5s", "rate_per_s": 20}, {"name": "b", "duration": "5s", "rate_per_s": 20})
    (measured,) = plan(*phases).phases
    assert plan(*phases).phases == (measured,)
    assert plan(*phases, seed=2).phases != (measured,)
    a, b = ([at for at, one in zip(starts_ns(measured), measured.planned, strict=True) if one.phase == name] for name in "ab")
    assert a != [at - 5 * NS_PER_S for at in b]


def test_the_number_of_requests_ends_phases_early() -> None:
    phases = (
        {"name": "warmup", "num_requests": 4, "rate_per_s": 20},
        {"name": "a", "num_requests": 5, "rate_per_s": 20},
        {"name": "b", "num_requests": 5, "rate_per_s": 20},
    )
    assert [len(phase.planned) for phase in plan(*phases, num_requests=7).phases] == [4, 7]
    assert [len(phase.planned) for phase in plan(*phases, max_requests=7).phases] == [4, 3]
    closed = ({"name": "a", "duration": "3s", "concurrency": 4}, {"name": "b", "duration": "3s", "concurrency": 4})
    assert [len(phase.planned) for phase in plan(*closed, max_requests=7).phases] == [4, 3]


def test_the_words_beside_every_answer() -> None:
    phases = plan(
        {"name": "warmup", "num_requests": 4, "rate_per_s": 20},
        {"name": "up", "duration": "10s", "ramp_per_s": [10, 30]},
        {"name": "hold", "duration": "20s", "rate_per_s": 30, "arrival": "constant"},
        {"name": "eight", "duration": "3s", "concurrency": 8},
    ).phases
    assert arrival_model(phases) == (
        "open loop, up: poisson 10 to 30/s for 10 s, then hold: constant 30/s for 20 s; then closed loop, 8 in flight"
    )
    assert "then up, hold 798" in plan_size(Plan(phases[:2], 1)).sentence("x")


def test_sessions_of_several_turns_are_partly_open() -> None:
    planned = tuple(Planned(chain(number, (Turn("", 1, 1),) * 3), number) for number in range(2))
    assert arrival_model((Phase("measured", planned, "poisson", 5, max_concurrency=3),)) == (
        "partly open loop, sessions start by poisson 5/s, at most 3 in flight"
    )
    closed = Phase("measured", planned, "closed", concurrency=2)
    assert arrival_model((closed,)) == "closed loop, 2 sessions always on"
    assert closed.planned_requests == 6


# --- a series in a file -------------------------------------------------------------------------------------------------------------------


def test_a_series_from_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("time,rate_per_s\n0,100\n2s,10\n\n2500ms,0\n4,0\n")
    assert read_series(tmp_path / "rates.csv") == ([0, 2, 2.5, 4], [100, 10, 0, 0])
    file = tmp_path / "load.yaml"
    file.write_text("load: {phases: [{name: replay, series_file: rates.csv, arrival: constant}]}\nworkload: {prompt_tokens: 4}\n")
    (measured,) = build_plan(load_config(file)).phases
    assert len(measured.planned) == 205
    assert starts_ns(measured)[199:202] == [1_990_000_000, 2_000_000_000, 2_100_000_000]
    assert measured.duration_ns == 4 * NS_PER_S


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no rates"),
        ("0,1\n0,2\n", "times must rise"),
        ("0,-1\n", "not below 0"),
        ("0,0\n1,0\n", "not all 0"),
        ("0,nan\n", "finite"),
        ("0,1\n1\n", "rates.csv:2: wanted time,rate"),
        ("soon,1\n", "rates.csv:1: the time must be a duration"),
        (None, "cannot be read"),
    ],
)
def test_a_series_that_cannot_be_used_is_named_with_its_line(text: str | None, told: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "rates.csv").write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_series(tmp_path / "rates.csv")


# --- what cannot be meant -----------------------------------------------------------------------------------------------------------------

ONE = {"name": "a", "duration": "2s", "rate_per_s": 20}


@pytest.mark.parametrize(
    ("phases", "load", "told"),
    [
        ([{"name": "a", "duration": "2s"}], {}, "wants exactly one of rate_per_s"),
        ([ONE | {"concurrency": 4}], {}, "got rate_per_s and concurrency"),
        ([{"name": "a", "rate_per_s": 4}], {}, "needs a duration or num_requests"),
        ([{"name": "a", "num_requests": 4, "ramp_per_s": [1, 2]}], {}, "ramp_per_s needs a duration"),
        ([{"name": "a", "duration": "2s", "concurrency": 4, "max_concurrency": 4}], {}, "exclude each other"),
        ([{"name": "a", "duration": "2s", "sine": {"mean_per_s": 1, "amplitude_per_s": 2, "period": "1s"}}], {}, "must not be above"),
        ([{"name": "a", "series": [["0s", 5]]}], {}, "a series of one rate needs a duration"),
        ([ONE, ONE], {}, "'a' twice"),
        ([ONE], {"rate_per_s": 5}, "load.rate_per_s and load.phases exclude each other"),
        ([ONE], {"concurrency": 5}, "load.concurrency and load.phases exclude each other"),
        ([ONE], {"warmup": "1s"}, "load.warmup and load.phases exclude each other"),
        ([ONE], {"duration": "1s"}, "load.duration and load.phases exclude each other"),
        ([ONE | {"rate_per_s": 1e8}], {}, "more than the 10,000,000"),
        ([ONE | {"name": "warmup"}], {}, "nothing to measure"),
        ([ONE | {"rate_per_s": 1e-9}], {}, "nothing to measure"),
        ([], {}, "at least one phase"),
        ([ONE | {"rate": 1}], {}, "load.phases.0.rate is not a known key; did you mean load.phases.0.rate_per_s"),
    ],
)
def test_a_mistake_is_named(phases: list[dict[str, Any]], load: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        plan(*phases, **load)


def test_no_warmup_may_be_said_beside_phases() -> None:
    assert len(plan(ONE, warmup="0s", warmup_requests=0).phases) == 1
