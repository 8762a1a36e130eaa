"""Gates made by hand."""

from __future__ import annotations

from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.assertions import Claim, judge
from latprof.analysis.verdicts.compare import Moved
from latprof.analysis.verdicts.differences import Shift
from latprof.analysis.verdicts.estimates import Estimate, from_figures, without_interval
from latprof.analysis.verdicts.spending import Row, Spending
from latprof.report.gate.values import Gated, GatedRun
from latprof.units import NS_PER_MS, NS_PER_S

MS = NS_PER_MS


def seen(value_ms: float, spread_ms: float = 1.0) -> Estimate:
    figures = [(value_ms + step * spread_ms) * MS for step in (-2, -1, 0, 1, 2)]
    return from_figures(value_ms * MS, figures, 5, 5_000)


def share(value: float) -> Estimate:
    return from_figures(value, [value] * 5, 5, 5_000, counted=(5_000 * value, 5_000.0))


def claims() -> list[Claim]:
    return [
        Claim("ttft p95 < 600ms", seen(512), 600 * MS),
        Claim("gateway p95 < 50ms", seen(61.2), 50 * MS),
        Claim("ttft p99 < 900ms", without_interval(850 * MS, 5, 5_000, "the sample is too small for p99"), 900 * MS),
        Claim("router p95 < 5ms", seen(9), 5 * MS, level="warn"),
        Claim("goodput > 95%", share(0.99), 0.95, is_upper=False, is_share=True),
        Claim("errors < 1%", share(0.0), 0.01, is_share=True),
        Claim("prefill p50 vs baseline +5% and +10ms", seen(3), 15 * MS, is_change=True),
    ]


def made_gate(*, invalid: bool = False, title: str = "the stack in a box", claims_: list[Claim] | None = None) -> Gated:
    level = "fatal" if invalid else "warning"
    spending = Spending(
        "ttft", 0.95, (Row("gateway", 50 * MS, seen(61.2)), Row("all others", 550 * MS, seen(450.8))), Row("ttft", 600 * MS, seen(512))
    )
    return Gated(
        title=title,
        verdicts=judge(claims() if claims_ is None else claims_),
        doubts=(Doubt("lateness", level, "requests went late: 12 ms at p99", "lower the rate"),),  # type: ignore[arg-type]
        runs=tuple(GatedRun(f"runs/r{seed}", seed, 1_000, 0, "2.0 s of warm-up, and 0 requests cut") for seed in range(1, 6)),
        spending=spending,
        moved=(Moved("ttft", 0.5, "prefill", "gateway", 5.0 * MS, Shift(0.0, 1.0, 4)),),
        when_unix_ns=1_800_000_000 * NS_PER_S,
        commit="0123abc",
    )
