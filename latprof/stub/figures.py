"""A stage's figures about itself, as Prometheus text: enough to tell whether the stub, and not what it plays, was the limit."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator

from latprof.units import NS_PER_S

_KEPT_ERRORS = 16_384
_QUANTILES = (0.5, 0.99, 1.0)
_Sample = tuple[str, str, float]  # metric without its prefix, labels without the stage, value


class Figures:
    """Counters of one stage. Gauges are asked for when somebody reads."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._requests: Counter[int] = Counter()
        self._layers: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])  # requests, wait ns, service ns
        self._timer_errors_ns: deque[int] = deque(maxlen=_KEPT_ERRORS)
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []

    def request(self, status: int) -> None:
        """A request was answered with ``status``."""
        self._requests[status] += 1

    def layer(self, name: str, wait_ns: int, service_ns: int) -> None:
        """A request went through a layer."""
        sums = self._layers[name]
        sums[0] += 1
        sums[1] += wait_ns
        sums[2] += service_ns

    def timer_error(self, error_ns: int) -> None:
        """A planned instant was missed by ``error_ns``, early or late."""
        self._timer_errors_ns.append(abs(error_ns))

    def gauge(self, name: str, labels: str, read: Callable[[], float]) -> None:
        """Show ``read()`` as ``latprof_stub_<name>{<labels>}``."""
        self._gauges.append((name, labels, read))

    def text(self) -> str:
        """Prometheus exposition format 0.0.4: samples of one metric in one run of lines, under their TYPE."""
        by_metric: dict[str, list[str]] = {}
        for name, labels, value in (*self._counters(), *self._levels()):
            kind = "counter" if name.endswith(("_total", "_sum", "_count")) else "gauge"
            lines = by_metric.setdefault(name, [f"# TYPE latprof_stub_{name} {kind}"])
            stage = f'stage="{self._stage}"'
            lines.append(f"latprof_stub_{name}{{{stage}{labels and ','}{labels}}} {value:.9g}")
        return "\n".join(line for lines in by_metric.values() for line in lines) + "\n"

    def _counters(self) -> Iterator[_Sample]:
        for status, count in sorted(self._requests.items()):
            yield "requests_total", f'status="{status}"', count
        for name, (count, wait_ns, service_ns) in self._layers.items():
            for part, sum_ns in (("wait", wait_ns), ("service", service_ns)):
                labels = f'layer="{name}",part="{part}"'
                yield "layer_seconds_sum", labels, sum_ns / NS_PER_S
                yield "layer_seconds_count", labels, count
        yield "process_cpu_seconds_total", "", time.process_time()

    def _levels(self) -> Iterator[_Sample]:
        errors_ns = sorted(self._timer_errors_ns)
        for quantile in _QUANTILES:
            if errors_ns:
                error_ns = errors_ns[min(len(errors_ns) - 1, int(quantile * len(errors_ns)))]
                yield "timer_error_seconds", f'quantile="{quantile:g}"', error_ns / NS_PER_S
        yield "timer_errors_kept", "", len(errors_ns)
        for name, labels, read in self._gauges:
            yield name, labels, read()
