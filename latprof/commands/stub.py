"""What ``latprof stub up`` does: keep the stack in a box up for other tools."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from latprof.config import Config
from latprof.errors import Exit, RunFailedError
from latprof.pipeline.loop import ENDING_SIGNALS, new_runner

_LOOK_EVERY_S = 1.0


def keep_stub_up(config: Config, *, port: int, otlp_http_endpoint: str | None, truth: Path | None) -> Exit:
    """``latprof stub up``."""
    with new_runner() as runner:
        return runner.run(_keep_stub_up(config, port, otlp_http_endpoint, truth))


async def _keep_stub_up(config: Config, port: int, otlp_http_endpoint: str | None, truth: Path | None) -> Exit:
    from latprof.stub.stack import start

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDING_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with await start(config.stub, otlp_http_endpoint, truth, {"gateway": port}, config.workload.tokenizer) as stub:
        where = f"spans go to {otlp_http_endpoint}" if otlp_http_endpoint else "no spans are sent (--otlp URL sends them)"
        sys.stdout.write(f"the stack in a box answers at {stub.url}/v1 (any model name); {where}. Ctrl-C ends it.\n")
        sys.stdout.flush()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK_EVERY_S)
            if died := stub.died():
                raise RunFailedError(f"the stack in a box did not last: {died}; start it again")
    return Exit.DONE
