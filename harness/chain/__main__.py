"""The real chain by hand: ``python -m harness.chain ensure`` installs it, ``up [OTLP_GRPC_PORT]`` runs it until Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys

from harness.chain.install import ensure
from harness.chain.stack import real_chain

_OTLP_GRPC_PORT = 4317


def _up(otlp_grpc_port: int) -> None:
    with contextlib.suppress(KeyboardInterrupt), real_chain(otlp_grpc_port=otlp_grpc_port) as chain:
        print(
            f"url    {chain.url}\nmodel  {chain.model}\nkey    {chain.api_key}\nspans  to 127.0.0.1:{otlp_grpc_port}\nlogs   {chain.folder}"
        )
        signal.pause()


def main(arguments: list[str]) -> int:
    """Do what the first argument says; the exit code."""
    match arguments:
        case ["ensure"]:
            print(ensure().bin)
        case ["up"]:
            _up(_OTLP_GRPC_PORT)
        case ["up", port] if port.isdigit():
            _up(int(port))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
