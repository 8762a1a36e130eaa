"""The instrument's own error and cost: ``python -m harness.instrument [--seconds 8] [--only 256,saturation]``.

A server in C, on one core, sends tokens and writes down when; the client, on another, says when they came. Error: what the client says minus what
the server did, in steady state (the first wave is spread over one call and left out). Load: TTFT 200 ms, 128 tokens, ITL 5 ms (20 ms at 1 024
streams), even starts. Beside latprof a plain aiohttp client (a session, lines iterated, JSON parsed) in the same run. CPU is that of the client
process with all recording on, over the steady part. The control shifts latprof's stamps by 1 ms.

A shared machine that stands still for longer than an ITL merges segments: those chunks are intervals, and are counted. What is asked of stamps and of
TTFT is asked of all chunks and requests; where they miss it, of those that the machine left alone, by the word of a witness (`harness.witness`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from harness import verdict
from harness.instrument import spans_cost
from harness.instrument.arms import CLIENT_CORE, Measured, measure, quantile
from harness.instrument.client import Asked
from harness.instrument.truth_server import build, has_openssl
from harness.verdict import Figure

STREAMS = (1, 16, 64, 256, 1_024)
_SPANS_REQUESTS = 1_600
_LIGHT = {"numpy", "uvloop", "httptools", "pyarrow", "orjson"}


def paced(client: str, streams: int, seconds: float, block_ms: float = 0.0) -> Asked:
    """The load of one row of the table."""
    itl_us = 20_000 if streams > 256 else 5_000
    asked = Asked(client, "", "", streams, seconds, itl_us=itl_us, block_ms=block_ms)
    return replace(asked, seconds=max(seconds, 3 * asked.call_s))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; exit 1 when a figure that is asked for misses, or the control is not caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of every arm")
    parser.add_argument(
        "--only", default="", help="parts, separated by commas: numbers of streams, tls, blocked, saturation, small, ceiling, spans"
    )
    options = parser.parse_args(arguments)
    wanted = set(filter(None, options.only.split(",")))
    print(
        f"nothing is drawn but for spans (their seed stands there); {options.seconds:g} s an arm; client on core {CLIENT_CORE}; load average {os.getloadavg()[0]:.2f}"
    )
    with tempfile.TemporaryDirectory(prefix="latprof-instrument-") as folder:
        passed = _run(Path(folder), options.seconds, lambda part: not wanted or part in wanted)
    verdict.end(passed=passed)


def _run(folder: Path, seconds: float, is_wanted: Callable[[str], bool]) -> bool:
    server = build(folder, tls=False)
    passed = True
    print(_HEAD, flush=True)
    for streams in STREAMS:
        if is_wanted(str(streams)):
            passed &= _rows(server, streams, seconds)
    if is_wanted("tls") and has_openssl():
        _tls_rows(folder, seconds)
    elif is_wanted("tls"):
        print("(no TLS rows: the server needs OpenSSL's headers, apt-get install libssl-dev)")
    if is_wanted("blocked"):
        passed &= _blocked(server, seconds)
    if is_wanted("saturation"):
        passed &= _saturation(server)
    if is_wanted("small"):
        passed &= _small(server)
    if is_wanted("ceiling"):
        _ceiling(server)
    if is_wanted("spans"):
        head = f"half of n {_SPANS_REQUESTS} requests to the stub ask for spans, by lot; 40/s; seed {spans_cost.SEED}"
        passed &= verdict.show("what asking for spans costs", head, spans_cost.figures(_SPANS_REQUESTS))
    return passed


def _rows(server: Path, streams: int, seconds: float) -> bool:
    """One size: latprof and aiohttp in turn; at 256 streams what is asked for."""
    own = _row(measure(f"{streams} latprof", paced("latprof", streams, seconds), server))
    other = _row(measure(f"{streams} aiohttp", paced("aiohttp", streams, seconds), server))
    _row(measure(f"{streams} latprof, 2 workers", paced("latprof", streams, seconds), server, clients=2))
    if streams != 256:
        return True
    user = _row(measure(f"{streams} latprof, user stamps", paced("latprof", streams, seconds), server, kernel_stamps=False))
    head = f"n {len(own.stamp_error_us)} chunks, {len(own.ttft_error_us)} requests; 256 streams, plain HTTP, one worker, all recording on"
    passed = verdict.show("asked for at 256 streams", head, asked_at_256(own, other, user))
    shifted = replace(own, stamp_error_us=own.stamp_error_us + 1_000, ttft_error_us=own.ttft_error_us + 1_000)
    return passed & verdict.control("stamps shifted by 1 ms", asked_at_256(shifted, other, user))


def asked_at_256(own: Measured, other: Measured, user: Measured) -> list[Figure]:
    """What is asked for at 256 streams."""
    heavy = sorted({name for name in own.libraries if not name.startswith("_")} - _LIGHT)
    return [
        *_of_all_or_alone("stamp error p99, kernel stamps", own.stamp_us(0.99), own.stamp_alone_us(0.99), own.is_alone.mean(), 0.1),
        *_of_all_or_alone("stamp error p99, user stamps", user.stamp_us(0.99), user.stamp_alone_us(0.99), user.is_alone.mean(), 2.0),
        *_of_all_or_alone("TTFT error p99", own.ttft_us(0.99), own.ttft_alone_us(0.99), own.ttft_is_alone.mean(), 2.0),
        Figure("CPU per chunk", own.cpu_us_per_chunk, high=18.0, unit="us"),
        Figure("CPU per chunk over aiohttp's", own.cpu_us_per_chunk / other.cpu_us_per_chunk, high=0.65, unit=""),
        Figure("peak memory of the worker", own.peak_mb, high=150.0, unit="MB"),
        Figure(f"libraries in it but {', '.join(sorted(_LIGHT))} {' '.join(heavy)}".rstrip(), len(heavy), high=0, unit=""),
        Figure("chunks lost", own.lost, low=0, high=0, unit=""),
    ]


def _of_all_or_alone(name: str, of_all_us: float, of_alone_us: float, alone: float, high_ms: float) -> list[Figure]:
    """Asked of everything, where everything keeps it; else of what the machine left alone, if that is most of it."""
    if of_all_us / 1e3 <= high_ms:
        return [Figure(f"{name}, of all", of_all_us / 1e3, high=high_ms)]
    return [
        Figure(f"{name}, of all", of_all_us / 1e3),
        Figure(f"{name}, of those left alone by the machine", of_alone_us / 1e3, high=high_ms),
        Figure("the share of those", alone, low=0.5, unit=""),
    ]


def _tls_rows(folder: Path, seconds: float) -> None:
    server = build(folder, tls=True)
    files = folder / "cert.pem", folder / "key.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run([*words, "-keyout", str(files[1]), "-out", str(files[0])], check=True, capture_output=True)
    for streams in STREAMS:
        for client in ("latprof", "aiohttp"):
            _row(measure(f"{streams} {client}, TLS", paced(client, streams, seconds), server, certificate=files))


def _blocked(server: Path, seconds: float) -> bool:
    """The client's loop stands still for 20 ms ten times a second."""
    own = _row(measure("16 latprof, loop blocked 20 ms", paced("latprof", 16, seconds, block_ms=20.0), server))
    single = own.stamp_error_us[~own.is_interval]
    figures = [
        Figure("share of chunks that are intervals", float(own.is_interval.mean()), low=0.05, unit=""),
        Figure("intervals that hold the true instant", own.inside, low=0.99, unit=""),
        Figure("stamp error p99 of all others", quantile(single, 0.99) / 1e3, high=0.1),
    ]
    passed = verdict.show(
        "a blocked loop",
        f"n {len(own.stamp_error_us)} chunks; ITL 5 ms; two or more chunks in a read are an interval (previous stamp, this stamp]",
        figures,
    )
    claimed = replace(own, is_interval=own.is_interval & False).stamp_error_us
    return passed & verdict.control(
        "interval stamps taken for instants", [Figure("stamp error p99", quantile(claimed, 0.99) / 1e3, high=0.1)]
    )


def _saturation(server: Path) -> bool:
    asked = Asked("latprof", "", "", 4, 1.0, ttft_us=0, itl_us=0, tokens=20_000, closed=60)
    own = _row(measure("4 latprof, as fast as it goes", asked, server))
    figures = [
        Figure("chunks per second", own.chunks_per_s, low=120_000, unit="/s"),
        Figure("chunks lost", own.lost, low=0, high=0, unit=""),
    ]
    return verdict.show(
        "saturation",
        f"n {len(own.stamp_error_us)} chunks; 4 streams, the server sends in batches as fast as the socket takes them",
        figures,
    )


def _small(server: Path) -> bool:
    """By CPU time, and what is asked of a server that is awake: to wake one on another core costs whoever sends to it, and no peer on another host does."""
    asked = Asked("latprof", "", "", 32, 1.0, ttft_us=0, itl_us=0, tokens=1, closed=100_000, bare=True)
    others = replace(asked, client="aiohttp", closed=25_000)
    own = _row(measure("32 latprof, small requests", asked, server, awake=True))
    _row(measure("32 aiohttp, small requests", others, server, awake=True))
    waking = _row(measure("32 latprof, the server sleeps", asked, server))
    _row(measure("32 aiohttp, the server sleeps", others, server))
    head = f"n {asked.closed}; closed loop of 32, an answer of one event and the end mark in one segment; per core: by CPU time"
    figures = [
        Figure("requests per second and core", 1e6 / own.cpu_us_per_request, low=25_000, unit="/s"),
        Figure("the same, of a server that sleeps in between", 1e6 / waking.cpu_us_per_request, unit="/s"),
    ]
    return verdict.show("small requests", head, figures)


def _ceiling(server: Path) -> None:
    """V17: an open loop of small requests, faster and faster until its lateness p99 passes 1 ms."""
    print("\nthe generator's ceiling (open loop, constant, small requests; lateness p99 must stay below 1 ms)")
    ceiling = 0
    for rate in (500, 1_000, 2_000, 4_000, 8_000, 12_000, 16_000, 24_000, 32_000):
        asked = Asked("latprof", "", "", 1, 2.0, ttft_us=0, itl_us=0, tokens=1, bare=True, rate_per_s=rate)
        own = measure(f"{rate}/s", asked, server)
        late_ms = quantile(own.late_us, 0.99) / 1e3
        print(f"  {rate:>6}/s  achieved {own.requests_per_s:>8.0f}/s  lateness p99 {late_ms:8.3f} ms", flush=True)
        if late_ms > 1.0:
            break
        ceiling = rate
    print(f"  ceiling of one worker here: {ceiling}/s")


_HEAD = (
    f"\n{'':<32}{'stamp error us':^30}{'TTFT error us':^20}{'CPU us per':^20}{'per second':^20}{'peak':>6}{'inter-':>8}\n"
    f"{'streams and client':<32}{'p50':>8}{'p99':>10}{'p99.9':>10}  {'p50':>8}{'p99':>10}{'chunk':>10}{'request':>10}"
    f"{'chunks':>10}{'requests':>10}{'MB':>6}{'vals':>8}"
)


def _row(own: Measured) -> Measured:
    print(
        f"{own.name:<32}{own.stamp_us(0.5):>8.1f}{own.stamp_us(0.99):>10.1f}{own.stamp_us(0.999):>10.1f}  {own.ttft_us(0.5):>8.1f}"
        f"{own.ttft_us(0.99):>10.1f}{own.cpu_us_per_chunk:>10.1f}{own.cpu_us_per_request:>10.1f}{own.chunks_per_s:>10.0f}"
        f"{own.requests_per_s:>10.0f}{own.peak_mb:>6.0f}{own.is_interval.mean():>8.2%}",
        flush=True,
    )
    return own


if __name__ == "__main__":
    main()
