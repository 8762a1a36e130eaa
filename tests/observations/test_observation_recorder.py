from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from observed_attempts import begun, ended
from recording_child import CHUNKS

from latprof.client.stamps import Attempt, ChunkLog, ErrorClass
from latprof.errors import UsageError
from latprof.observations.folder import Run, load, write_meta
from latprof.observations.names import stream_name
from latprof.observations.recorder import Recorder
from latprof.units import MISSING_NS, NS_PER_MS, NS_PER_S

NEVER_S = 3600.0  # only `close` writes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_meta(tmp_path, {"status": "running"})
    return tmp_path


def until(happened: Callable[[], bool]) -> None:
    give_up_ns = time.monotonic_ns() + 10 * NS_PER_S
    while not happened():
        assert time.monotonic_ns() < give_up_ns, "did not happen within 10 s"
        time.sleep(0.005)


def test_everything_is_there_after_close(folder: Path) -> None:
    chunks = ChunkLog()
    with Recorder(folder, chunks, NEVER_S) as recorder:
        for request in range(300):
            attempt = ended(request)
            recorder.begin(attempt)
            chunks.append(request, 10 * request, 100, 1)
            recorder.end(attempt)
    run = load(folder)
    assert run.requests.request.tolist() == list(range(300))
    assert run.requests.success.all()
    assert run.requests.timing_headers[7] == (("server-timing", "auth;dur=1.2"), ("server-timing", "route;dur=7"))
    assert run.chunks.at_ns.tolist() == list(range(0, 3000, 10))


def test_an_attempt_in_flight_is_a_row_and_its_end_replaces_it(folder: Path) -> None:
    recorder = Recorder(folder, ChunkLog(), 0.01)
    first, second = begun(1), begun(2)
    recorder.begin(first)
    recorder.begin(second)
    until(lambda: len(load(folder).requests) == 2)
    run = load(folder)
    assert run.partial
    assert run.requests.error_class.tolist() == [ErrorClass.UNFINISHED] * 2
    assert not run.requests.success.any()
    assert run.requests.first_token_ns.tolist() == [MISSING_NS] * 2
    first.first_token_ns = 5
    until(lambda: load(folder).requests.first_token_ns[0] == 5)
    first.end_ns = 7
    recorder.end(first)
    until(lambda: bool(load(folder).requests.success[0]))
    recorder.close()
    run = load(folder)
    assert run.requests.request.tolist() == [1, 2]
    assert run.requests.error_class.tolist() == ["", ErrorClass.UNFINISHED]
    assert run.requests.end_ns.tolist() == [7, MISSING_NS]


def test_a_retry_is_a_row_of_its_own(folder: Path) -> None:
    with Recorder(folder, ChunkLog(), NEVER_S) as recorder:
        recorder.end(ended(5))
        recorder.end(ended(4, attempt=1))
        recorder.end(ended(4, attempt=0, error_class=ErrorClass.SERVER))
    requests = load(folder).requests
    assert requests.request.tolist() == [4, 4, 5]
    assert requests.attempt.tolist() == [0, 1, 0]
    assert requests.error_class.tolist() == [ErrorClass.SERVER, "", ""]


def test_a_final_row_wins_over_the_snapshot_left_of_its_attempt(folder: Path) -> None:
    recorder = Recorder(folder, ChunkLog(), NEVER_S)
    attempt = begun(1)
    recorder.begin(attempt)
    recorder._write()
    attempt.end_ns = 7
    recorder.end(attempt)
    recorder._write()
    assert (folder / stream_name("requests.inflight", 0)).exists()
    assert load(folder).requests.end_ns.tolist() == [7]
    recorder.close()


class EndsOneWhenLookedAt(dict[int, Attempt]):
    """Attempts in flight, of which one ends on the event loop just when the other thread comes to look."""

    recorder: Recorder

    def values(self) -> Any:
        self.recorder.end(next(iter(super().values())))
        return super().values()


class WrittenInMidEnd(list[Attempt]):
    """Finished attempts; the other thread writes just when the event loop is about to add one, and a kill follows."""

    recorder: Recorder
    left: list[int]

    def append(self, attempt: Attempt) -> None:
        self.recorder._write()
        self.left = load(self.recorder._folder).requests.request.tolist()
        super().append(attempt)


def test_an_attempt_that_ends_during_a_write_is_in_it(folder: Path) -> None:
    recorder = Recorder(folder, ChunkLog(), NEVER_S)
    recorder._in_flight = looked_at = EndsOneWhenLookedAt()
    looked_at.recorder = recorder
    recorder.begin(begun(1))
    recorder._write()
    assert load(folder).requests.request.tolist() == [1]
    recorder._in_flight = {}
    recorder.close()


def test_a_write_that_comes_in_the_middle_of_an_end_has_the_attempt(folder: Path) -> None:
    recorder = Recorder(folder, ChunkLog(), NEVER_S)
    recorder._finished = finished = WrittenInMidEnd()
    finished.recorder = recorder
    for request in range(2):
        recorder.begin(begun(request))
    recorder.end(next(iter(recorder._in_flight.values())))
    assert finished.left == [0, 1]
    recorder.close()


def test_memory_holds_only_what_came_since_the_last_write(folder: Path) -> None:
    chunks = ChunkLog()
    recorder = Recorder(folder, chunks, 0.01)
    for request in range(50):
        attempt = ended(request)
        recorder.begin(attempt)
        recorder.end(attempt)
        for _ in range(100):
            chunks.append(request, 1, 1, 1)
    until(lambda: not len(chunks.request))
    assert [len(column) for column in (chunks.request, chunks.at_ns, chunks.size, chunks.channel)] == [0] * 4
    until(lambda: not recorder._finished)
    assert not recorder._in_flight
    recorder.close()
    assert len(load(folder).chunks) == 5000


def test_no_chunk_is_torn_lost_or_doubled_while_another_thread_drains(folder: Path) -> None:
    chunks = ChunkLog()
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # hand over in the middle of `append`, again and again
    try:
        with Recorder(folder, chunks, 0.001):
            for number in range(150_000):
                chunks.append(number, number + 1, number + 2, number % 100)
    finally:
        sys.setswitchinterval(switch_s)
    read = load(folder).chunks
    expected = np.arange(150_000)
    for column, shift in ((read.request, 0), (read.at_ns, 1), (read.size, 2)):
        np.testing.assert_array_equal(column, expected + shift)
    np.testing.assert_array_equal(read.channel, expected % 100)


def test_every_attempt_is_on_disk_at_any_time_after_its_first_write(folder: Path) -> None:
    """A kill can come at any instant: what was written once, in flight or final, never disappears again."""
    recorder = Recorder(folder, ChunkLog(), 0.005)
    stop = threading.Event()

    def drive() -> None:
        for request in range(100_000):
            attempt = begun(request)
            recorder.begin(attempt)
            time.sleep(0.002)
            attempt.end_ns = 1
            recorder.end(attempt)
            if stop.is_set():
                return

    driver = threading.Thread(target=drive)
    driver.start()
    seen = 0
    for _ in range(80):
        requests = load(folder).requests.request
        assert len(requests) >= seen
        np.testing.assert_array_equal(requests, np.arange(len(requests)))
        seen = len(requests)
    stop.set()
    driver.join()
    recorder.close()
    assert seen > 10


def test_the_event_loop_pays_a_microsecond_or_so(folder: Path) -> None:
    recorder = Recorder(folder, ChunkLog(), NEVER_S)
    attempts = [ended(request) for request in range(20_000)]
    begin_ns = time.perf_counter_ns()
    for attempt in attempts:
        recorder.begin(attempt)
        recorder.end(attempt)
    each_ns = (time.perf_counter_ns() - begin_ns) / len(attempts)
    recorder.close()
    print(f"begin + end: {each_ns:.0f} ns")
    assert each_ns < 20_000


def test_a_folder_that_cannot_be_written_is_said_before_the_first_request(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"requests\.w0\.arrows: cannot be created.*--out"):
        Recorder(tmp_path / "absent", ChunkLog())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", ["requests.w0.arrows", "chunks.w0.arrows"])
def test_a_full_disk_is_told_at_close_and_keeps_memory_flat(folder: Path, name: str) -> None:
    (folder / name).symlink_to("/dev/full")
    chunks = ChunkLog()
    recorder = Recorder(folder, chunks, 0.005)
    recorder.end(ended(1))
    chunks.append(1, 1, 1, 1)
    until(lambda: recorder.failed)
    recorder.end(ended(2))
    chunks.append(2, 2, 2, 2)
    until(lambda: not recorder._finished and not len(chunks.request))
    with pytest.raises(UsageError, match=r"No space left on device.*free some space"):
        recorder.close()


def test_nothing_is_written_behind_a_batch_that_failed(folder: Path) -> None:
    """Behind half a batch no reader would find the next one."""
    recorder = Recorder(folder, ChunkLog(), NEVER_S)
    recorder.end(ended(1))
    recorder._write()
    sizes = [path.stat().st_size for path in sorted(folder.iterdir())]
    recorder._failure = OSError(28, "No space left on device")
    recorder.begin(begun(2))
    recorder.end(ended(3))
    with pytest.raises(UsageError):
        recorder.close()
    assert [path.stat().st_size for path in sorted(folder.iterdir())] == sizes
    assert load(folder).requests.request.tolist() == [1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_first_error_is_the_one_to_hear_of(folder: Path) -> None:
    (folder / "requests.w0.arrows").symlink_to("/dev/full")

    def fail_twice() -> None:
        with Recorder(folder, ChunkLog(), NEVER_S) as recorder:
            recorder.end(ended(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_twice()


def killed_run(folder: Path, hold_ms: int, after_s: float) -> tuple[Run, int]:
    """A run whose process got SIGKILL in the middle of recording, and the instant of it on the clock that both share."""
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("recording_child.py")), str(folder), str(hold_ms)], stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"recording\n"
        time.sleep(after_s)
        killed_ns = time.monotonic_ns()
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    finally:
        child.kill()
        child.communicate()
    return load(folder), killed_ns


@pytest.mark.parametrize("after_s", [1.7, 2.3])
def test_kill_9_loses_at_most_the_last_second(tmp_path: Path, after_s: float) -> None:
    lost_ns = []
    for attempt in range(3):  # a machine that stalls loses what it had not yet run: the recorder gets three tries at its second
        run, killed_ns = killed_run(tmp_path / f"run{attempt}", hold_ms=100, after_s=after_s)
        lost_ns.append(lost_by_the_kill(run, killed_ns))
        if lost_ns[-1] < NS_PER_S:
            break
    assert min(lost_ns) < NS_PER_S


def lost_by_the_kill(run: Run, killed_ns: int) -> int:
    """Nanoseconds from the last that the folder holds (ends, begins and chunks alike) to the kill; what it holds is checked."""
    assert run.partial
    assert "killed" in run.partial_reason
    requests, chunks = run.requests, run.chunks
    # Nothing is missing before the last row: requests are numbered without gaps, those in flight included.
    np.testing.assert_array_equal(requests.request, np.arange(len(requests)))
    np.testing.assert_array_equal(chunks.request, 1 + np.arange(len(chunks)) // CHUNKS)
    np.testing.assert_array_equal(chunks.size, 100 + chunks.request % 50)
    lost_ns = killed_ns - np.array([requests.end_ns.max(), requests.intended_ns.max(), chunks.at_ns.max()])
    print("lost before the kill, ms (ends, begins, chunks):", lost_ns / NS_PER_MS, "rows:", len(requests), len(chunks))
    unfinished = requests.error_class == ErrorClass.UNFINISHED
    assert unfinished[0]  # in flight all the time
    assert requests.success[~unfinished].all()
    assert (requests.end_ns[unfinished] == MISSING_NS).all()
    return int(lost_ns.max())
