"""The causal check's part of a run: the hop between the client and the stack, or between two stages of the stub, and what its record says."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latprof.clock import WallAnchor
from latprof.config import Config, Stage
from latprof.errors import RunFailedError

if TYPE_CHECKING:
    from latprof.analysis.causal.injection import Injection
    from latprof.client.targets import Targets
    from latprof.inject.order import Upstream
    from latprof.inject.running import RunningHop
    from latprof.observations.folder import Run
    from latprof.spans.store import Spans


class Injector:
    """Puts the hop of ``config.inject`` where it belongs, for the length of a run; does nothing where nothing is to be injected."""

    def __init__(self, config: Config, folder: Path, run_id: str, stack: contextlib.AsyncExitStack) -> None:
        self._config, self._folder, self._run_id, self._stack = config, folder, run_id, stack
        self._hop: RunningHop | None = None

    @property
    def meta(self) -> dict[str, Any]:
        """What run.json keeps of the experiment's design."""
        inject = self._config.inject
        return {} if inject is None else {"inject": inject.model_dump(mode="python") | {"seed": self._config.load.seed}}

    async def between(self, stages: Mapping[Stage, str]) -> Mapping[Stage, str]:
        """Where the stages of the stub shall find each other: one of them behind the hop, if it is to stand inside the stack."""
        from latprof.inject.order import Upstream

        inject = self._config.inject
        if inject is None or inject.before == "gateway":
            return stages
        host, _, port = stages[inject.before].removeprefix("http://").partition(":")
        hop = await self._start(Upstream(host, int(port)))
        return {**stages, inject.before: hop.url}

    async def in_front(self, targets: Targets) -> Targets:
        """The targets as the client shall reach them: through the hop, if it is to stand in front of everything."""
        from latprof.inject.order import Upstream

        inject = self._config.inject
        if inject is None or inject.before != "gateway":
            return targets
        (endpoint,) = targets.endpoints
        hop = await self._start(Upstream(endpoint.address.host, endpoint.address.port, endpoint.unix_socket, endpoint.tls))
        return replace(targets, endpoints=(replace(endpoint, via=(hop.host, hop.port)),))

    async def end(self) -> None:
        """End the hop, so that all of its record is written.

        Raises:
            RunFailedError: it had ended before.
        """
        if self._hop is not None:
            died = self._hop.died()
            await self._hop.stop()
            if died:
                raise RunFailedError(f"{died}; what came before is kept in {self._folder}; measure again")

    async def _start(self, upstream: Upstream) -> RunningHop:
        from latprof.inject.order import HopOrder
        from latprof.inject.running import start

        inject = self._config.inject
        if inject is None:
            raise ValueError("nothing is to be injected")
        order = HopOrder(str(self._folder), self._run_id, upstream, inject.delays_ns, inject.block_ns, inject.per, self._config.load.seed)
        self._hop = await self._stack.enter_async_context(await start(order))
        return self._hop


def with_injected(spans: Spans, observed: Run) -> Spans:
    """The spans of a run with what the hop did to its requests among them; ``spans`` themselves where there was none."""
    from latprof.layers.sources.injected import with_injected as told
    from latprof.observations.injected import load_injected

    injected = load_injected(observed.folder)
    if injected is None or "inject" not in observed.meta:
        return spans
    return told(spans, injected, observed.requests, WallAnchor(**observed.meta["anchor"]), observed.meta["inject"]["before"])


def injection_of(observed: Run) -> Injection | None:
    """What the delays did to the run; None where there were none."""
    from latprof.analysis.causal.injection import analyse
    from latprof.observations.injected import load_injected
    from latprof.schedule.delays import Delays

    told, injected = observed.meta.get("inject"), load_injected(observed.folder)
    if told is None or injected is None:
        return None
    design = Delays(tuple(told["delays_ns"]), told["block_ns"], told["per"], told["seed"])
    return analyse(observed.requests, injected, design, told["before"])
