"""The client runs on uvloop; what touches sockets is tested on the plain loop too, which latprof falls back to where there is no uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.hookimpl(optionalhook=True)  # pytest-asyncio before 1.4 does not know it, and runs everything on the plain loop
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, LoopFactory]:
    both: dict[str, LoopFactory] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    return both if item.path.name == "test_client_transport.py" else {"uvloop": uvloop.new_event_loop}
