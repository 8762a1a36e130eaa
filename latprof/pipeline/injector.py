"""The causal check's part of a run: the hop in front of the stack, between two stages of the stub, or where a gateway is pointed at it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latprof.config import Config, Stage
from latprof.errors import RunFailedError, UsageError

if TYPE_CHECKING:
    from latprof.client.targets import Targets
    from latprof.inject.order import Upstream
    from latprof.inject.running import RunningHop


class Injector:
    """Puts the hop of ``config.inject`` where it belongs, for the length of a run; does nothing where nothing is to be injected."""

    def __init__(self, config: Config, folder: Path, run_id: str, stack: contextlib.AsyncExitStack) -> None:
        self._config, self._folder, self._run_id, self._stack = config, folder, run_id, stack
        self._hop: RunningHop | None = None
        self._counts: dict[str, int] = {}

    @property
    def meta(self) -> dict[str, Any]:
        """What run.json keeps of the experiment's design."""
        inject = self._config.inject
        return {} if inject is None else {"inject": inject.model_dump(mode="python") | {"seed": self._config.load.seed} | self._counts}

    async def between(self, stages: Mapping[Stage, str]) -> Mapping[Stage, str]:
        """Where the stages of the stub shall find each other: one of them behind the hop, if it is to stand inside the stack."""
        from latprof.inject.order import Upstream

        inject = self._config.inject
        before = next((stage for stage in stages if inject is not None and stage == inject.before), None)
        if before is None or before == "gateway":
            return stages
        host, _, port = stages[before].removeprefix("http://").partition(":")
        hop = await self._start(Upstream(host, int(port)))
        return {**stages, before: hop.url}

    async def in_front(self, targets: Targets) -> Targets:
        """The targets as the client shall reach them: through the hop, if it is to stand in front of everything."""
        from latprof.inject.order import Upstream

        inject = self._config.inject
        if inject is None or inject.before != "gateway" or inject.has_own_address:
            return targets
        (endpoint,) = targets.endpoints
        hop = await self._start(Upstream(endpoint.address.host, endpoint.address.port, endpoint.unix_socket, endpoint.tls))
        return replace(targets, endpoints=(replace(endpoint, via=(hop.host, hop.port)),))

    async def inside(self) -> None:
        """Start the hop at its own address, where a gateway is pointed at it, if it has one.

        Raises:
            UsageError: the address cannot be had, or nobody answers at the upstream.
        """
        from latprof.client.tls import TlsFiles, tls_context
        from latprof.inject.hop import connect
        from latprof.inject.order import Upstream
        from latprof.inject.running import listen

        inject = self._config.inject
        if inject is None or inject.listen is None or inject.upstream is None:
            return
        tls = TlsFiles.of(self._config.target) if inject.upstream.startswith("https:") else None
        upstream = Upstream(*inject.host_and_port("upstream"), tls=tls)
        with listen(*inject.host_and_port("listen")) as listening:
            try:
                _, writer = await connect(upstream, None if tls is None else tls_context(tls))
            except (OSError, TimeoutError) as error:
                raise UsageError(
                    f"inject.upstream (--inject-upstream) {inject.upstream}: there is no connection to it ({error or 'no answer'}); start what"
                    " stands there, or say where the gateway's requests go without the hop"
                ) from None
            writer.close()
            await self._start(upstream, listening)

    async def reached(self) -> None:
        """Whether what was sent before the load has passed the hop that a gateway is pointed at.

        Raises:
            RunFailedError: it has not; no delay would reach anything.
        """
        inject = self._config.inject
        if self._hop is None or inject is None or not inject.has_own_address:
            return
        counts = await self._hop.counts()
        if counts is None or counts.own:
            return
        unseen = f"inject: the request sent before the load was answered, but did not pass the hop at {inject.listen}"
        if counts.others:
            raise RunFailedError(
                f"{unseen} as one of this run: {counts.others} other requests came, without its trace; let the gateway hand the header"
                " traceparent on"
            )
        raise RunFailedError(
            f"{unseen}: nothing has come there; point the gateway's upstream at http://{inject.listen} in place of {inject.upstream}, for as long"
            " as the run lasts"
        )

    async def end(self) -> None:
        """End the hop, so that all of its record is written; run.json gets how many requests it has had.

        Raises:
            RunFailedError: it had ended before.
        """
        if self._hop is not None:
            died, counts = self._hop.died(), await self._hop.counts()
            if counts is not None:
                self._counts = counts._asdict()
            await self._hop.stop()
            if died:
                raise RunFailedError(f"{died}; what came before is kept in {self._folder}; measure again")

    async def _start(self, upstream: Upstream, listening: socket.socket | None = None) -> RunningHop:
        from latprof.inject.order import HopOrder
        from latprof.inject.running import start

        inject = self._config.inject
        if inject is None:
            raise ValueError("nothing is to be injected")
        order = HopOrder(str(self._folder), self._run_id, upstream, inject.delays_ns, inject.block_ns, inject.per, self._config.load.seed)
        self._hop = await self._stack.enter_async_context(await start(order, listening))
        return self._hop
