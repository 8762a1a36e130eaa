"""What a comparison says in words: the headline, verdicts of layers, time that moved, and words of strangers that stay words."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console

from harness.queue_runs import replication
from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.verdicts.arms import Arm, Key, arm_of
from latprof.analysis.verdicts.compare import Comparison, compare
from latprof.analysis.verdicts.replications import Selector
from latprof.analysis.verdicts.steady import Steady
from latprof.report.comparison.summary import summary
from latprof.report.comparison.terminal import arms, footnotes, headline, layer_verdict, render, write
from latprof.units import NS_PER_S


def arm(first: int, runs: int = 5, n: int = 600, **other: Any) -> Arm:
    made = [replication((seed,), 0.5, n, **other) for seed in range(first, first + runs)]
    return arm_of(f"runs/{first}", [replace(one, meta={**one.meta, "seed": first + at}) for at, one in enumerate(made)])


def text_of(told: Comparison, width: int = 120, **other: Any) -> str:
    stream = io.StringIO()
    write(told, Console(file=stream, width=width, highlight=False, markup=False, emoji=False), **other)
    return stream.getvalue()


def test_the_answer_comes_first() -> None:
    worse = compare(arm(1), arm(1, plant_ms={"gateway.auth": 15.0}))
    assert text_of(worse).startswith("B is worse in ttft p50 (+15.00 ms, +")
    assert "in layer gateway.auth." in headline(worse)
    better = compare(arm(1, plant_ms={"gateway.auth": 15.0}), arm(1))
    assert headline(better).startswith("B is better in ttft p50 (-15.00 ms, -")
    assert headline(compare(arm(1), arm(1))) == "No difference found. ttft p50 would have shown any change."
    assert " would mostly have shown a change of " in headline(compare(arm(1), arm(100)))


def test_what_must_not_be_used_says_so_first() -> None:
    doubted = replace(arm(1), doubts=(Doubt("lateness", "fatal", "requests went late", "slow down"),))
    shown = text_of(compare(doubted, arm(100)))
    assert shown.startswith("NOT VALID: do not use these figures for a decision")
    assert "requests went late" in shown
    assert text_of(compare(arm(1), arm(100)), refused=["load.rate_per_s 5 -> 6"]).startswith(
        "INCONCLUSIVE: the arms were not asked the same"
    )
    few = compare(arm(1, runs=1, n=100), arm(100, runs=1, n=100))
    assert headline(few).startswith("INCONCLUSIVE: A: one run of 100 requests")


def test_layers_that_lack_an_interval_for_one_reason_share_a_line() -> None:
    told = compare(arm(1), arm(1))
    why = "A: no request tells of {} in ttft; this run knows net+server"
    layers = tuple(
        replace(told.layers[0], key=Key(Selector("ttft", name), 0.5), why=why.format(name)) for name in ("router", "router", "prefill")
    )
    found = list(footnotes(replace(told, layers=layers)))
    assert "No interval: A: no request tells of router, prefill in ttft; this run knows net+server." in found


def test_what_a_cache_knew_of_one_arm_alone_is_said() -> None:
    def knew(share: float) -> Arm:
        whole = arm(1)
        return replace(whole, runs=tuple(replace(run, cached_share=share) for run in whole.runs))

    said = " ".join(arms(compare(knew(0.02), knew(0.91))))
    assert "A cache knew 2 % of A's prompt tokens and 91 % of B's" in said
    assert "give every run a --seed of its own" in said
    for alike in (compare(knew(0.9), knew(0.91)), compare(arm(1), knew(0.9))):
        assert "A cache knew" not in " ".join(arms(alike))


def test_a_layer_has_one_verdict() -> None:
    found = compare(arm(1), arm(100, plant_ms={"gateway.auth": 15.0}))
    assert layer_verdict(found.of_layer("gateway.auth")).plain == "worse p50 p95"  # of p99 nothing can be said
    assert layer_verdict(found.of_layer("gateway.auth")[:2]).plain == "worse"
    changes = found.of_layer("gateway.auth")
    mixed = [replace(changes[0], verdict="better"), replace(changes[1], verdict="same"), replace(changes[2], shift=None, verdict="unknown")]
    assert layer_verdict(mixed).plain == "better p50, same p95"
    assert layer_verdict([replace(one, shift=None) for one in changes]).plain == "unknown"


def test_time_that_moved_is_said_in_a_sentence() -> None:
    found = compare(arm(1, plant_ms={"gateway.auth": 20.0}), arm(100, plant_ms={"gateway.safety": 20.0}))
    told = " ".join(text_of(found).split())
    assert "ms moved from gateway.auth to gateway.safety at p50: the two together changed by" in told
    (first, *_) = summary(found)["moved"]
    assert (first["from"], first["to"], first["metric"]) == ("gateway.auth", "gateway.safety", "ttft")
    assert first["low_ms"] <= 0 <= first["high_ms"]


def test_words_of_strangers_stay_words() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    render(compare(arm(1), replace(arm(100), name="runs/\x1b[2J\N{SNOWMAN}[bold]")), file=stream)
    shown = stream.buffer.getvalue().decode()
    assert "\x1b" not in shown
    assert "\\x1b[2J?[bold]" in shown


def test_lines_fit_their_width() -> None:
    found = compare(arm(1), arm(100))
    for width in (100, 120):
        assert max(map(len, text_of(found, width).splitlines())) <= width


def test_runs_that_differ_are_told_where_layers_do_not_add_up_to_the_figure_end_to_end() -> None:
    slow = [replication((seed,), 0.05, 600, scale=3.0 if seed == 14 else 1.0) for seed in range(10, 15)]
    uneven = arm_of("uneven", [replace(one, meta={**one.meta, "seed": seed}) for seed, one in enumerate(slow)])
    told = " ".join(text_of(compare(uneven, arm(100))).split())
    found = uneven.figure(Key(Selector("ttft"), 0.5))
    assert (
        f"The runs of A differ: ttft p50 is {found.value / 1e6:.2f} ms of all requests together, and {np.mean(found.figures) / 1e6:.2f} ms"
        in told
    )
    assert "The runs of B differ: ttft p50" not in told


def test_figures_are_told_unrounded_and_unknown_ones_as_null() -> None:
    told = summary(compare(arm(1, runs=1, n=2000), arm(100, runs=1, n=2000)))
    tail = next(one for one in told["end_to_end"] if one["at"] == "p99")
    assert tail["low_ms"] is tail["found_from_ms"] is tail["rank_p"] is None
    assert tail["verdict"] == "unknown"
    assert "needs 3 replications" in tail["why"]
    middle = told["end_to_end"][0]
    assert middle["low_ms"] < middle["change_ms"] < middle["high_ms"]
    errors = next(one for one in told["end_to_end"] if one["metric"] == "errors")
    assert errors["change"] == 0.0
    assert errors["at"] is None


def test_no_percentile_is_told_of_too_few_requests() -> None:
    told = compare(arm(1, runs=1, n=100), arm(100, runs=1, n=2000))
    for one in (*summary(told)["end_to_end"], *summary(told)["layers"]["ttft"]):
        is_refused = one["at"] in {"p95", "p99"} and one["metric"] not in {"errors", "goodput"}
        values = [one.get(f"{name}_ms") for name in ("a", "b", "change")]
        assert all(value is None for value in values) or not is_refused
        assert one["why"] or not is_refused
    shown = text_of(told)
    lines = {line.strip()[:8]: line.split() for line in shown.splitlines()}
    assert lines["ttft p99"][2:] == ["-"] * 6 + ["unknown"]
    assert lines["ttft p50"][2] != "-"


def test_each_arm_says_how_many_requests_count_and_what_was_cut() -> None:
    cut = Steady(0, cut_requests=40, cut_ns=2 * NS_PER_S, warmup_ns=3 * NS_PER_S)
    made = [replace(replication((seed,), 0.5, 600), steady=cut) for seed in (1, 2)]
    one, two = arm_of("one", made[:1]), arm_of("two", made)
    shown = " ".join(text_of(compare(one, two)).split())
    assert "; 600 requests count: 3.0 s of warm-up, and 40 requests (2.0 s) of the measured load cut B two: 2 runs" in shown
    assert "; 1200 requests count: 6.0 s of warm-up, and 80 requests (4.0 s) of the measured load cut, in all" in shown
    told = summary(compare(one, two))["arms"]
    assert [(run["seed"], run["requests"], run["cut_requests"], run["steady"]) for run in told["b"]["runs"]] == [
        (seed, 600, 40, cut.words) for seed in two.seeds
    ]
    by_plan = arm_of("by plan", [replace(run, steady=Steady(0, is_asked=False)) for run in made])
    assert f"1200 requests count: {Steady(0, is_asked=False).words}" in " ".join(text_of(compare(one, by_plan)).split())
    kept = compare(replace(one, runs=()), two)  # as a baseline keeps it
    assert "requests count" not in next(arms(kept))
    assert summary(kept)["arms"]["a"]["runs"] == []
