"""The made run's requests one by one, as a simulated run has them: lengths of layers, laid end to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from latprof.layers.call import call_layers
from latprof.layers.course import Course, laid_out
from latprof.layers.table import Layers
from latprof.observations.folder import Run
from latprof.units import MISSING_NS, NS_PER_MS


class MadeCourses:
    """What `latprof.opening.courses_of` is for a run folder. Decoding takes 20 of the 30 ms after the first token."""

    def __init__(self, run: Run, layers: Layers) -> None:
        decode_ns = np.full(len(layers.rows), 20 * NS_PER_MS)
        decode_ns[::7] = MISSING_NS
        self.call = call_layers(layers, run.requests, decode_ns)
        self._requests = run.requests

    def __call__(self, rows: Iterable[int]) -> Iterator[Course]:
        return laid_out(self.call, self._requests, rows)


def with_requests(run: Run, **columns: Any) -> Run:
    """``run`` with other columns of its requests."""
    return replace(run, requests=replace(run.requests, **columns))
