"""Runs one client against the truth server and holds its stamps against the server's log."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.instrument.client import Asked
from harness.instrument.truth_server import ARRIVED, truth_server
from harness.witness import Witness, witness
from latprof.client.endpoint import resolve_endpoint
from latprof.config import Target
from latprof.observations.columns import Chunks, Requests
from latprof.observations.streams import read_chunks, read_requests

IntArray = npt.NDArray[np.int64]

SERVER_CORE, CLIENT_CORE = (0, 1) if (os.cpu_count() or 1) > 1 else (None, None)
_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client says it saw: requests as (stream, sent_ns, first_token_ns), token chunks as (stream, token, at_ns, previous stamp).

    ``late_us``: lateness of every request, where the client tells it.
    """

    requests: IntArray
    chunks: IntArray
    late_us: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """One arm. Errors in us: what the client says minus what the server did, in steady state; one entry per chunk, or per request.

    ``is_alone`` and ``ttft_is_alone``, likewise: no standstill of the machine fell on it, by the word of a witness, between what the server did and
    what the client says (`harness.witness`).
    """

    name: str
    stamp_error_us: npt.NDArray[np.float64]
    ttft_error_us: npt.NDArray[np.float64]
    is_interval: npt.NDArray[np.bool_]
    inside: float
    """Share of the interval chunks whose truth lies inside the interval (0.1 ms allowed)."""
    chunks_per_s: float
    requests_per_s: float
    cpu_us_per_chunk: float
    cpu_us_per_request: float
    peak_mb: float
    late_us: npt.NDArray[np.float64]
    lost: int
    libraries: tuple[str, ...]
    is_alone: npt.NDArray[np.bool_]
    ttft_is_alone: npt.NDArray[np.bool_]

    def stamp_us(self, p: float) -> float:
        """A percentile of the stamps' error."""
        return quantile(self.stamp_error_us, p)

    def ttft_us(self, p: float) -> float:
        """A percentile of the TTFT error."""
        return quantile(self.ttft_error_us, p)

    def stamp_alone_us(self, p: float) -> float:
        """A percentile of the stamps' error, of the chunks that the machine left alone."""
        return quantile(self.stamp_error_us[self.is_alone], p)

    def ttft_alone_us(self, p: float) -> float:
        """A percentile of the TTFT error, of the requests that the machine left alone."""
        return quantile(self.ttft_error_us[self.ttft_is_alone], p)


def measure(
    name: str,
    asked: Asked,
    server: Path,
    *,
    certificate: tuple[Path, Path] | None = None,
    clients: int = 1,
    kernel_stamps: bool = True,
    awake: bool = False,
) -> Measured:
    """Run ``clients`` processes that share the load of ``asked``, against one server; ``awake``: one that never sleeps."""
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latprof-client-"))) for _ in range(clients)]
        running = stack.enter_context(truth_server(server, SERVER_CORE, certificate, awake=awake))
        scheme = "http" if certificate is None else "https"
        url = f"{scheme}://127.0.0.1:{running.port}"
        target = Target(model="truth", tls_verify=False, max_connections=8_192, kernel_stamps=kernel_stamps)
        endpoint = base64.b64encode(pickle.dumps(resolve_endpoint(target, url + asked.query, {}))).decode()
        of_each = [
            replace(
                asked,
                url=url,
                endpoint=endpoint,
                folder=str(folder),
                first_session=number,
                share=clients,
                core=CLIENT_CORE if clients == 1 else None,
            )
            for number, folder in enumerate(folders)
        ]
        with witness() as watched:
            told = _run(of_each)
        truth = running.stop()
        seen = [_seen(folder, asked.client) for folder in folders]
        return _held(name, asked, told, seen, truth, watched)


def _run(of_each: Sequence[Asked]) -> list[dict[str, Any]]:
    words = [sys.executable, "-m", "harness.instrument.client"]
    processes = [subprocess.Popen([*words, json.dumps(asdict(asked))], stdout=subprocess.PIPE, text=True) for asked in of_each]
    try:
        return [json.loads(process.communicate(timeout=_TIMEOUT_S)[0].splitlines()[-1]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _seen(folder: Path, client: str) -> Seen:
    if client == "aiohttp":
        with np.load(folder / "aiohttp.npz") as kept:
            requests, chunks = kept["requests"], kept["chunks"]
        return Seen(requests, _numbered(chunks[:, 0], chunks[:, 1]), np.empty(0))
    requests = Requests.from_arrow(read_requests(folder).table)
    chunks = Chunks.from_arrow(read_chunks(folder).table)
    session_of = dict(zip(requests.request.tolist(), requests.session.tolist(), strict=True))
    tokens = chunks.select(chunks.has_token)
    streams = np.array([session_of[request] for request in tokens.request.tolist()], np.int64)
    ok = requests.success
    columns = np.stack([requests.session, requests.send_ns, requests.first_token_ns], axis=1)[ok]
    return Seen(columns, _numbered(streams, tokens.at_ns), (requests.send_ns - requests.intended_ns)[ok] / 1e3)


def _numbered(streams: IntArray, at_ns: IntArray) -> IntArray:
    """Chunks in order of arrival -> (stream, number of the token in it, at_ns, stamp of the chunk before, or of the same read's)."""
    order = np.argsort(streams, kind="stable")
    streams, at_ns = streams[order], at_ns[order]
    begins = np.r_[True, streams[1:] != streams[:-1]]
    first = np.maximum.accumulate(np.where(begins, np.arange(len(streams)), 0))
    # The stamp of the last earlier read: chunks of one read share a stamp.
    new_read = begins | np.r_[True, at_ns[1:] != at_ns[:-1]]
    read_first = np.maximum.accumulate(np.where(new_read, np.arange(len(streams)), 0))
    before = np.where(read_first > first, at_ns[np.maximum(read_first - 1, 0)], 0)
    return np.stack([streams, np.arange(len(streams)) - first, at_ns, before], axis=1)


def _held(
    name: str, asked: Asked, told: Sequence[dict[str, Any]], seen: Sequence[Seen], truth: npt.NDArray[np.void], watched: Witness
) -> Measured:
    start_ns = min(one["start_ns"] for one in told)
    steady_ns = start_ns + round(min(asked.call_s, asked.seconds / 3) * 1e9)
    requests = np.concatenate([one.requests for one in seen])
    chunks = np.concatenate([one.chunks for one in seen])
    sent_by_server = _by_key(truth[truth["token"] != ARRIVED])
    arrived = _by_key(truth[truth["token"] == ARRIVED])
    late = requests[requests[:, 1] >= steady_ns]
    steady = chunks[np.isin(chunks[:, 0], late[:, 0])]
    true_ns = _look_up(sent_by_server, steady[:, 0], steady[:, 1])
    error_us = (steady[:, 2] - true_ns) / 1e3
    first_ns = _look_up(sent_by_server, late[:, 0], np.zeros(len(late), np.int64))
    arrived_ns = _look_up(arrived, late[:, 0], np.full(len(late), ARRIVED))
    touched = watched.touched(late[:, 1], arrived_ns) | watched.touched(first_ns, late[:, 2])
    same_read = np.zeros(len(steady), np.bool_)
    same = (steady[1:, 0] == steady[:-1, 0]) & (steady[1:, 2] == steady[:-1, 2])
    same_read[1:] |= same
    same_read[:-1] |= same
    inside = (true_ns <= steady[:, 2] + 100_000) & (true_ns >= steady[:, 3] - 100_000)
    cpu_ns, wall_ns, (from_ns, to_ns) = _cpu(told)
    in_window = int(((chunks[:, 2] >= from_ns) & (chunks[:, 2] < to_ns)).sum())
    ended = int(((requests[:, 2] >= from_ns) & (requests[:, 2] < to_ns)).sum())
    return Measured(
        name,
        error_us,
        ((late[:, 2] - late[:, 1]) - (first_ns - arrived_ns)) / 1e3,
        same_read,
        float(inside[same_read].mean()) if same_read.any() else 1.0,
        in_window / (wall_ns / 1e9),
        ended / (wall_ns / 1e9),
        cpu_ns / max(1, in_window) / 1e3,
        cpu_ns / max(1, ended) / 1e3,
        max(one["peak_mb"] for one in told),
        np.concatenate([one.late_us for one in seen]),
        len(truth[truth["token"] != ARRIVED]) - len(chunks),
        tuple(told[0]["libraries"]),
        ~watched.touched(true_ns, steady[:, 2]),
        ~touched,
    )


def _cpu(told: Sequence[dict[str, Any]]) -> tuple[int, int, tuple[int, int]]:
    """CPU time of all clients over the window in which all of them were in steady state, its length, and the window."""
    begins = max(one["samples"][len(one["samples"]) // 4][0] for one in told)
    ends = min(one["samples"][-2][0] for one in told)
    total = 0
    for one in told:
        at, used = np.array(one["samples"], np.int64).T
        total += int(np.interp(ends, at, used) - np.interp(begins, at, used))
    return total, max(1, ends - begins), (begins, ends)


def _by_key(rows: npt.NDArray[np.void]) -> tuple[IntArray, IntArray]:
    key = (rows["stream"].astype(np.int64) << 32) | rows["token"].astype(np.int64)
    order = np.argsort(key)
    return key[order], rows["at_ns"].astype(np.int64)[order]


def _look_up(known: tuple[IntArray, IntArray], streams: IntArray, tokens: IntArray) -> IntArray:
    keys, values = known
    wanted = (streams << 32) | tokens
    at = np.searchsorted(keys, wanted)
    if (keys[np.minimum(at, len(keys) - 1)] != wanted).any():
        raise AssertionError("the client has chunks that the server never sent")
    return values[at]


def quantile(values: npt.NDArray[np.float64], p: float) -> float:
    """A percentile; not a number where there is no value."""
    return float(np.quantile(values, p)) if len(values) else float("nan")
