"""The doctor: its verdict from made-up figures, and the whole of it on the machine at hand."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from typing import Any

import pytest

from latprof.client.health import Health
from latprof.doctor.host import Limits, ports_in, quota_in, read_limits
from latprof.doctor.measure import Error, Floor, Speed
from latprof.doctor.report import as_json, lines
from latprof.doctor.verdict import findings, is_fit
from latprof.units import NS_PER_MS as MS

HEALTH = Health(
    loop_lag_p50_ns=50_000, loop_lag_p99_ns=400_000, loop_lag_max_ns=600_000, cpu_share=0.2, involuntary_switches=9, starved_share=0.01
)
GOOD = Floor(
    kernel_stamp=Error(3_200, 9_000, 40_000, 200_000),
    user_stamp=Error(3_200, 60_000, 900_000, 2_000_000),
    user_stamp_share=0.001,
    interval_share=0.002,
    timer=Error(150, 20_000, 150_000, 300_000),
    bare_timer=Error(150, 80_000, 180_000, 300_000),
    requests=Speed(14_000.0, 0.97),
    chunks=Speed(150_000.0, 0.96),
    health=HEALTH,
    gc_full_ns=25 * MS,
)
ROOMY = Limits(8, None, 0.3, 65_536, 1_048_576, 28_232, "performance", "tsc", is_virtual=False)

# What is said of a good machine, to the letter.
SHOWN = """\
FIT
  ok       stamps      by the kernel, 0.009 ms at p50 and 0.040 ms at p99 off (send to stamp, 3200 chunks); in user space 0.060 ms at p50 and 0.900 ms at p99
  ok       timer       0.020 ms at p50 and 0.150 ms at p99 off; a bare timerfd 0.080 ms at p50 and 0.180 ms at p99
  ok       event loop  0.400 ms late at p99 under 32 streams; 0.2 % of the chunks came in company
  ok       speed       one worker does 14,000 short requests/s and 150,000 chunks/s; plan with half of that for each
  ok       cores       8 cores; ready but without a core 1 % of the time
  ok       load        load average 0.3 on 8 cores in the last minute
  ok       limits      65,536 open files, 28,232 ephemeral ports
  ok       garbage     a full collection takes 25.0 ms; none runs while a phase is driven
"""


def test_a_good_machine_reads_like_one() -> None:
    assert "".join(f"{line}\n" for line in lines(findings(GOOD, ROOMY))) == SHOWN


CASES: list[tuple[dict[str, Any], dict[str, Any], str, str, str]] = [
    ({"kernel_stamp": None}, {}, "stamps", "note", "the kernel does not stamp here"),
    ({"kernel_stamp": None, "user_stamp": Error(9, 1, 9 * MS, 9 * MS)}, {}, "stamps", "fatal", "taken after reading"),
    ({"kernel_stamp": Error(9, 1, 2 * MS, 9 * MS)}, {}, "stamps", "warning", "2.0 ms at p99"),
    ({"timer": Error(9, 1, 11 * MS, 12 * MS)}, {}, "timer", "fatal", "11.0 ms at p99"),
    ({"health": dataclasses.replace(HEALTH, loop_lag_p99_ns=6 * MS)}, {}, "event loop", "warning", "6.0 ms late"),
    ({"health": dataclasses.replace(HEALTH, starved_share=0.4)}, {}, "cores", "warning", "without a core 40 % of the time"),
    ({"requests": Speed(900.0, 0.3)}, {}, "speed", "warning", "at least 900 short requests/s"),
    ({}, {"cores": 1, "load_1m": 0.1}, "cores", "warning", "1 core"),
    ({}, {"quota_cores": 1.5}, "cores", "warning", "a quota of 1.5"),
    ({}, {"load_1m": 5.0}, "load", "warning", "load average 5 on 8 cores"),
    ({}, {"open_files": 1_024}, "limits", "warning", "1,024 open files"),
    ({}, {"ephemeral_ports": 1_000}, "ports", "warning", "1,000 ephemeral ports"),
    ({}, {"clock_source": "hpet"}, "clock", "warning", "hpet"),
    ({}, {"governor": "powersave"}, "governor", "note", "powersave"),
]


@pytest.mark.parametrize(
    ("floor", "limits", "name", "level", "says"), CASES, ids=[f"{case[2]}-{index}" for index, case in enumerate(CASES)]
)
def test_what_is_wrong_is_told_with_what_to_do(floor: dict[str, Any], limits: dict[str, Any], name: str, level: str, says: str) -> None:
    found = findings(dataclasses.replace(GOOD, **floor), dataclasses.replace(ROOMY, **limits))
    (finding,) = [one for one in found if one.level]
    assert (finding.name, finding.level) == (name, level)
    assert says in finding.text
    assert finding.remedy
    assert is_fit(found) is (level != "fatal")
    assert next(iter(lines(found))).startswith("NOT FIT" if level == "fatal" else "FIT")


def test_json_holds_what_was_measured() -> None:
    found = findings(GOOD, ROOMY)
    told = json.loads(json.dumps(as_json(found, GOOD, ROOMY)))
    assert told["schema"] == "latprof.doctor/1"
    assert told["fit"] is True
    assert told["measured"]["kernel_stamp"]["p99_ns"] == 40_000
    assert told["machine"]["cores"] == 8
    assert {finding["level"] for finding in told["findings"]} == {"ok"}


def test_what_the_kernel_writes_is_read_and_what_it_does_not_is_unknown() -> None:
    assert quota_in("150000 100000") == 1.5
    assert [quota_in(text) for text in ("max 100000", "", None, "1 0")] == [None] * 4
    assert ports_in("32768\t60999") == 28_232
    assert [ports_in(text) for text in ("", None, "a b")] == [None] * 3
    assert read_limits().cores >= 1


@pytest.mark.live
def test_the_machine_at_hand() -> None:
    began_s = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "latprof", "doctor", "--json"], capture_output=True, text=True, timeout=90, check=False)
    took_s = time.monotonic() - began_s
    told = json.loads(done.stdout)
    print(f"{took_s:.1f} s:", json.dumps(told["measured"]))
    assert done.stderr == ""
    assert done.returncode == (0 if told["fit"] else 4)
    measured = told["measured"]
    stamp = measured["kernel_stamp"] or measured["user_stamp"]
    assert stamp["n"] == 3_200
    assert 0 < stamp["p50_ns"] < stamp["p99_ns"] <= stamp["worst_ns"]
    # A stamp is made after the send it is of, and before its chunk is read: two processes agree on the order, whatever the machine does.
    assert stamp["p50_ns"] <= measured["user_stamp"]["p50_ns"] < 50 * MS
    assert measured["requests"]["per_s"] > 100
    assert measured["chunks"]["per_s"] > 1_000
    assert measured["timer"]["n"] == 150
    assert took_s < 60
