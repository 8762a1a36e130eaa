"""The answer to a what-if as a value: what every renderer shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from latprof.analysis.quantiles import rests_on_enough
from latprof.analysis.sweeps.bottlenecks import Bottlenecks
from latprof.analysis.validity.doubts import Doubt
from latprof.analysis.whatif.changes import Change
from latprof.analysis.whatif.record import Load
from latprof.analysis.whatif.replays import Use

Metric = Literal["ttft", "e2el", "task"]
AT = (0.50, 0.99)
"""The percentiles that are checked and predicted."""
ALLOWED: Mapping[float, float] = {0.50: 0.05, 0.99: 0.10}
"""How far the replay without change may be off before nothing is predicted."""

NAMES: Mapping[Metric, str] = {"ttft": "TTFT", "e2el": "call", "task": "task"}
"""Metric ids and what a table calls them."""


@dataclass(frozen=True, slots=True)
class Reproduced:
    """One percentile of the replay without change beside the record's, ns."""

    metric: Metric
    p: float
    recorded_ns: float
    replayed_ns: float

    @property
    def off(self) -> float:
        """Relative difference."""
        return self.replayed_ns / self.recorded_ns - 1 if self.recorded_ns else 0.0

    @property
    def is_near(self) -> bool:
        """Whether it is near enough to predict from."""
        return abs(self.off) <= ALLOWED[self.p]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One percentile of one metric, ns. ``now`` is the record's, ``replayed`` the replay's without any change, of the load neither.

    ``anchored`` is now x predicted/replayed. ``low`` and ``high`` bound 95 % over blocks of time; None where the sample is too small.
    ``requests`` (tasks, of a task) are those it rests on, now or predicted, whichever are fewer. ``naive`` is the naive line's, None for a task, and its ``naive_gap`` that over the predicted, less 1.
    """

    metric: Metric
    p: float
    now_ns: float
    replayed_ns: float
    predicted_ns: float
    naive_ns: float | None
    bounds_ns: tuple[float, float] | None
    requests: int

    @property
    def is_given(self) -> bool:
        """Whether enough of the smaller side lie beyond it to speak of this percentile of the stack; else renderers leave it out."""
        return rests_on_enough(self.requests, self.requests, self.p)

    @property
    def anchored_ns(self) -> float:
        """The prediction as a ratio of replays on top of what is now."""
        return self.now_ns * self.predicted_ns / self.replayed_ns if self.replayed_ns else self.predicted_ns

    @property
    def naive_gap(self) -> float:
        """How far the naive line is off the replay; both start from the replay without a change of service, under the load that is asked for."""
        return self.naive_ns / self.predicted_ns - 1 if self.naive_ns is not None and self.predicted_ns else 0.0


@dataclass(frozen=True, slots=True)
class LayerChange:
    """A layer's contribution to the call's percentiles, now and predicted, by percentile in ns; they sum to the call's."""

    layer: str
    now_ns: Mapping[float, float]
    predicted_ns: Mapping[float, float]
    wait_ns: Mapping[float, float]  # of the predicted


@dataclass(frozen=True, slots=True)
class Worth:
    """What one change is worth on its own share: the Shapley value of its saving by (metric, p), ns."""

    change: Change
    saved_ns: Mapping[tuple[Metric, float], float]


@dataclass(frozen=True, eq=False)
class Answer:
    """Everything a renderer shows."""

    folder: str
    changes: tuple[Change, ...]
    load: Load
    own_load: Load
    arrival_model: str
    requests: int
    reproduced: tuple[Reproduced, ...]
    predictions: tuple[Prediction, ...]
    layers: tuple[LayerChange, ...]
    use_now: Mapping[str, Use]
    use_predicted: Mapping[str, Use]
    per_s_now: float
    per_s_predicted: float
    bottlenecks_now: Bottlenecks
    bottlenecks: Bottlenecks
    held: Mapping[str, str]
    decode: str
    worth: tuple[Worth, ...]
    doubts: tuple[Doubt, ...]
    presets: tuple[Mapping[str, Any], ...] = ()
    """What the recorded stack took from presets, as run.json holds it."""

    @property
    def given(self) -> tuple[float, ...]:
        """The percentiles of the call that rest on enough requests."""
        return tuple(one.p for one in self.predictions if one.metric == "e2el" and one.is_given)

    def prediction(self, metric: Metric, p: float) -> Prediction:
        """The one of that metric and percentile.

        Raises:
            KeyError: the run has no such metric.
        """
        found = next((one for one in self.predictions if (one.metric, one.p) == (metric, p)), None)
        if found is None:
            raise KeyError((metric, p))
        return found
