"""What ``latprof doctor`` does: measure what this machine can measure, and print it."""

from __future__ import annotations

import sys

from latprof.commands.output import json_bytes
from latprof.errors import Exit


def diagnose_and_print(*, as_json: bool) -> Exit:
    """``latprof doctor``."""
    from latprof.doctor import report
    from latprof.doctor.host import read_limits
    from latprof.doctor.measure import measure
    from latprof.doctor.verdict import findings, is_fit

    limits = read_limits()  # before anything here adds to the load average
    floor = measure()
    found = findings(floor, limits)
    if as_json:
        sys.stdout.buffer.write(json_bytes(report.as_json(found, floor, limits)))
    else:
        sys.stdout.write("".join(f"{line}\n" for line in report.lines(found)))
    return Exit.DONE if is_fit(found) else Exit.UNTRUSTED
