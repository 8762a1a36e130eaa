"""What a run of two million chunks takes: ``python -m harness.long_run``.

Memory must be flat in the length of the run, and a chunk cost few bytes on disk.

A recorder is fed at speed by a process of its own: 256 streams side by side, each request 128 chunks, every stamp with a jitter of its own. Memory
is what is resident, read twenty times. The control never writes before the end, so that everything is kept: its memory must be seen to grow.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.verdict import Figure, control, end, show
from latprof.client.stamps import Attempt, ChunkLog
from latprof.observations.recorder import Recorder

CHUNKS = 2_000_000
STREAMS, PER_REQUEST = 256, 128
SAMPLES, SEED = 20, 1
MOST_GROWTH_MB = 12.0
MOST_BYTES_A_CHUNK = 40.0
_ITL_NS = 5_000_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """One run: resident memory at even distances (MB), the rate it was fed at, and its size on disk as it ran and after compaction."""

    resident_mb: list[float]
    fed_per_s: float
    stream_bytes: float
    compacted_bytes: float
    compaction_peak_mb: float

    @property
    def growth_mb(self) -> float:
        """From a fifth of the run, when every buffer has been used, to the most after it."""
        return max(self.resident_mb[len(self.resident_mb) // 5 :]) - self.resident_mb[len(self.resident_mb) // 5]


def main() -> None:
    """Print the table; exit 1 when a figure misses, or the control is not caught."""
    chunks = int(sys.argv[1]) if len(sys.argv) > 1 else CHUNKS
    head = f"n = {chunks:,} chunks of {chunks // PER_REQUEST:,} requests, seed {SEED}; tolerance {MOST_GROWTH_MB:g} MB from a fifth of the run on"
    recorded = record(chunks)
    passed = show("a long run", head, figures(recorded))
    caught = control("nothing is written before the end", figures(record(chunks, flush_every_s=3600.0)))
    end(passed=passed and caught)


def figures(recorded: Recorded) -> list[Figure]:
    """What is asked of a long run."""
    return [
        Figure("memory, growth after a fifth of the run", recorded.growth_mb, high=MOST_GROWTH_MB, unit="MB"),
        Figure("memory, most", max(recorded.resident_mb), high=150.0, unit="MB"),
        Figure("disk while it runs, a chunk (requests included)", recorded.stream_bytes, high=MOST_BYTES_A_CHUNK, unit="B"),
        Figure("disk afterwards, a chunk (requests included)", recorded.compacted_bytes, high=MOST_BYTES_A_CHUNK / 2, unit="B"),
        Figure("memory of the compaction, most", recorded.compaction_peak_mb, unit="MB"),
        Figure("fed", recorded.fed_per_s / 1e3, unit="k/s"),
    ]


def record(chunks: int, flush_every_s: float = 0.5) -> Recorded:
    """Record in a fresh process, compact in another."""
    with tempfile.TemporaryDirectory(prefix="latprof-long-run-") as folder:
        fed = _told("feed", folder, str(chunks), str(flush_every_s))
        stream_bytes = _size(folder) / chunks
        compacted = _told("compact", folder)
        return Recorded(fed["resident_mb"], fed["fed_per_s"], stream_bytes, _size(folder) / chunks, compacted["peak_mb"])


def _told(*what: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "harness.long_run", *what], stdout=subprocess.PIPE, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _size(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).iterdir())


# --- in processes of their own ------------------------------------------------------------------------------------------------------------


def _feed(folder: Path, chunks: int, flush_every_s: float) -> None:
    rng = random.Random(SEED)
    log = ChunkLog()
    resident_mb = []
    began_ns = time.monotonic_ns()
    with Recorder(folder, log, flush_every_s) as recorder:
        flying = deque(_begun(recorder, number) for number in range(STREAMS))
        following, at_ns = STREAMS, began_ns
        for number in range(chunks):
            at_ns += _ITL_NS // STREAMS
            attempt = flying[number % STREAMS]
            log.append(attempt.request, at_ns + int(rng.random() * 600_000), 180 + number % 40, 1)
            attempt.token_chunks += 1
            if attempt.token_chunks == PER_REQUEST:
                attempt.end_ns = at_ns
                recorder.end(attempt)
                flying[number % STREAMS] = _begun(recorder, following)
                following += 1
            if number % 250 == 0:
                time.sleep(0.001)  # an event loop waits for its sockets now and then: the recorder's thread gets its turn
            if (number + 1) % (chunks // SAMPLES) == 0:
                resident_mb.append(_status_mb("VmRSS"))
        fed_per_s = chunks / ((time.monotonic_ns() - began_ns) / 1e9)
        for attempt in flying:
            attempt.end_ns = at_ns
            recorder.end(attempt)
    print(json.dumps({"resident_mb": resident_mb, "fed_per_s": fed_per_s}))


def _begun(recorder: Recorder, number: int) -> Attempt:
    attempt = Attempt(
        number, number, 0, 0, "measured", f"{number:032x}", f"{number:016x}", 256, PER_REQUEST, intended_ns=time.monotonic_ns()
    )
    recorder.begin(attempt)
    return attempt


def _compact(folder: Path) -> None:
    from latprof.observations.folder import compact

    compact(folder)
    print(json.dumps({"peak_mb": _status_mb("VmHWM")}))


def _status_mb(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    if sys.argv[1:2] == ["feed"]:
        _feed(Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    elif sys.argv[1:2] == ["compact"]:
        _compact(Path(sys.argv[2]))
    else:
        main()
