"""Records attempts at a high rate until it is killed. Arguments: the run folder, milliseconds between the begin and the end of an attempt.

Requests are numbered 0, 1, 2, ... in order of begin and of end; each has 20 chunks, stamped and logged between the two.
The first never ends, and has none.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path

from observed_attempts import begun

from latprof.client.stamps import Attempt, ChunkLog
from latprof.observations.folder import create, write_meta
from latprof.observations.recorder import Recorder
from latprof.units import NS_PER_MS

CHUNKS = 20


def main(folder: Path, hold_ns: int) -> None:
    create(folder)
    write_meta(folder, {"status": "running"})
    chunks = ChunkLog()
    recorder = Recorder(folder, chunks)
    in_flight: deque[Attempt] = deque()
    sys.stdout.write("recording\n")
    sys.stdout.flush()
    request = 0
    while True:
        attempt = begun(request, at_ns=time.monotonic_ns())
        recorder.begin(attempt)
        if request:
            in_flight.append(attempt)
        request += 1
        while in_flight and time.monotonic_ns() - in_flight[0].intended_ns > hold_ns:
            oldest = in_flight.popleft()
            for _ in range(CHUNKS):
                chunks.append(oldest.request, time.monotonic_ns(), 100 + oldest.request % 50, 1)
            oldest.first_token_ns = oldest.end_ns = time.monotonic_ns()
            recorder.end(oldest)
        time.sleep(0.0005)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) * NS_PER_MS)
