"""How the cost of the live view is judged; and, asked for by name, one run of each kind."""

from __future__ import annotations

import pytest

from harness import live_view
from harness.live_view import Used, judged


def pairs(cost: float, senders: float = 0.0, frames: float = 4.0, spread: float = 0.1) -> list[tuple[Used, Used]]:
    noise = (-spread, spread, 0.0, spread, -spread)
    return [(Used(3.0 + cost + more, 20.0 + senders, frames), Used(3.0, 20.0, 0.0)) for more in noise]


def misses(found: list[tuple[Used, Used]]) -> set[str]:
    return {figure.name for figure in judged(found) if not figure.passed}


def test_a_cheap_view_passes_and_a_dear_one_does_not() -> None:
    assert misses(pairs(1.5)) == set()
    assert misses(pairs(2.1)) == {"both together: upper end"}
    assert misses(pairs(0.5, senders=2.5)) == {"sender: upper end", "both together: upper end"}


def test_a_busy_machine_is_no_excuse() -> None:
    assert misses(pairs(1.5, spread=2.0)) == {"both together: upper end"}


def test_a_view_that_was_not_drawn_proves_nothing() -> None:
    assert misses(pairs(0.1, frames=0.5)) == {"frames drawn"}
    drawn_twice = [(one, Used(3.0, 20.0, 4.0)) for one, _ in pairs(0.1)]
    assert misses(drawn_twice) == {"frames drawn without it"}


@pytest.mark.slow
def test_a_run_is_drawn_and_its_cpu_time_told(monkeypatch: pytest.MonkeyPatch) -> None:
    load = ("--request-rate", "20", "--duration", "4s", "--warmup", "1s", "--isl", "16", "--osl", "4")
    monkeypatch.setattr(live_view, "_LOAD", load)
    shown, hidden = live_view.used(0.0), live_view.used(None)
    assert shown.frames_per_s > 2
    assert hidden.frames_per_s == 0
    assert 0 < hidden.profiler < 100
    assert 0 < shown.senders < 100
