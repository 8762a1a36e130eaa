"""Builds and runs ``truth_server.c``, and reads its log."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.verdict import end

SOURCE = Path(__file__).with_suffix(".c")
ARRIVED = 0xFFFFFFFF
"""The token number of the row that says when the whole request had been read."""

_ROW = np.dtype([("stream", "<u4"), ("token", "<u4"), ("at_ns", "<u8")])


@dataclass(frozen=True, slots=True)
class TruthServer:
    """A running server; ``log`` is there once it has stopped."""

    port: int
    log: Path
    process: subprocess.Popen[str]

    def stop(self) -> npt.NDArray[np.void]:
        """End it; every send it made: rows of (stream, token, at_ns)."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        return np.fromfile(self.log, _ROW)


def build(folder: Path, *, tls: bool) -> Path:
    """Compile the server; leaves with a message where there is no compiler, or no OpenSSL to compile against."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        print("harness.instrument needs a C compiler: apt-get install gcc")
        end(passed=False)
    binary = folder / ("truth_server_tls" if tls else "truth_server")
    extra = ["-DWITH_TLS", "-lssl", "-lcrypto"] if tls else []
    subprocess.run([str(compiler), "-O2", "-o", str(binary), str(SOURCE), *extra], check=True)
    return binary


def has_openssl() -> bool:
    """Whether the server can be built with TLS (apt: libssl-dev)."""
    return Path("/usr/include/openssl/ssl.h").exists()


@contextmanager
def truth_server(
    binary: Path, core: int | None, certificate: tuple[Path, Path] | None = None, *, awake: bool = False
) -> Iterator[TruthServer]:
    """The server on a free loopback port, on ``core`` alone if that is given; ``awake``: it never sleeps there."""
    folder = Path(tempfile.mkdtemp(prefix="latprof-truth-"))
    pin = ["taskset", "-c", str(core)] if core is not None and shutil.which("taskset") else []
    words = [*pin, str(binary), "0", str(folder / "log"), *(map(str, certificate) if certificate is not None else ())]
    environment = os.environ | ({"AWAKE": "1"} if awake else {})
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield TruthServer(int(process.stdout.readline()), folder / "log", process)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
