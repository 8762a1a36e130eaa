"""Who watches the machine: it sees a standstill of its processor, and nothing where there was none."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from harness.witness import LATE_NS, Witness, witness
from latprof.units import NS_PER_MS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="timerfd, affinity")


def test_what_overlaps_a_standstill_or_the_millisecond_after_it_is_touched() -> None:
    seen = Witness(np.array([[100, 104]], np.int64) * NS_PER_MS)
    begin = np.array([90, 98, 101, 105, 106], np.int64) * NS_PER_MS
    assert seen.touched(begin, begin + NS_PER_MS).tolist() == [False, True, True, True, False]
    assert seen.touched(np.array([50], np.int64) * NS_PER_MS, np.array([200], np.int64) * NS_PER_MS).all()
    assert not Witness().touched(begin, begin).any()


def test_a_witness_dates_what_it_saw() -> None:
    began_ns = time.monotonic_ns()
    with witness() as seen:
        time.sleep(1.5)
    ended_ns = time.monotonic_ns()
    assert seen.late_p99_ns >= 0
    assert ((seen.stalls_ns[:, 1] - seen.stalls_ns[:, 0]) > LATE_NS).all()
    assert (seen.stalls_ns >= began_ns).all()
    assert (seen.stalls_ns <= ended_ns).all()
