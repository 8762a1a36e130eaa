"""The requests of an arm that the machine left alone, so that a busy neighbour is not taken for a fault of latprof.

A request was left alone when its TTFT, by the client's own stamps, is what its stages had planned for it (their truth files) and little more beyond
that than the quickest of its arm took. Nothing that latprof makes of spans has a say in it: time in the wrong layer stays where it is, to be seen.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.arms import Arm, arm
from latprof.analysis.quantiles import hd_weights
from latprof.layers.vocabulary import UNATTRIBUTED
from latprof.units import NS_PER_MS

IntArray = npt.NDArray[np.int64]
Key = tuple[int, int]
"""Session and turn: the same request in every arm of one seed."""

OFF_MS = 4.0
"""So much longer than the quickest tenth of its arm a request may be on the way beyond what was planned: hops, and the wait for a batch boundary."""
_QUICKEST = 10


def planned_ns(truth: Path) -> dict[str, int]:
    """Trace id -> what the stages planned for the request, up to its first token."""
    planned: dict[str, int] = defaultdict(int)
    for path in sorted(truth.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            planned[entry["trace_id"]] += entry["planned_service_ns"]
    return planned


def left_alone(one: Arm, off_ms: float = OFF_MS) -> dict[Key, int]:
    """The requests that the machine left alone: key -> index in its layers. The arm must have been run with its truth written."""
    requests, rows = one.observed.requests, one.layers.rows
    planned = planned_ns(one.truth)
    beyond_ns = np.array(
        [int(requests.first_token_ns[row] - requests.intended_ns[row]) - planned.get(str(requests.trace_id[row]), 0) for row in rows],
        np.int64,
    )
    calm = beyond_ns <= np.percentile(beyond_ns, _QUICKEST) + off_ms * NS_PER_MS
    return {(int(requests.session[rows[at]]), int(requests.turn[rows[at]])): int(at) for at in np.flatnonzero(calm)}


@dataclass(frozen=True, slots=True, eq=False)
class Calm:
    """The layers of some requests: (n, L) each, the columns named by ``names``."""

    names: tuple[str, ...]
    total_ns: IntArray
    service_ns: IntArray

    def __len__(self) -> int:
        return len(self.total_ns)

    def contribution_ms(self, layer: str, p: float, part: str = "total") -> float:
        """A layer's Harrell-Davis contribution at ``p``; 0 for a layer that never was."""
        if layer not in self.names:
            return 0.0
        ttft = self.total_ns.sum(axis=1)
        column = (self.service_ns if part == "service" else self.total_ns)[:, self.names.index(layer)]
        return float(hd_weights(len(ttft), p) @ column[np.argsort(ttft, kind="stable")]) / NS_PER_MS

    def unattributed_share(self) -> float:
        """Mean share of TTFT that no layer owns."""
        nobodys = [index for index, name in enumerate(self.names) if name.startswith(UNATTRIBUTED)]
        return float(self.total_ns[:, nobodys].sum() / self.total_ns.sum())


def runs(stack: ExitStack, name: str, overrides: Mapping[str, Any], enough: int, tries: int = 6) -> list[Arm]:
    """An arm, run again until ``enough`` of its requests were left alone in one of its runs, at most ``tries`` times; every run after the first is told."""
    found: list[Arm] = []
    calm: set[Key] = set()
    while len(found) < tries:
        found.append(stack.enter_context(arm(name, overrides)))
        calm |= left_alone(found[-1]).keys()
        if len(calm) >= enough:
            break
        print(f"  (run {len(found)} of {name}: {len(calm)} requests left alone so far, {enough} wanted)", flush=True)
    return found


def pair(bases: Sequence[Arm], arms: Sequence[Arm]) -> tuple[Calm, Calm]:
    """The same requests as they were without the plant and with it: those left alone in one run of either side, each from the first such run."""
    before, after = _first(bases), _first(arms)
    both = sorted(before.keys() & after.keys())
    return _calm([before[key] for key in both]), _calm([after[key] for key in both])


def _first(runs_of_one: Sequence[Arm]) -> dict[Key, tuple[Arm, int]]:
    found: dict[Key, tuple[Arm, int]] = {}
    for one in runs_of_one:
        for key, index in left_alone(one).items():
            found.setdefault(key, (one, index))
    return found


def _calm(taken: Sequence[tuple[Arm, int]]) -> Calm:
    names = tuple(dict.fromkeys(name for one, _ in taken for name in one.layers.names))
    total_ns, service_ns = np.zeros((2, len(taken), len(names)), np.int64)
    at = {id(one): [names.index(name) for name in one.layers.names] for one, _ in taken}
    for row, (one, index) in enumerate(taken):
        total_ns[row, at[id(one)]] = one.layers.total_ns[index]
        service_ns[row, at[id(one)]] = one.layers.service_ns[index]
    return Calm(names, total_ns, service_ns)
