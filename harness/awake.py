"""Runs a command while no processor of this machine goes to sleep.

    python -m harness.awake python -m harness.offered

A virtual machine whose processor has nothing to do gives it back to its host, and has to wait for it when a timer fires or a packet comes: on a busy
host for milliseconds, which are then measured in place of what is meant. A loop on each processor, of the kernel's idle class, keeps it. Such a
loop runs only where nothing else wants to, and gives way at once. (Where the kernel shares processors out among sessions before it looks at classes, the
loops are a session of their own, with the least share there is.) What was stolen meanwhile is printed at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from latprof.client.health import processor_ticks

_LOOP = """
import contextlib, os, sys
with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as share:
    share.write("19")
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def awake() -> Iterator[int]:
    """Keep every processor that this process may use awake for the length of a ``with``; how many they are."""
    processors = sorted(os.sched_getaffinity(0))
    loops = [subprocess.Popen([sys.executable, "-c", _LOOP, str(processor)], start_new_session=True) for processor in processors]
    try:
        yield len(processors)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def main(command: Sequence[str] = sys.argv[1:]) -> None:
    """Run ``command``; leave with its exit code."""
    if not command:
        sys.exit(f"wants a command, got none\n\n{__doc__}")
    before = processor_ticks()
    with awake() as processors:
        code = subprocess.run(command, check=False).returncode
    after, refused = processor_ticks(), "what their host refused is not told here"
    if before is not None and after is not None:
        ran, stolen = (late - early for late, early in zip(after, before, strict=True))
        refused = f"their host refused {stolen / max(1, ran + stolen):.1%} of the time"
    print(f"{processors} processors were kept awake; {refused}", flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
