"""The chain, up for as long as a ``with`` block lasts.

client -> HAProxy -> Envoy -> LiteLLM -> pass-through -> llama.cpp
          timers     spans    spans      spans           timings, which LiteLLM drops from a stream
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.chain import configs
from harness.chain.install import ROOT, Installed, ensure, ensure_haproxy
from harness.chain.processes import LOOPBACK, Command, Process, Processes, StartError, accepts, answers, free_ports

_START_S = 30.0
_LITELLM_START_S = 120.0  # 9 s on an idle machine, most of it imports
_WARM_UP_S = 60.0
_WARM_UPS = 3


@dataclass(frozen=True, slots=True)
class Ports:
    """Where each hop listens, from the client inwards."""

    haproxy: int
    envoy: int
    envoy_admin: int
    litellm: int
    passthrough: int
    llamacpp: int


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that is up and warm."""

    ports: Ports
    api_key: str
    folder: Path
    model: str = configs.MODEL_NAME

    @property
    def url(self) -> str:
        """The entry, as an OpenAI base URL."""
        return base_url(self.ports.haproxy)

    @property
    def headers(self) -> dict[str, str]:
        """What a request must carry: LiteLLM's key."""
        return {"Authorization": f"Bearer {self.api_key}"}


def base_url(port: int) -> str:
    """The OpenAI base URL of the hop that listens on ``port``: any hop of the chain can be asked directly."""
    return f"http://{LOOPBACK}:{port}/v1"


@contextlib.contextmanager
def real_chain(*, otlp_grpc_port: int, http_no_delay: bool = True) -> Iterator[Chain]:
    """The whole chain, ready and warm; its spans go to ``otlp_grpc_port``, at most about a second late.

    ``http_no_delay=False`` makes HAProxy a buffering hop. Installs what is missing.

    Raises:
        InstallError: a component is missing and could not be installed.
        StartError: a component did not come up.
    """
    installed = ensure()
    ports = Ports(*free_ports(6))
    with tempfile.TemporaryDirectory(prefix="latprof-chain-") as name, Processes(Path(name)) as processes:
        chain = Chain(ports, f"sk-{secrets.token_urlsafe(32)}", Path(name))
        # The slowest first: the others come up while it imports.
        litellm = _start_litellm(processes, installed, chain, otlp_grpc_port)
        llamacpp = _start_llamacpp(processes, installed, chain)
        passthrough = _start_passthrough(processes, chain, otlp_grpc_port)
        envoy = _start_envoy(processes, installed, chain, otlp_grpc_port)
        haproxy = _start_haproxy(processes, installed.haproxy, ports.haproxy, ports.envoy, http_no_delay=http_no_delay)
        llamacpp.wait_until(lambda: answers(ports.llamacpp, "/health"), _START_S)
        passthrough.wait_until(lambda: accepts(ports.passthrough), _START_S)
        envoy.wait_until(lambda: answers(ports.envoy_admin, "/ready"), _START_S)
        haproxy.wait_until(lambda: accepts(ports.haproxy), _START_S)
        litellm.wait_until(lambda: answers(ports.litellm, "/health/liveliness"), _LITELLM_START_S)
        _warm_up(chain, litellm)
        yield chain


@contextlib.contextmanager
def haproxy_front(upstream_port: int, *, http_no_delay: bool) -> Iterator[int]:
    """HAProxy alone in front of whatever listens on ``upstream_port``; yields its own port."""
    program = ensure_haproxy()
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="latprof-haproxy-") as name, Processes(Path(name)) as processes:
        haproxy = _start_haproxy(processes, program, port, upstream_port, http_no_delay=http_no_delay)
        haproxy.wait_until(lambda: accepts(port), _START_S)
        yield port


def _start_haproxy(processes: Processes, program: Path, port: int, upstream_port: int, *, http_no_delay: bool) -> Process:
    config = processes.folder / "haproxy.cfg"
    config.write_text(configs.haproxy(port=port, upstream_port=upstream_port, http_no_delay=http_no_delay))
    return processes.start("haproxy", [program, "-db", "-f", config])


def _start_envoy(processes: Processes, installed: Installed, chain: Chain, otlp_grpc_port: int) -> Process:
    ports, config = chain.ports, processes.folder / "envoy.yaml"
    config.write_text(
        configs.envoy(port=ports.envoy, admin_port=ports.envoy_admin, upstream_port=ports.litellm, otlp_grpc_port=otlp_grpc_port)
    )
    # One worker thread: two cores are shared by five processes and the client.
    return processes.start("envoy", [installed.bin / "envoy", "-c", config, "--concurrency", "1", "--disable-hot-restart"])


def _start_litellm(processes: Processes, installed: Installed, chain: Chain, otlp_grpc_port: int) -> Process:
    config = processes.folder / "litellm.yaml"
    config.write_text(configs.litellm(upstream_port=chain.ports.passthrough, master_key=chain.api_key))
    environment = configs.litellm_environment(otlp_grpc_port=otlp_grpc_port, home=str(processes.folder))
    command: Command = [installed.bin / "litellm", "--config", config, "--host", LOOPBACK, "--port", str(chain.ports.litellm)]
    return processes.start("litellm", command, env=environment, cwd=processes.folder)


def _start_passthrough(processes: Processes, chain: Chain, otlp_grpc_port: int) -> Process:
    ports = (chain.ports.passthrough, chain.ports.llamacpp, otlp_grpc_port)
    return processes.start("passthrough", [sys.executable, "-m", "harness.chain.passthrough", *map(str, ports)], cwd=ROOT)


def _start_llamacpp(processes: Processes, installed: Installed, chain: Chain) -> Process:
    command: Command = [installed.python, "-m", "harness.chain.llamacpp", str(chain.ports.llamacpp), processes.folder / "tiny.gguf"]
    return processes.start("llamacpp", command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=processes.folder)


def _warm_up(chain: Chain, litellm: Process) -> None:
    """LiteLLM's first request takes 1.3-2.2 s, its second is still slow: nobody should measure them."""
    for _ in range(_WARM_UPS):
        connection = http.client.HTTPConnection(LOOPBACK, chain.ports.haproxy, timeout=_WARM_UP_S)
        with contextlib.closing(connection):
            body = {"model": chain.model, "messages": [{"role": "user", "content": "warm up"}], "max_tokens": 2, "stream": True}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {**chain.headers, "Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        if response.status != http.client.OK:
            raise StartError(f"the chain answered {response.status} to its first request: {answer[:500]!r}\n{litellm.log_tail()}")
