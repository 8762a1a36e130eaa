"""Runs of the stack in a box with something planted, and what latprof made of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latprof.analysis.quantiles import hd_weights
from latprof.clock import WallAnchor
from latprof.config import load_config
from latprof.layers.build import build_layers
from latprof.layers.table import Layers
from latprof.layers.vocabulary import UNATTRIBUTED
from latprof.observations.folder import Run, load
from latprof.pipeline import run
from latprof.spans import store
from latprof.spans.store import Spans
from latprof.units import NS_PER_MS


@dataclass(frozen=True, slots=True)
class Arm:
    """One run, loaded from its folder."""

    name: str
    observed: Run
    spans: Spans
    layers: Layers
    truth: Path
    disturbed_ms: float = 0.0
    """The largest p99 by which a stage missed its planned instants, or the generator its own: what the machine, not the stack, did."""

    def contribution_ms(self, layer: str, p: float, part: str = "total") -> float:
        """A layer's Harrell-Davis contribution at ``p``; 0 for a layer that never was. ``part``: total, wait or service."""
        if layer not in self.layers.names:
            return 0.0
        column: npt.NDArray[np.int64] = getattr(self.layers, f"{part}_ns")[:, self.layers.names.index(layer)]
        ttft = self.layers.total_ns.sum(axis=1)
        order = np.argsort(ttft, kind="stable")
        return float(hd_weights(len(ttft), p) @ column[order]) / NS_PER_MS

    def ttft_ms(self, p: float) -> float:
        """The Harrell-Davis quantile of TTFT."""
        ttft = np.sort(self.layers.total_ns.sum(axis=1))
        return float(hd_weights(len(ttft), p) @ ttft) / NS_PER_MS

    def unattributed_share(self) -> float:
        """Mean share of TTFT that no layer owns."""
        names = [index for index, name in enumerate(self.layers.names) if name.startswith(UNATTRIBUTED)]
        return float(self.layers.total_ns[:, names].sum() / self.layers.total_ns.sum())


@contextmanager
def arm(name: str, overrides: Mapping[str, Any]) -> Iterator[Arm]:
    """Run the stub with ``overrides`` laid over the quickstart; the folder is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="latprof-arm-"))
    try:
        outcome = run(load_config(None, {**overrides, "out": folder / "run"}))
        facts = outcome.report.facts
        missed_ns = [facts.lateness_p99_ns, *(stage.timer_error_p99_ns for stage in facts.stages)]
        yield replace(read(name, outcome.folder), disturbed_ms=max(missed_ns) / NS_PER_MS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def quiet_arm(name: str, overrides: Mapping[str, Any], most_ms: float = 3.0, tries: int = 3) -> Iterator[Arm]:
    """`arm`, run again while the machine disturbed it by more than ``most_ms``; the quietest of ``tries``.

    Judged by the stages' and the generator's own timers alone, never by the figures that are asked for.
    """
    with ExitStack() as stack:
        best: Arm | None = None
        for number in range(tries):
            tried = stack.enter_context(arm(name, overrides))
            if best is None or tried.disturbed_ms < best.disturbed_ms:
                best = tried
            if best.disturbed_ms <= most_ms:
                break
            print(f"  (try {number + 1} of {name}: the machine was {tried.disturbed_ms:.1f} ms off at p99)", flush=True)
        if best is not None:
            yield best


def read(name: str, folder: Path, spans: Spans | None = None) -> Arm:
    """A run folder as an arm; ``spans`` replaces the run's own (for controls)."""
    observed = load(folder)
    taken = store.load(folder) if spans is None else spans
    layers = build_layers(observed.requests, taken, WallAnchor(**observed.meta["anchor"])).ttft
    return Arm(name, observed, taken, layers, folder / "truth")
