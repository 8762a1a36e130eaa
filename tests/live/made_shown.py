"""A run half way through, as the view would be given it; figures as the README's run has them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from latprof.analysis.validity.doubts import Doubt
from latprof.live.values import Bar, Driven, Moment, Sampled, Shown, Step, Ttft
from latprof.units import NS_PER_MS, NS_PER_S

_LAYERS = (
    ("client.lateness", 0.06, 0.06, 0.15),
    ("client.build", 0.13, 0.0, 0.12),
    ("net.upload", 0.16, 0.0, 0.25),
    ("net.request", 2.48, 0.0, 2.32),
    ("gateway.validate", 0.31, 0.0, 0.45),
    ("gateway.auth", 1.11, 0.0, 1.11),
    ("gateway.ratelimit", 0.55, 0.0, 0.64),
    ("gateway.safety", 8.61, 0.0, 39.19),
    ("gateway.render", 0.53, 0.0, 0.49),
    ("gateway.tokenize", 1.60, 0.36, 1.97),
    ("router", 0.92, 0.0, 0.89),
    ("prefill", 81.27, 0.0, 81.26),
    ("kv.transfer", 1.76, 0.0, 1.77),
    ("decode.first", 22.88, 7.90, 24.44),
    ("proxy.hold", 0.06, 0.0, 0.06),
    ("net.response", 1.67, 0.0, 1.59),
    ("unattributed@router", 0.23, 0.0, 0.25),
)
LATE = Doubt(
    "lateness",
    "warning",
    "requests went late: 1.96 ms at p99 against a TTFT of 124 ms at p50; the generator's machine is busy",
    "lower the rate, or run latprof on a machine (or cores) of its own; lateness is counted in TTFT, as layer client.lateness",
)


def made_sampled(*, has_tail: bool = True) -> Sampled:
    bars = tuple(
        Bar(name, p50 * NS_PER_MS, wait * NS_PER_MS, tail * NS_PER_MS if has_tail else math.nan) for name, p50, wait, tail in _LAYERS
    )
    return Sampled(
        bars,
        sum(one.p50_ns for one in bars),
        sum(one.tail_ns for one in bars),
        *((84, 553) if has_tail else (12, 140)),
        31.4 * NS_PER_S,
        2.2 * NS_PER_S,
    )


def made_driven(**changes: Any) -> Driven:
    driven = Driven(
        "measured",
        is_warmup=False,
        elapsed_ns=round(11.3 * NS_PER_S),
        length_ns=round(24.7 * NS_PER_S),
        end="known",
        sent=568,
        planned=1250,
        ok=553,
        failed=3,
        in_flight=12,
        intended_per_s=50.4,
        achieved_per_s=50.2,
        tokens_per_s=404.9,
        now=Ttft(124.1 * NS_PER_MS, 152.0 * NS_PER_MS, 251),
        so_far=Ttft(124.4 * NS_PER_MS, 157.2 * NS_PER_MS, 553),
        waiting=6,
        longest_ns=0.31 * NS_PER_S,
    )
    return dataclasses.replace(driven, **changes)


def made_history(seconds: int = 40) -> tuple[Moment, ...]:
    """Steady, with a stall of three seconds, in the second of which no token came."""
    stalled = range(seconds - 12, seconds - 9)
    return tuple(
        Moment(
            50.0 + second % 5,
            math.nan if second == stalled[1] else (124.0 + second % 3) * NS_PER_MS * (2 if second in stalled else 1),
            math.nan if second == stalled[1] else (150.0 + 7 * (second % 4)) * NS_PER_MS * (4 if second in stalled else 1),
            60 if second in stalled else 8 + second % 6,
            400.0 if second not in stalled else 0.0,
        )
        for second in range(seconds)
    )


def made_shown(**changes: Any) -> Shown:
    shown = Shown(
        load="open loop, poisson 50/s",
        target="http://127.0.0.1:39455/v1/chat/completions",
        driven=made_driven(),
        is_driving=True,
        history=made_history(),
        sampled=made_sampled(),
        errors=(("timeout", 2), ("truncated", 1)),
        error_text="no answer within 120 s",
        doubts=(LATE,),
    )
    return dataclasses.replace(shown, **changes)


STARTING = Shown(
    load="",
    steps=(
        Step("making the plan", round(0.3 * NS_PER_S)),
        Step("starting the span receiver", round(0.6 * NS_PER_S)),
        Step("bringing the stack in a box up", None, round(1.2 * NS_PER_S)),
    ),
)
FINISHING = made_shown(is_driving=False, steps=(*STARTING.steps, Step("waiting for late spans", None, round(0.8 * NS_PER_S))))
